"""What `fit` can train, checked before it starts: each fault is one sentence with its mend."""

import inspect
import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from companion.data import Images, Indexed, parts_of

KINDS = (torch.uint8, torch.float32, torch.int64)  # pixels, numbers, tokens
WHOLE = {"epochs", "batch", "seed"}  # settings of `fit` that count something
RANGES = {
    "epochs": (lambda n: n >= 1, "a whole number, 1 or more"),
    "lr": (lambda rate: 0 < rate < math.inf, "a learning rate above 0, such as 2e-3"),
    "average": (lambda decay: 0 <= decay < 1, "0 (none) to below 1, such as 0.999"),
    "skip": (lambda times: times == 0 or times > 1, "0 (none) or above 1, such as 5 medians"),
}


class TrainingError(RuntimeError):
    """Training cannot start or go on; the message names the cause and the mend."""


class DivergenceError(TrainingError):
    """A term of the loss stopped being finite, or too many steps were skipped."""


def require(holds: bool, sentence: str, kind: type[Exception] = TrainingError) -> None:
    """Raise `kind` with the sentence where something does not hold."""
    if not holds:
        raise kind(sentence)


def plain(**settings) -> dict:
    """Settings of `fit` as Python's numbers, NumPy's and tensors' too, each in its range."""
    for name, value in settings.items():
        value = value.item() if getattr(value, "ndim", None) == 0 else value
        kind = int if name in WHOLE else int | float
        number = isinstance(value, kind) and not isinstance(value, bool)
        require(number, f"{name}={value!r}: choose a {'whole ' * (kind is int)}number.")
        settings[name] = value
    for name, (fine, words) in RANGES.items():
        value = settings.get(name)
        require(value is None or fine(value), f"{name}={value}: choose {words}.")
    return settings


def training_parts(data, batch: int, labels: bool = False) -> tuple:
    """What `fit` draws batches from: tensors or `Indexed` items, of one length on one device."""
    require(
        isinstance(data, Images) or not labels,
        "labels=True takes the labels of a dataset, and data is none: pass Images, or a tuple "
        "(images, labels) without labels=True.",
    )
    parts = parts_of(data, labels)
    for part in parts:
        known = isinstance(part, torch.Tensor | Indexed)
        require(known, f"data is a {type(part).__name__}: pass Images or tensors.")
        count, device = len(parts[0]), parts[0].device
        require(len(part) == count, f"data has {count} items but {len(part)} labels.")
        two = f"data lies on {device} and {part.device}: move it to one device."
        require(part.device == device, two)
        graph = getattr(part, "requires_grad", False)
        require(not graph, "data carries the graph of what made it: pass data.detach().")
    require(count > 0, "data has no items: nothing to learn from.")
    check_items(parts[0])
    require(0 < batch <= count, f"batch={batch}, but there are {count} items: choose 1 to that.")
    return parts


def check_items(part) -> None:
    """A dtype that a batch can have, no NaN, pixels in their range (of indexed items the first)."""
    items = part[torch.zeros(1, dtype=torch.long, device=part.device)]
    mend = "pass uint8 pixels, float32 by .float(), or int64 tokens by .long()"
    require(items.dtype in KINDS, f"data is {items.dtype}: {mend}.")
    items = part if isinstance(part, torch.Tensor) else items
    if items.is_floating_point() and not items.isfinite().all():
        first = (~items.isfinite()).flatten(1).any(1).nonzero()[0].item()
        raise TrainingError(
            f"data is NaN or infinite, first in item {first}: leave such items out."
        )
    if isinstance(part, torch.Tensor):
        check_range(items)


