"""Whole datasets on one device, and the two ways in which pixels are written."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch


@dataclass(frozen=True)
class Images:
    """A dataset held whole on one device."""

    name: str  # part of every checkpoint's name: "mnist", "strokes", "imagenette-64", "photos-64"
    train: torch.Tensor  # (N, C, H, W) uint8
    train_labels: torch.Tensor  # (N,) int64
    test: torch.Tensor
    test_labels: torch.Tensor
    origin: str  # where it was found, in words
    stand_in: bool = False  # whether it stands in for real data that were not found
    copies: bool = False  # whether copies of these pictures in other sizes are about

    def epochs(self, whole: int) -> int:
        """How long to train on it: `whole`, or a twelfth, for a stand-in teaches nothing more."""
        return max(1, whole // 12) if self.stand_in else whole

    def to(self, device) -> "Images":
        parts = ("train", "train_labels", "test", "test_labels")
        return replace(self, **{part: getattr(self, part).to(device) for part in parts})

    def first(self, count: int) -> "Images":
        """The same dataset with only the first `count` training images."""
        return replace(self, train=self.train[:count], train_labels=self.train_labels[:count])

    def halved(self) -> "Images":
        """The same dataset at half the side: each block of 2×2 pixels becomes its mean."""
        small = {part: halve(getattr(self, part)) for part in ("train", "test")}
        return replace(self, name=f"{self.name}-{small['test'].shape[-1]}", **small)


@dataclass(frozen=True)
class Indexed:
    """Items that are made when they are asked for, because all of them together would fill the memory.

    `data[index]`, with index (B,) int64 on `device`, is `make(index)`: a batch (B, ...) on it.
    """

    name: str
    count: int
    make: Callable[[torch.Tensor], torch.Tensor]
    device: torch.device

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        return self.make(index)


def parts_of(data, labels: bool = False) -> tuple:
    """What is trained on as a tuple: of Images the training images, with their labels if asked for."""
    if isinstance(data, Images):
        return (data.train, data.train_labels) if labels else (data.train,)
    return data if isinstance(data, tuple) else (data,)


def encoded(name: str, images: torch.Tensor, encode: Callable) -> Indexed:
    """What `encode` makes of images (N, C, H, W), float in [0, 1], batch by batch as it is asked for."""
    return Indexed(name, len(images), lambda i: encode(to_float(images[i])), images.device)


def binarised(images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Black or white pixels, uint8 0 or 255, white with the grey level as the probability.

    The same at every call and on every machine, for what is measured or read off once; a model that
    should see each image in many ways binarises in its loss.
    """
    chance = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed))
    return 255 * (chance.to(images.device) < to_float(images)).byte()


def patches(images: torch.Tensor, side: int, margin: int = 3, seed: int = 0) -> torch.Tensor:
    """A square from a random place in each image, at least `margin` pixels from its edges.

    (N, C, H, W) uint8 -> (N, C, side, side), float in [0, 1].
    """
    generator = torch.Generator().manual_seed(seed)
    last = images.shape[-1] + 1 - margin - side
    corner = torch.randint(margin, last, (2, len(images)), generator=generator).to(images.device)
    rows, columns = (c[:, None] + torch.arange(side, device=images.device) for c in corner)
    item = torch.arange(len(images), device=images.device)[:, None, None]
    cut = images[item, :, rows[:, :, None], columns[:, None]]  # (N, side, side, C)
    return to_float(cut.permute(0, 3, 1, 2))


def halve(images: torch.Tensor) -> torch.Tensor:
    """uint8 (N, C, H, W), H and W even -> (N, C, H / 2, W / 2), the mean of each block, rounded."""
    blocks = images.unflatten(2, (-1, 2)).unflatten(4, (-1, 2))  # (N, C, H/2, 2, W/2, 2)
    return ((blocks.sum((3, 5)) + 2) // 4).byte()


def device() -> torch.device:
    """The GPU where there is one (under torchrun: this process's), else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    here = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(here)
    return here


def to_float(images: torch.Tensor) -> torch.Tensor:
    """uint8 in 0…255 -> float32 in [0, 1]; any other dtype is returned as it is."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """Floats, clamped to [0, 1] -> uint8 in 0…255; uint8 is returned as it is."""
    if images.dtype == torch.uint8:
        return images
    return (images.float().clamp(0, 1) * 255).round().byte()


def tile(rows: torch.Tensor, gap: int = 1) -> np.ndarray:
    """A grid of pictures (rows, columns, C, H, W), any dtype, as one uint8 picture (H', W'[, 3])."""
    rows = torch.nn.functional.pad(to_uint8(rows.detach()), (0, gap, 0, gap), value=255)
    across, down = rows.shape[1] * rows.shape[4], rows.shape[0] * rows.shape[3]
    grid = rows.permute(0, 3, 1, 4, 2).reshape(down, across, -1)  # (R·H, K·W, C)
    return grid[: down - gap, : across - gap].squeeze(-1).cpu().numpy()
