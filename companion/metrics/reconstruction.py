"""What a reconstruction keeps, measured over a whole set without gradients."""

from collections.abc import Callable

import torch

from companion.data import to_float
from companion.training import measure_or_load


@torch.no_grad()
def over(function: Callable, images: torch.Tensor, batch: int = 1000) -> torch.Tensor:
    """`function` of all of `images` (N, ...), float in [0, 1], batch by batch: (N, ...)."""
    return torch.cat([function(to_float(part)).float() for part in images.split(batch)])


def mse(reconstruct: Callable, images: torch.Tensor, batch: int = 1000) -> float:
    """Mean squared error per pixel value (pixels in [0, 1]) over the whole of `images`."""
    errors = over(lambda x: (reconstruct(x) - x).square().flatten(1).mean(1), images, batch)
    return errors.double().mean().item()


def psnr(reconstruct: Callable, images: torch.Tensor, batch: int = 100) -> float:
    """Peak signal-to-noise ratio in dB, the mean over images, output clamped to [0, 1]."""
    return over(lambda x: decibels(reconstruct(x), x), images, batch).double().mean().item()


def decibels(output: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """PSNR of each image in dB: (N, C, H, W) twice, float -> (N,)."""
    return -10 * (output.clamp(0, 1) - images).square().flatten(1).mean(1).log10()


def decibels_or_load(name: str, model, pictures, batch: int = 50) -> torch.Tensor:
    """Mean PSNR in dB of a model's reconstructions of `pictures.test`, kept beside the weights."""

    def measure(model, images):
        return over(lambda x: decibels(model(x), x), images, batch)  # (N,)

    return measure_or_load(name, model, pictures, measure, spot=16).mean()


@torch.no_grad()
def nearest_distances(images: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Euclidean distance of each image (B, ...) to the nearest of `known` (N, ...): (B,)."""
    return torch.cdist(to_float(images).flatten(1), to_float(known).flatten(1)).amin(1)


def spectrum(images: torch.Tensor) -> torch.Tensor:
    """Mean power by spatial frequency: (N, C, H, H) -> (H // 2 + 1,), entry f for f cycles an image.

    The squared Fourier transform, divided by H², over the rings of wave vectors whose length rounds to
    f and over images and channels. Corners beyond H / 2 are left out.
    """
    size, (power, cycles) = images.shape[-1], waves(images)
    ring = cycles.round().long().flatten()  # (H²,)
    sums = torch.zeros(ring.max() + 1, dtype=torch.float64, device=images.device)
    return (sums.index_add(0, ring, power.flatten()) / ring.bincount())[: size // 2 + 1] / size**2


def high_energy(images: torch.Tensor, above: float) -> float:
    """Mean square of a pixel value that waves of more than `above` cycles an image make up: (N, C, H, H).

    With -1 it is the mean square itself, by Parseval's theorem.
    """
    power, cycles = waves(images)
    return (power[cycles > above].sum() / images.shape[-1] ** 4).item()


def waves(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared Fourier transform of (N, C, H, H), and each wave's cycles an image: (H, H) both."""
    size = images.shape[-1]
    power = torch.fft.fft2(images.float()).abs().square().flatten(0, 1).double().mean(0)
    along = torch.fft.fftfreq(size, 1 / size, device=images.device)  # -H/2 … H/2 cycles
    return power, torch.hypot(along[:, None], along)
