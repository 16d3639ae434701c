import json
import sys

import pytest
import run_notebook
from nbformat.v4 import new_code_cell, new_notebook

from companion import retrain


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    def write(*cells):
        cells = [{"cell_type": "code", "source": cell} for cell in cells]
        cells.append({"cell_type": "markdown", "source": "not code"})
        path = tmp_path / "99.1_test.ipynb"
        path.write_text(json.dumps({"cells": cells}))
        return path

    monkeypatch.setattr(retrain, "NOTEBOOKS", tmp_path)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setitem(sys.modules, "anywidget", None)
    monkeypatch.delitem(sys.modules, "companion.show.jupyter", raising=False)
    return write


def test_a_notebooks_code_runs_without_jupyter_and_its_source_can_be_read(notebook):
    path = notebook(
        "import torch\nfrom companion.show import panels\nx = 1",
        "class A:\n    def loss(self):\n        return x\ndisplay(A)",
        "panel = panels.frames({1: torch.zeros(8, 1, 4, 4)}, 'step')\ndisplay(panel)\npanel",
        "import inspect\nsource = inspect.getsource(A.loss)\nmodule = A.__module__",
    )
    names = retrain.run(path)
    assert (
        names["x"] == 1
        and names["source"].strip().startswith("def loss")
        and names["module"] == "__main__"
    )


def test_a_look_gets_the_figures_that_each_cell_left(notebook):
    draw = (
        "import matplotlib.pyplot as plt\nfor n in range({}):\n    plt.subplots()\n    plt.show()"
    )
    path, seen = notebook(draw.format(2), "x = 1", draw.format(1)), {}
    retrain.run(path, lambda number, figures: seen.update({number: len(figures)}))
    assert seen == {1: 2, 2: 0, 3: 1}


def test_what_is_written_keeps_a_cells_own_metadata_and_no_times():
    cell = new_code_cell("1", metadata={"tags": ["figure"], "slideshow": {"slide_type": "slide"}})
    cell.metadata["execution"] = {"iopub.status.busy": "2026-01-01"}
    (kept,) = run_notebook.normalised(new_notebook(cells=[cell])).cells
    assert kept.metadata == {"tags": ["figure"], "slideshow": {"slide_type": "slide"}}


def test_it_asks_for_the_named_checkpoints(notebook, monkeypatch):
    notebook("import os\nasked = os.environ['COMPANION_RETRAIN'], os.environ.get('COMPANION_DATA')")
    monkeypatch.setenv("COMPANION_RETRAIN", "")
    monkeypatch.setenv("COMPANION_DATA", "x")
    seen, run = [], retrain.run
    monkeypatch.setattr(retrain, "run", lambda path: seen.append(run(path)["asked"]))
    retrain.main(["99.1"])
    retrain.main(["99.1", "--only", "99.1/ae", "--embedded"])
    assert seen == [("99.1/", "x"), ("99.1/ae", "embedded")]


def test_an_unknown_section_is_named(notebook, capsys):
    notebook("x = 1")
    with pytest.raises(SystemExit):
        retrain.main(["77.7"])
    assert "there is no notebook 77.7: choose one of 99.1." in capsys.readouterr().err
