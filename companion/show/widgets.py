"""A panel in Jupyter."""

import ipywidgets
import traitlets

from companion.show.panel import Choice, Panel, Slider

# Room for a label; on a narrow page, less. Controls stand beside the picture or, wrapped, under it.
WIDE = {"layout": {"width": "380px", "max_width": "100%"}, "style": {"description_width": "130px"}}
WRAPPED = {"display": "flex", "flex_flow": "row wrap", "align_items": "flex-start"}
NARROW = {"max_width": "100%", "flex": "0 1 auto"}
SHAPE_KEPT = NARROW | {"height": "auto", "object_fit": "contain"}
STYLE = """<style>
.companion-panel .noUi-handle:focus {outline: 3px solid #D55E00}
.companion-panel .companion-words {white-space: normal !important; height: auto !important}
</style>"""


class Picture(ipywidgets.Image):
    """An image whose tooltip, its text for screen readers, the page sets only beside a description."""

    description = traitlets.Unicode("").tag(sync=True)


def page_of(panel: Panel) -> ipywidgets.VBox:
    """The panel's controls, picture and readout, tied to it both ways."""
    controls = {name: control_of(panel.controls[name], v) for name, v in panel.values.items()}
    picture = Picture(format="png", layout=SHAPE_KEPT)
    readout = ipywidgets.Label(layout={"max_width": "100%"}).add_class("companion-words")
    held = False  # while the panel itself moves its controls

    def show():
        nonlocal held
        held = True
        for name, value in panel.values.items():
            controls[name].value = value
        held = False
        picture.value, picture.tooltip, readout.value = panel.image(), panel.alt(), panel.readout

    def moved(_):
        if not held:
            panel.set(**{name: control.value for name, control in controls.items()})

    for control in controls.values():
        control.observe(moved, "value")
    buttons = [ipywidgets.Button(description=name) for name in panel.buttons]
    for button in buttons:
        button.on_click(lambda it: panel.press(it.description))
    panel.watchers.append(show)
    show()
    column = [*controls.values(), ipywidgets.Box(buttons, layout=WRAPPED), readout]
    beside = [picture, ipywidgets.VBox(column, layout=NARROW)]
    page = ipywidgets.VBox([ipywidgets.Box(beside, layout=WRAPPED), ipywidgets.HTML(STYLE)])
    return page.add_class("companion-panel")


def control_of(control: Slider | Choice, value) -> ipywidgets.DOMWidget:
    """A control that reports while it is dragged, wide enough for its label."""
    if isinstance(control, Slider):
        span = {"min": control.low, "max": control.high, "value": value} | WIDE
        if control.step:
            return ipywidgets.IntSlider(description=control.label, step=int(control.step), **span)
        step = (control.high - control.low) / 120
        return ipywidgets.FloatSlider(description=control.label, step=step, **span)
    build = ipywidgets.Dropdown if control.menu else ipywidgets.SelectionSlider
    options = list(control.options.items())
    return build(options=options, value=value, description=control.label, **WIDE)
