"""What is kept, so that nothing is trained or measured twice: weights, and numbers that take minutes.

One idea: a file is used while what it was made from still does the same (`mark`). Weights lie in
NAME.DATASET.safetensors with a note beside them, NAME.DATASET.json; all numbers of a section and a
dataset in one numbers.DATASET.json. What came with the repository lies in `data/checkpoints`; what is
trained here in `data/trained`, which goes before it.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from time import monotonic

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import nn

from companion.data import Images, Indexed, first_of
from companion.data.files import DATA, write_atomically
from companion.training import mark as marks
from companion.training.checks import require, training_parts
from companion.training.history import History
from companion.training.loop import fit
from companion.training.schedule import clocks_of

COMMITTED = DATA / "checkpoints"  # only companion.retrain writes here
TRAINED = Path(os.environ.get("COMPANION_TRAINED", DATA / "trained"))  # yours: ignored by git
FORMAT = {"format": "companion note 2"}
EVERY = 20.0  # seconds between two writes of an unfinished run at the least


class CheckpointError(RuntimeError):
    """A kept file cannot be used; the message names it and the mend."""


def fit_or_load(
    name: str, build: Callable, data, *, seed: int = 0, retrain: bool = False, **settings
) -> tuple[nn.Module, History]:
    """The model that `build()` makes, trained: kept weights where their mark fits, else by `fit`.

    build: called after torch.manual_seed(seed), such as partial(VAE, 32). settings: as in `fit`, which
    takes the same seed. What is trained anew is kept among yours, in half precision where that loses
    nothing; a run that was cut off goes on from its last state, unless `retrain` starts it anew.
    Raises CheckpointError for a damaged or foreign file, TrainingError for a loss or data that cannot
    be used.
    """
    model, mark = begun(build, data, seed, settings)
    history, why = (None, "as asked") if retrain else load(name, model, data, mark)
    if history:
        print(f"{name}: loaded, trained on {source_of(data)} in {history.duration()}")
        return model, history
    print(f"{name}: training on {source_of(data)} ({why})")
    marks.same_at_every_call(model, data, mark["labels"])
    state = Unfinished(TRAINED / f"{name}.{source_of(data)}.unfinished.pt", mark, anew=retrain)
    history = fit(model, data, seed=seed, resume=state, **settings)
    if history.interrupted:
        print(f"{name}: not saved, because it was interrupted")
    else:
        keep_weights(name, model, data, mark, history)
        state.delete()
    return model, history


def fit_each(
    name: str, build: Callable, keys: Iterable, data, **settings
) -> dict[object, nn.Module]:
    """`fit_or_load` of build(key) for each key, all from one seed: {key: the trained model}.

    name: with a place for the key, "31.1/autoencoder-{}"; spaces in a key become hyphens.
    """
    place = lambda key: name.format(str(key).replace(" ", "-"))
    return {key: fit_or_load(place(key), partial(build, key), data, **settings)[0] for key in keys}


def gpu_tier(name: str, build: Callable, data, **settings) -> nn.Module | None:
    """The larger model, `name`-gpu: loaded where it was committed, trained on a GPU alone, else None."""
    if torch.cuda.is_available():
        return fit_or_load(f"{name}-gpu", build, data, **settings)[0]
    model, mark = begun(build, data, 0, settings)
    history, why = load(f"{name}-gpu", model, data, mark)
    loaded = f"loaded, trained on {source_of(data)} in {history.duration()}" if history else None
    print(f"{name}-gpu: {loaded or f'left out, for it is trained on a GPU only ({why})'}")
    return model if history else None


def measure_or_load(
    name: str, measure: Callable, model: nn.Module | Callable, data, items=None, *,
    few: int = 32, seed: int = 0, **settings,
) -> torch.Tensor | dict[str, torch.Tensor]:  # fmt: skip
    """measure(model, items), numbers that take minutes, from where they were kept.

    model: trained, or a `build` as `fit_or_load` takes it: what it makes is trained with these
    settings, measured and not kept; with `moments` among them it is measured after each of these
    steps, the results stacked, (T, ...). items: a tensor, or a tuple of such, which the measure takes
    one by one; the test images by default. A measure returns a tensor, or a dict of them. Numbers are
    used while the weights, or the training's mark, are the same, and the items, and what the measure
    makes of the first `few` of them.
    """
    items = (data.test,) if items is None else items if isinstance(items, tuple) else (items,)
    if trained := isinstance(model, nn.Module):
        mark = {"weights": digest(model)}
    else:
        model, mark = begun(model, data, seed, settings)
    moments = settings["moments"] = [int(step) for step in settings.get("moments", ())]
    first = [first_of(x, few, getattr(data, "copies", False)) for x in items]
    glance = glanced(measure, model, first)
    mark |= {"moments": moments} | marks.contents(items, of=" measured") | shape_of(glance)
    entry, why = look_up(name, files(name, data, numbers=True), data, mark)
    if entry:
        if trained:
            print(f"{name}: loaded, measured before with these weights")
        kept = entry["result"].items()
        return single({key: torch.tensor(v, dtype=glance[key].dtype) for key, v in kept})
    print(f"{name}: {'measuring' if trained else 'training'} on {source_of(data)} ({why})")
    film, interrupted = [], False
    if not trained:
        watch = (lambda _, now: film.append(named(measure(now, *items)))) if moments else None
        interrupted = fit(model, data, seed=seed, **{"watch": watch} | settings).interrupted
    film = film or [named(measure(model, *items))]
    result = {k: torch.stack([now[k] for now in film]) if moments else film[0][k] for k in film[0]}
    if interrupted:
        print(f"{name}: not kept, because training was interrupted")
    else:
        keep_numbers(name, data, mark, result)
    return single(result)


def begun(build: Callable, data, seed: int, settings: dict) -> tuple[nn.Module, dict]:
    """An untrained model, built from a seed, and the mark of its training."""
    kind = type(build).__name__
    require(
        not isinstance(build, nn.Module),
        f"pass what builds the {kind}, such as partial({kind}, ...), not the model: it begins from a seed.",
    )
    torch.manual_seed(seed)
    model = build()
    return model, marks.mark_of(model, data, seed=seed, **settings)


def look_up(name: str, places: list[Path], data, mark: dict) -> tuple[dict | None, str | Path]:
    """What is kept under a name with this mark: (the entry, its file), or (None, why none fits)."""
    why = "as asked" if asked("COMPANION_RETRAIN", name) else "nothing is kept"
    for path in places if why != "as asked" else []:
        weights = path.with_suffix(".safetensors")
        content = read(path) if path.exists() or weights.exists() else {}
        entry = content if "mark" in content else content.get(name)
        if not entry:
            continue
        if "sha256" in entry:
            same = entry["sha256"] == sha256(weights.read_bytes()).hexdigest()
            fault = (
                f"is not of {weights.name} as it is now, damaged, exchanged or cut off in writing"
            )
            require(same, f"{path} {fault}: {mend_of(path)}.", CheckpointError)
        moved = marks.differences(entry["mark"], mark, getattr(data, "copies", False))
        if asked("COMPANION_ACCEPT", name) and path.is_relative_to(COMMITTED):
            print(f"{name}: accepted, {'; '.join(moved) or 'nothing has moved'}")
            entry, moved = {k: v for k, v in entry.items() if k != "loss"} | {"mark": mark}, []
            write(path, entry if "mark" in content else content | {name: entry})
        if not moved:
            return entry, path
        why = ", ".join(moved[:3]) + f" and {len(moved) - 3} more" * (len(moved) > 3)
    return None, why


def load(name: str, model: nn.Module, data, mark: dict) -> tuple[History | None, str]:
    """Fill the model with the first weights that fit: (their history, ""), or (None, why none does)."""
    note, path = look_up(name, files(name, data), data, mark)
    if note is None:
        return None, path
    try:
        state = safetensors.load(path.with_suffix(".safetensors").read_bytes())
        model.load_state_dict({key: state[key] for key in model.state_dict()})
    except (SafetensorError, KeyError, RuntimeError) as error:
        text = str(error).splitlines()[0]
        raise CheckpointError(f"{path} is of another model ({text}): {mend_of(path)}.") from None
    loss = marks.loss_with(model, data, mark["labels"])
    if "loss" not in note:  # it was accepted
        write(path, note | {"loss": loss})
    wanted = note.get("loss", loss)
    same = abs(loss - wanted) <= 10 * marks.SAME * abs(wanted)
    fault = f"is of other weights: the loss on the first items {wanted:.4g} → {loss:.4g}"
    require(same, f"{path} {fault}: {mend_of(path)}.", CheckpointError)
    model.to(training_parts(data, 1)[0].device).eval()
    for clock in clocks_of(model):
        clock.fill_(1)
    return History(**note["history"]), ""


def keep_weights(name: str, model: nn.Module, data, mark: dict, history: History) -> None:
    """Round the trained model where that loses nothing, and write it with its note."""
    exact = {key: value.cpu().clone().contiguous() for key, value in model.state_dict().items()}
    before = marks.loss_with(model, data, mark["labels"])
    model.load_state_dict(state := {key: halved(value) for key, value in exact.items()})
    loss = marks.loss_with(model, data, mark["labels"])
    if not abs(loss - before) <= marks.SAME * abs(before):  # of a matrix that must be orthogonal
        model.load_state_dict(state := exact)
        loss = before
    past = asdict(history) | {"steps": {}}
    past["terms"] = {key: marks.rounded(values) for key, values in past["terms"].items()}
    path = files(name, data)[asked("COMPANION_RETRAIN", name)]
    write(path, FORMAT | {"mark": mark, "loss": loss, "history": past}, state)


def halved(value: torch.Tensor) -> torch.Tensor:
    """In half precision, half the room, where a tensor loses less than 5e-4 of itself by it."""
    half = value.half() if value.is_floating_point() else value
    off = (half.double() - value.double()).norm()  # infinite or NaN where half cannot hold a number
    return half if off <= 5e-4 * value.double().norm() else value


def keep_numbers(name: str, data, mark: dict, result: dict[str, torch.Tensor]) -> None:
    """Add a result to the numbers of its section and dataset."""
    lists = {}
    for key, value in result.items():
        array = value.detach().cpu().numpy()
        # By way of text: the shortest number that is the same float32, .1 and not .10000000149011612.
        array = array.astype(str).astype(float) if array.dtype.kind == "f" else array
        lists[key] = array.tolist()
    path = files(name, data, numbers=True)[asked("COMPANION_RETRAIN", name)]
    others = read(path) if path.exists() else FORMAT
    write(path, others | {name: {"mark": mark, "result": lists}})


def named(result) -> dict[str, torch.Tensor]:
    """What a measure returned, as a dict: a lone tensor is called "value"."""
    return result if isinstance(result, dict) else {"value": result}


def single(result: dict[str, torch.Tensor]):
    """The same, a lone tensor by itself."""
    return result["value"] if result.keys() == {"value"} else result


def glanced(measure: Callable, model: nn.Module, few: list[torch.Tensor]) -> dict:
    """What a measure makes of a few items, on a CPU with seeded dice."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return named(measure(marks.float_copy(model).eval(), *few))


