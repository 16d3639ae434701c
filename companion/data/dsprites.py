"""dSprites (Matthey et al. 2017), drawn when asked for: the same 737,280 images, no download.

A pixel is lit where its centre lies inside the sprite; the geometry is that of the published images.
"""

import math

import torch

from companion.data.images import Indexed, device

FACTORS = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
SIZES, COUNT = tuple(FACTORS.values()), math.prod(FACTORS.values())
STEPS = (245_760, 40_960, 1_024, 32, 1)  # from one image number to the next value of a factor
SIDE, WINDOW = 64, 30  # pixels; no sprite is wider than its window


def dsprites(size: int = SIDE, every: int = 1, verbose: bool = True) -> Indexed:
    """The sprites, grey (1, size, size), in the published order; a batch is drawn as it is asked for.

    size: 64, or 32, 16, 8: blocks averaged. every: 11 takes the images 0, 11, 22, …, whose factors are
    `factors_of(11 * index)`. ValueError for another size.
    """
    if size not in (64, 32, 16, 8):
        raise ValueError(f"dsprites: size {size} is not 64, 32, 16 or 8.")
    count = -(-COUNT // every)
    if verbose:
        print(f"dsprites: {count:,} sprites, drawn here")

    def make(index):
        images = sprite_images(every * index)
        blocks = images.unflatten(2, (size, -1)).unflatten(1, (size, -1))  # (B, size, b, size, b)
        return (255 * blocks.float().mean((2, 4))).round().byte()[:, None]

    return Indexed("dsprites" if size == SIDE else f"dsprites-{size}", count, make, device())


def sprite_images(index: torch.Tensor) -> torch.Tensor:
    """The sprites of the given numbers, (B,) int64 -> (B, 64, 64) bool. ValueError out of range."""
    factors = factors_of(index)
    _, scale, orientation, x, y = factors.double().T[..., None]  # (B, 1) each
    window = torch.arange(WINDOW, device=index.device)
    centres = [16 + 32 * place / 31 for place in (x, y)]  # pixels from the left and from the top
    columns, rows = (centre.long() - WINDOW // 2 + window for centre in centres)  # (B, 30) each
    across = (columns + 0.5 - centres[0])[:, None]  # (B, 1, 30): from the sprite's centre
    down = (rows + 0.5 - centres[1])[:, :, None]  # (B, 30, 1)
    angle = -2 * math.pi * (orientation % 39) / 39  # the last orientation is the first again
    cos, sin = (
        wave[..., None] / (0.5 + scale[..., None] / 10) for wave in (angle.cos(), angle.sin())
    )
    u, v = cos * across + sin * down, cos * down - sin * across  # (B, 30, 30)
    inside = torch.empty(u.shape, dtype=torch.bool, device=u.device)
    for number, holds in enumerate((in_square, in_ellipse, in_heart)):
        some = factors[:, 0] == number
        inside[some] = holds(u[some], v[some])
    images = torch.zeros(len(index), SIDE, SIDE, dtype=torch.bool, device=u.device)
    batch = torch.arange(len(index), device=u.device)[:, None, None]
    images[batch, rows[:, :, None], columns[:, None]] = inside
    return images


def drawn(factors: torch.Tensor) -> torch.Tensor:
    """The sprites with these factors: (B, 5) int64 -> (B, 1, 64, 64) float. ValueError out of range."""
    return sprite_images(index_of(factors))[:, None].float()


def in_square(u, v):
    return torch.maximum(u.abs(), v.abs()) <= 9.6


def in_ellipse(u, v):
    return (u / 12.78) ** 2 + (v / 7.22) ** 2 <= 1


def in_heart(u, v):
    """Inside u = 9.6 sin³t, v = -.662 (13 cos t - 5 cos 2t - 2 cos 3t - cos 4t) - 1.43.

    With c = sin²t = |u / 9.6|^(2/3) the multiples of t are polynomials in c and cos t = ±√(1 - c):
    the two signs give the curve's upper and lower v, and inside is between them.
    """
    c = (u / 9.6).abs() ** (2 / 3)
    middle = 5 * (1 - 2 * c) + 8 * c**2 - 8 * c + 1
    return ((v + 1.43) / 0.662 - middle) ** 2 <= (1 - c) * (11 + 8 * c) ** 2


def factors_of(index: torch.Tensor) -> torch.Tensor:
    """The five factors of the images of these numbers: (B,) -> (B, 5), in the order of `FACTORS`."""
    if ((index < 0) | (index >= COUNT)).any():
        raise ValueError(f"dsprites: image numbers go from 0 to {COUNT - 1}.")
    sizes, steps = torch.tensor([SIZES, STEPS], device=index.device)
    return index[:, None].div(steps, rounding_mode="floor") % sizes


def index_of(factors: torch.Tensor) -> torch.Tensor:
    """The numbers of the images with these factors: (..., 5) int64 -> (...). ValueError out of range."""
    sizes, steps = torch.tensor([SIZES, STEPS], device=factors.device)
    if factors.shape[-1] != len(SIZES) or ((factors < 0) | (factors >= sizes)).any():
        most = ", ".join(f"{name} 0 to {size - 1}" for name, size in FACTORS.items())
        raise ValueError(f"dsprites: five factors an image, {most}.")
    return (factors * steps).sum(-1)
