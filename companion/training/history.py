"""What a training run leaves behind: every term of the loss, step by step and epoch by epoch."""

import time
from dataclasses import dataclass, field

import torch

from companion.training.checks import TrainingError


@dataclass
class History:
    """The mean of each term by epoch, how long it took and on what; `steps`, each step's, is not kept."""

    terms: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    machine: str = ""
    interrupted: bool = False
    steps: dict[str, list[float]] = field(default_factory=dict, repr=False)

    def duration(self) -> str:
        """How long training took and on what, in words."""
        spent = f"{self.seconds:.0f} s" if self.seconds < 120 else f"{self.seconds / 60:.0f} min"
        return f"{spent} on {self.machine}"


def gathered(rows: list[dict], world: int = 1) -> dict[str, torch.Tensor]:
    """The terms of an epoch's steps, {name: (steps,)}, each the mean over all processes."""
    if not rows:
        return {}
    if other := next((row for row in rows if row.keys() != rows[0].keys()), None):
        raise TrainingError(
            f"loss(x) returned the terms {list(rows[0])}, later {list(other)}: return the same ones "
            "at every step."
        )
    table = torch.stack([torch.stack(list(row.values())) for row in rows], 1)  # (terms, steps)
    if world > 1:
        torch.distributed.all_reduce(table)
        table /= world
    return dict(zip(rows[0], table.cpu(), strict=True))


def skips(table: dict[str, torch.Tensor]) -> torch.Tensor:
    """Which steps of an epoch were skipped: (steps,) bool."""
    named = [values > 0 for name, values in table.items() if name.endswith("skipped")]
    steps = len(next(iter(table.values()), ()))
    return torch.stack(named).any(0) if named else torch.zeros(steps, dtype=torch.bool)


def record(history: History, table: dict[str, torch.Tensor]) -> None:
    """Append the mean of each term, over the steps that were not skipped, to the history."""
    taken = ~skips(table)
    for name, values in table.items():
        used = values if name.endswith("skipped") else values[taken]
        history.steps.setdefault(name, []).extend(values.tolist())
        history.terms.setdefault(name, []).append(used.double().mean().item())


def fault_of(table: dict[str, torch.Tensor], history: History, done: int, lr: float) -> str | None:
    """A sentence on what ends this run after `done` steps and this epoch's, or None."""
    skipped = skips(table)
    steps = done + len(skipped)
    counts = [
        sum(history.terms.get(name, [])) * len(skipped) + values.sum().item()
        for name, values in table.items()
        if name.endswith("skipped")
    ]
    count = round(max(counts, default=0))
    if count > 5 and count > steps / 100:
        return (
            f"{count} of {steps} steps were skipped, because their gradients were not finite or far "
            f"longer than usual: the model holds its weights from before that epoch; try a tenth of "
            f"the learning rate {lr:g}."
        )
    for name, values in table.items():
        bad = (~values.isfinite() & ~skipped).nonzero()
        if len(bad):
            first = int(bad[0])
            return (
                f'term "{name}" became {values[first].item()} at step {done + first + 1} (learning '
                f"rate {lr:g}): the model holds its weights from before that epoch; try a tenth "
                "of the learning rate, or clamp what is exponentiated, such as a log-variance."
            )
    return None


def announce(bar) -> None:
    """After five and fifteen steps: say how long this machine will take, if that is long."""
    if bar.n == 5:
        bar.five = time.perf_counter()  # the first steps are slow: they are not counted
        return
    left = (time.perf_counter() - bar.five) / 10 * (bar.total - bar.n)
    if left > 30:
        print(f"About {left / 60:.1f} minutes on this machine.")
