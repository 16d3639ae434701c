"""Sliders over one model's latent space, and over the factors of an image."""

from collections.abc import Callable

import numpy as np
import torch

from companion.data import tile
from companion.metrics import Gaussian, effects
from companion.show.panel import Panel, Slider
from companion.show.pixels import DECODED, map_picture


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


def true_factors(render: Callable, sizes: dict[str, int], text: str = "") -> Panel:
    """A slider for each known factor {name: number of values}; `render`: values (1, F) -> (1, C, H, W)."""

    def draw(**values):
        return tile(render(torch.tensor([list(values.values())]))[None]), ""

    controls = {name: Slider(name, 0, size - 1, size // 2, step=1) for name, size in sizes.items()}
    return Panel(draw, controls, text=text or "A slider for each true factor.")
