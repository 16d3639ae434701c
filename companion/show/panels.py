"""Live sliders that two notebooks or more show; each function returns a `Panel`."""

from collections.abc import Callable

import numpy as np
import torch

from companion.data import tile, to_float
from companion.metrics import Gaussian, effects
from companion.show.panel import Choice, Panel, Slider
from companion.show.pixels import DECODED, bar_chart, map_picture


def code_sliders(
    decoder: Callable,
    codes: torch.Tensor,
    axes: int = 8,
    prior: Gaussian | None = None,
    seed: int = 0,
) -> Panel:
    """A slider for each of the `axes` axes that move the picture most, scaled in σ of `codes` (N, M).

    Buttons: a random draw from the prior (by default a Gaussian fitted to the codes), the code of a
    test image, and a new goal for the slider "towards B", which interpolates in a straight line.
    """
    prior = prior or Gaussian.fitted(codes)
    mean, spread = codes.mean(0), codes.std(0)
    shares = effects(decoder, codes)
    shown = shares.argsort(descending=True)[:axes].tolist()
    generator = torch.Generator().manual_seed(seed)
    start, goal = mean.clone(), codes[0]  # axes without a slider keep the value of `start`

    @torch.no_grad()
    def draw(towards, **values):
        code = start.clone()
        for axis in shown:
            code[axis] = mean[axis] + spread[axis] * values[f"axis{axis}"]
        code = torch.lerp(code, goal, towards)
        text = f"{prior.rarer(code):.0f} % of prior samples are less likely than this code"
        return tile(decoder(code[None])[None]), text

    def place(code):
        start.copy_(code)
        units = ((code - mean) / spread).clamp(-3, 3)
        return {f"axis{axis}": units[axis].item() for axis in shown} | {"towards": 0.0}

    def some_code():
        return codes[torch.randint(len(codes), (), generator=generator).item()]

    def aim():
        nonlocal goal
        goal = some_code()
        return {"towards": 1.0}  # B itself; the slider leads back

    controls = {
        f"axis{axis}": Slider(f"axis {axis + 1} ({shares[axis]:.0%})", -3, 3) for axis in shown
    }
    controls["towards"] = Slider("towards B", 0, 1)
    buttons = {
        "prior sample": lambda: place(prior.sample(1, generator)[0]),
        "test image": lambda: place(some_code()),
        "another B": aim,
    }
    return Panel(draw, controls, buttons, "Sliders over the code, the most effective axes first.")


def latent_plane(
    decoder: Callable, codes: torch.Tensor, labels: torch.Tensor, prior: Gaussian | None = None
) -> Panel:
    """Walk over 2-D codes (N, 2): the map with a cross where you stand, beside the decoded image."""
    prior = prior or Gaussian.fitted(codes)
    low, high = codes.quantile(0.005, 0), codes.quantile(0.995, 0)
    with torch.no_grad():
        size = decoder(codes[:1]).shape[-1]
    side = size * max(1, DECODED // size)  # map and image get the same side
    background = map_picture(codes, labels, low, high, side)
    generator = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def draw(x, y):
        code = torch.tensor([x, y]).to(codes)
        column, row = (
            ((code - low) / (high - low) * (side - 1)).round().long().clamp(0, side - 1).tolist()
        )
        row = side - 1 - row
        plane = background.copy()
        plane[row, :], plane[:, column] = 120, 120
        plane[max(0, row - 3) : row + 4, max(0, column - 3) : column + 4] = (255, 0, 0)
        image = tile(decoder(code[None])[None])
        image = image.repeat(side // len(image), 0).repeat(side // image.shape[1], 1)
        image = np.broadcast_to(image.reshape(*image.shape[:2], -1), (*image.shape[:2], 3))
        text = f"{prior.rarer(code):.0f} % of prior samples are less likely than this code"
        return np.concatenate([plane, np.full((side, 8, 3), 255, np.uint8), image], 1), text

    def jump(code):
        inside = torch.minimum(torch.maximum(code, low), high).tolist()
        return dict(zip("xy", inside, strict=True))

    def test_image():
        return jump(codes[torch.randint(len(codes), (), generator=generator).item()])

    middle = codes.median(0).values.tolist()
    controls = {
        name: Slider(f"latent axis {i + 1}", low[i].item(), high[i].item(), middle[i])
        for i, name in enumerate("xy")
    }
    buttons = {
        "prior sample": lambda: jump(prior.sample(1, generator)[0]),
        "test image": test_image,
    }
    return Panel(
        draw, controls, buttons, "A map of the codes, and the picture that each point decodes to."
    )


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


def film(pictures: dict, text: str = "", under=None) -> Panel:
    """A latent space as it forms: {step: (map, plane)} of `maps.film`, the codes beside what decodes.

    under: {step: text} for the readout.
    """

    def draw(step):
        (codes, plane), gap = pictures[step], np.full((len(pictures[step][0]), 8, 3), 255, np.uint8)
        said = "; ".join([f"training step {step:,}", *([under[step]] if under else [])])
        return np.concatenate([codes, gap, plane], 1), said

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
