"""Whole datasets as uint8 tensors on the device, and where they came from.

Every dataset is looked for in this order: the folder in $COMPANION_DATA, the repository's `data/`, a
torchvision download into `data/`, and last a stand-in that needs no download. The choice is printed.
COMPANION_DATA=embedded goes straight to the stand-ins.
"""

import contextlib
import hashlib
import io
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from companion import strokes


def data_folder(package: Path, here: Path) -> Path:
    """`data/` of the checkout that `package` lies in; for an installed one, of the folders round `here`."""
    for root in (package.parent, here, *here.parents):
        if (root / "data" / "README.md").is_file() and (root / "notebooks").is_dir():
            return root / "data"
    return here / "data"


# torchvision is imported where it is used: it brings torch's compiler along, seconds of every start.
DATA = data_folder(Path(__file__).resolve().parent, Path.cwd())
EMBEDDED = "embedded"  # COMPANION_DATA=embedded: use the bundled data, look and download nowhere
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class DataError(RuntimeError):
    """A data file is missing or damaged; the message names it and the mend."""


@dataclass(frozen=True)
class Images:
    """A dataset held whole on one device."""

    name: str  # part of every checkpoint's name: "mnist", "strokes", "imagenette-64", "photos-64"
    train: torch.Tensor  # (N, C, H, W) uint8
    train_labels: torch.Tensor  # (N,) int64
    test: torch.Tensor
    test_labels: torch.Tensor
    origin: str  # where it was found, in words

    def to(self, device) -> "Images":
        parts = ("train", "train_labels", "test", "test_labels")
        return replace(self, **{part: getattr(self, part).to(device) for part in parts})

    def first(self, count: int) -> "Images":
        """The same dataset with only the first `count` training images."""
        return replace(self, train=self.train[:count], train_labels=self.train_labels[:count])


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


def packed(name: str, images: torch.Tensor) -> Indexed:
    """Black-and-white images (N, ...), zero or not, kept as eight pixels a byte; batches are 0 or 255."""
    shape, bits = images.shape[1:], images.flatten(1) != 0  # (N, D)
    bits = torch.nn.functional.pad(bits, (0, -bits.shape[1] % 8)).view(len(bits), -1, 8)
    places = 2 ** torch.arange(8, device=images.device, dtype=torch.uint8)
    store = (bits * places).sum(-1, dtype=torch.uint8)  # (N, D / 8)

    def unpack(index):
        some = (store[index][..., None] & places).ne(0).flatten(1)  # (B, D and a rest below 8)
        return 255 * some[:, : shape.numel()].view(-1, *shape).to(torch.uint8)

    return Indexed(name, len(images), unpack, images.device)


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


def places() -> list[Path]:
    """The folders that are searched, first to last: none if $COMPANION_DATA is "embedded".

    DataError if it names no folder.
    """
    chosen = os.environ.get("COMPANION_DATA")
    if chosen == EMBEDDED:
        return []
    if chosen and not Path(chosen).is_dir():
        raise DataError(f"COMPANION_DATA={chosen} is not a folder: correct it or unset it.")
    return [Path(chosen), DATA] if chosen else [DATA]


