"""Static pictures for the page and for print. Every function draws and returns None."""

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.ticker import LogLocator
from PIL import Image

from companion.data import tile
from companion.metrics import effects, traversal
from companion.training import History

# Ten colours that people with any colour vision can tell apart (Okabe–Ito and two greys).
COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9"),
    *("#D55E00", "#F0E442", "#000000", "#999999", "#7F3C8D"),
)
WIDE = 9  # inches: no figure is wider than the page, which would shrink its type
plt.rcParams |= {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "figure.dpi": 90,
    "figure.constrained_layout.use": True,
    "font.size": 11,  # at 90 dots an inch the size of the page's text
    "image.cmap": "gray",
    "legend.frameon": False,
}


def skeleton(section: str) -> Image.Image:
    """The chapter's picture, one encoder, code and decoder, with the constraint of `section` in colour."""
    return Image.open(Path(__file__).parent / "skeletons" / f"{section}.png")


def strip(
    rows: dict[str, torch.Tensor], columns=None, height: float = 0.9, title="", under=None,
    signed: bool = False,
) -> None:  # fmt: skip
    """Pictures in labelled rows: {"image": (K, C, H, W), "reconstruction": ...}, with labels over columns.

    height: inches of a picture, less where the row would not fit the page. under: {row: K texts},
    each below its picture. signed: weights (K, 1, H, W), blue below zero and red above, each picture
    on a scale of its own.
    """
    pictures = [row.detach().cpu() for row in rows.values()]
    if signed:
        pictures = [0.5 + 0.5 * row / row.abs().amax((1, 2, 3), keepdim=True) for row in pictures]
    count, under = len(pictures[0]), under or {}
    margin = 0.3 + 0.095 * max(len(label) for label in rows)  # inches that the longest label takes
    height = min(height, (WIDE - margin) / count)
    size = (margin + height * count, (height + 0.08) * len(rows) + 0.25 * len(under) + 0.4)
    figure, axes = plt.subplots(len(rows), 1, squeeze=False, figsize=size)
    for axis, (label, row) in zip(axes[:, 0], zip(rows, pictures, strict=True), strict=True):
        gap = max(1, row.shape[-1] // 28)
        if signed:  # a gap of the colour of zero, which on this scale is white
            row = torch.nn.functional.pad(row, (0, gap), value=0.5)
        picture = tile(row[None], gap=0 if signed else gap)
        colours = "RdBu_r" if signed else "gray"
        axis.imshow(picture, colours, vmin=0, vmax=255, interpolation="nearest")
        axis.set(yticks=[], xticks=[])
        axis.set_ylabel(label, rotation=0, ha="right", va="center")
        axis.spines[:].set_visible(False)
        centres = (np.arange(count) + 0.5) * picture.shape[1] / count
        if label in under:
            axis.set_xticks(centres, under[label])
            axis.tick_params(length=0)
    if columns is not None:
        top = axes[0, 0].secondary_xaxis("top")
        top.set_xticks(centres, [str(c) for c in columns])
        top.tick_params(length=0)
        top.spines[:].set_visible(False)
    figure.suptitle(title)
    plt.show()


@torch.no_grad()
def traversals(
    decode: Callable, codes: torch.Tensor, count: int = 4, steps: int = 9, title=""
) -> None:
    """One latent axis at a time from -3 to 3 σ of `codes` (N, M), the others at their mean.

    The `count` axes that move the picture most, each row with its share of the effect.
    """
    shares, middle, spread, rows = effects(decode, codes), codes.mean(0), codes.std(0), {}
    for axis in shares.argsort(descending=True)[:count].tolist():
        moved = traversal(axis, middle, spread[axis], steps)
        rows[f"axis {axis + 1} ({shares[axis]:.0%})"] = decode(moved)
    sigmas = torch.linspace(-3, 3, steps).tolist()
    strip(rows, columns=[f"{s:+.1f} σ" for s in sigmas], title=title)


def history(past: History, unit: str = "", title: str = "") -> None:
    """Every term of the loss in a panel of its own: each step as a thin line, each epoch's mean on it.

    unit: of the terms, such as "nats an image". A history from a file has epochs only.
    """
    count = len(past.terms)
    figure, axes = plt.subplots(1, count, figsize=(min(WIDE, 1 + 3.5 * count), 2.8), squeeze=False)
    for axis, (name, means), colour in zip(axes[0], past.terms.items(), COLOURS, strict=False):
        steps = past.steps.get(name, means)
        each = len(steps) / len(means)  # steps an epoch
        axis.plot(np.arange(len(steps)) + 1, steps, color=colour, linewidth=0.8, alpha=0.5)
        axis.plot(
            (np.arange(len(means)) + 0.5) * each + 0.5, means, "o-", color=colour, markersize=4
        )
        settled = np.quantile(steps[len(steps) // 50 :], 0.995)  # the first steps are off the scale
        axis.set(xlabel="training step" if each > 1 else "epoch", title=name)
        axis.set(ylim=(0, 1.1 * max(settled, *means)))
    axes[0, 0].set_ylabel(unit)
    figure.suptitle(title)
    plt.show()


def curves(x, lines: dict[str, list[float]], xlabel: str, ylabel: str, **scale) -> None:
    """Several lines over the same x, each named where it ends. `scale`: xscale="log" and the like.

    A line of several seeds, (S, X), is drawn as their mean, with their range behind it.
    """
    _, axis = plt.subplots(figsize=(6, 3.2))
    for name, marker in zip(lines, "osD^vP*X", strict=False):
        seeds = np.atleast_2d(lines[name])
        (line,) = axis.plot(x, seeds.mean(0), marker=marker, markersize=4)
        axis.fill_between(x, seeds.min(0), seeds.max(0), color=line.get_color(), alpha=0.2, lw=0)
    axis.set(xlabel=xlabel, ylabel=ylabel, **scale)
    apart_by = -(-sum(len(str(value)) + 1 for value in x) // 60)  # 60 characters fit below the axis
    axis.set_xticks(x[::apart_by], [str(value) for value in x[::apart_by]])
    if scale.get("yscale") == "log":
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    last = [line.get_ydata()[-1] for line in axis.lines]
    ends = axis.transData.transform([(x[-1], value) for value in last])  # (K, 2)
    places = pushed_apart(
        ends, np.array([1, 13]) * axis.figure.dpi / 72
    )  # 13 points: a line of text
    for name, line, end, place in zip(lines, axis.lines, ends, places, strict=True):
        axis.annotate(
            name, (x[-1], line.get_ydata()[-1]), color=line.get_color(), va="center",
            xytext=(8, (place - end)[1] * 72 / axis.figure.dpi), textcoords="offset points",
            annotation_clip=False,
        )  # fmt: skip
    plt.show()


def pushed_apart(places: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Places (K, 2) pushed from each other until none lies in another's ellipse of radii `room`."""
    places = places / room
    for _ in range(100):
        between = places[:, None] - places  # (K, K, 2)
        distance = np.linalg.norm(between, axis=2) + 1e-9
        push = np.clip(1 - distance, 0, None) / distance / 2
        places = places + (push[:, :, None] * between).sum(1)
    return places * room


def frontier(lines: dict[str, list], xlabel: str, ylabel: str, **scale) -> None:
    """Trade-offs {name: [x values, y values]}, a marked line each, in one picture."""
    _, axis = plt.subplots(figsize=(5, 3.2))
    for (name, (x, y)), marker in zip(lines.items(), "osD^vP*X", strict=False):
        axis.plot(x, y, marker=marker, label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel, **scale)
    axis.legend()
    plt.show()


def bars(quantities: dict[str, dict], title: str = "", digits: int = 1) -> None:
    """Small multiples {quantity with its unit: {name: value}}: one panel each, the same names below."""
    names = list(next(iter(quantities.values())))
    figure, axes = plt.subplots(
        1, len(quantities), figsize=(WIDE, 0.7 + 0.32 * len(names)), sharey=True, squeeze=False
    )
    for axis, (quantity, found), colour in zip(axes[0], quantities.items(), COLOURS, strict=False):
        values = [float(found[name]) for name in names]
        drawn = axis.barh(names, values, color=colour)
        axis.bar_label(drawn, [f"{value:.{digits}f}" for value in values], padding=3)
        axis.set(xlabel=quantity, xticks=[], xlim=(0, 1.25 * max(values)))
        axis.tick_params(length=0)
    axes[0, 0].invert_yaxis()  # the first name on top
    figure.suptitle(title)
    plt.show()
