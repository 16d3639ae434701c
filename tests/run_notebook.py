"""`make run NOTEBOOK=31.1`: execute a notebook from a clean kernel and write it as it is committed.

Execution counts are kept and start at 1; widget state and times are not; text that arrived in pieces is
one output. A notebook that fails, that warns, or that has no real data is not written.
"""

import argparse
import base64
import io
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

from companion import data

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
KEPT = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
}
KEPT["language_info"] = {"name": "python"}


def normalised(notebook):
    """The notebook without what changes from run to run or from machine to machine.

    A cell's metadata, tags and an instructor's own, stay, but for times.
    """
    notebook.metadata = nbformat.from_dict(KEPT)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    return notebook


def smaller(picture: str) -> str:
    """A PNG in base64, the same pixels in fewer bytes where that can be had."""
    image, kept = Image.open(io.BytesIO(base64.b64decode(picture))), io.BytesIO()
    if image.mode == "RGBA" and image.getextrema()[3] == (255, 255):
        image = image.convert("RGB")  # nothing shines through
    image.save(kept, "PNG", optimize=True)
    return min(base64.b64encode(kept.getvalue()).decode(), picture, key=len)


def joined(outputs: list) -> list:
    """Neighbouring pieces of one stream as one output."""
    whole = []
    for output in outputs:
        last = whole[-1] if whole else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            words = output.get("metadata", {})
            for name in set(words) - {"image/png"}:  # a panel's still picture keeps its alt text
                del words[name]
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
            whole.append(output)
    return whole


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="run_notebook", description=__doc__)
    parser.add_argument("section", help="31.1 to 31.6")
    options = parser.parse_args(arguments)
    found = sorted(NOTEBOOKS.glob(f"{options.section}_*.ipynb"))
    if not found:
        parser.error(f"there is no notebook {options.section}")
    if data.mnist(verbose=False).name != "mnist":
        parser.error(
            "MNIST was not found: a committed notebook shows real data; set COMPANION_DATA."
        )
    notebook = nbformat.read(found[0], as_version=4)
    with tempfile.TemporaryDirectory() as trained:  # committed weights only
        os.environ |= {"COMPANION_TRAINED": trained, "CUDA_VISIBLE_DEVICES": ""}
        try:
            NotebookClient(
                notebook, timeout=None, kernel_name="python3", record_timing=False,
                store_widget_state=False, resources={"metadata": {"path": str(NOTEBOOKS)}},
            ).execute()  # fmt: skip
        except CellExecutionError as error:
            print(error, file=sys.stderr)
            return 1
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        for output in cell.outputs:
            if output.get("name") == "stderr":
                print(f"cell {cell.execution_count} warns: {output.text}", file=sys.stderr)
                return 1
    nbformat.write(normalised(notebook), found[0])
    print(f"{found[0].name}: {len(code)} cells executed and written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
