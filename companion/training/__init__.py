"""The loop and what stands round it: players, several processes, what is kept."""

# ruff: noqa: F401, I001 - what is imported here is what the package offers
from companion.training.checks import TrainingError
from companion.training.history import History
from companion.training.kept import CheckpointError, fit_each, fit_or_load, forget, gpu_tier
from companion.training.kept import measure_or_load
from companion.training.loop import fit
from companion.training.players import Player
