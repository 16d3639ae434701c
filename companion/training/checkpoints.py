"""A model trained once: loaded where its checkpoint fits what the code does, else trained."""

import contextlib
import json
import os
from dataclasses import asdict
from inspect import signature
from pathlib import Path

import torch
from torch import nn

from companion.data import Images, Indexed
from companion.training import notes
from companion.training.checks import TrainingError, training_parts
from companion.training.fingerprint import (
    behaviour,
    contents,
    differences,
    other_data,
    short,
)
from companion.training.history import History
from companion.training.loop import fit
from companion.training.notes import CheckpointError
from companion.training.schedule import clocks_of

HARMLESS = {"moments", "watch", "bar", "resume"}  # settings of `fit` that change no weight


def fit_or_load(
    name: str, model: nn.Module, data, *, retrain: bool = False, **settings
) -> tuple[nn.Module, History]:
    """The model trained: from a checkpoint that fits what it does, its settings and data, else by `fit`.

    A checkpoint of yours (`data/trained`) goes before the committed one (`data/checkpoints`). What
    is trained anew is saved among yours, rounded to half precision as the committed ones are. A run
    that was cut off goes on from its last state, unless `retrain` starts it anew.
    settings: as in `fit`. Raises CheckpointError for a damaged or foreign file, TrainingError for a
    loss or data that cannot be used.
    """
    marks = marks_of(data, settings)
    if asked("COMPANION_ACCEPT", name):
        accept(name, model, data, marks)
    history, why = (None, "as asked") if retrain else load(name, model, data, marks)
    if history is None:
        print(f"{name}: training on {source_of(data)} ({why})")
        unfinished = unfinished_run(name, model, data, marks, anew=retrain)
        history = fit(model, data, resume=unfinished, **settings)
        keep(name, model, data, marks, history)
        if not history.interrupted and first_process():
            with contextlib.suppress(OSError):
                unfinished.with_suffix(".json").unlink(missing_ok=True)
                unfinished.unlink(missing_ok=True)
    else:
        print(f"{name}: loaded, trained on {source_of(data)} in {history.duration()}")
    return model, history


def gpu_tier(name: str, model: nn.Module, data, **settings) -> nn.Module | None:
    """The larger model, `name`-gpu: loaded where it was committed, trained on a GPU alone, else None."""
    name = f"{name}-gpu"
    committed = paths(name, data)[-1].exists()
    if torch.cuda.is_available() or (committed and asked("COMPANION_ACCEPT", name)):
        return fit_or_load(name, model, data, **settings)[0]
    history, why = load(name, model, data, marks_of(data, settings))
    if history is None:
        print(f"{name}: left out, for it is trained on a GPU only ({why})")
        return None
    print(f"{name}: loaded, trained on {source_of(data)} in {history.duration()}")
    return model


def load(name: str, model: nn.Module, data, marks: dict) -> tuple[History | None, str]:
    """Fill the model from the first checkpoint that fits: (its history, ""), or (None, why none does)."""
    if asked("COMPANION_RETRAIN", name):
        return None, "as asked"
    why = "no checkpoint"
    for path in paths(name, data):
        if not path.exists():
            continue
        note, state = notes.read_note(path), notes.read_tensors(path)
        changes = other_settings(note["settings"], marks["settings"])
        changes += other_data(note["data"], marks["data"], source_of(data).startswith("imagenette"))
        changes += other_layers(model, state)
        if not changes:
            new = marks["behaviour"](model, own_part(model, state))
            changes = differences(note["behaviour"], new)
        if not changes:
            model.load_state_dict(own_part(model, state))
            ready(model, data)
            return History(**note["history"]), ""
        more = f" and {len(changes) - 3} more changes" if len(changes) > 3 else ""
        why = ", ".join(changes[:3]) + more
    return None, why


def keep(name: str, model: nn.Module, data, marks: dict, history: History) -> None:
    """Round the trained model to half precision and save it, with its note, from the first process."""
    if history.interrupted:
        print(f"{name}: not saved, because it was interrupted")
        return
    state = {key: half(value).contiguous().cpu() for key, value in model.state_dict().items()}
    model.load_state_dict(state)
    if first_process():
        note = note_of(model, marks, history)
        notes.write(state, note, folder_for(name) / f"{name}.{source_of(data)}.safetensors")


def marks_of(data, settings: dict) -> dict:
    """What a checkpoint depends on beside the weights; `behaviour` is a function of the model."""
    known, labels = signature(fit).parameters, settings.get("labels", False)
    if wrong := [key for key in settings if key not in known]:
        raise TrainingError(
            f"fit has no setting {wrong[0]}: choose among {', '.join(list(known)[2:])}."
        )
    if "epochs" not in settings:
        raise TrainingError("epochs= is missing: say how often training passes over the data.")
    training_parts(data, 1, labels)
    values = defaults() | settings
    return {
        "settings": {key: values[key] for key in values if key not in HARMLESS},
        "data": contents(data, labels),
        "behaviour": lambda model, state=None: behaviour(model, data, labels, state),
    }


