"""What a reconstruction keeps, measured over a whole set without gradients."""

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from companion.data import tile, to_float
from companion.models import squared_error


@torch.no_grad()
def over(function: Callable, images: torch.Tensor, batch: int = 1000) -> torch.Tensor:
    """`function` of all of `images` (N, ...), float in [0, 1], batch by batch: (N, ...)."""
    return torch.cat([function(to_float(part)).float() for part in images.split(batch)])


def mse(reconstruct: Callable, images: torch.Tensor, batch: int = 1000) -> float:
    """Mean squared error per pixel value (pixels in [0, 1]) over the whole of `images`."""
    errors = over(lambda x: squared_error(x, reconstruct(x)), images, batch)  # (N,)
    return errors.double().mean().item() / images[0].numel()


def decibels(output: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """PSNR of each image in dB: (N, C, H, W) twice, float -> (N,)."""
    return -10 * (squared_error(images, output.clamp(0, 1)) / images[0].numel()).log10()


def codec(images: torch.Tensor, kind: str, **settings) -> tuple[float, float]:
    """Bits an image and mean squared error of an image codec, a file for each: (N, C, H, W), C 1 or 3.

    kind, settings: as Pillow's `Image.save` takes them, such as "webp", quality=10. Headers count, some
    60 bytes of a PNG and 30 of a WebP, which weigh on small images.
    """
    bits, error = 0, 0.0
    for image in images:
        file, picture = io.BytesIO(), Image.fromarray(tile(image[None, None]))
        picture.convert("RGB").save(file, kind, **settings)
        bits += 8 * len(file.getvalue())
        back = np.asarray(Image.open(file).convert(picture.mode))
        error += np.square(back / 255.0 - np.asarray(picture) / 255.0).mean()
    return bits / len(images), error / len(images)


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
