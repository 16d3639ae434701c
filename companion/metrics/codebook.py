"""How much of a codebook is used, and what a picture costs in other hands."""

import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image

from companion.data import to_uint8
from companion.metrics.reconstruction import over
from companion.models import in_codebook


def codebook_use(tokens: torch.Tensor, size: int) -> dict[str, float]:
    """Of tokens (...) over one pass of a dataset: "usage, %" and "perplexity" of a codebook of `size`.

    Usage is the share of codes that occur; perplexity exp of the entropy of their frequencies, the
    number of codes that would say as much if all were equally frequent. ValueError for a token that
    the codebook does not have.
    """
    tokens = in_codebook(tokens.flatten().cpu(), size)
    share = tokens.bincount(minlength=size).double() / len(tokens)
    entropy = -torch.special.xlogy(share, share).sum()
    return {
        "usage, %": 100 * (share > 0).double().mean().item(),
        "perplexity": entropy.exp().item(),
    }


def webp(images: torch.Tensor, quality: int) -> tuple[float, float]:
    """Bits an image and squared error a pixel of lossy WebP: images (N, C, H, W).

    The bytes of each file are counted with its header, some 30 bytes, which weigh on small images.
    """
    bits, error = 0, 0.0
    for image in to_uint8(images).cpu().movedim(1, -1).numpy():
        file = io.BytesIO()
        picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
        picture.convert("RGB").save(file, "webp", quality=quality, method=6)
        bits += 8 * len(file.getvalue())
        back = np.asarray(Image.open(file).convert(picture.mode)).reshape(image.shape)
        error += np.square((back / 255.0) - (image / 255.0)).mean()
    return bits / len(images), error / len(images)


def lossless_bits(images: torch.Tensor, kind: str) -> float:
    """Bits a pixel value of lossless "PNG" or "WebP": images (N, 3, H, W), a file for each.

    Headers count, some 60 bytes of a PNG and 30 of a WebP, which weigh on small images.
    """
    size, settings = 0, {"WebP": {"lossless": True, "method": 6}, "PNG": {"optimize": True}}
    for image in to_uint8(images).cpu().movedim(1, -1).numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, kind.lower(), **settings[kind])
        size += len(file.getvalue())
    return 8 * size / images.numel()


def rounded(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes (N, M), each rounded to one of 2**bits even levels from its axis's least to its largest."""
    low, high, steps = codes.amin(0), codes.amax(0), 2**bits - 1
    return low + ((codes - low) / (high - low) * steps).round() / steps * (high - low)


def rounded_errors(
    codes: torch.Tensor, decode: Callable, images: torch.Tensor, bits: Sequence[int] = range(3, 9)
) -> list[tuple[int, float]]:
    """(bits an image, squared error a pixel) of codes (N, M) rounded to so many bits a number.

    decode: codes -> images, (N, ...) in any shape; images: float (N, C, H, W).
    """
    found = []
    for each in bits:
        copies = over(decode, rounded(codes, each)).view_as(images)
        found.append((each * codes.shape[1], (copies - images).square().mean().item()))
    return found


def lower_envelope(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, error) pairs those that no cheaper pair beats, by their cost."""
    kept = []
    for cost, error in sorted(points):
        if not kept or error < kept[-1][1]:
            kept.append((cost, error))
    return kept