def shape_of(glance: dict[str, torch.Tensor]) -> dict:
    """A glance for a mark: mean and standard deviation of each tensor."""
    both = lambda v: marks.rounded([v.mean().item(), v.std(correction=0).item()])
    return {f"few: {key}": both(value.detach().double()) for key, value in glance.items()}


def digest(model: nn.Module) -> str:
    """sha256 of a model's weights and kept buffers, in float32."""
    found = sha256()
    for _, value in sorted(model.state_dict().items()):
        found.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


class Unfinished:
    """The state of a run that is not finished, in one file; `fit` writes it and goes on from it.

    It is read with `weights_only`, which unpickles tensors and numbers and nothing else.
    """

    def __init__(self, path: Path, mark: dict, anew: bool = False):
        self.path, self.mark, self.last, self.told = path, mark, monotonic(), False
        if anew:
            self.delete()

    def delete(self) -> None:
        with contextlib.suppress(OSError):
            if first_process():
                self.path.unlink(missing_ok=True)

    def restore(self, model: nn.Module, turns: list, history: History) -> int:
        """Fill everything from the file, if there is one with the same mark; the epoch to go on with."""
        if not self.path.exists():
            return 0
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if marks.differences(state["mark"], self.mark):
                return 0
            model.load_state_dict(state["model"])
            for turn, kept in zip(turns, state["turns"], strict=True):
                turn.load(kept)
            torch.set_rng_state(state["dice"][0])
            if torch.cuda.is_available():
                torch.cuda.set_rng_state_all(state["dice"][1:])
            history.terms, history.seconds = state["terms"], state["seconds"]
        except Exception as error:  # of pickles, archives and shapes alike: damaged
            fault = f"{self.path} is damaged ({type(error).__name__})"
            raise CheckpointError(f"{fault}: delete it to start anew.") from None
        print(f"Going on after epoch {state['epoch']}, from {self.path.name}.")
        return state["epoch"]

    def keep(self, model: nn.Module, turns: list, history: History, epoch: int) -> None:
        """After an epoch: write the state, every `EVERY` seconds. A failed write costs a sentence."""
        if monotonic() - self.last < EVERY:
            return
        self.last = monotonic()
        dice = [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]
        state = {"mark": self.mark, "epoch": epoch, "model": model.state_dict(), "dice": dice}
        state |= {"turns": [turn.state() for turn in turns]}
        state |= {"terms": history.terms, "seconds": history.seconds}
        try:
            write_atomically(self.path, lambda file: torch.save(state, file))
        except Exception as error:  # a full disk, or what cannot be pickled, does not end training
            if not self.told:
                print(f"{self.path} could not be written ({error}): a run cut off starts anew.")
            self.told = True


