"""One loop for every model of the chapter. It knows one thing of a model: `loss(x)`.

`loss` returns named terms, `{"loss": ..., "recon": ..., "kl": ...}`, scalars in nats, summed over
pixels and axes and averaged over the batch. "loss" is what is minimised.
"""

import atexit
import math
import os
import signal
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import torch
from torch import nn
from tqdm.auto import tqdm

from companion.data import Images, to_float
from companion.resume import keep, restore


class TrainingError(RuntimeError):
    """Training cannot start or go on; the message names the cause and the mend."""


OTHER_STOPPED = (
    "another process of this run has stopped: start the same command again, it goes on from the "
    "last state written."
)


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
    resume: Path | None = None,
) -> History:
    """Train `model` in place with AdamW and return the history. Ctrl-C ends it early, safely.

    model: has `loss(x)`. One with `players()`, {"loss": parameters, "critic_loss": parameters}, is
        trained in turns: each named method's "loss" moves its own parameters only.
    data: Images (its training part), a tensor (N, ...) or a tuple of such. uint8 becomes float in
        [0, 1]. A batch reaches the model as `loss(x)`; as `loss(x, y)` for a tuple of two or with
        `labels=True`.
    batch: items a step, over all processes that `torchrun` started together.
    lr: the top of the schedule: a linear rise over a tenth of the steps, then a cosine to zero.
    precision: "float32", "bfloat16", or "auto": bfloat16 where the hardware multiplies it.
    resume: a file that keeps the state of an unfinished run, and from which it goes on.
    Raises TrainingError for unusable data or losses, and when a term stops being finite; the model
    then holds its weights from before that epoch.
    """
    parts = training_tensors(data, batch, labels)
    device, steps = parts[0].device, len(parts[0]) // batch  # the last, smaller batch is left out
    rank, world = processes(batch, device)
    move(model, device).train()
    turns = [Turn(*player, lr, weight_decay, epochs * steps) for player in players(model, device)]
    losses = Losses(model) if world == 1 else distributed(model, len(turns))
    low = uses_bfloat16(precision, device)

    def step(index):
        x, row = [channels_last(to_float(part[index])) for part in parts], {}
        for turn in turns:
            with torch.autocast(device.type, torch.bfloat16, enabled=low):
                terms = checked(loss_of(losses, turn.name, x))
            turn.optimiser.zero_grad()
            terms["loss"].backward()
            turn.optimiser.step()
            row |= {turn.label(name): term.detach().float() for name, term in terms.items()}
        return row

    if device.type == "cuda" and world == 1:
        step = recorded(step)
    history, start = History(machine=machine(device, world)), time.perf_counter()
    gpus = [device] if device.type == "cuda" else []  # fork_rng: the caller's dice stay untouched
    epoch, rows, silent = 0, [], not progress or rank > 0
    with (
        torch.random.fork_rng(gpus),
        tqdm(total=epochs * steps, disable=silent, leave=False) as bar,
    ):
        torch.manual_seed(seed)
        try:
            for epoch in range(restore(resume, model, turns, history), epochs):
                before = {name: value.clone() for name, value in model.state_dict().items()}
                order = torch.randperm(len(parts[0]), device=device)[: steps * batch]
                rows = []  # the terms of each step, left on the device: to read them is to wait
                for index in order.view(steps, batch)[:, rank::world]:
                    rows.append(step(index))
                    for turn in turns:
                        turn.schedule.step()
                    bar.update()
                    if bar.n in (5, 15):
                        announce(bar)
                table = gathered(rows, world)
                if fault := not_finite(table, done=epoch * steps, lr=lr):
                    model.load_state_dict(before)
                    raise TrainingError(fault)
                record(history, table)
                rows = []
                bar.set_postfix({name: f"{past[-1]:.4g}" for name, past in history.terms.items()})
                keep(resume, model, turns, history, epoch + 1, rank)
        except KeyboardInterrupt:
            history.interrupted = True
            record(history, gathered(rows))
            done = epoch * steps + len(rows)
            print(f"Stopped after step {done} of {epochs * steps}: the model is usable as it is.")
        except RuntimeError as error:
            if world == 1 or isinstance(error, TrainingError):
                raise
            raise TrainingError(OTHER_STOPPED) from error
        finally:
            model.eval()
    history.seconds += time.perf_counter() - start
    return history


class Turn:
    """One player's optimiser and schedule. A plain model has one player, an adversarial one two."""

    def __init__(self, name, parameters, device, lr, weight_decay, steps):
        self.name = name
        rate = torch.tensor(lr, device=device) if device.type == "cuda" else lr  # read by the graph
        self.optimiser = torch.optim.AdamW(
            parameters, rate, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True,
            capturable=device.type == "cuda",
        )  # fmt: skip
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, warmup_cosine(steps))

    def go_to(self, step: int) -> None:
        """Set the schedule to where it stands after `step` steps."""
        self.schedule.last_epoch = step
        for group, top in zip(self.optimiser.param_groups, self.schedule.base_lrs, strict=True):
            rate = top * self.schedule.lr_lambdas[0](step)
            group["lr"] = group["lr"].fill_(rate) if torch.is_tensor(group["lr"]) else rate

    def label(self, term: str) -> str:
        """The history's name for a term: another player's "loss" goes under that player's name."""
        return self.name if term == "loss" else term


