"""Panels on a page without a kernel: a film where their states can be counted, else a program.

`page.js` reads what is written here: it shows a film's pictures, and runs a program's few operations.
"""

import base64
import io
import itertools
import json
import os
import re
from html import escape
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.fx import Interpreter, Node
from torch.fx.experimental.proxy_tensor import make_fx

from companion.show.panel import Choice, Panel, Slider

PLACES = itertools.count(1)  # of the panels on a page
MOST = 700  # states of a film
SMALL = 4096  # numbers of a constant that travels in single precision; larger ones travel in half


def place_on_page(panel: Panel, words: str, still: str) -> str:
    """Write a panel beside the page that `COMPANION_SITE` names; the HTML in its place, a still picture.

    words: alt text. still: the picture, PNG in base64. Without JavaScript, or for a panel that cannot
    live on a page, the picture stays.
    """
    folder, page = Path(os.environ["COMPANION_SITE"]), os.environ["COMPANION_PAGE"]
    name = f"{page}-{next(PLACES)}"
    fault = written(panel, folder, name)
    said = f"Alive in the notebook only: {fault}" if fault else panel.text
    lively = "" if fault else f' data-panel="{name}" data-source="panels/{name}.js"'
    picture = f'<img src="data:image/png;base64,{still}" alt="{escape(words)}">'
    return f'<div class="companion-still"{lively}>{picture}<p>{escape(said)}</p></div>'


def written(panel: Panel, folder: Path, name: str) -> str | None:
    """Write what `page.js` needs of a panel to folder/name.js. Why its picture stays still, or None."""
    try:
        how = film(panel) or program(panel)
    except NotImplementedError as error:
        return str(error)
    folder.mkdir(parents=True, exist_ok=True)
    about = panel.about(panel.coarse if "film" in how else panel.controls)
    text = json.dumps({"about": about} | how, separators=(",", ":"))
    (folder / f"{name}.js").write_text(f"companion.give({json.dumps(name)},{text})\n")
    return None


def stops(control: Slider | Choice) -> list:
    """The values that a control can take; none for a slider without steps."""
    if isinstance(control, Choice):
        return list(control.options.values())
    count = round((control.high - control.low) / control.step) + 1 if control.step else 0
    return [control.at(control.low + number * control.step) for number in range(count)]


def film(panel: Panel) -> dict | None:
    """All pictures of a panel in one lossless WebP sheet; None where there are too many, or no end."""
    values = [stops(control) for control in panel.coarse.values()]
    if not 0 < np.prod([len(some) for some in values]) <= MOST:
        return None
    pictures, numbers, texts = {}, [], []
    for state in itertools.product(*values):
        picture, text = panel.draw(**dict(zip(panel.coarse, state, strict=True)))
        number, _ = pictures.setdefault(picture.tobytes(), (len(pictures), picture))
        numbers.append(number)
        texts.append(text)
    shapes = {picture.shape for _, picture in pictures.values()}
    if len(shapes) > 1:
        raise NotImplementedError(f"its pictures are of {len(shapes)} sizes.")
    height, width = next(iter(shapes))[:2]
    columns = max(1, min(len(pictures), round((len(pictures) * height / width) ** 0.5)))
    sheet = np.full((-(-len(pictures) // columns) * height, columns * width, 3), 255, np.uint8)
    for number, picture in pictures.values():
        y, x = number // columns * height, number % columns * width
        sheet[y : y + height, x : x + width] = picture.reshape(height, width, -1)
    kept = io.BytesIO()
    Image.fromarray(sheet).save(kept, "WEBP", lossless=True, quality=90, method=4)
    return {
        "film": f"data:image/webp;base64,{base64.b64encode(kept.getvalue()).decode()}",
        "size": [width, height], "columns": columns, "numbers": numbers,
        "counts": [len(some) for some in values], "texts": texts,
    }  # fmt: skip


def traced(panel: Panel) -> torch.fx.GraphModule:
    """The panel's program as a graph of PyTorch's own operations, one input a control."""
    values = {name: torch.tensor(value) for name, value in panel.values.items()}
    run = lambda *given: panel.program(**dict(zip(values, given, strict=True)))
    Panel.traced = True
    try:
        with torch.no_grad():
            return make_fx(run)(*values.values())
    finally:
        Panel.traced = False


class Folded(Interpreter):
    """Runs a graph once; keeps of each node its value, and whether a control has a part in it."""

    def __init__(self, graph):
        super().__init__(graph)
        self.values, self.moving = {}, set()

    def run_node(self, node):
        value = self.values[node] = super().run_node(node)
        if node.op == "placeholder" or self.moving & set(node.all_input_nodes):
            self.moving.add(node)
        return value


def program(panel: Panel) -> dict:
    """A panel's program: steps [operation, arguments, shape], each result named by its number.

    What no control moves is computed here and travels as a number or an array. NotImplementedError
    for a panel without a program, or one whose draw cannot be traced.
    """
    if panel.program is None:
        raise NotImplementedError("it has too many states for a film, and its draw is no program.")
    try:
        graph = traced(panel)
    except Exception as error:
        raise NotImplementedError(f"its draw cannot be traced: {error}") from error
    folded = Folded(graph)
    with torch.no_grad():
        folded.run(*(torch.tensor(value) for value in panel.values.values()))
    arrays, steps, places = [], [], {}

    def place(node: Node):
        if node not in places:
            arrays.append(folded.values[node])
            places[node] = -len(arrays)  # arrays count downwards from -1
        return {"at": places[node]}

    def argument(value):
        if isinstance(value, Node):
            return place(value)
        if isinstance(value, list | tuple):
            return [argument(one) for one in value]
        return value if isinstance(value, int | float | bool | None) else str(value)

    for node in graph.graph.nodes:
        if node in folded.moving and node.op in ("placeholder", "call_function"):
            made = folded.values[node]
            shape = list(made.shape) if isinstance(made, torch.Tensor) else []
            name = "input" if node.op == "placeholder" else operation(node.target)
            steps.append([name, argument(node.args) if node.op == "call_function" else [], shape])
            places[node] = len(steps) - 1
    (result,) = next(node for node in graph.graph.nodes if node.op == "output").args
    numbers = [bytes_of(array) for array in arrays]
    how = {"steps": steps, "result": argument(result), "words": panel.words}
    return {"program": how | {"arrays": numbers}}


def operation(target) -> str:
    """An operation's name without its overload: aten.add.Tensor is add. NotImplementedError if `page.js` lacks it."""
    name = getattr(target, "_opname", getattr(target, "__name__", str(target)))
    if name not in operations():
        raise NotImplementedError(f"its draw needs the operation {name}, which page.js lacks.")
    return name


def operations() -> set[str]:
    """The names in the table of `page.js`."""
    text = Path(__file__).with_name("page.js").read_text()
    table = text.split("// Operations.", 1)[1].split("// End of operations.", 1)[0]
    return set(re.findall(r"^  (\w+)[:,]", table, re.MULTILINE))


def bytes_of(array: torch.Tensor) -> list:
    """An array for the page: [its shape, the kind of its numbers, base64]."""
    kind = np.float32 if array.numel() <= SMALL else np.float16
    kind = kind if array.is_floating_point() else np.int32
    data = array.detach().cpu().contiguous().numpy().astype(kind)
    return [list(array.shape), data.dtype.name, base64.b64encode(data.tobytes()).decode()]