def forget(name: str) -> list[str]:
    """Delete what was trained or measured here under names that begin so; what was deleted."""
    gone = []
    for path in sorted(path for path in TRAINED.rglob("*") if path.is_file()):
        here = str(path.relative_to(TRAINED))
        if path.name.startswith("numbers."):
            content = read(path)
            gone += [key for key in content if key.startswith(name)]
            left = {key: value for key, value in content.items() if key not in gone}
            write(path, left) if left != FORMAT else path.unlink()
        elif here.startswith(name):
            gone.append(here)
            path.unlink()
    return gone


def write(path: Path, content: dict, state: dict[str, torch.Tensor] | None = None) -> None:
    """A note or a section's numbers, and weights before their note, from the first process only.

    What cannot be written, for a full disk or a tensor of no common kind, costs a sentence.
    """
    if not first_process():
        return
    try:
        if state:
            weights = safetensors.save(state)
            content = content | {"sha256": sha256(weights).hexdigest()}
            write_atomically(path.with_suffix(".safetensors"), lambda file: file.write(weights))
        write_atomically(path, lambda file: file.write(f"{readable(content)}\n".encode()))
    except Exception as error:
        print(f"{path} could not be written ({error}): the result is only in memory.")


def readable(value, margin: str = "") -> str:
    """JSON with a list on one line, so that `git diff` is read."""
    dumps = partial(json.dumps, ensure_ascii=False)
    if not isinstance(value, dict):
        return dumps(value)
    rows = (f"{margin} {dumps(key)}: {readable(v, margin + ' ')}" for key, v in value.items())
    return "{\n" + ",\n".join(rows) + f"\n{margin}}}"


