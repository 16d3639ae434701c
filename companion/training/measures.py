"""Measures that take minutes, kept beside the checkpoints they were made with, or in their place."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from companion.data import Images, first_items
from companion.training import notes
from companion.training.checkpoints import (
    asked,
    first_process,
    folder_for,
    half,
    marks_of,
    other_settings,
    paths,
    source_of,
)
from companion.training.fingerprint import apart, differences, double, other_data, short
from companion.training.loop import fit

SPOT = 1e-2  # relative, of a measure made anew on a few items


def measure_or_load(
    name: str, model: nn.Module, data: Images, measure: Callable,
    items: torch.Tensor | None = None, spot: int = 64,
) -> torch.Tensor:  # fmt: skip
    """`measure(model, items)`, a tensor that takes minutes, from the file where it was kept.

    items: the test images by default. The file lies among the checkpoints and is used as they are:
    while the weights are those it was made with, and while the same measure, made anew on the first
    `spot` items with seeded dice, still gives what it gave. Else all is measured, and kept among yours.
    """
    items = data.test if items is None else items
    wanted = {"weights": digest_of_weights(model), "items": len(items)}
    found = spot_of(model, measure, items[:spot])
    if asked("COMPANION_ACCEPT", name):
        path = paths(name, data)[-1]
        notes.write_note(notes.read_note(path) | wanted | {"spot": found}, path)
        print(f"{name}: accepted")
    why = "as asked" if asked("COMPANION_RETRAIN", name) else "no file"
    for path in [] if why == "as asked" else filter(Path.exists, paths(name, data)):
        note = notes.read_note(path)
        changes = [f"other {key}" for key in wanted if note.get(key) != wanted[key]]
        changes += other_spot(note["spot"], found)
        if not changes:
            print(f"{name}: loaded, measured before with these weights")
            return notes.read_tensors(path)["result"]
        why = ", ".join(changes)
    print(f"{name}: measuring on {source_of(data)}, which takes minutes ({why})")
    result = measure(model, items).cpu().contiguous()
    if first_process():
        path = folder_for(name) / f"{name}.{source_of(data)}.safetensors"
        notes.write({"result": result}, wanted | {"spot": found}, path)
    return result


def fit_and_measure(
    name: str, model: nn.Module, data: Images, measure: Callable, items: torch.Tensor | None = None,
    **settings,
) -> torch.Tensor:  # fmt: skip
    """`measure(model, items)` after `fit(model, data, **settings)`: the numbers are kept, no weights.

    For a sweep over many small models, or a film of one: with `moments` among the settings, as `fit`
    takes them, the measure is made at each of these steps, and the results are stacked, (T, ...).
    model: as built from a seed, untrained. items: the test images by default. The file is used while the settings, the data, and what the untrained model does on the
    first training items (its loss, gradients, and the measure) are those it was made with. Where it is
    used the model stays untrained; numbers of an interrupted training are returned and not kept.
    """
    items = data.test if items is None else items
    marks = marks_of(data, settings)
    wanted = marks | {"items": len(items), "behaviour": marks["behaviour"](model)}
    wanted["moments"] = list(settings.get("moments", ()))
    wanted["spot"] = spot_of(model, measure, first_items(data)[0])
    why = "as asked" if asked("COMPANION_RETRAIN", name) else "no file"
    for path in [] if why == "as asked" else filter(Path.exists, paths(name, data)):
        note = notes.read_note(path)
        changes = other_settings(note["settings"], wanted["settings"])
        changes += other_data(
            note["data"], wanted["data"], source_of(data).startswith("imagenette")
        )
        changes += differences(note["behaviour"], wanted["behaviour"])
        changes += other_spot(note["spot"], wanted["spot"])
        changes += [] if note["items"] == len(items) else ["other items"]
        changes += [] if note.get("moments", []) == wanted["moments"] else ["other moments"]
        if not changes:
            return notes.read_tensors(path)["result"]
        why = ", ".join(changes[:3])
    print(f"{name}: training on {source_of(data)} ({why})")
    film = []
    watch = {"watch": lambda step, model: film.append(measure(model, items).cpu())}
    history = fit(model, data, **watch | settings)
    result = (torch.stack(film) if film else measure(model, items).cpu()).contiguous()
    if history.interrupted:
        print(f"{name}: not kept, because training was interrupted")
    elif first_process():
        path = folder_for(name) / f"{name}.{source_of(data)}.safetensors"
        notes.write({"result": result}, wanted, path)
    return result


def measured_by_seed(
    name: str, build: Callable, data: Images, measure: Callable, keys, seeds, items=None, **settings
) -> dict[object, torch.Tensor]:
    """`fit_and_measure` of `build(key)` for each key and seed: {key: results (seeds, ...)}.

    build: key -> an untrained model. The numbers are kept as name-key-seed.
    """

    def measured(key, seed):
        torch.manual_seed(seed)
        own = settings | {"seed": seed}
        return fit_and_measure(f"{name}-{key}-{seed}", build(key), data, measure, items, **own)

    return {key: torch.stack([measured(key, seed) for seed in seeds]) for key in keys}


def spot_of(model: nn.Module, measure: Callable, few: torch.Tensor) -> dict[str, float]:
    """Mean and standard deviation of the measure of a few items, on a CPU with seeded dice."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        result = measure(double(model).eval(), few.cpu()).detach().double()
    deviation = result.std().item() if result.numel() > 1 else 0.0
    return {"mean": short(result.mean().item()), "deviation": short(deviation)}


def other_spot(old: dict[str, float], new: dict[str, float]) -> list[str]:
    """What moved between two spots, in words."""
    least = max(abs(value) for value in old.values())
    moved = [key for key in old if apart(old[key], new[key], SPOT, least)]
    return [f"{key} of the first items {old[key]:.4g} → {new[key]:.4g}" for key in moved]


def digest_of_weights(model: nn.Module) -> str:
    """sha256 of the numbers as a checkpoint holds them, so that training and loading agree."""
    parts = sorted(model.state_dict().items())
    text = b"".join(half(value).contiguous().cpu().numpy().tobytes() for _, value in parts)
    return hashlib.sha256(text).hexdigest()
