"""What changes with time: the learning rate, a model's own schedules, moments to look at it."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn


def warmup_cosine(step: int, total: int) -> float:
    """The learning rate's share of its top at a step: up in a tenth of them, down in a cosine."""
    rise = max(1, total // 10)
    if step < rise:
        return (step + 1) / rise
    return (1 + math.cos(math.pi * (step - rise) / max(1, total - rise))) / 2


def clocks_of(model: nn.Module) -> list[torch.Tensor]:
    """The buffers called `progress`, a model's own or its parts': `fit` sets them from 0 to 1."""
    return [value for name, value in model.named_buffers() if name.split(".")[-1] == "progress"]


def set_clocks(clocks: list[torch.Tensor], turns: list, done: int, total: int) -> None:
    """Before a step: where in the run the schedules stand, those of the rates and of the model."""
    for clock in clocks:
        clock.fill_(done / total)
    for turn in turns:
        turn.set_rate(warmup_cosine(done, total))


def look(model: nn.Module, watch: Callable | None, step: int, moments: Sequence[int]) -> None:
    """Hand the model as it is to `watch`, at the moments asked for; training does not feel it."""
    if step in moments:
        device = next(model.parameters()).device
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
            watch(step, model.eval())
        model.train()
