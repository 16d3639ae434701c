"""Grey digits: MNIST, or digits drawn from pen strokes where it cannot be had."""

import hashlib
from pathlib import Path

from companion.data import files, strokes
from companion.data.files import DataError, cached, download, places, torchvision_datasets
from companion.data.images import Images, device

MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


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
    """The embedded default: digits drawn by `companion.data.strokes`, seeded, the size of MNIST."""

    def make():
        parts = {}
        for split, count, seed in (("train", 60_000, 0), ("test", 10_000, 1)):
            images, labels = strokes.digits(count, seed)
            parts |= {split: images.numpy(), f"{split}_labels": labels.numpy()}
        return parts

    origin = "drawn from pen strokes, because MNIST was not found and not downloaded"
    return Images("strokes", **cached("strokes-1", make), origin=origin, stand_in=True)


def _real_mnist() -> Images | None:
    for root in places():
        if (root / "MNIST").is_dir():
            return _read_mnist(root)
    if not download("MNIST", lambda root: torchvision_datasets().MNIST(root, download=True)):
        return None
    return _read_mnist(files.DATA)


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
            part = torchvision_datasets().MNIST(root, train=split == "train")
            parts |= {split: part.data[:, None].numpy(), f"{split}_labels": part.targets.numpy()}
        return parts

    return Images("mnist", **cached("mnist-1", make), origin=f"MNIST read from {root}")
