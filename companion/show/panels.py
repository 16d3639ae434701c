"""Live sliders that two notebooks or more show; each function returns a `Panel`."""

from collections.abc import Callable

import numpy as np
import torch

from companion.data import tile, to_float
from companion.metrics import Gaussian, effects
from companion.show.panel import Choice, Panel, Plane, Slider
from companion.show.pixels import DECODED, bar_chart, map_picture


def pictured(decoder: Callable, codes) -> tuple[Callable, torch.Tensor]:
    """A reader's decoder as the panels take it, codes (B, M) -> images (B, C, H, W), and codes as float32.

    Flat squares get their shape, of a tuple the first counts, of an object its `sample`, and values from
    -1 or up to 255 are scaled to [0, 1]. A module draws in evaluation mode and is left as it was.
    ValueError for what is no picture.
    """
    codes = torch.as_tensor(codes).float()

    @torch.no_grad()
    def decode(z):
        learns = getattr(decoder, "training", False)
        try:
            made = decoder.eval()(z) if learns else decoder(z)
        finally:
            decoder.train() if learns else None
        made = made[0] if isinstance(made, tuple | list) else getattr(made, "sample", made)
        side = round(made.shape[-1] ** 0.5)
        return made.view(-1, 1, side, side) if made.shape[1:] == (side**2,) else made

    some = decode(codes[:100])
    known = some.isfinite().float().mean()
    if some.ndim != 4 or some.shape[1] not in (1, 3) or known < 1:
        what = f"{tuple(some.shape)}, {1 - known:.0%} of it no numbers"
        raise ValueError(f"a panel shows images (B, 1 or 3, H, W); the decoder returns {what}.")
    if some.max() > 20:
        return lambda z: decode(z) / 255, codes
    return (lambda z: (decode(z) + 1) / 2) if some.min() < -0.7 else decode, codes


RARER = "{:.0f} % of prior samples are less likely than this code"
DRAWN = 24  # moves of a button: then it begins again


def code_sliders(
    decoder: Callable, codes: torch.Tensor, axes: int = 8, prior: Gaussian | None = None
) -> Panel:
    """A slider for each of the `axes` axes that move the picture most, scaled in σ of `codes` (N, M).

    Buttons: a random draw from the prior (by default a Gaussian fitted to the codes), the code of a
    test image, and a new goal for the slider "towards B", which interpolates in a straight line.
    """
    decode, codes = pictured(decoder, codes)
    prior = prior or Gaussian.fitted(codes)
    mean, spread = codes.mean(0), codes.std(0)
    shares = effects(decode, codes)
    shown = shares.argsort(descending=True)[:axes]
    generator = torch.Generator().manual_seed(0)
    some = codes[torch.randint(len(codes), (DRAWN,), generator=generator)]
    known = torch.cat([mean[None], prior.sample(DRAWN, generator), some])  # (1 + 2 · DRAWN, M)
    held = torch.ones_like(mean).index_fill(0, shown, 0).bool()  # axes without a slider
    place = torch.zeros(len(mean), dtype=torch.long, device=mean.device)
    place[shown] = torch.arange(len(shown), device=mean.device)  # of each axis among the sliders

    def draw(start, goal, towards, **sigmas):
        moved = mean + spread * torch.stack(list(sigmas.values())).to(mean)[place]
        start, goal = (known.index_select(0, number.to(place)[None])[0] for number in (start, goal))
        code = torch.where(held, start, moved)
        code = code + towards * (goal - code)
        return decode(code[None])[0], prior.rarer(code)

    def stand(number):
        units = ((known[number] - mean) / spread.clamp_min(1e-12)).clamp(-3, 3)
        sliders = {f"axis{k}": units[k].item() for k in shown.tolist()}
        return sliders | {"start": number, "towards": 0.0}

    hidden = {"low": 0, "high": 2 * DRAWN, "step": 1, "hidden": True}
    label = lambda axis: f"axis {axis + 1} ({shares[axis]:.0%})"
    controls = {f"axis{axis}": Slider(label(axis), -3, 3) for axis in shown.tolist()}
    controls |= {"towards": Slider("towards B", 0, 1), "start": Slider("A", **hidden)}
    controls |= {"goal": Slider("B", value=DRAWN + 1, **hidden)}
    drawn, seen = range(1, DRAWN + 1), range(DRAWN + 1, 2 * DRAWN + 1)
    buttons = {
        "prior sample": [stand(number) for number in drawn],
        "test image": [stand(number) for number in seen],
        # B itself; the slider leads back
        "another B": [{"goal": number, "towards": 1.0} for number in reversed(seen)],
    }
    text = "Sliders over the code, the most effective axes first."
    return Panel(draw, controls, buttons, text, readout=RARER)


def latent_plane(
    decoder: Callable, codes: torch.Tensor, labels: torch.Tensor, prior: Gaussian | None = None
) -> Panel:
    """Walk over 2-D codes (N, 2): a map to press on, beside the picture that the point decodes to."""
    decode, codes = pictured(decoder, codes)
    prior = prior or Gaussian.fitted(codes)
    low, high = codes.quantile(0.005, 0), codes.quantile(0.995, 0)
    generator = torch.Generator().manual_seed(0)

    def draw(x, y):
        code = torch.stack([x, y]).to(codes)
        return decode(code[None])[0], prior.rarer(code)

    def jump(code):
        inside = torch.minimum(torch.maximum(code, low), high).tolist()
        return dict(zip("xy", inside, strict=True))

    some = torch.randint(len(codes), (DRAWN,), generator=generator)
    middle = codes.median(0).values.tolist()
    controls = {
        name: Slider(f"latent axis {i + 1}", low[i].item(), high[i].item(), middle[i])
        for i, name in enumerate("xy")
    }
    buttons = {
        "prior sample": [jump(code) for code in prior.sample(DRAWN, generator)],
        "test image": [jump(codes[number]) for number in some],
    }
    text = "A map of the codes, and the picture that each point decodes to."
    plane = Plane(("x", "y"), map_picture(codes, labels, low, high, DECODED))
    return Panel(draw, controls, buttons, text, plane=plane, readout=RARER)


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
