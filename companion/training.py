"""One loop for every model of the chapter. It knows one thing of a model: `loss(x)`.

`loss` returns named terms, `{"loss": ..., "recon": ..., "kl": ...}`, scalars in nats, summed over
pixels and axes and averaged over the batch. "loss" is what is minimised.
"""

import math
import time
from dataclasses import dataclass, field

import torch
from torch import nn
from tqdm.auto import tqdm

from companion.data import Images, to_float


class TrainingError(RuntimeError):
    """Training cannot start or go on; the message names the cause and the mend."""


@dataclass
class History:
    """What a training run left behind: the mean of every term, epoch by epoch."""

    terms: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    machine: str = ""
    interrupted: bool = False


def fit(
    model: nn.Module,
    data: Images | torch.Tensor | tuple[torch.Tensor, ...],
    *,
    epochs: int,
    batch: int = 256,
    lr: float = 2e-3,
    weight_decay: float = 0.01,
    seed: int = 0,
    precision: str = "auto",
    labels: bool = False,
    progress: bool = True,
) -> History:
    """Train `model` in place with AdamW and return the history. Ctrl-C ends it early, safely.

    data: Images (its training part), a tensor (N, ...) or a tuple of such. uint8 becomes float in
        [0, 1]. A batch reaches the model as `loss(x)`; as `loss(x, y)` for a tuple of two or with
        `labels=True`.
    lr: the top of the schedule: a linear rise over a tenth of the steps, then a cosine to zero.
    precision: "float32", "bfloat16", or "auto": bfloat16 where the hardware multiplies it.
    Raises TrainingError for unusable data or losses, and when a term stops being finite; the model
    then holds its weights from before that epoch.
    """
    parts = training_tensors(data, batch, labels)
    device, steps = parts[0].device, len(parts[0]) // batch  # the last, smaller batch is left out
    model.to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(
        model.parameters(), lr, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, warmup_cosine(epochs * steps))
    low = uses_bfloat16(precision, device)

    def step(index):
        x = [channels_last(to_float(part[index])) for part in parts]
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            terms = checked(loss_of(model, x))
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        schedule.step()
        return {name: term.detach().float() for name, term in terms.items()}

    history, start = History(machine=machine(device)), time.perf_counter()
    epoch, rows = 0, []
    gpus = [device] if device.type == "cuda" else []  # fork_rng: the caller's dice stay untouched
    with (
        torch.random.fork_rng(gpus),
        tqdm(total=epochs * steps, disable=not progress, leave=False) as bar,
    ):
        torch.manual_seed(seed)
        try:
            for epoch in range(epochs):
                before = {name: value.clone() for name, value in model.state_dict().items()}
                order = torch.randperm(len(parts[0]), device=device)[: steps * batch]
                rows = []  # the terms of each step, left on the device: to read them is to wait
                for index in order.view(steps, batch):
                    rows.append(step(index))
                    bar.update()
                    if bar.n in (5, 15) and progress:
                        announce(bar)
                if fault := not_finite(rows, done=epoch * steps, lr=lr):
                    model.load_state_dict(before)
                    raise TrainingError(fault)
                rows = record(history, rows)
                bar.set_postfix(
                    {name: f"{values[-1]:.4g}" for name, values in history.terms.items()}
                )
        except KeyboardInterrupt:
            done = epoch * steps + len(rows)
            record(history, rows)
            history.interrupted = True
            print(f"Stopped after step {done} of {epochs * steps}: the model is usable as it is.")
        finally:
            model.eval()
    history.seconds = time.perf_counter() - start
    return history


def training_tensors(data, batch: int, labels: bool = False) -> tuple[torch.Tensor, ...]:
    """The tensors that `fit` draws batches from, checked; TrainingError says what is wrong."""
    if isinstance(data, Images):
        data = (data.train, data.train_labels) if labels else data.train
    parts = data if isinstance(data, tuple) else (data,)
    for part in parts:
        if not isinstance(part, torch.Tensor):
            raise TrainingError(f"data is a {type(part).__name__}: pass Images or tensors.")
        if len(part) != len(parts[0]):
            raise TrainingError(f"data has {len(parts[0])} items but {len(part)} labels.")
    if parts[0].dtype not in (torch.uint8, torch.float32):
        raise TrainingError(f"data is {parts[0].dtype}: pass uint8 pixels, or float32 by .float().")
    if not 0 < batch <= len(parts[0]):
        raise TrainingError(
            f"batch={batch}, but there are {len(parts[0])} items: choose 1 to that."
        )
    return parts


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """Images with their channels innermost in memory: three times faster convolutions."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def loss_of(model: nn.Module, x: list[torch.Tensor]) -> dict:
    """`model.loss(*x)`; a batch that does not fit the model is named with its shape."""
    try:
        return model.loss(*x)
    except (RuntimeError, ValueError) as error:
        if "out of memory" in str(error):
            raise
        shapes = " and ".join(f"{tuple(part.shape)} {part.dtype}" for part in x)
        raise TrainingError(
            f"{type(model).__name__}.loss failed on a batch of {shapes} ({error}): "
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
    return terms


def warmup_cosine(total: int):
    """The learning rate's share of its top after each step: up in a tenth, down in a cosine."""
    rise = max(1, total // 10)

    def share(step):
        if step < rise:
            return (step + 1) / rise
        return (1 + math.cos(math.pi * (step - rise) / max(1, total - rise))) / 2

    return share


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether to multiply in bfloat16. "auto": on a GPU, and on a CPU with AMX, where it pays."""
    choices = {"float32": False, "bfloat16": True}
    if precision == "auto":
        amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        return device.type == "cuda" or (device.type == "cpu" and amx())
    if precision not in choices:
        raise TrainingError(f'precision="{precision}": choose "float32", "bfloat16" or "auto".')
    return choices[precision]


def record(history: History, rows: list[dict]) -> list:
    """Append the mean of each term over `rows`; the returned empty list takes the next rows."""
    for name in rows[0] if rows else ():
        mean = torch.stack([row[name] for row in rows]).mean().item()
        history.terms.setdefault(name, []).append(mean)
    return []


def not_finite(rows: list[dict], done: int, lr: float) -> str | None:
    """A sentence on the first term that is NaN or infinite, or None. `done`: steps before rows."""
    for name in rows[0]:
        bad = ~torch.stack([row[name] for row in rows]).isfinite()
        if bad.any():
            step = done + int(bad.nonzero()[0]) + 1
            value = rows[step - done - 1][name].item()
            return (
                f'term "{name}" became {value} at step {step} (learning rate {lr:g}): the model '
                "holds its weights from before that epoch; try a tenth of the learning rate."
            )
    return None


def machine(device: torch.device) -> str:
    """The hardware in two or three words, for the history."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} {device.type.upper()} threads"


def announce(bar) -> None:
    """After five and fifteen steps: say how long this machine will take, if that is long."""
    if bar.n == 5:
        bar.five = time.perf_counter()  # the first steps are slow: they are not counted
        return
    left = (time.perf_counter() - bar.five) / 10 * (bar.total - bar.n)
    if left > 30:
        print(f"About {left / 60:.1f} minutes on this machine.")
