"""`make site`: the six notebooks as pages in `site/`, whose panels live without a kernel.

Each notebook is run once with the committed weights; its panels are written as they are shown
(`show/page.py`), and Jupyter Book makes the pages. The site opens from a file and asks no other host.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from companion import data, show

ROOT = Path(__file__).resolve().parent.parent
BUILD, SITE = ROOT / "build" / "site", ROOT / "site"
SHOW = Path(show.__file__).parent
WIDGET = "application/vnd.jupyter.widget-view+json"
STAND_INS = (
    "This page was made without MNIST at hand: its pictures are drawn digits, its numbers theirs."
)
BOOK = ROOT / "build" / "book" / "bin" / "jupyter-book"  # in an environment of its own
# Runs in the kernel before the first cell: the alt text of a figure is its title.
NAMED = """
import matplotlib_inline.backend_inline as inline
def named(figure):
    words = [figure.get_suptitle(), *(axis.get_title() for axis in figure.axes)]
    return {"alt": ". ".join(word.replace("\\n", " ") for word in words if word) or "a figure"}
inline._fetch_figure_metadata = named
"""


def executed(path: Path) -> nbformat.NotebookNode:
    """A notebook run from a clean kernel with committed weights; its panels are written beside it."""
    notebook = nbformat.read(path, as_version=4)
    own = {"COMPANION_SITE": str(BUILD / "source" / "extra" / "panels"), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as trained:
        os.environ |= own | {"COMPANION_PAGE": path.name[:4], "COMPANION_TRAINED": trained}
        where = {"metadata": {"path": str(path.parent)}}
        client = NotebookClient(
            notebook, timeout=None, kernel_name="python3", record_timing=False,
            store_widget_state=False, resources=where, extra_arguments=["--log-level=ERROR"],
        )  # fmt: skip
        with client.setup_kernel():
            title, notebook.cells[0] = notebook.cells[0], nbformat.v4.new_code_cell(NAMED)
            client.execute_cell(notebook.cells[0], 0, store_history=False)
            notebook.cells[0] = title
            for number, cell in enumerate(notebook.cells):
                client.execute_cell(cell, number)
    return notebook


def paged(notebook: nbformat.NotebookNode, note: str = "") -> nbformat.NotebookNode:
    """The notebook as a page: without progress bars, each figure with its words, `note` at its top."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        bar = lambda one: WIDGET in one.get("data", {}) or one.get("name") == "stderr"
        cell.outputs = [one for one in cell.outputs if not bar(one)]
        words = [one.metadata["alt"] for one in cell.outputs if "alt" in one.get("metadata", {})]
        if words:
            cell.metadata["mystnb"] = {"image": {"alt": "; ".join(words)}}
    if note:
        notebook.cells.insert(1, nbformat.v4.new_markdown_cell(f"**{note}**"))
    return notebook


def page(path: Path, note: str) -> Path:
    """Write one notebook's page source; its path."""
    target = BUILD / "source" / path.name
    nbformat.write(paged(executed(path), note), target)
    return target


def front(paths: list[Path]) -> str:
    """The front page, Markdown: what the site is, and the constraint of each section with its picture."""
    parts = [
        "# Autoencoders, run",
        "Six notebooks that build each model from scratch, and let you move it.",
    ]
    for path in paths:
        text = "".join(nbformat.read(path, as_version=4).cells[0].source)
        title, constraint = (
            text.splitlines()[0].lstrip("# "),
            re.search(r"\*\*The constraint: (.+?)\*\*", text),
        )
        said = constraint[1] if constraint else ""
        shutil.copy(SHOW / "skeletons" / f"{path.name[:4]}.png", BUILD / "source" / "_static")
        picture = f"![The model of {title}: {said}](_static/{path.name[:4]}.png)"
        parts += [f"## [{title}]({path.name})", said[:1].upper() + said[1:], picture]
    return "\n\n".join(parts) + "\n"


def lightened(site: Path) -> None:
    """Leave out what no page uses: MathJax's other inputs and outputs, and a kernel from another host."""
    math = site / "_static" / "mathjax"
    for path in math.rglob("*"):
        if path.is_file() and path != math / "tex-chtml.js" and "fonts" not in path.parts:
            path.unlink()
    for path in site.glob("*.html"):
        text = re.sub(
            r"<script[^>]*>(?=const THEBE_JS_URL).*?</script>", "", path.read_text(), flags=re.S
        )
        path.write_text(
            re.sub(r"<script[^>]*(sphinx-thebe|x-thebe)[^>]*>.*?</script>", "", text, flags=re.S)
        )


def main(sections: list[str]) -> None:
    found = sorted((ROOT / "notebooks").glob("*.ipynb"))
    paths = [path for path in found if not sections or path.name[:4] in sections]
    if len(paths) < len(sections):
        sys.exit(f"companion.site: no notebook {' or '.join(sections)}: choose of 31.1 to 31.6.")
    source = BUILD / "source"
    shutil.rmtree(source, ignore_errors=True)
    for folder in ("_static", "extra/panels"):
        (source / folder).mkdir(parents=True)
    note = "" if data.mnist(verbose=False).name == "mnist" else STAND_INS
    with ProcessPoolExecutor(min(len(paths), os.cpu_count() or 1)) as pool:
        for done in pool.map(page, paths, [note] * len(paths)):
            print(f"{done.name} has run.", flush=True)
    scripts = "".join((SHOW / name).read_text() for name in ("panel.js", "page.js"))
    (source / "_static" / "companion.js").write_text(scripts)
    phone = "h1 {font-size: clamp(1.6rem, 7vw, 2.6rem) !important}"  # a long word in a title
    (source / "_static" / "companion.css").write_text(phone)
    (source / "index.md").write_text(front(paths))
    shutil.copy(SHOW / "book.yml", source / "_config.yml")
    toc = {"format": "jb-book", "root": "index", "chapters": [{"file": p.stem} for p in paths]}
    (source / "_toc.yml").write_text(json.dumps(toc))
    if subprocess.run([BOOK, "build", "--quiet", "--path-output", BUILD, source]).returncode:
        sys.exit("companion.site: Jupyter Book could not make the pages; it says why above.")
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.copytree(BUILD / "_build" / "html", SITE)
    lightened(SITE)
    size = sum(file.stat().st_size for file in SITE.rglob("*") if file.is_file())
    print(f"{SITE / 'index.html'}: open it in a browser ({size / 1e6:.0f} MB)")


if __name__ == "__main__":
    main(sys.argv[1:])
