"""The state of an unfinished run on disk, so that it can go on where it stopped. Nothing is pickled."""

import contextlib
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from companion.data import DataError, write_atomically

EVERY = 20.0  # seconds between two writes at the least: a short epoch does not wait for the disk
_last_write = {}


def keep(path: Path | None, model, turns, history, epoch: int, rank: int = 0) -> None:
    """After an epoch: write weights, optimisers, dice and history, from the first process only."""
    now = time.monotonic()
    if path is None or rank or now - _last_write.setdefault(path, now) < EVERY:
        return
    _last_write[path] = now
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors["dice.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["dice.cuda"] = torch.cuda.get_rng_state()
    for turn in turns:
        for number, state in turn.optimiser.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"{turn.name}.{number}.{name}"] = value
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    note = json.dumps(
        {"epoch": epoch, "history": asdict(history), "steps": turns[0].schedule.last_epoch}
    )
    with contextlib.suppress(OSError):  # a folder that cannot be written does not end training
        write_atomically(path, lambda temporary: save_file(tensors, temporary, {"companion": note}))


def restore(path: Path | None, model, turns, history) -> int:
    """Fill everything from the file that `keep` wrote, if there is one; the epoch to go on with."""
    if path is None or not path.exists():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            note = json.loads(file.metadata()["companion"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}): delete it to start this run anew.") from None
    own = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    model.load_state_dict(own)
    torch.set_rng_state(tensors["dice.cpu"])
    if "dice.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["dice.cuda"])
    for turn in turns:
        state = {}
        for key, value in tensors.items():
            if key.startswith(turn.name + "."):
                number, name = key.removeprefix(turn.name + ".").split(".")
                state.setdefault(int(number), {})[name] = value
        groups = turn.optimiser.state_dict()["param_groups"]
        turn.optimiser.load_state_dict({"state": state, "param_groups": groups})
        turn.go_to(note["steps"])
    history.terms, history.seconds = note["history"]["terms"], note["history"]["seconds"]
    print(f"Going on after epoch {note['epoch']}, from {path.name}.")
    return note["epoch"]
