"""Static pictures for the page and for print. Every function draws and returns None."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.ticker import LogLocator

from companion.data import tile
from companion.training import History

# Ten colours that people with any colour vision can tell apart (Okabe–Ito and two greys).
COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9"),
    *("#D55E00", "#F0E442", "#000000", "#999999", "#7F3C8D"),
)
plt.rcParams |= {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "figure.dpi": 90,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "image.cmap": "gray",
    "legend.frameon": False,
}


def strip(rows: dict[str, torch.Tensor], columns=None, height: float = 0.9, title="") -> None:
    """Pictures in labelled rows: {"x": (K, C, H, W), "its copy": ...}, with labels over columns."""
    pictures = [row.detach().cpu() for row in rows.values()]
    count = len(pictures[0])
    figure, axes = plt.subplots(
        len(rows),
        1,
        squeeze=False,
        figsize=(1.6 + height * count, (height + 0.08) * len(rows) + 0.4),
    )
    for axis, (label, row) in zip(axes[:, 0], zip(rows, pictures, strict=True), strict=True):
        picture = tile(row[None], gap=max(1, row.shape[-1] // 28))
        axis.imshow(picture, vmin=0, vmax=255, interpolation="nearest")
        axis.set(yticks=[], xticks=[])
        axis.set_ylabel(label, rotation=0, ha="right", va="center")
        axis.spines[:].set_visible(False)
    if columns is not None:
        width = picture.shape[1] / count
        top = axes[0, 0]
        top.set_xticks([(i + 0.5) * width for i in range(count)], [str(c) for c in columns])
        top.tick_params(length=0, labeltop=True, labelbottom=False)
    figure.suptitle(title)
    plt.show()


def history(past: History, title: str = "") -> None:
    """Every term of the loss, epoch by epoch, in nats or squared pixel units as the model has them."""
    _, axis = plt.subplots(figsize=(5, 2.6))
    for name, values in past.terms.items():
        axis.plot(range(1, len(values) + 1), values, marker=".", label=name)
    axis.set(xlabel="epoch", ylabel="mean over the epoch", title=title, ylim=(0, None))
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend()
    plt.show()


def curves(x, lines: dict[str, list[float]], xlabel: str, ylabel: str, **scale) -> None:
    """Several lines over the same x, each named where it ends. `scale`: xscale="log" and the like."""
    _, axis = plt.subplots(figsize=(6, 3.2))
    for values, marker in zip(lines.values(), "osD^vP*X", strict=False):
        axis.plot(x, values, marker=marker, markersize=4)
    axis.set(xlabel=xlabel, ylabel=ylabel, **scale)
    axis.set_xticks(x, [str(value) for value in x])
    if scale.get("yscale") == "log":
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    ends = axis.transData.transform([(x[-1], values[-1]) for values in lines.values()])  # (K, 2)
    places = apart(ends, np.array([1, 13]) * axis.figure.dpi / 72)  # 13 points: a line of text
    for name, line, end, place in zip(lines, axis.lines, ends, places, strict=True):
        axis.annotate(
            name, (x[-1], line.get_ydata()[-1]), color=line.get_color(), va="center",
            xytext=(8, (place - end)[1] * 72 / axis.figure.dpi), textcoords="offset points",
            annotation_clip=False,
        )  # fmt: skip
    plt.show()


def code_map(codes: torch.Tensor, labels: torch.Tensor, title: str = "") -> None:
    """2-D codes (N, 2) coloured by class, each class also named by its digit at its median code."""
    codes, labels = codes.cpu().numpy(), labels.cpu().numpy()
    _, axis = plt.subplots(figsize=(5.2, 4.6))
    axis.scatter(*codes.T, c=[COLOURS[label] for label in labels], s=2, alpha=0.5, linewidths=0)
    low, high = np.quantile(codes, (0.01, 0.99), axis=0)  # a few codes lie far out
    digits = np.unique(labels)
    places = np.stack([np.median(codes[labels == digit], axis=0) for digit in digits])
    for digit, place in zip(digits, apart(places, 0.07 * (high - low)), strict=True):
        box = {"facecolor": "white", "edgecolor": COLOURS[digit], "boxstyle": "circle,pad=0.2"}
        axis.annotate(str(digit), place, ha="center", va="center", bbox=box)
    axis.set(xlabel="code axis 1", ylabel="code axis 2", title=title)
    axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    plt.show()


def apart(places: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Places (K, 2) pushed from each other until none lies in another's ellipse of radii `room`."""
    places = places / room
    for _ in range(100):
        between = places[:, None] - places  # (K, K, 2)
        distance = np.linalg.norm(between, axis=2) + 1e-9
        push = np.clip(1 - distance, 0, None) / distance / 2
        places = places + (push[:, :, None] * between).sum(1)
    return places * room


def arrows(places: torch.Tensor, fields: dict[str, torch.Tensor], dots: torch.Tensor) -> None:
    """Arrow fields (P, 2) at the same places (P, 2), side by side at one scale, with data as dots."""
    _, axes = plt.subplots(1, len(fields), figsize=(4.4 * len(fields), 4.2), sharey=True)
    for axis, (name, field) in zip(np.atleast_1d(axes), fields.items(), strict=True):
        axis.plot(*dots.cpu().T, ".", color=COLOURS[1], markersize=4)
        axis.quiver(*places.cpu().T, *field.cpu().T, angles="xy", scale_units="xy", scale=1)
        axis.set(title=name, aspect="equal", xlabel="axis 1 of the plane")
    np.atleast_1d(axes)[0].set_ylabel("axis 2 of the plane")
    plt.show()


def frontier(lines: dict[str, list], xlabel: str, ylabel: str, **scale) -> None:
    """Trade-offs {name: [x values, y values]}, a marked line each, in one picture."""
    _, axis = plt.subplots(figsize=(5, 3.2))
    for (name, (x, y)), marker in zip(lines.items(), "osD^v", strict=False):
        axis.plot(x, y, marker=marker, label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel, **scale)
    axis.legend()
    plt.show()