def read(path: Path) -> dict:
    """A note or a section's numbers, or CheckpointError where the file is missing, damaged or foreign."""
    try:
        content = parsed(path, path.stat().st_mtime_ns)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is missing or damaged ({error}): {mend_of(path)}.") from None
    ours = isinstance(content, dict) and content.items() >= FORMAT.items()
    require(ours, f"{path} is no note of this project: {mend_of(path)}.", CheckpointError)
    return content


@lru_cache(maxsize=8)  # a notebook asks for some twenty numbers, all in one file
def parsed(path: Path, changed: int):
    return json.loads(path.read_text("utf-8"))


def mend_of(path: Path) -> str:
    """What to do about a file that cannot be used."""
    if path.is_relative_to(COMMITTED):
        return f"`git checkout -- {path.with_suffix('')}.*` brings the committed one back"
    return (
        "retrain=True makes it anew, and `python -m companion.retrain SECTION --forget` deletes it"
    )


def files(name: str, data, numbers: bool = False) -> list[Path]:
    """Where the note of weights lies, or the numbers of their section: yours, then the committed."""
    place = Path(name).parent / "numbers" if numbers else name
    return [folder / f"{place}.{source_of(data)}.json" for folder in (TRAINED, COMMITTED)]


def source_of(data) -> str:
    """The dataset's name, part of the checkpoint's: "tensor" for bare tensors."""
    return data.name if isinstance(data, Images | Indexed) else "tensor"


def asked(variable: str, name: str) -> bool:
    """Whether `companion.retrain` asked this of what is kept under a name."""
    wanted = os.environ.get(variable)
    return wanted is not None and name.startswith(wanted)


def first_process() -> bool:
    """Of several processes the first one writes."""
    return os.environ.get("RANK", "0") == "0"
