"""Sliders over several trained models, over pictures made beforehand, over training time."""

import numpy as np
import torch

from companion.data import tile, to_float
from companion.metrics import traversal
from companion.show.panel import Choice, Panel, Slider
from companion.show.pixels import DECODED, bar_chart


def family_slider(models: dict, images: torch.Tensor, label: str, text: str = "") -> Panel:
    """A slider over trained models {setting: reconstruct}: `images` (K, C, H, W) above what each makes of them."""
    originals = to_float(images)

    @torch.no_grad()
    def draw(setting):
        copies = models[setting](originals).clamp(0, 1)
        error = (copies - originals).square().mean().item()
        return tile(torch.stack([originals, copies])), f"squared error {error:.4f} per pixel"

    choice = Choice(label, {str(setting): setting for setting in models})
    rows = ("image", "reconstruction")
    return Panel(draw, {"setting": choice}, text=text or f"A slider over {label}.", rows=rows)


def family_traversals(models: dict, label: str, steps: int = 9) -> Panel:
    """One axis of one model of a family from -3 to 3: {setting: (decode, KL of each axis (M,))}.

    The second slider goes over the axes, the one with the most nats first; the others stay at 0.
    """
    orders = {setting: kl.argsort(descending=True) for setting, (_, kl) in models.items()}
    count = len(next(iter(orders.values())))

    @torch.no_grad()
    def draw(setting, rank):
        decode, kl = models[setting]
        axis = orders[setting][rank - 1].item()
        codes = traversal(axis, 0 * kl, steps=steps)
        return tile(decode(codes)[None]), f"axis {axis + 1}: {kl[axis]:.2f} nats"

    controls = {
        "setting": Choice(label, {str(setting): setting for setting in models}),
        "rank": Slider("axis, by its KL", 1, count, 1, step=1),
    }
    return Panel(draw, controls, text=f"A slider over {label}, and one over the latent axes.")


def frames(pictures: dict, label: str, columns: int = 8, text: str = "") -> Panel:
    """A slider over pictures made beforehand: {setting: images (K, C, H, W)}, `columns` a row.

    {setting: {name: images}} gives named rows instead.
    """
    named = isinstance(next(iter(pictures.values())), dict)
    rows = tuple(next(iter(pictures.values()))) if named else ()

    def picture(images):
        if named:
            return tile(torch.stack([to_float(row).cpu() for row in images.values()]))
        return tile(images.unflatten(0, (-1, columns)))

    tiled = {setting: picture(images) for setting, images in pictures.items()}
    choice = Choice(label, {str(setting): setting for setting in tiled})
    text = text or f"A slider over {label}."
    return Panel(lambda setting: (tiled[setting], ""), {"setting": choice}, text=text, rows=rows)


def moments(film: dict, text: str = "A slider over training time.") -> Panel:
    """Training time: {step: {name: images (K, C, H, W)}}, as `fit(watch=...)` saw the model at each."""
    return frames(film, "training step", text=text)


def latent_film(pictures: dict, text: str = "") -> Panel:
    """A latent space as it forms: {step: (map, plane)} of `maps.film`, the codes beside what decodes."""

    def draw(step):
        (codes, plane), gap = pictures[step], np.full((len(pictures[step][0]), 8, 3), 255, np.uint8)
        return np.concatenate([codes, gap, plane], 1), f"training step {step:,}"

    choice = Choice("training step", {f"{step:,}": step for step in pictures})
    text = text or "A slider over training time: the test codes, and what the plane decodes to."
    panel = Panel(draw, {"step": choice}, text=text, height=2 * DECODED)
    panel.set(step=next(reversed(pictures)))  # opens at the end: the slider leads back
    return panel


def over_time(levels: torch.Tensor, unit: str, text: str = "") -> Panel:
    """Bars (T, M) at each of T equal parts of training, one for each latent axis."""
    top = levels.max().item()

    def draw(part):
        now = levels[round(part * (len(levels) - 1) / 100)]
        return bar_chart(now.tolist(), top), f"{now.sum():.2f} {unit} in all, scale to {top:.1f}"

    controls = {"part": Slider("training, %", 0, 100, 100, step=1)}
    return Panel(draw, controls, text=text or f"A slider over training time: {unit} of each axis.")
