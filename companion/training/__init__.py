"""The loop and what stands round it: several processes, checkpoints, unfinished runs."""

from companion.training.checkpoints import fit_or_load, gpu_tier
from companion.training.checks import TrainingError
from companion.training.family import fit_each
from companion.training.history import History
from companion.training.loop import fit
from companion.training.measures import fit_and_measure, measure_or_load, measured_by_seed
from companion.training.notes import CheckpointError, forget
from companion.training.players import Player

__all__ = [
    "CheckpointError",
    "History",
    "Player",
    "TrainingError",
    "fit",
    "fit_and_measure",
    "fit_each",
    "fit_or_load",
    "forget",
    "gpu_tier",
    "measure_or_load",
    "measured_by_seed",
]
