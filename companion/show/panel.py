"""What every panel is: controls, and the picture that they redraw. Nothing here knows a home of it.

`panel.js` shows a panel: in Jupyter (`jupyter`) the kernel answers a move, on a page without a kernel
(`site`) pictures drawn beforehand, or the panel's program in the reader's browser.
"""

import base64
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from companion.data import tile
from companion.show.pixels import DECODED, beside, enlarged, named_rows, png, with_cross


@dataclass(frozen=True)
class Slider:
    """A number from `low` to `high`, in steps of `step`; 0: as fine as the page allows.

    hidden: no slider on the page, only buttons move it.
    """

    label: str
    low: float
    high: float
    value: float = 0.0
    step: float = 0.0
    hidden: bool = False

    def at(self, place: float) -> float:
        return round(place) if self.step == int(self.step) != 0 else float(place)

    def place(self, value: float) -> float:
        return value

    def shown(self, value: float) -> str:
        return f"{self.label} {value:.{self.about()['digits']}f}"

    def about(self) -> dict:
        step = self.step or (self.high - self.low) / 120
        digits = 0 if self.step and step == int(step) else 2
        ends = {"low": self.low, "high": self.high, "step": step, "digits": digits}
        return ends | {"label": self.label, "value": self.value, "hidden": self.hidden}


@dataclass(frozen=True)
class Choice:
    """One of {words: value}: on a slider from first to last, or in a menu. Its place is the number."""

    label: str
    options: dict
    menu: bool = False
    hidden = False

    @property
    def value(self):
        return self.at(0)

    def at(self, place: float):
        return list(self.options.values())[round(place)]

    def place(self, value) -> int:
        return list(self.options.values()).index(value)

    def shown(self, value) -> str:
        return f"{self.label} {list(self.options)[self.place(value)]}"

    def about(self) -> dict:
        ends = {"low": 0, "high": len(self.options) - 1, "step": 1, "digits": 0, "value": 0}
        values = [value for value in self.options.values() if isinstance(value, int | float)]
        ends |= {"values": values} if len(values) == len(self.options) else {}
        return ends | {"label": self.label, "words": list(self.options), "menu": self.menu}


@dataclass(frozen=True)
class Plane:
    """A map, uint8 (S, S, 3), on which two controls are chosen by pressing; axis 2 goes upwards."""

    names: tuple[str, str]
    picture: np.ndarray


class Panel:
    """Controls and the picture they redraw. `draw(**values)` returns (picture, readout text).

    picture: uint8 (H, W[, 3]); `rows` names its rows, top to bottom, all of one height. buttons: {name:
    moves}, each the values it sets; a press takes the next. text: what the panel is, in a sentence.

    readout: with it `draw` is a program, torch alone on numbers as tensors: it returns a picture
    (C, H, W) in [0, 1] and the numbers of this format. coarse: {name: Choice} of fewer values, for a page
    that holds a picture of each state.
    """

    traced = False  # while a program is recorded for a page: values cannot be looked at then

    def __init__(
        self, draw: Callable, controls: dict[str, Slider | Choice], buttons: dict | None = None,
        text: str = "", height: int = DECODED, rows: Sequence[str] = (), plane: Plane | None = None,
        readout: str | None = None, coarse: dict | None = None,
    ):  # fmt: skip
        self.draw = draw if readout is None else self.computed
        self.program, self.words = (None, "") if readout is None else (draw, readout)
        self.controls, self.buttons, self.plane = controls, buttons or {}, plane
        self.text, self.height, self.rows = text, height, rows
        self.coarse = controls | (coarse or {})
        self.values = {name: control.value for name, control in controls.items()}
        self.pressed = dict.fromkeys(self.buttons, 0)
        self.watchers: list[Callable] = []  # called after each move, such as a page that shows it
        self.set()

    @torch.no_grad()
    def computed(self, **values) -> tuple[np.ndarray, str]:
        """What the program draws at these values."""
        image, *numbers = self.program(**{name: torch.tensor(v) for name, v in values.items()})
        return tile(image[None, None]), self.words.format(*(float(number) for number in numbers))

    def set(self, **values) -> None:
        """Move controls to these values and redraw once."""
        self.values |= values
        self.picture, self.readout = self.draw(**self.values)
        for watcher in self.watchers:
            watcher()

    def press(self, button: str) -> None:
        moves = self.buttons[button]
        self.pressed[button] += 1
        self.set(**moves[(self.pressed[button] - 1) % len(moves)])

    def places(self) -> dict[str, float]:
        """Where each control stands, as numbers."""
        return {name: self.controls[name].place(value) for name, value in self.values.items()}

    def about(self, own: dict | None = None) -> dict:
        """What `panel.js` needs to build the panel, with its controls or these: text and numbers alone."""
        own = own or self.controls
        stand = {name: control.place(self.values[name]) for name, control in own.items()}
        controls = [{"name": n} | own[n].about() | {"value": stand[n]} for n in own]
        moves = {
            button: [{n: own[n].place(v) for n, v in move.items()} for move in moves]
            for button, moves in self.buttons.items()
        }
        about = {"text": self.text, "height": self.height, "rows": list(self.rows)}
        return about | {"controls": controls, "buttons": moves, "plane": self.map()}

    def map(self) -> dict | None:
        """The plane as `panel.js` takes it."""
        if self.plane is None:
            return None
        picture = base64.b64encode(png(self.plane.picture)).decode()
        ends = [self.controls[name] for name in self.plane.names]
        return {
            "names": list(self.plane.names),
            "low": [end.low for end in ends],
            "high": [end.high for end in ends],
            "picture": f"data:image/png;base64,{picture}",
            "side": len(self.plane.picture),
        }

    def image(self) -> bytes:
        """A still picture: PNG, enlarged, its rows named, the plane with a cross to its left."""
        large = enlarged(self.picture, self.height)
        if self.plane is not None:
            stands = [(self.controls[name], self.values[name]) for name in self.plane.names]
            shares = [(value - end.low) / (end.high - end.low) for end, value in stands]
            grey = large.reshape(*large.shape[:2], -1)
            chart = np.broadcast_to(grey, (*grey.shape[:2], 3))
            large = beside(with_cross(self.plane.picture, *shares), chart)
        return png(named_rows(Image.fromarray(large), self.rows) if self.rows else large, 9)

    def alt(self) -> str:
        """What the picture shows, in words; it changes with every move."""
        moved = [(self.controls[name], value) for name, value in self.values.items()]
        stand = (control.shown(value) for control, value in moved if not control.hidden)
        rows = f" Rows: {', '.join(self.rows)}." if self.rows else ""
        return f"{self.text}{rows} {', '.join(stand)}. {self.readout}".strip()

    def _repr_mimebundle_(self, **kwargs):
        words, still = self.alt(), base64.b64encode(self.image()).decode()
        if "COMPANION_SITE" in os.environ:
            from companion.show.page import place_on_page

            return {"text/html": place_on_page(self, words, still), "text/plain": words}
        from companion.show.jupyter import page_of  # here, for a page without Jupyter needs none

        data, metadata = page_of(self)._repr_mimebundle_(**kwargs)
        data["text/plain"] = f"[{self.text} Run the notebook to move it.]"
        return data | {"image/png": still}, metadata | {"image/png": {"alt": words}}