def move(model: nn.Module, device: torch.device) -> nn.Module:
    """To the device, the kernels of convolutions channels-last as the images are."""
    model.to(device)
    for weight in model.parameters():
        if weight.ndim == 4:  # .to() sets the strides also where one channel leaves them open
            weight.data = weight.data.to(memory_format=torch.channels_last)
    return model


def players(model: nn.Module, device) -> list[tuple]:
    """(method, parameters, device) of each player: ("loss", all of them) if the model names none."""
    named = model.players() if hasattr(model, "players") else {"loss": model.parameters()}
    return [(name, list(parameters), device) for name, parameters in named.items()]


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
        atexit.register(
            torch.distributed.destroy_process_group
        )  # or its threads may abort the exit
    return torch.distributed.get_rank(), world


def other_stopped(*_) -> None:
    raise TrainingError(OTHER_STOPPED)


def distributed(model: nn.Module, turns: int) -> nn.Module:
    """`Losses` whose backward averages the gradients over all processes."""
    wrapper = torch.nn.parallel.DistributedDataParallel
    return wrapper(Losses(model), find_unused_parameters=turns > 1)


def recorded(step):
    """On a GPU: the step as one CUDA graph, so that a small model does not wait for Python.

    The first steps run as they are, then one is recorded and replayed. What cannot be recorded (a
    loss that reads a value back to Python) goes on step by step, and a line says so.
    """
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    calls, where, row = 0, None, {}

    def replay(index):
        nonlocal calls, where, row, graph
        calls += 1
        if graph is None:
            return step(index)
        if calls <= 3:  # libraries choose their kernels and make their buffers
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                row = step(index)
            torch.cuda.current_stream().wait_stream(side)
            return row
        if where is None:
            where = index.clone()
            try:
                with torch.cuda.graph(graph):
                    row = step(where)
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                print(f"This step cannot be recorded ({reason}): it runs without a CUDA graph.")
                graph = None
                return step(index)
        where.copy_(index)
        graph.replay()
        return {name: value.clone() for name, value in row.items()}

    return replay


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
    if not len(parts[0]):
        raise TrainingError("data has no items: nothing to learn from.")
    if parts[0].is_floating_point() and not parts[0].isfinite().all():
        first = (~parts[0].isfinite()).flatten(1).any(1).nonzero()[0].item()
        raise TrainingError(
            f"data is NaN or infinite, first in item {first}: leave such items out."
        )
    if not 0 < batch <= len(parts[0]):
        raise TrainingError(
            f"batch={batch}, but there are {len(parts[0])} items: choose 1 to that."
        )
    return parts


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """Images with their channels innermost in memory, the layout that convolutions run fastest in."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def loss_of(losses: nn.Module, name: str, x: list[torch.Tensor]) -> dict:
    """The named loss of a batch; a batch that does not fit the model is named with its shape."""
    try:
        return losses(name, *x)
    except (RuntimeError, ValueError) as error:
        text = str(error)
        if "out of memory" in text or "captur" in text:
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


def record(history: History, table: dict[str, torch.Tensor]) -> None:
    """Append the mean of each term to the history."""
    for name, values in table.items():
        history.terms.setdefault(name, []).append(values.double().mean().item())


def not_finite(table: dict[str, torch.Tensor], done: int, lr: float) -> str | None:
    """A sentence on the first term that is NaN or infinite, or None. `done`: the steps before."""
    for name, values in table.items():
        bad = (~values.isfinite()).nonzero()
        if len(bad):
            first = int(bad[0])
            return (
                f'term "{name}" became {values[first].item()} at step {done + first + 1} (learning '
                f"rate {lr:g}): the model holds its weights from before that epoch; try a tenth "
                "of the learning rate, or clamp what is exponentiated, such as a log-variance."
            )
    return None


def machine(device: torch.device, world: int = 1) -> str:
    """The hardware in two or three words, for the history."""
    times = f"{world} × " if world > 1 else ""
    if device.type == "cuda":
        return times + torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{times}{threads} {device.type.upper()} thread{'s' * (threads > 1)}"


def announce(bar) -> None:
    """After five and fifteen steps: say how long this machine will take, if that is long."""
    if bar.n == 5:
        bar.five = time.perf_counter()  # the first steps are slow: they are not counted
        return
    left = (time.perf_counter() - bar.five) / 10 * (bar.total - bar.n)
    if left > 30:
        print(f"About {left / 60:.1f} minutes on this machine.")
