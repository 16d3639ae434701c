"""A panel in Jupyter: `panel.js` shows it, the kernel answers its moves."""

from pathlib import Path

import anywidget
import traitlets

from companion.show.panel import Panel
from companion.show.pixels import png


class Page(anywidget.AnyWidget):
    """The widget: a description for the front, then messages there and back."""

    _esm = Path(__file__).with_name("panel.js").read_text() + "export default {render};"
    about = traitlets.Dict().tag(sync=True)


def page_of(panel: Panel) -> Page:
    """The panel's controls, picture and readout, tied to it both ways."""
    page = Page(about=panel.about())

    def moved(_, message, __):
        panel.set(**{name: panel.controls[name].at(v) for name, v in message["values"].items()})

    def show():
        page.send({"values": panel.places(), "readout": panel.readout}, [png(panel.picture)])

    page.on_msg(moved)
    panel.watchers.append(show)
    return page
