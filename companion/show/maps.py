"""Latent spaces of two dimensions, as pictures: where the codes lie and what decodes between them."""

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Circle, Ellipse, Rectangle

from companion.data import tile
from companion.metrics import plane_of
from companion.show.pixels import map_picture
from companion.show.plotting import COLOURS, WIDE, pushed_apart


def latent_map(
    codes: torch.Tensor, labels: torch.Tensor, decode: Callable, title: str = "", prior: bool = False,
    spread: torch.Tensor | None = None, kept: float = 0.6, side: int = 10,
) -> None:  # fmt: skip
    """Codes (N, 2) by class: the whole map, its crowded middle, and what decodes there.

    The middle holds the share `kept` of the codes along each axis; the grid beside it has side × side
    images. prior: circles of one and two standard deviations of N(0, I). spread: each code's own
    standard deviations (N, 2), an ellipse of one of them for a few codes.
    """
    whole, middle = (
        codes.quantile(torch.tensor(ends).to(codes), 0).cpu()  # (2, 2): low and high of both axes
        for ends in ([0.005, 0.995], [(1 - kept) / 2, (1 + kept) / 2])
    )
    _, axes = plt.subplots(1, 3, figsize=(WIDE, 3.5))
    dots(axes[0], codes, labels, whole, "all test codes")
    dots(axes[1], codes, labels, middle, "the middle, enlarged", size=4)
    (left, low), (right, high) = middle.tolist()
    axes[0].add_patch(Rectangle((left, low), right - left, high - low, fill=False, lw=1.5))
    for axis in axes[:2]:
        for radius in (1, 2) if prior else ():
            axis.add_patch(Circle((0, 0), radius, fill=False, ls="--", lw=1))
    if spread is not None:
        for code, size, label in zip(codes[:80], spread[:80], labels[:80].tolist(), strict=True):
            ellipse = Ellipse(code.tolist(), *(2 * size).tolist(), fill=False, ec=COLOURS[label])
            axes[1].add_patch(ellipse)
    across, up = torch.lerp(*middle.to(codes), torch.linspace(0, 1, side)[:, None].to(codes)).T
    with torch.no_grad():
        plane = decode(plane_of(across, up)).cpu()
    picture = tile(plane.unflatten(0, (side, side)), gap=0)
    ends = (left, right, low, high)
    axes[2].imshow(picture, vmin=0, vmax=255, extent=ends, aspect="auto", interpolation="nearest")
    axes[2].set(title="decoded there", xlabel="latent axis 1")
    axes[0].set_ylabel("latent axis 2")
    plt.suptitle(title)
    plt.show()


def dots(axis, codes, labels, ends, title: str, size: float = 2) -> None:
    """Codes (N, 2) between `ends` (2, 2), coloured by class, each class named at its median there."""
    inside = ((codes.cpu() >= ends[0]) & (codes.cpu() <= ends[1])).all(1)
    places, classes = codes.cpu()[inside].numpy(), labels.cpu()[inside].numpy()
    axis.scatter(*places.T, c=[COLOURS[k] for k in classes], s=size, alpha=0.5, linewidths=0)
    (left, low), (right, high) = ends.tolist()
    digits, counts = np.unique(classes, return_counts=True)
    digits = digits[counts >= 0.02 * len(classes)]  # a few strays get no name
    middles = np.stack([np.median(places[classes == digit], axis=0) for digit in digits])
    room = 0.11 * np.array([right - left, high - low])
    for digit, place in zip(digits, pushed_apart(middles, room), strict=True):
        box = {"facecolor": "white", "edgecolor": COLOURS[digit], "boxstyle": "circle,pad=0.15"}
        axis.annotate(str(digit), place, ha="center", va="center", bbox=box)
    axis.set(xlim=(left, right), ylim=(low, high), title=title, xlabel="latent axis 1")


def film(steps: Sequence[int], formed: dict[str, torch.Tensor], labels, reach: float = 0) -> dict:
    """{step: (map, plane)}, uint8 (S, S, 3) each, of a latent space that forms.

    formed: at each step the "codes" (T, N, 2) of images and the "planes" (T, side², C, H, W) that a grid
    of codes decodes to. Each map has the scale of its own moment; with `reach` all have one, from -reach
    to reach as the planes have, and the circle of two standard deviations of N(0, I) is drawn on both.
    """
    pictures, side = {}, round(formed["planes"].shape[1] ** 0.5)
    for step, code, plane in zip(steps, formed["codes"].float(), formed["planes"], strict=True):
        picture = tile(plane.unflatten(0, (side, side)), gap=0)
        picture = np.repeat(picture[..., None], 3, -1) if picture.ndim == 2 else picture
        ends = code.quantile(0.01, 0), code.quantile(0.99, 0)
        ends = (-reach, reach) if reach else ends
        pictures[step] = map_picture(code, labels, *ends, len(picture), dot=2), picture.copy()
        for page, shade in zip(pictures[step], (0, 255), strict=True) if reach else ():
            axis = np.linspace(-reach, reach, len(page))
            page[abs(np.hypot(*np.meshgrid(axis, axis)) - 2) < 1.5 * reach / len(page)] = shade
    return pictures


def film_strip(pictures: dict, steps: Sequence[int], title: str = "", under=None) -> None:
    """Some moments of a `film` side by side: codes above, the decoded plane below; under: {step: text}."""
    figure, axes = plt.subplots(2, len(steps), figsize=(WIDE, 0.7 + 2 * WIDE / len(steps)))
    for (above, below), step in zip(axes.T, steps, strict=True):
        for axis, picture in zip((above, below), pictures[step], strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        above.set_title(f"step {step:,}")
        below.set_xlabel((under or {}).get(step))
    for axis, name in zip(axes[:, 0], ("codes", "decoded plane"), strict=True):
        axis.set_ylabel(name)
    figure.suptitle(title)
    plt.show()
