"""`python -m companion.retrain 31.1`: run a notebook's code without Jupyter, training anew.

Each `fit_or_load` of the notebook trains and writes its checkpoint in `data/checkpoints`; with
`--only 31.1/ae` those alone whose name begins so. `--embedded` uses the bundled data, whatever
else is at hand. Several GPUs: `torchrun --nproc-per-node=8 -m companion.retrain 31.1`.
"""

import argparse
import contextlib
import io
import json
import linecache
import os
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import companion
from companion.checkpoints import CheckpointError
from companion.data import DataError
from companion.training import TrainingError

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def code_cells(path: Path) -> list[str]:
    """The source of a notebook's code cells, in order."""
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run(path: Path) -> dict:
    """Execute a notebook's code in a fresh `__main__`, without pictures and sliders; its names."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    # Sliders are left out, so that a machine without Jupyter can train.
    companion.widgets = sys.modules["companion.widgets"] = MagicMock()
    sys.modules["__main__"] = main = ModuleType("__main__")
    main.__dict__["display"] = lambda *things: None
    for number, source in enumerate(code_cells(path), 1):
        name = f"<{path.stem} cell {number}>"
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)  # for inspect
        exec(compile(source, name, "exec"), main.__dict__)
        pyplot.close("all")
    return main.__dict__


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="companion.retrain", description=__doc__)
    parser.add_argument("section", help="31.1 to 31.6")
    parser.add_argument("--only", metavar="NAME", help="only checkpoints whose name begins so")
    parser.add_argument("--embedded", action="store_true", help="train on the bundled data")
    options = parser.parse_args(arguments)
    found = sorted(NOTEBOOKS.glob(f"{options.section}_*.ipynb"))
    if not found:
        known = ", ".join(path.name.split("_")[0] for path in sorted(NOTEBOOKS.glob("*.ipynb")))
        parser.error(f"there is no notebook {options.section}: choose one of {known}.")
    os.environ["COMPANION_RETRAIN"] = options.only or options.section
    if options.embedded:
        os.environ["COMPANION_DATA"] = "embedded"
    if os.environ.get("RANK", "0") != "0":
        speak = contextlib.redirect_stdout(
            io.StringIO()
        )  # of several processes the first one speaks
    else:
        speak = contextlib.nullcontext()
    try:
        with speak:
            run(found[0])
    except (DataError, CheckpointError, TrainingError) as error:
        sys.exit(f"companion.retrain: {error}")


if __name__ == "__main__":
    main()
