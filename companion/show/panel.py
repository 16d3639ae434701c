"""What every panel is: controls, and the picture that they redraw. Nothing here knows a widget.

`widgets` shows a panel in Jupyter; a page without a kernel can show the same from what stands here.
A move decodes, tiles one uint8 picture and encodes it as PNG: no plotting library, no output area.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from companion.show.pixels import DECODED, png


@dataclass(frozen=True)
class Slider:
    """A number from `low` to `high`; `step` 0: as fine as the page allows."""

    label: str
    low: float
    high: float
    value: float = 0.0
    step: float = 0.0

    def shown(self, value: float) -> str:
        return f"{self.label} {value:g}" if self.step else f"{self.label} {value:.2f}"


@dataclass(frozen=True)
class Choice:
    """One of {words: value}: on a slider from first to last, or in a menu."""

    label: str
    options: dict
    menu: bool = False

    @property
    def value(self):
        return next(iter(self.options.values()))

    def shown(self, value) -> str:
        words = next(words for words, option in self.options.items() if option == value)
        return f"{self.label} {words}"


class Panel:
    """Controls and the picture they redraw. `draw(**values)` returns (picture, readout text).

    picture: uint8 (H, W[, 3]); `rows` names its rows, top to bottom, all of one height. buttons:
    {name: function that returns the values to move to}. text: what the panel is, in a sentence; where
    no kernel runs it stands in the panel's place.
    """

    def __init__(
        self, draw: Callable, controls: dict[str, Slider | Choice], buttons: dict | None = None,
        text: str = "", height: int = DECODED, rows: Sequence[str] = (),
    ):  # fmt: skip
        self.draw, self.controls, self.buttons = draw, controls, buttons or {}
        self.text, self.height, self.rows = text, height, rows
        self.values = {name: control.value for name, control in controls.items()}
        self.watchers: list[Callable] = []  # called after each move, such as a page that shows it
        self.set()

    def set(self, **values) -> None:
        """Move controls to these values and redraw once."""
        self.values |= values
        self.picture, self.readout = self.draw(**self.values)
        for watcher in self.watchers:
            watcher()

    def press(self, button: str) -> None:
        self.set(**self.buttons[button]())

    def image(self) -> bytes:
        """The picture as the page shows it: PNG, enlarged, its rows named."""
        return png(self.picture, self.height, self.rows)

    def alt(self) -> str:
        """What the picture shows, in words; it changes with every move."""
        stand = (self.controls[name].shown(value) for name, value in self.values.items())
        rows = f" Rows: {', '.join(self.rows)}." if self.rows else ""
        return f"{self.text}{rows} {', '.join(stand)}. {self.readout}".strip()

    def _repr_mimebundle_(self, **kwargs):
        from companion.show.widgets import page_of  # here, for a page without Jupyter needs none

        bundle = page_of(self)._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        data["text/plain"] = f"[{self.text} Run the notebook to move it.]"
        return bundle
