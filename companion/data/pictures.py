"""Colour pictures: Imagenette, or crops of photographs that ship with two libraries; and the cat."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

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
    origin = f"Imagenette read from {root}"
    return Images(name, **cached(f"{name}-{copy}", make), origin=origin, copies=True)


def _copy_of(folder: Path) -> str:
    """A mark of this copy of a dataset, by the names and sizes of its test files: others differ in size."""
    files = sorted((folder / "val").glob("*/*"))
    listing = "".join(f"{path.name} {path.stat().st_size}\n" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()[:8]


def folder(path: str | Path, size: int, channels: int = 3) -> Images:
    """Your own pictures: every file under `path` that Pillow opens, (channels, size, size) uint8.

    The middle square of each, turned as its EXIF says, transparency on white; channels 1 is grey, 3
    colour. Every tenth in order of their names is held out as `test`; a label is the number of the
    subfolder that a picture lies in. A file that is no readable picture is named and left out.
    ValueError for other channels, DataError for a folder without two readable pictures.
    """
    if channels not in (1, 3):
        raise ValueError(f"folder: channels={channels}: choose 1 (grey) or 3 (colour).")
    root = Path(path).expanduser()
    found, labels = [], []
    names = sorted(file for file in root.rglob("*") if file.is_file() and file.name[0] != ".")
    homes = sorted({file.parent for file in names})
    for file in names:
        try:
            with Image.open(file) as image:
                turned = ImageOps.exif_transpose(image).convert("RGBA")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            print(f"{file} is no readable picture ({error}): left out.")
            continue
        flat = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned)
        fitted = ImageOps.fit(flat.convert("RGB" if channels == 3 else "L"), (size, size))
        found.append(np.asarray(fitted).reshape(size, size, channels).transpose(2, 0, 1))
        labels.append(homes.index(file.parent))
    if len(found) < 2:
        raise DataError(f"{root} holds {len(found)} readable pictures: two or more are needed.")
    x, y = torch.from_numpy(np.stack(found)), torch.tensor(labels)
    test = torch.arange(len(x)) % 10 == 9 if len(x) >= 10 else torch.arange(len(x)) == len(x) - 1
    name = f"{root.resolve().name}-{size}"
    return Images(name, x[~test], y[~test], x[test], y[test], f"read from {root}").to(device())


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
    name = f"photos-{size}"
    return Images(name, **cached(name, make), origin=origin, stand_in=True)


def bundled_photographs() -> list[np.ndarray]:
    """Nine colour photographs that ship with scikit-image and scikit-learn, (H, W, 3) uint8; not the cat."""
    from skimage import data as bundled
    from sklearn.datasets import load_sample_images

    names = ("astronaut", "coffee", "rocket", "hubble_deep_field", "retina", "colorwheel")
    pictures = [getattr(bundled, name)()[..., :3] for name in names]
    return [*pictures, bundled.stereo_motorcycle()[0], *load_sample_images().images]


def first_items(data, labels: bool = False) -> tuple[torch.Tensor, ...]:
    """The first 16 items (8 pictures in colour) of each part of `data`, as `fit` takes it, on the CPU."""
    parts = parts_of(data, labels)
    shape = parts[0][torch.zeros(1, dtype=torch.long, device=parts[0].device)].shape  # (1, ...)
    count = min(len(parts[0]), 8 if len(shape) == 4 and shape[1] == 3 else 16)
    return tuple(first_of(part, count, getattr(data, "copies", False)) for part in parts)


def first_of(part, count: int, copies: bool = False) -> torch.Tensor:
    """The first `count` items of a tensor or of `Indexed` items, on the CPU.

    copies: copies of these pictures in several sizes are about, so bundled photographs stand for the
    first of them where they are colour pictures: what is measured is then the same for every copy.
    """
    items = part[torch.arange(min(count, len(part)), device=part.device)].cpu()
    square_picture = items.ndim == 4 and items.shape[1] == 3 and items.shape[2] == items.shape[3]
    if not (copies and square_picture and items.dtype == torch.uint8):
        return items
    pictures = [square(picture, items.shape[3]) for picture in bundled_photographs()[: len(items)]]
    return torch.from_numpy(np.stack(pictures))


def cat(size: int = 256) -> torch.Tensor:
    """The chapter's cat, a photograph that no model here has seen: (1, 3, size, size) uint8."""
    from skimage.data import chelsea

    return torch.from_numpy(square(chelsea(), size).copy())[None].to(device())
