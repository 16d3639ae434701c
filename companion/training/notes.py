"""Files of tensors with a note beside each: NAME.safetensors and NAME.json, a pair that must agree."""

import hashlib
import json
import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from companion.data.files import DATA, write_atomically

COMMITTED = DATA / "checkpoints"  # came with the repository; only companion.retrain writes here
TRAINED = Path(os.environ.get("COMPANION_TRAINED", DATA / "trained"))  # yours: ignored by git
FORMAT = "companion note 1"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be used; the message names the file and the mend."""


def write(tensors: dict[str, torch.Tensor], note: dict, path: Path) -> None:
    """Tensors, and a note that holds their sha256. Where they cannot be written a sentence says so."""
    try:
        write_atomically(path, lambda temporary: save_file(tensors, temporary))
        write_note(note | {"sha256": sha256(path)}, path)
    except (OSError, SafetensorError) as error:
        print(f"{path} could not be written ({error}): the result is only in memory.")


def write_note(note: dict, path: Path) -> None:
    """The note of the tensors in `path`, a list of numbers on one line, so that `git diff` is read."""
    text = json.dumps({"format": FORMAT} | note, indent=1, ensure_ascii=False)
    text = re.sub(r"\[[^\[\]{}\"]*\]", lambda found: " ".join(found[0].split()), text)
    write_atomically(path.with_suffix(".json"), lambda temporary: Path(temporary).write_text(text))


def read_note(path: Path) -> dict:
    """The note of the tensors in `path`. CheckpointError where the two are no sound pair."""
    note = path.with_suffix(".json")
    mend = mend_of(path)
    if not note.exists():
        raise CheckpointError(f"{path} has no note {note.name} beside it: {mend}.")
    try:
        content = json.loads(note.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{note} is damaged ({error}): {mend}.") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{note} is no note of this project: {mend}.")
    if content.get("sha256") != sha256(path):
        raise CheckpointError(
            f"{path} is not the file that {note.name} describes (its sha256 is another): it was "
            f"damaged, exchanged, or cut off between two writes: {mend}."
        )
    return content


def mend_of(path: Path) -> str:
    """What to do about a file that cannot be used."""
    if path.is_relative_to(COMMITTED):
        return f"`git checkout -- {path.with_suffix('')}.*` brings the committed pair back"
    return (
        "retrain=True makes it anew, and `python -m companion.retrain SECTION --forget` deletes what "
        "was trained here, so that the committed one is used"
    )


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors in a file whose note was read."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): {mend_of(path)}.") from None


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def forget(name: str) -> list[str]:
    """Delete what was trained here under names that begin with `name`: the committed ones are used again.

    Returns the names of the files.
    """
    files = [path for path in TRAINED.rglob("*") if path.is_file()]
    gone = [path for path in files if str(path.relative_to(TRAINED)).startswith(name)]
    for path in gone:
        path.unlink()
    return sorted(str(path.relative_to(TRAINED)) for path in gone)
