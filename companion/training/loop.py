"""One loop for every model of the chapter. It knows one thing of a model: `loss(x)`.

`loss` returns named terms, {"loss": ..., "recon": ..., "kl": ...}, scalars in nats, summed over
pixels and axes and averaged over the batch. "loss" is what is minimised.
"""

import time
from collections.abc import Callable, Sequence

import torch
from torch import nn
from tqdm.auto import tqdm

from companion.data import Images, Indexed, to_float
from companion.training import checks
from companion.training.graph import recorded
from companion.training.hardware import channels_last, machine, move, uses_bfloat16
from companion.training.history import History, announce, fault_of, gathered, record
from companion.training.parallel import OTHER_STOPPED, losses_of, processes
from companion.training.players import Turn, players_of
from companion.training.schedule import clocks_of, look, set_clocks


def fit(
    model: nn.Module, data: Images | Indexed | torch.Tensor | tuple, *, epochs: int,
    batch: int = 256, lr: float = 2e-3, weight_decay: float = 0.01, seed: int = 0,
    precision: str = "auto", labels: bool = False, average: float = 0.0, skip: float = 0.0,
    moments: Sequence[int] = (), watch: Callable | None = None, bar: bool = True, resume=None,
) -> History:  # fmt: skip
    """Train `model` in place with AdamW; the history. Ctrl-C ends it early, safely.

    model: has `loss(x)`. One with `players()`, {"loss": parameters, "critic_loss": Player(...)}, is
        trained in turns: each named method's "loss" moves its own parameters only. A buffer of the
        name `progress` is set to the share of the run that is done, 0 to 1, before every step.
    data: Images (its training part), a tensor (N, ...), `Indexed` items or a tuple of such. uint8
        becomes float in [0, 1], int64 tokens stay. A batch reaches the model as `loss(x)`; as
        `loss(x, y)` for a tuple of two or with `labels=True`.
    batch: items a step, over all processes that `torchrun` started together.
    lr: the top of the schedule: a linear rise over a tenth of the steps, then a cosine to zero.
    precision: "float32", "bfloat16", or "auto": bfloat16 where the hardware multiplies it.
    average: the decay, such as 0.999, of a running average of the weights, with which it ends.
    skip: leave out a step whose gradient is so many times longer than the median of the last 100;
        with either of these two, steps whose gradient is not finite are left out, and counted.
    moments, watch: after so many steps (0: before the first), `watch(step, model)` is called.
    resume: the kept state of an unfinished run, from which it goes on (`kept.Unfinished`).
    Raises TrainingError for unusable data or losses; DivergenceError where a term is not finite, or
    more than 1 % of the steps are left out: the model holds its weights from before that epoch.
    """
    epochs, batch, seed, *own = checks.plain(
        epochs=epochs, batch=batch, seed=seed,
        lr=lr, weight_decay=weight_decay, average=average, skip=skip,
    ).values()  # fmt: skip
    parts = checks.training_parts(data, batch, labels)
    device, steps = parts[0].device, len(parts[0]) // batch  # the last, smaller batch is left out
    total = epochs * steps
    checks.check_moments(moments, watch, total)
    rank, world = processes(batch, device)
    players = players_of(model, len(parts))
    move(model, device).train()
    turns = [Turn(name, player, *own) for name, player in players.items()]
    losses, low = losses_of(model, world, len(turns)), uses_bfloat16(precision, device)
    clocks = clocks_of(model)

    def step(index):
        x, row = [channels_last(to_float(part[index])) for part in parts], {}
        for turn in turns:
            for _ in range(turn.steps):
                with torch.autocast(device.type, torch.bfloat16, enabled=low):
                    terms = checks.loss_of(losses, turn.name, x)
                turn.move(terms["loss"])
            row |= turn.row(terms)
        return row

    if device.type == "cuda" and world == 1:
        step = recorded(step)
    history, start = History(machine=machine(device, world)), time.perf_counter()
    gpus = [device] if device.type == "cuda" else []  # fork_rng: the caller's dice stay untouched
    epoch, rows, silent = 0, [], not bar or rank > 0
    with torch.random.fork_rng(gpus), tqdm(total=total, disable=silent, leave=False) as line:
        torch.manual_seed(seed)
        try:
            first = resume.restore(model, turns, history) if resume else 0
            look(model, watch, 0, moments if first == 0 else ())
            for epoch in range(first, epochs):
                before = {name: value.clone() for name, value in model.state_dict().items()}
                order = torch.randperm(len(parts[0]), device=device)[: steps * batch]
                rows = []  # the terms of each step, left on the device: to read them is to wait
                for done, index in enumerate(order.view(steps, -1)[:, rank::world], epoch * steps):
                    set_clocks(clocks, turns, done, total)
                    rows.append(step(index))
                    line.update()
                    if line.n in (5, 15):
                        announce(line)
                    look(model, watch, done + 1, moments)
                table = gathered(rows, world)
                if fault := fault_of(table, history, epoch * steps, own[0]):
                    model.load_state_dict(before)
                    raise checks.DivergenceError(fault)
                record(history, table)
                rows = []
                line.set_postfix({name: f"{past[-1]:.4g}" for name, past in history.terms.items()})
                if resume and rank == 0:
                    resume.keep(model, turns, history, epoch + 1)
        except KeyboardInterrupt:
            history.interrupted = True
            record(history, gathered(rows))
            done = epoch * steps + len(rows)
            print(f"Stopped after step {done} of {total}: the model is usable as it is.")
        except RuntimeError as error:
            if world > 1 and not isinstance(error, checks.TrainingError):
                raise checks.TrainingError(OTHER_STOPPED) from error
            raise checks.explained(error) from error.__cause__
        finally:
            model.eval()
    for turn in turns:
        turn.settle()
    for clock in clocks:
        clock.fill_(1)
    history.seconds += time.perf_counter() - start
    return history
