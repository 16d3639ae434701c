"""What notebook 31.5 alone uses: a likelihood of colour pixels, panels of levels."""

import math
from collections.abc import Callable

import torch

from companion.data import tile, to_float
from companion.models.likelihoods import log_bin_mass
from companion.show.panel import Panel, Slider


def logistic_mixture_nll(x: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Colour pixels by a mixture of discretised logistics, as `mixture_parts` reads it.

    x (B, 3, H, W) holds 0, 1/255, …, 1; numbers (B, 10 K, H, W) for K components. Green's mean moves
    with red, blue's with red and green (Salimans et al. 2017, PixelCNN++, section 2.2).
    """
    if x.shape[1] != 3 or numbers.shape[1] % 10 or x.shape[2:] != numbers.shape[2:]:
        raise ValueError(
            f"images {tuple(x.shape)} and output {tuple(numbers.shape)}: a mixture of K components "
            "is over (B, 3, H, W) and needs (B, 10 K, H, W)."
        )
    logits, means, log_scales, slopes = mixture_parts(numbers)
    red, green, blue = x[:, :, None].unbind(1)  # (B, 1, H, W)
    means = shifted(means, slopes, red, green)
    log_mass = log_bin_mass(torch.stack([red, green, blue], 1), means, log_scales).sum(1)
    return -(log_mass + logits.log_softmax(1)).logsumexp(1).flatten(1).sum(1)


def sample_logistic_mixture(numbers: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Colour pixels drawn from the mixture: (B, 10 K, H, W) -> (B, 3, H, W) in [0, 1].

    The temperature multiplies the logistics' scales: at 0 each pixel is the mean of a drawn component.
    """
    logits, means, log_scales, slopes = mixture_parts(numbers)
    noise = -(-torch.rand_like(logits).clamp(1e-6, 1 - 1e-6).log()).log()  # Gumbel
    chosen = (logits + noise).argmax(1)[:, None, None]  # (B, 1, 1, H, W)
    means, log_scales, slopes = (
        part.gather(2, chosen.expand(-1, 3, -1, -1, -1)) for part in (means, log_scales, slopes)
    )
    chance = torch.rand_like(means).clamp(1e-4, 1 - 1e-4)
    noise = temperature * log_scales.exp() * (chance.log() - (-chance).log1p())  # (B, 3, 1, H, W)
    red = (means[:, 0] + noise[:, 0]).clamp(0, 1)
    green = (shifted(means, slopes, red, red)[:, 1] + noise[:, 1]).clamp(0, 1)
    blue = (shifted(means, slopes, red, green)[:, 2] + noise[:, 2]).clamp(0, 1)
    return torch.cat([red, green, blue], 1)


def mixture_parts(numbers: torch.Tensor) -> tuple:
    """(B, 10 K, H, W) as logits (B, K, H, W), means, log scales and slopes (B, 3, K, H, W) each.

    Numbers near 0 are means near mid-grey and wide scales; scales have a floor of e^-7 / 2.
    """
    logits, means, log_scales, slopes = (
        numbers.float().unflatten(1, (10, -1)).split([1, 3, 3, 3], 1)
    )
    return logits[:, 0], (means + 1) / 2, log_scales.clamp(min=-7) - math.log(2), slopes.tanh()


def shifted(means, slopes, red, green) -> torch.Tensor:
    """The means of the three colours given the first two; distances are from mid-grey."""
    red, green = red - 0.5, green - 0.5
    of_blue = means[:, 2] + slopes[:, 1] * red + slopes[:, 2] * green
    return torch.stack([means[:, 0], means[:, 1] + slopes[:, 0] * red, of_blue], 1)


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
        text = f"a pixel varies by {drawn.std(0).mean():.3f}"
        return tile(torch.cat([first[None], drawn])[None]), text

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