def check_range(items: torch.Tensor) -> None:
    """Pixels fill 0…255 as uint8 and lie in [0, 1] as floats; codes and activations lie anywhere.

    Floats are taken for pixels where they have the shape of pictures: (N, 1 or 3, H, W), 16 a side or more.
    """
    low, high = items.min().item(), items.max().item()
    require(
        items.dtype != torch.uint8 or high != 1,
        "data is uint8 from 0 to 1, which is black: pixels fill 0 to 255, so multiply by 255, or "
        "pass .float().",
    )
    pictures = items.ndim == 4 and items.shape[1] in (1, 3) and min(items.shape[2:]) >= 16
    require(
        not (pictures and items.is_floating_point()) or (low >= -0.5 and high <= 1.5),
        f"data are pixels from {low:.3g} to {high:.3g}: float pixels lie in [0, 1], so divide by 255, or "
        "take (x + 1) / 2; what is no picture is passed as rows, by .flatten(1).",
    )


def check_moments(moments: Sequence[int], watch, total: int) -> None:
    """Moments of training lie within the run, and have a function to be handed to."""
    fine = not moments or watch is not None
    require(fine, "moments= needs watch=, the function that sees the model then.")
    outside = [step for step in moments if not 0 <= step <= total]
    first = min(outside, default=0)
    require(not outside, f"moment {first} is not within the run's {total} steps.")


def check_model(model: nn.Module, players: dict, parts: int = 1) -> None:
    """Each player has its loss, which takes a batch of so many parts, and parameters that can learn."""
    kind = type(model).__name__
    for name, parameters in players.items():
        loss = getattr(model, name, None)
        words = f'{kind} has no method {name}(x): write it, returning {{"loss": …}}.'
        require(callable(loss), words)
        try:
            inspect.signature(loss).bind(*range(parts))
        except TypeError:
            raise TrainingError(
                f"{name}{inspect.signature(loss)} does not take a batch of {parts} part"
                f"{'s' * (parts > 1)}, which data has: images alone are passed as one tensor."
            ) from None
        require(
            len(parameters) > 0,
            f"{kind} has no parameters to train by {name}: keep layers as attributes, lists of them in "
            "nn.ModuleList.",
        )
        lazy = any(isinstance(p, UninitializedParameter) for p in parameters)
        require(not lazy, f"{kind} has lazy layers: call it once on a batch before training.")
        frozen = not any(parameter.requires_grad for parameter in parameters)
        mend = ".requires_grad_(True) on those that should learn"
        require(not frozen, f"all parameters that {name} trains are frozen: {mend}.")


def loss_of(losses: nn.Module, name: str, x: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The named loss of a batch; a batch that does not fit the model is named with its shape."""
    try:
        terms = losses(name, *x)
    except (RuntimeError, ValueError) as error:
        text = str(error)
        if isinstance(error, TrainingError) or "out of memory" in text or "captur" in text:
            raise
        if "same device" in text:
            raise TrainingError(
                f"{name}(x) reads a tensor that is no part of its model: register_buffer(NAME, tensor, "
                "persistent=False) makes it one, a constant that moves with the model."
            ) from error
        shapes = " and ".join(f"{tuple(part.shape)} {part.dtype}" for part in x)
        raise TrainingError(f"{name}(x) failed on a batch of {shapes}: {text}") from error
    fine = isinstance(terms, dict) and "loss" in terms
    require(fine, 'loss(x) must return a dict with the key "loss": {"loss": ..., ...}.')
    for term, value in terms.items():
        shape = getattr(value, "shape", type(value).__name__)
        scalar = isinstance(value, torch.Tensor) and not value.ndim
        require(scalar, f'term "{term}" is {shape}, no scalar tensor: .mean() the batch.')
    require(
        terms["loss"].requires_grad,
        "the loss depends on no parameter that can learn: it must reach those of `self`, and not under "
        "no_grad() or detach().",
    )
    return terms


def explained(error: RuntimeError) -> RuntimeError:
    """What a step says of itself in torch's words, as a sentence where a reader can mend it."""
    if "backward through the graph a second time" in str(error):
        return TrainingError(
            "a step reaches back into the one before: the model keeps a tensor with its graph, so "
            ".detach() what is stored in a buffer."
        )
    return error
