"""Where data lie, and how they get there: never half-written, never replaced in silence."""

import contextlib
import io
import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch


def data_folder(package: Path, here: Path) -> Path:
    """`data/` of the checkout that `package` lies in; for an installed one, of the folders round `here`."""
    for root in (package.parent, here, *here.parents):
        if (root / "data" / "README.md").is_file() and (root / "notebooks").is_dir():
            return root / "data"
    return here / "data"


# torchvision is imported where it is used: it brings torch's compiler along, seconds of every start.
DATA = data_folder(Path(__file__).resolve().parent.parent, Path.cwd())


EMBEDDED = "embedded"  # COMPANION_DATA=embedded: use the bundled data, look and download nowhere


class DataError(RuntimeError):
    """A data file is missing or damaged; the message names it and the mend."""


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


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """`write` fills a temporary file beside `path`, which takes its name only when complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
    try:
        with open(handle, "wb") as file:
            write(file)
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

    with contextlib.suppress(OSError):  # a read-only folder costs only the time to make it again
        write_atomically(path, lambda file: np.savez(file, **arrays))
    return {key: torch.from_numpy(value) for key, value in arrays.items()}


def torchvision_datasets():
    from torchvision import datasets

    return datasets


def download(folder: str, fetch: Callable[[str], object]) -> bool:
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
