"""The state of an unfinished run on disk, so that it can go on where it stopped. Nothing is pickled."""

import json
import time
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from companion.data.files import DataError, write_atomically

EVERY = 20.0  # seconds between two writes at the least: a short epoch does not wait for the disk
_last_write, _told = {}, set()  # by path


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
        tensors |= {f"{turn.name}.{name}": value for name, value in state_of(turn).items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    past = {"terms": history.terms, "seconds": history.seconds}
    note = json.dumps({"epoch": epoch, "history": past})
    try:
        write_atomically(path, lambda temporary: save_file(tensors, temporary, {"companion": note}))
    except (OSError, SafetensorError) as error:  # a full disk does not end training
        if path not in _told:
            print(f"{path.name} could not be written ({error}): if this run stops, it starts anew.")
        _told.add(path)


def state_of(turn) -> dict[str, torch.Tensor]:
    """A player's moments and averages by the place of their parameter, and its gradient norms."""
    state = {"norms": turn.norms}
    for place, parameter in enumerate(turn.parameters):
        moments = turn.optimiser.state[parameter]  # empty for one that no loss has reached
        state |= {f"{place}.{name}": value for name, value in moments.items()}
    return state | {f"{place}.average": value for place, value in enumerate(turn.averages)}


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
        prefix = f"{turn.name}."
        fill(turn, {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    history.terms, history.seconds = note["history"]["terms"], note["history"]["seconds"]
    print(f"Going on after epoch {note['epoch']}, from {path.name}.")
    return note["epoch"]


def fill(turn, state: dict[str, torch.Tensor]) -> None:
    """Give a player what `state_of` took of it.

    The file holds tensors contiguous. Moments go back to the strides of their parameter, or the fused
    kernels would pair each element of a channels-last weight with the moment of another.
    """
    turn.norms.copy_(state.pop("norms"))
    for key, value in state.items():
        place, name = key.split(".")
        parameter = turn.parameters[int(place)]
        if name == "average":
            turn.averages[int(place)].copy_(value)
            continue
        value = value.to(parameter.device)
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter).copy_(value)
        turn.optimiser.state[parameter][name] = value
