"""Weights on disk as safetensors, and the fingerprint that says which code they belong to."""

import dis
import hashlib
import inspect
import io
import json
import os
import sys
import sysconfig
import token
import tokenize
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from textwrap import dedent
from types import CodeType, FunctionType

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from companion.data import DATA, Images, write_atomically
from companion.training import History, fit, training_tensors

COMMITTED = DATA / "checkpoints"  # came with the repository; only companion.retrain writes here
TRAINED = DATA / "trained"  # yours: ignored by git
LIBRARIES = {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
FORMAT = "companion checkpoint 1"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be used; the message names the file and the mend."""


def fit_or_load(
    name: str,
    model: nn.Module,
    data: Images | torch.Tensor | tuple[torch.Tensor, ...],
    *,
    retrain: bool = False,
    **settings,
) -> tuple[nn.Module, History]:
    """The model trained: from a checkpoint that fits its code, settings and data, else by `fit`.

    A checkpoint of yours (`data/trained`) goes before the committed one (`data/checkpoints`). What
    is trained anew is saved among yours, rounded to half precision as the committed ones are. A run
    that was cut off goes on from its last state, unless `retrain` starts it anew.
    settings: as in `fit`. Raises CheckpointError for a damaged or foreign file.
    """
    source = source_of(data)
    file = f"{name}.{source}.safetensors"
    wanted = fingerprint(model, data, settings)
    anew, retrain = retrain, retrain or is_retraining(name)  # a cut-off companion.retrain goes on
    path, why = (None, "") if retrain else fitting(file, wanted)
    if path:
        load_weights(model, path)
        history = History(**read_metadata(path)["history"])
        model.to(training_tensors(data, 1)[0].device).eval()
        print(f"{name}: loaded, trained on {source} in {duration(history)}")
        return model, history
    print(f"{name}: training on {source} ({'as asked' if retrain else why})")
    unfinished = TRAINED / f"{name}.{source}.{digest(json.dumps(wanted))}.unfinished.safetensors"
    if anew and unfinished.exists():
        unfinished.unlink(missing_ok=True)
    history = fit(model, data, resume=unfinished, **settings)
    if history.interrupted:
        print(f"{name}: not saved, because it was interrupted")
        return model, history
    model.load_state_dict({key: half(value) for key, value in model.state_dict().items()})
    if os.environ.get("RANK", "0") == "0":  # of several processes the first one writes
        save(model, history, wanted, folder_for(name) / file)
        if unfinished.exists():
            unfinished.unlink()
    return model, history


def measure_or_load(
    name: str, model: nn.Module, data: Images | torch.Tensor, measure: Callable
) -> torch.Tensor:
    """`measure(model)`, a tensor that takes minutes, from the file where it was kept.

    The file lies among the checkpoints and is used as they are: while the model's weights, the code
    of `measure` and the dataset are those it was made with. Else it is measured, and kept among yours.
    """
    file = f"{name}.{source_of(data)}.safetensors"
    wanted = {"weights": digest_of_weights(model), "data": source_of(data)}
    add_code(wanted, measure)
    path, why = (None, "as asked") if is_retraining(name) else fitting(file, wanted)
    if path:
        print(f"{name}: loaded, measured before with these weights")
        with safe_open(path, framework="pt") as kept:
            return kept.get_tensor("result")
    print(f"{name}: measuring on {source_of(data)}, which takes minutes ({why})")
    result = measure(model).cpu()
    write({"result": result}, {"fingerprint": wanted}, folder_for(name) / file)
    return result


def fitting(file: str, wanted: dict[str, str]) -> tuple[Path | None, str]:
    """The file with the fingerprint `wanted`, yours before the committed one; or None and why."""
    why = "no checkpoint"
    for folder in (TRAINED, COMMITTED):
        if (folder / file).exists():
            changes = differences(read_metadata(folder / file)["fingerprint"], wanted)
            if not changes:
                return folder / file, ""
            why = ", ".join(changes)
    return None, why


def folder_for(name: str) -> Path:
    """Where a new result is kept: among yours, unless `companion.retrain` makes the committed one."""
    return COMMITTED if is_retraining(name) else TRAINED


def source_of(data) -> str:
    """The dataset's name, part of the checkpoint's: "tensor" for bare tensors."""
    return data.name if isinstance(data, Images) else "tensor"


def is_retraining(name: str) -> bool:
    """Whether `companion.retrain` asked for this checkpoint to be trained and committed anew."""
    asked = os.environ.get("COMPANION_RETRAIN")
    return asked is not None and name.startswith(asked)


def duration(history: History) -> str:
    """How long training took and on what, in words."""
    seconds = history.seconds
    time = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    return f"{time} on {history.machine}"


def save(model: nn.Module, history: History, marks: dict, path: Path) -> None:
    """Write weights (floats as float16), history and fingerprint."""
    state = {name: half(value).contiguous().cpu() for name, value in model.state_dict().items()}
    write(state, {"fingerprint": marks, "history": asdict(history)}, path)


def write(tensors: dict[str, torch.Tensor], note: dict, path: Path) -> None:
    """Tensors and a note in one file. Where it cannot be written a sentence says so."""
    try:
        metadata = {"companion": json.dumps({"format": FORMAT} | note)}
        write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))
    except OSError as error:
        print(f"{path} could not be written ({error.strerror}): the result is only in memory.")


def half(value: torch.Tensor) -> torch.Tensor:
    """float16 takes half the room; its rounding (5e-4 relative) is below what any claim reads."""
    return value.half() if value.is_floating_point() else value


def read_metadata(path: Path) -> dict:
    """The note inside a checkpoint: format, fingerprint, history."""
    mend = (
        f"delete it, or `git checkout -- {path.name}` in its folder brings the committed one back"
    )
    try:
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {}).get("companion", "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): {mend}.") from None
    if not isinstance(note, dict) or note.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of this project: {mend}.")
    return note


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill `model` with the weights in `path`, which must match it name for name and shape."""
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise CheckpointError(f"{path} holds another model: {first} Delete it.") from None


def fingerprint(model: nn.Module, data, settings: dict) -> dict[str, str]:
    """What a checkpoint depends on, part by part: layers, code, settings and data.

    Code is compared without comments, docstrings and white space, so that only what runs counts.
    """
    marks = {"layers": digest(repr(model))}
    own = {type(part) for part in model.modules() if is_ours(type(part))}
    for kind in sorted(own, key=lambda kind: kind.__qualname__):
        for base in kind.__mro__:
            for function in filter(is_function, vars(base).values()) if is_ours(base) else ():
                add_code(marks, function)
    for part_name, part in model.named_modules():
        for key, value in vars(part).items() if type(part) in own else ():
            if isinstance(value, int | float | str) and key != "training" and key[0] != "_":
                marks[f"{part_name}.{key}".strip(".")] = repr(value)
            elif is_function(value) and is_ours(value):
                add_code(marks, value)
    marks |= {key: repr(value) for key, value in (defaults() | settings).items()}
    for harmless in ("progress", "resume"):
        marks.pop(harmless, None)
    parts = (data.train,) if isinstance(data, Images) else data
    shapes = [tuple(part.shape) for part in (parts if isinstance(parts, tuple) else (parts,))]
    return marks | {"data": f"{source_of(data)} {shapes}"}


def defaults() -> dict:
    """The settings that `fit` takes when they are not named."""
    parameters = inspect.signature(fit).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def differences(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """What changed between two fingerprints, in words: ["lr 0.002 -> 0.001", "code of ..."]."""
    words = []
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            secret = key == "layers" or key.startswith("code of ")
            words.append(f"{key} changed" if secret else f"{key} {old.get(key)} -> {new.get(key)}")
    return words


def add_code(marks: dict[str, str], function: FunctionType) -> None:
    """Mark a function and, through it, the functions and constants of ours that it names."""
    key = f"code of {function.__qualname__.split('<locals>.')[-1]}"
    if key in marks:
        return
    marks[key] = digest(bare_source(function))
    for name in names_in(function.__code__):
        value = function.__globals__.get(name)
        if is_function(value) and is_ours(value):
            add_code(marks, value)
        elif isinstance(value, int | float | str | tuple) and not name.startswith("_"):
            marks[name] = repr(value)


def names_in(code: CodeType) -> set[str]:
    """The global names that a code object and those nested in it read; attributes are none."""
    nested = (names_in(part) for part in code.co_consts if isinstance(part, CodeType))
    steps = dis.get_instructions(code)
    return {step.argval for step in steps if step.opname == "LOAD_GLOBAL"}.union(*nested)


def bare_source(function: FunctionType) -> str:
    """Source without comments, docstrings, blanks and line breaks; indentation kept as braces."""
    source = dedent(inspect.getsource(function))
    skipped = (token.COMMENT, token.NL)
    tokens = [
        t for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type not in skipped
    ]
    marks, words = {token.INDENT: "{", token.DEDENT: "}", token.NEWLINE: ";"}, []
    for before, this, after in zip(
        [tokens[0], *tokens], tokens, [*tokens[1:], tokens[-1]], strict=False
    ):
        alone = before.type in marks and after.type == token.NEWLINE  # a string that is a statement
        if not (this.type == token.STRING and alone):
            words.append(marks.get(this.type, "".join(this.string.split())))
    return "".join(words).replace("{;", "{")


def digest_of_weights(model: nn.Module) -> str:
    """Of the numbers as a checkpoint holds them, so that training and loading agree."""
    parts = sorted(model.state_dict().items())
    text = b"".join(half(value).contiguous().cpu().numpy().tobytes() for _, value in parts)
    return hashlib.sha256(text).hexdigest()[:12]


def is_function(value) -> bool:
    return isinstance(value, FunctionType)


def is_ours(thing) -> bool:
    """Defined in this package, the notebook or a file of the reader's, as opposed to a library."""
    if thing.__module__.split(".")[0] in ("companion", "__main__"):
        return True
    file = getattr(sys.modules.get(thing.__module__), "__file__", None)
    return bool(file) and not any(Path(file).is_relative_to(place) for place in LIBRARIES)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
