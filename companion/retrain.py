"""`python -m companion.retrain 31.1`: run a notebook's code without Jupyter, training anew.

Each `fit_or_load` of the notebook trains and writes its checkpoint in `data/checkpoints`; with
`--only 31.1/ae` those alone whose name begins so. `--embedded` uses the bundled data, whatever
else is at hand. Several GPUs: `torchrun --nproc-per-node=8 -m companion.retrain 31.1`.

`--accept` trains nothing: it writes the notes of the committed checkpoints anew, after a change that
is known to be harmless, and prints what moved. `--forget` runs nothing: it deletes what was trained
here (`data/trained`) under these names, so that the committed checkpoints are used again.
"""

import argparse
import contextlib
import io
import json
import linecache
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from companion.data import DataError
from companion.training import CheckpointError, TrainingError, forget

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def code_cells(path: Path) -> list[str]:
    """The source of a notebook's code cells, in order."""
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run(path: Path, look: Callable | None = None) -> dict:
    """Execute a notebook's code in a fresh `__main__`, without Jupyter; its names.

    Pictures are drawn and not shown; a panel draws its first picture, and no widget is made. `look`
    gets each code cell's number, from 1, and the figures that it left.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sys.modules["__main__"] = main = ModuleType("__main__")
    main.__dict__["display"] = lambda *things: None
    for number, source in enumerate(code_cells(path), 1):
        name = f"<{path.stem} cell {number}>"
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)  # for tracebacks
        exec(compile(source, name, "exec"), main.__dict__)
        if look:
            look(number, [pyplot.figure(one) for one in pyplot.get_fignums()])
        pyplot.close("all")
    return main.__dict__


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="companion.retrain", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("section", help="31.1 to 31.6")
    parser.add_argument("--only", metavar="NAME", help="only checkpoints whose name begins so")
    parser.add_argument("--embedded", action="store_true", help="use the bundled data")
    todo = parser.add_mutually_exclusive_group()
    todo.add_argument("--accept", action="store_true", help="write the committed notes anew")
    todo.add_argument("--forget", action="store_true", help="delete what was trained here")
    options = parser.parse_args(arguments)
    name = options.only or f"{options.section}/"
    if options.forget:
        gone = forget(name)
        print(f"{len(gone)} files deleted" + "".join(f"\n  {file}" for file in gone))
        return
    found = sorted(NOTEBOOKS.glob(f"{options.section}_*.ipynb"))
    if not found:
        known = ", ".join(path.name.split("_")[0] for path in sorted(NOTEBOOKS.glob("*.ipynb")))
        parser.error(f"there is no notebook {options.section}: choose one of {known}.")
    os.environ["COMPANION_ACCEPT" if options.accept else "COMPANION_RETRAIN"] = name
    if options.embedded:
        os.environ["COMPANION_DATA"] = "embedded"
    silent = options.accept or os.environ.get("RANK", "0") != "0"  # of several processes one speaks
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said) if silent else contextlib.nullcontext():
            run(found[0])
        if options.accept:
            print("\n".join(line for line in said.getvalue().splitlines() if ": accepted" in line))
    except (DataError, CheckpointError, TrainingError) as error:
        sys.exit(f"companion.retrain: {error}")


if __name__ == "__main__":
    main()
