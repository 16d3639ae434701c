"""What every panel is: controls, and the picture that they redraw.

A move decodes, tiles one uint8 picture, encodes it as PNG and sets `ipywidgets.Image.value`: no
plotting library and no output area, so nothing flickers and a move takes a few milliseconds.
"""

from collections.abc import Callable

import ipywidgets

from companion.show.pixels import DECODED, png

# Room for a label; on a narrow page, less. Controls stand beside the picture or, wrapped, under it.
WIDE = {"layout": {"width": "380px", "max_width": "100%"}, "style": {"description_width": "110px"}}
WRAPPED = {"display": "flex", "flex_flow": "row wrap", "align_items": "flex-start"}
SHAPE_KEPT = {"max_width": "100%", "height": "auto", "flex": "0 1 auto", "object_fit": "contain"}


class Panel(ipywidgets.VBox):
    """Controls and the picture they redraw. `draw(**values)` returns (picture, readout text).

    `set(name=value, ...)` moves several controls and redraws once. Where no kernel runs, the page
    shows `text` instead.
    """

    def __init__(
        self,
        draw: Callable,
        controls: dict,
        buttons: dict | None = None,
        text: str = "",
        height: int = DECODED,
    ):
        self.draw, self.controls, self.text, self.held = draw, controls, text, False
        self.height = height
        self.picture = ipywidgets.Image(format="png", layout=SHAPE_KEPT)
        self.readout = ipywidgets.Label()
        self.buttons = {name: ipywidgets.Button(description=name) for name in buttons or {}}
        for name, action in (buttons or {}).items():
            self.buttons[name].on_click(lambda _, action=action: self.set(**action()))
        for control in controls.values():
            control.observe(self.redraw, "value")
        pressed = ipywidgets.Box(list(self.buttons.values()), layout=WRAPPED)
        column = [*controls.values(), pressed, self.readout]
        column = ipywidgets.VBox(column, layout={"max_width": "100%", "flex": "0 1 auto"})
        super().__init__([ipywidgets.Box([self.picture, column], layout=WRAPPED)])
        self.redraw()

    def set(self, **values) -> None:
        self.held = True
        for name, value in values.items():
            self.controls[name].value = value
        self.held = False
        self.redraw()

    def redraw(self, _=None) -> None:
        if not self.held:
            values = {name: control.value for name, control in self.controls.items()}
            picture, self.readout.value = self.draw(**values)
            self.picture.value = png(picture, self.height)

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        data["text/plain"] = f"[{self.text} Run the notebook to move it.]"
        return bundle


def slider(description: str, low: float, high: float, value: float = 0.0) -> ipywidgets.FloatSlider:
    """A slider that reports while it is dragged, wide enough for its label."""
    return ipywidgets.FloatSlider(
        value=value, min=low, max=high, step=(high - low) / 120, description=description,
        readout_format=".2f", **WIDE,
    )  # fmt: skip
