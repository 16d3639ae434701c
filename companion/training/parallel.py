"""Several processes that train one model together, as `torchrun` starts them."""

import atexit
import contextlib
import os
import signal
from datetime import timedelta

import torch
from torch import nn

from companion.training.checks import TrainingError

OTHER_STOPPED = (
    "another process of this run has stopped: start the same command again, it goes on from the "
    "last state written."
)


class Losses(nn.Module):
    """A model whose `forward` calls its losses: torch.func and DistributedDataParallel need one."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, name: str, *x):
        return getattr(self.model, name)(*x)


def processes(batch: int, device: torch.device) -> tuple[int, int]:
    """(rank, world): this process's number and how many train together. Joins torchrun's group."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        return 0, 1
    if batch % world:
        raise TrainingError(
            f"batch={batch} does not divide among {world} processes: choose a multiple."
        )
    if not torch.distributed.is_initialized():
        signal.signal(signal.SIGTERM, other_stopped)  # so torchrun ends those that are left
        backend = "nccl" if device.type == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, timeout=timedelta(minutes=5))
        # At exit, or its threads may abort a process that had finished.
        atexit.register(torch.distributed.destroy_process_group)
    return torch.distributed.get_rank(), world


@contextlib.contextmanager
def alone():
    """What runs in here trains by itself, in every process of a run, as if no other were about."""
    world = os.environ.pop("WORLD_SIZE", None)
    try:
        yield
    finally:
        if world is not None:
            os.environ["WORLD_SIZE"] = world


def other_stopped(*_) -> None:
    raise TrainingError(OTHER_STOPPED)


def losses_of(model: nn.Module, world: int, players: int) -> nn.Module:
    """`Losses`; of several processes, one whose backward averages the gradients over all of them."""
    if world == 1:
        return Losses(model)
    wrapper = torch.nn.parallel.DistributedDataParallel
    return wrapper(Losses(model), find_unused_parameters=players > 1)
