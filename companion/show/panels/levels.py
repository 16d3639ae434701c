"""Sliders over the levels of a hierarchy: which are fixed, and how far each is drawn from its mean."""

from collections.abc import Callable

import torch

from companion.data import tile, to_float
from companion.show.panel import Panel, Slider


def fixed_levels(redraw: Callable, image: torch.Tensor, levels: int) -> Panel:
    """The first levels of an image's codes fixed, the others redrawn: one pass of the decoder a move.

    redraw: how many are fixed -> images (K, C, H, W) in [0, 1]. image: (C, H, W), shown before them.
    The button draws other noise; the sliders keep it, so that a move changes nothing but the levels.
    """
    seed, first = 0, to_float(image).cpu()

    @torch.no_grad()
    def draw(fixed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            drawn = redraw(fixed).float().cpu()
        spread = drawn.std(0).mean().item()
        return tile(torch.cat([first[None], drawn])[None]), f"a pixel varies by {spread:.3f}"

    def other():
        nonlocal seed
        seed += 1
        return {}

    text = "A slider over the number of levels that are fixed: the image, then redraws of the rest."
    control = Slider("levels fixed", 0, levels, levels // 2, step=1)
    return Panel(draw, {"fixed": control}, {"other noise": other}, text)


def level_temperatures(generate: Callable, levels: int) -> Panel:
    """Samples at a temperature for one level, the others at a common one: one pass a move.

    generate: a temperature for each level, from the top -> images (K, C, H, W) in [0, 1]. The noise is
    the same at every move; temperature 0 is a level's mean.
    """

    @torch.no_grad()
    def draw(level, own, rest):
        warm = [own if number == level else rest for number in range(1, levels + 1)]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            drawn = generate(warm).float().cpu()
        return tile(drawn[None]), f"a pixel varies by {drawn.std(0).mean():.3f}"

    controls = {
        "level": Slider("level", 1, levels, 1, step=1),
        "own": Slider("its temperature", 0, 2, 1),
        "rest": Slider("the others'", 0, 2, 1),
    }
    return Panel(draw, controls, text="Sliders: a level, its temperature, and that of all others.")
