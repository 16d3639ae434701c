"""Draws the picture of the chapter anew: `python tests/draw_skeletons.py`.

One encoder, code and decoder, and what each section asks of them: six PNGs in
companion/show/skeletons, which the notebooks show, and all six in .github/skeletons.png, for README.md.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Circle, Polygon, Rectangle

from companion.show.plotting import COLOURS

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "companion" / "show" / "skeletons"
PLAIN, MARK = "#999999", COLOURS[5]  # the skeleton, and the constraint
LIGHT = "#E6E6E6"


def draw(axis, section: str) -> None:
    """The skeleton with the constraint of `section` ("31.1" to "31.6") in colour."""
    title, constrain = CONSTRAINTS[section]
    axis.set(xlim=(0, 15), ylim=(-0.4, 4), aspect="equal", title=f"{section}  {title}")
    axis.axis("off")
    for left, name in ((0.3, "image $x$"), (13.1, "reconstruction")):
        axis.add_patch(Rectangle((left, 1.2), 1.6, 1.6, fc=LIGHT, ec=PLAIN))
        axis.text(left + 0.8, 0.85, name, ha="center", va="top")
    for sides, name, middle in (
        (((2.6, 3.4), (5.4, 2.6), (5.4, 1.4), (2.6, 0.6)), "encoder", 4.0),
        (((9.6, 2.6), (12.4, 3.4), (12.4, 0.6), (9.6, 1.4)), "decoder", 11.0),
    ):
        axis.add_patch(Polygon(sides, fc=LIGHT, ec=PLAIN))
        axis.text(middle, 2, name, ha="center", va="center")
    for start, end in ((1.9, 2.6), (5.4, 6.3), (8.7, 9.6), (12.4, 13.1)):
        axis.annotate("", (end, 2), (start, 2), arrowprops={"arrowstyle": "->", "color": PLAIN})
    constrain(axis)


def bar(axis, x: float, height: float, colour: str, units: int, active=()) -> None:
    """A code as a column of units round y = 2; `active` ones are filled."""
    side = height / units
    for k in range(units):
        filled = MARK if k in active else "white"
        corner = (x - side / 2, 2 - height / 2 + k * side)
        axis.add_patch(
            Rectangle(corner, side, side, fc=filled, ec="white" if k in active else colour)
        )


def say(axis, text: str, x: float = 7.5, y: float = 0.3) -> None:
    axis.text(x, y, text, ha="center", va="top", color=MARK, weight="bold")


def narrow(axis) -> None:
    bar(axis, 7.5, 1.2, MARK, 3, active=range(3))
    say(axis, "few latent dimensions")


def corrupt_and_sparse(axis) -> None:
    noise = np.random.default_rng(0).random((9, 9))
    axis.imshow(noise, cmap="Oranges", extent=(0.3, 1.9, 1.2, 2.8), zorder=2, vmin=-0.2)
    axis.set(xlim=(0, 15), ylim=(-0.4, 4))
    axis.text(1.1, 3.0, "corrupted", ha="center", va="bottom", color=MARK, weight="bold")
    bar(axis, 7.5, 2.8, PLAIN, 10, active=(2, 7))
    say(axis, "or few active units")


def bell(axis, low: float = 6.5, high: float = 8.5) -> None:
    x = np.linspace(low, high, 80)
    y = 1.3 + 1.6 * np.exp(-(((x - 7.5) / 0.42) ** 2) / 2)
    axis.fill_between(x, 1.3, y, color=MARK, alpha=0.35, lw=0)
    axis.plot(x, y, color=MARK)


def distribution(axis) -> None:
    bell(axis)
    say(axis, "a distribution near the prior")


def weighted(axis) -> None:
    bell(axis)
    axis.text(7.5, 2.95, "β", ha="center", va="bottom", color=MARK, size=16, weight="bold")
    say(axis, "the KL times β: meaning, or silence")


def stacked(axis) -> None:
    for x, height, units in ((6.6, 2.4, 8), (7.3, 1.2, 4), (7.9, 0.6, 2)):
        bar(axis, x, height, MARK, units, active=range(units))
    axis.annotate("", (6.7, 3.35), (8.0, 3.35), arrowprops={"arrowstyle": "->", "color": MARK})
    axis.text(7.35, 3.45, "each sets the next one's prior", ha="center", va="bottom", color=MARK)
    say(axis, "codes stacked by scale")


def tokens(axis) -> None:
    chosen = np.random.default_rng(3).integers(0, 4, (4, 4))
    for (row, column), code in np.ndenumerate(chosen):
        corner = (6.55 + 0.3 * column, 1.4 + 0.3 * row)
        axis.add_patch(Rectangle(corner, 0.3, 0.3, fc=MARK, alpha=(code + 1) / 4, ec="white"))
    for code in range(4):
        axis.add_patch(Circle((8.3, 1.5 + 0.34 * code), 0.13, fc=MARK, alpha=(code + 1) / 4))
    say(axis, "snapped to a codebook")


CONSTRAINTS = {
    "31.1": ("a narrow bottleneck", narrow),
    "31.2": ("a corrupted input, or a sparse code", corrupt_and_sparse),
    "31.3": ("a code that is a distribution", distribution),
    "31.4": ("a distribution whose KL has a weight", weighted),
    "31.5": ("a hierarchy of codes", stacked),
    "31.6": ("a code of discrete tokens", tokens),
}


def inference(axis, title: str, way: str) -> None:
    """How an image finds three codes, `way` "bottom-up", "ladder" or "top-down": orange arrows."""
    levels = {k: (3.2, 4.4 - 1.5 * k) for k in range(3)}  # z1 on top
    seen = {k: (1.0, 4.4 - 1.5 * k) for k in range(3)}
    axis.set(xlim=(-0.2, 5.4), ylim=(-1.1, 5.2), aspect="equal", title=title)
    axis.axis("off")

    def arrow(start, end, colour=PLAIN, bend=0.0):
        style = {"arrowstyle": "-|>", "color": colour, "shrinkA": 13, "shrinkB": 13, "lw": 1.6}
        axis.annotate("", end, start, arrowprops=style | {"connectionstyle": f"arc3,rad={bend}"})

    def node(place, text, colour, shape=Circle):
        patch = (
            Circle(place, 0.4)
            if shape is Circle
            else Rectangle((place[0] - 0.36, place[1] - 0.36), 0.72, 0.72)
        )
        patch.set(fc="white" if colour == PLAIN else "#FFF3E8", ec=colour)
        axis.add_patch(patch)
        axis.text(*place, text, ha="center", va="center")

    image, pixels = (1.0, -0.6), (3.2, -0.6)
    node(image, "$x$", PLAIN, Rectangle)
    node(pixels, r"$\hat{x}$", PLAIN, Rectangle)
    for k, place in levels.items():
        node(place, f"$z_{k + 1}$", MARK)
        below = levels.get(k + 1, pixels)
        if way == "top-down":
            state = 4.6, place[1]
            node(state, f"$h_{k + 1}$", PLAIN, Rectangle)
            arrow(state, place, MARK)
            arrow(place, (4.6, levels[k + 1][1]) if k < 2 else pixels)
            if k < 2:
                arrow(state, (4.6, levels[k + 1][1]))
        else:
            arrow(
                place,
                below,
                MARK if way == "ladder" and k < 2 else PLAIN,
                -0.25 * (way == "bottom-up"),
            )
    if way == "bottom-up":
        arrow(image, levels[2], MARK)
        for k in (2, 1):
            arrow(levels[k], levels[k - 1], MARK, -0.25)
        return
    for k, place in seen.items():
        node(place, f"$d_{k + 1}$", PLAIN, Rectangle)
        arrow(seen.get(k + 1, image), place, MARK)
        arrow(place, levels[k], MARK)


def save_inference() -> None:
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.7))
    titles = (
        "bottom-up: by the sample below",
        "ladder: image and prior, merged",
        "top-down: by image and state",
    )
    for axis, title in zip(axes, titles, strict=True):
        inference(axis, title, title.split(":")[0])
    figure.savefig(HOME / "31.5-inference.png", dpi=90, bbox_inches="tight")
    plt.close(figure)


def save_all(home: Path = HOME, together: Path = ROOT / ".github" / "skeletons.png") -> None:
    """Each section's picture in `home`, cut to what is drawn, and all six in one file."""
    for section in CONSTRAINTS:
        figure, axis = plt.subplots(figsize=(7.5, 2.2))
        draw(axis, section)
        figure.savefig(home / f"{section}.png", dpi=90, bbox_inches="tight")
        plt.close(figure)
    with plt.rc_context({"font.size": 10}):  # side by side the words have less room
        figure, axes = plt.subplots(3, 2, figsize=(12.5, 6.4))
        for axis, section in zip(axes.flat, CONSTRAINTS, strict=True):
            draw(axis, section)
        figure.savefig(together, dpi=80)
        plt.close(figure)


if __name__ == "__main__":
    save_all()
    save_inference()
