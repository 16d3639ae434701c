"""What `fit` can train, checked before it starts: each fault is one sentence with its mend."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from companion.data import Images, Indexed, parts_of

KINDS = (torch.uint8, torch.float32, torch.int64)  # pixels, numbers, tokens


class TrainingError(RuntimeError):
    """Training cannot start or go on; the message names the cause and the mend."""


def training_parts(data, batch: int, labels: bool = False) -> tuple:
    """What `fit` draws batches from: tensors or `Indexed` items, of one length on one device."""
    if labels and not isinstance(data, Images):
        raise TrainingError(
            "labels=True takes the labels of a dataset, and data is none: pass Images, or a tuple "
            "(images, labels) without labels=True."
        )
    parts = parts_of(data, labels)
    for part in parts:
        if not isinstance(part, torch.Tensor | Indexed):
            raise TrainingError(f"data is a {type(part).__name__}: pass Images or tensors.")
        if len(part) != len(parts[0]):
            raise TrainingError(f"data has {len(parts[0])} items but {len(part)} labels.")
        if part.device != parts[0].device:
            raise TrainingError(
                f"data lies on {parts[0].device} and {part.device}: move it to one device."
            )
    if not len(parts[0]):
        raise TrainingError("data has no items: nothing to learn from.")
    check_items(parts[0])
    if not 0 < batch <= len(parts[0]):
        raise TrainingError(
            f"batch={batch}, but there are {len(parts[0])} items: choose 1 to that."
        )
    return parts


def check_items(part) -> None:
    """A dtype that a batch can have, and no NaN (of indexed items the first is looked at)."""
    items = part[torch.zeros(1, dtype=torch.long, device=part.device)]
    if items.dtype not in KINDS:
        raise TrainingError(
            f"data is {items.dtype}: pass uint8 pixels, float32 by .float(), or int64 tokens by .long()."
        )
    items = part if isinstance(part, torch.Tensor) else items
    if items.is_floating_point() and not items.isfinite().all():
        first = (~items.isfinite()).flatten(1).any(1).nonzero()[0].item()
        raise TrainingError(
            f"data is NaN or infinite, first in item {first}: leave such items out."
        )


def check_settings(epochs: int, lr: float, average: float, skip: float) -> None:
    """The settings that `fit` takes, each in its range."""
    if not isinstance(epochs, int) or epochs < 1:
        raise TrainingError(f"epochs={epochs}: choose a whole number, 1 or more.")
    if not (math.isfinite(lr) and lr > 0):
        raise TrainingError(f"lr={lr}: choose a learning rate above 0, such as 2e-3.")
    if not 0 <= average < 1:
        raise TrainingError(f"average={average}: choose 0 (none) to below 1, such as 0.999.")
    if skip and not skip > 1:
        raise TrainingError(f"skip={skip}: choose 0 (none) or above 1, such as 5 medians.")


def check_moments(moments: Sequence[int], watch, total: int) -> None:
    """Moments of training lie within the run, and have a function to be handed to."""
    if moments and watch is None:
        raise TrainingError("moments= needs watch=, the function that sees the model then.")
    if outside := [step for step in moments if not 0 <= step <= total]:
        raise TrainingError(f"moment {outside[0]} is not within the run's {total} steps.")


def check_model(model: nn.Module, players: dict) -> None:
    """Each player has its loss, and parameters that can learn."""
    kind = type(model).__name__
    for name, parameters in players.items():
        if not callable(getattr(model, name, None)):
            raise TrainingError(
                f'{kind} has no method {name}(x): write it, returning {{"loss": …}}.'
            )
        if not parameters:
            raise TrainingError(
                f"{kind} has no parameters to train by {name}: keep layers as attributes, lists of "
                "them in nn.ModuleList."
            )
        if not any(parameter.requires_grad for parameter in parameters):
            raise TrainingError(
                f"all parameters that {name} trains are frozen: .requires_grad_(True) on those that "
                "should learn."
            )


def loss_of(losses: nn.Module, name: str, x: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The named loss of a batch; a batch that does not fit the model is named with its shape."""
    try:
        return checked(losses(name, *x))
    except (RuntimeError, ValueError) as error:
        text = str(error)
        if isinstance(error, TrainingError) or "out of memory" in text or "captur" in text:
            raise
        shapes = " and ".join(f"{tuple(part.shape)} {part.dtype}" for part in x)
        raise TrainingError(
            f"{name}(x) failed on a batch of {shapes} ({text}): "
            "check the size, channels and dtype of the images."
        ) from error


def checked(terms: dict) -> dict[str, torch.Tensor]:
    """The terms of a loss, or a TrainingError that says what `loss` should have returned."""
    if not isinstance(terms, dict) or "loss" not in terms:
        raise TrainingError('loss(x) must return a dict with the key "loss": {"loss": ..., ...}.')
    for name, term in terms.items():
        if not isinstance(term, torch.Tensor) or term.ndim:
            shape = getattr(term, "shape", type(term).__name__)
            raise TrainingError(f'term "{name}" is {shape}, no scalar tensor: .mean() the batch.')
    if not terms["loss"].requires_grad:
        raise TrainingError(
            "the loss depends on no parameter that can learn: it must reach those of `self`, and "
            "not under no_grad() or detach()."
        )
    return terms