def write_atomically(path: Path, write: Callable[[str], None]) -> None:
    """`write` fills a temporary file beside `path`, which takes its name only when complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
    os.close(handle)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner may read
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def cached(name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """The arrays that `make` returns, kept in `data/cache/NAME.npz` where that can be written."""
    path = DATA / "cache" / f"{name}.npz"
    if path.exists():
        try:
            with np.load(path) as arrays:
                return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
        except Exception as error:  # zipfile, EOF and value errors alike mean: damaged
            raise DataError(f"{path} is damaged ({error}): delete it, it is made anew.") from None
    arrays = make()

    def write(temporary: str) -> None:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)

    with contextlib.suppress(OSError):  # a read-only folder costs only the time to make it again
        write_atomically(path, write)
    return {key: torch.from_numpy(value) for key, value in arrays.items()}


def mnist(verbose: bool = True) -> Images:
    """MNIST (28×28 grey, 60,000 + 10,000) on the device, or pen-stroke digits where it cannot be had.

    Raises DataError where MNIST's files are there but incomplete or damaged.
    """
    digits = _real_mnist() or pen_digits()
    if verbose:
        print(
            f"{digits.name}: {len(digits.train):,} + {len(digits.test):,} digits, {digits.origin}"
        )
    return digits.to(device())


def pen_digits() -> Images:
    """The embedded default: digits drawn by `companion.strokes`, seeded, the size of MNIST."""

    def make():
        parts = {}
        for split, count, seed in (("train", 60_000, 0), ("test", 10_000, 1)):
            images, labels = strokes.digits(count, seed)
            parts |= {split: images.numpy(), f"{split}_labels": labels.numpy()}
        return parts

    origin = "drawn from pen strokes, because MNIST was not found and not downloaded"
    return Images("strokes", **cached("strokes-1", make), origin=origin)


def _real_mnist() -> Images | None:
    for root in places():
        if (root / "MNIST").is_dir():
            return _read_mnist(root)
    if not _download("MNIST", lambda root: _torchvision().MNIST(root, download=True)):
        return None
    return _read_mnist(DATA)


def _torchvision():
    from torchvision import datasets

    return datasets


def _read_mnist(root: Path) -> Images:
    raw = root / "MNIST" / "raw"
    for name, digest in MNIST_SHA256.items():
        mend = f"delete {root / 'MNIST'} to have it downloaded anew, or copy the file again"
        if not (raw / name).is_file():
            raise DataError(f"{raw / name} is missing: {mend}.")
        with open(raw / name, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise DataError(f"{raw / name} is truncated or damaged: {mend}.")

    def make():
        parts = {}
        for split in ("train", "test"):
            part = _torchvision().MNIST(root, train=split == "train")
            parts |= {split: part.data[:, None].numpy(), f"{split}_labels": part.targets.numpy()}
        return parts

    return Images("mnist", **cached("mnist-1", make), origin=f"MNIST read from {root}")


def _download(folder: str, fetch: Callable[[str], object]) -> bool:
    """`fetch` into a temporary folder, then move `folder` into `data/`. False where that fails."""
    if not places():
        return False
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(10)  # seconds of silence, not of download
    try:
        DATA.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=DATA, prefix=".partial-") as temporary:
            unread = io.StringIO()  # torchvision's bars and lines
            with contextlib.redirect_stdout(unread), contextlib.redirect_stderr(unread):
                fetch(temporary)
            shutil.move(Path(temporary) / folder, DATA / folder)
        return True
    except (OSError, RuntimeError):  # no network, no such host, a read-only folder, a bad archive
        return False
    finally:
        socket.setdefaulttimeout(timeout)


def colours(size: int = 64, verbose: bool = True) -> Images:
    """Colour pictures (3, size, size): Imagenette, or crops of bundled photographs instead."""
    pictures = _imagenette(size) or photos(size)
    if verbose:
        counts = f"{len(pictures.train):,} + {len(pictures.test):,} pictures"
        print(f"{pictures.name}: {counts}, {pictures.origin}")
    return pictures.to(device())


def _imagenette(size: int) -> Images | None:
    def download(root):
        for split in ("train", "val"):
            _torchvision().Imagenette(root, split, size="160px", download=split == "train")

    root = next((root for root in places() if (root / "imagenette2-160").is_dir()), None)
    if root is None:
        if not _download("imagenette2-160", download):
            return None
        root = DATA

    def make():
        parts = {}
        for split, part in (("train", "train"), ("val", "test")):
            images, labels = [], []
            for path, label in _torchvision().Imagenette(root, split, size="160px")._samples:
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
    parts = data if isinstance(data, tuple) else (data,)
    if isinstance(data, Images):
        parts = (data.train, data.train_labels) if labels else (data.train,)
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