def note_of(model: nn.Module, marks: dict, history: History) -> dict:
    """The note of a trained model."""
    past = asdict(history)
    del past["steps"]
    past["terms"] = {key: [short(v) for v in values] for key, values in past["terms"].items()}
    return marks | {"behaviour": marks["behaviour"](model), "history": past}


def unfinished_run(name: str, model: nn.Module, data, marks: dict, anew: bool) -> Path:
    """The file of an unfinished run, emptied where `anew` or where the code is not what began it."""
    path = notes.TRAINED / f"{name}.{source_of(data)}.unfinished.safetensors"
    wanted = marks | {"behaviour": marks["behaviour"](model)}
    try:
        began = json.loads(path.with_suffix(".json").read_text())
        same = began["settings"] == wanted["settings"] and began["data"] == wanted["data"]
        same = same and not differences(began["behaviour"], wanted["behaviour"])
    except (OSError, ValueError, KeyError):
        same = False
    if first_process() and (anew or not same):
        try:
            path.unlink(missing_ok=True)
            notes.write_note(wanted, path)
        except OSError as error:
            print(f"{path.parent} could not be written ({error}): a run cut off starts anew.")
    return path


def accept(name: str, model: nn.Module, data, marks: dict) -> None:
    """Write a committed checkpoint's note anew, as the code of today behaves; print what moved."""
    path = paths(name, data)[-1]
    note, state = notes.read_note(path), notes.read_tensors(path)
    if changes := other_layers(model, state):
        raise CheckpointError(f"{path} holds another model ({', '.join(changes)}): train it anew.")
    new = marks | {"behaviour": marks["behaviour"](model, own_part(model, state))}
    moved = other_settings(note["settings"], new["settings"])
    moved += other_data(note["data"], new["data"], False)
    moved += differences(note["behaviour"], new["behaviour"])
    print(f"{name}: accepted, " + ("; ".join(moved) if moved else "nothing has moved"))
    if moved:
        notes.write_note(note | new, path)


def own_part(model: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of a file's tensors those that the model's state has; what else the file holds is no part of it."""
    return {key: state[key] for key in model.state_dict()}


def other_layers(model: nn.Module, state: dict[str, torch.Tensor]) -> list[str]:
    """Weights that a file lacks or has in another shape, and frozen ones that have another value.

    Training cannot have moved a frozen parameter, so it must be as the code builds it.
    """
    words, learning = [], {key: p.requires_grad for key, p in model.named_parameters()}
    for key, value in model.state_dict().items():
        if key not in state:
            words.append(f"{key} is new")
        elif state[key].shape != value.shape:
            words.append(f"{key} {tuple(state[key].shape)} → {tuple(value.shape)}")
        elif not learning.get(key, True):
            built = value.detach().cpu()
            if not torch.allclose(state[key].to(built), built, rtol=2e-3, atol=1e-6):
                words.append(f"{key}, which is frozen, has another value")
    return words


def other_settings(old: dict, new: dict) -> list[str]:
    """Settings of `fit` that are not what they were: ["lr 0.002 → 0.001"]."""
    both = {key: (old.get(key, new[key]), new[key]) for key in new}
    return [f"{key} {before} → {after}" for key, (before, after) in both.items() if before != after]


def defaults() -> dict:
    """The settings that `fit` takes when they are not named."""
    parameters = signature(fit).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def ready(model: nn.Module, data) -> None:
    """A loaded model where its data are, at the end of its schedules, set to be used."""
    model.to(training_parts(data, 1)[0].device).eval()
    for clock in clocks_of(model):
        clock.fill_(1)


def paths(name: str, data) -> list[Path]:
    """Where a checkpoint may lie: yours, then the committed one."""
    file = f"{name}.{source_of(data)}.safetensors"
    return [notes.TRAINED / file, notes.COMMITTED / file]


def folder_for(name: str) -> Path:
    """Where a new result is kept: among yours, unless `companion.retrain` makes the committed one."""
    return notes.COMMITTED if asked("COMPANION_RETRAIN", name) else notes.TRAINED


def source_of(data) -> str:
    """The dataset's name, part of the checkpoint's: "tensor" for bare tensors."""
    return data.name if isinstance(data, Images | Indexed) else "tensor"


def asked(variable: str, name: str) -> bool:
    """Whether `companion.retrain` asked this of the checkpoint `name`."""
    wanted = os.environ.get(variable)
    return wanted is not None and name.startswith(wanted)


def first_process() -> bool:
    """Of several processes the first one writes."""
    return os.environ.get("RANK", "0") == "0"


def half(value: torch.Tensor) -> torch.Tensor:
    """float16 takes half the room; its rounding (5e-4 relative) is below what any claim reads."""
    return value.half() if value.is_floating_point() else value
