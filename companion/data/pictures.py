"""Colour pictures: Imagenette, or crops of photographs that ship with two libraries; and the cat."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from companion.data import files
from companion.data.files import DataError, cached, download, places, torchvision_datasets
from companion.data.images import Images, device, parts_of


def colours(size: int = 64, verbose: bool = True) -> Images:
    """Colour pictures (3, size, size): Imagenette, or crops of bundled photographs instead."""
    pictures = _imagenette(size) or photos(size)
    if verbose:
        counts = f"{len(pictures.train):,} + {len(pictures.test):,} pictures"
        print(f"{pictures.name}: {counts}, {pictures.origin}")
    return pictures.to(device())


def _imagenette(size: int) -> Images | None:
    def fetch(root):
        for split in ("train", "val"):
            torchvision_datasets().Imagenette(root, split, size="160px", download=split == "train")

    root = next((root for root in places() if (root / "imagenette2-160").is_dir()), None)
    if root is None:
        if not download("imagenette2-160", fetch):
            return None
        root = files.DATA

    def make():
        parts = {}
        for split, part in (("train", "train"), ("val", "test")):
            images, labels = [], []
            for path, label in (
                torchvision_datasets().Imagenette(root, split, size="160px")._samples
            ):
                try:
                    with Image.open(path) as image:
                        images.append(square(np.asarray(image.convert("RGB")), size))
                except OSError:
                    mend = f"delete {root / 'imagenette2-160'} to have it downloaded anew"
                    raise DataError(f"{path} is no readable picture: {mend}.") from None
                labels.append(label)
            parts |= {part: np.stack(images), f"{part}_labels": np.array(labels)}
        return parts

    name, copy = f"imagenette-{size}", _copy_of(root / "imagenette2-160")
    return Images(name, **cached(f"{name}-{copy}", make), origin=f"Imagenette read from {root}")


def _copy_of(folder: Path) -> str:
    """A mark of this copy of a dataset, by the names and sizes of its test files: others differ in size."""
    files = sorted((folder / "val").glob("*/*"))
    listing = "".join(f"{path.name} {path.stat().st_size}\n" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()[:8]


def square(picture: np.ndarray, size: int) -> np.ndarray:
    """The middle square of a (H, W, 3) uint8 picture, resized: (3, size, size)."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = Image.fromarray(picture[top : top + side, left : left + side])
    return np.asarray(middle.resize((size, size), Image.Resampling.LANCZOS)).transpose(2, 0, 1)


def photos(size: int = 64, crops: int = 4096) -> Images:
    """Random crops of photographs that ship with scikit-image and scikit-learn.

    The cat (scikit-image's Chelsea) is held out: `test` has 1,024 crops of it, `train` none.
    """

    def make():
        from skimage.data import chelsea

        pictures = bundled_photographs()
        random = np.random.default_rng(0)

        def crop(picture):
            side = int(min(picture.shape[:2]) * random.uniform(0.25, 1))
            side = max(side, min(size, *picture.shape[:2]))
            top, left = (random.integers(0, edge - side + 1) for edge in picture.shape[:2])
            part = square(picture[top : top + side, left : left + side], size)
            return part[:, :, ::-1] if random.random() < 0.5 else part

        labels = np.arange(crops) % len(pictures)
        held_out = [crop(chelsea()) for _ in range(1024)]
        return {
            "train": np.stack([crop(pictures[label]) for label in labels]),
            "train_labels": labels,
            "test": np.stack(held_out),
            "test_labels": np.zeros(len(held_out), np.int64),
        }

    origin = "crops of bundled photographs, because Imagenette was not found"
    return Images(f"photos-{size}", **cached(f"photos-{size}", make), origin=origin)


def bundled_photographs() -> list[np.ndarray]:
    """Nine colour photographs that ship with scikit-image and scikit-learn, (H, W, 3) uint8; not the cat."""
    from skimage import data as bundled
    from sklearn.datasets import load_sample_images

    names = ("astronaut", "coffee", "rocket", "hubble_deep_field", "retina", "colorwheel")
    pictures = [getattr(bundled, name)()[..., :3] for name in names]
    return [*pictures, bundled.stereo_motorcycle()[0], *load_sample_images().images]


def first_items(data, labels: bool = False) -> list:
    """The first 32 items (8 pictures in colour) of each part of `data`, as `fit` takes it.

    Copies of Imagenette come in several sizes: bundled photographs stand for its first pictures, so
    that what is measured on them is the same for every copy.
    """
    parts = parts_of(data, labels)
    shape = parts[0][torch.zeros(1, dtype=torch.long, device=parts[0].device)].shape  # (1, ...)
    count = min(len(parts[0]), 8 if len(shape) == 4 and shape[1] == 3 else 32)
    items = [part[torch.arange(count, device=part.device)] for part in parts]
    if isinstance(data, Images) and data.name.startswith("imagenette"):
        pictures = [square(picture, shape[-1]) for picture in bundled_photographs()[:count]]
        items[0] = torch.from_numpy(np.stack(pictures))
    return items


def cat(size: int = 256) -> torch.Tensor:
    """The chapter's cat, a photograph that no model here has seen: (1, 3, size, size) uint8."""
    from skimage.data import chelsea

    return torch.from_numpy(square(chelsea(), size).copy())[None].to(device())
