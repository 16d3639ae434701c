"""The mark of a training: what it was made from, and what it does, in one flat dict of numbers.

Text is the wrong depth: a constant in a list or a closure changes what training does and no line of
the loss; a renamed argument changes lines and nothing that training does. So the mark holds the
settings, the data in a few numbers, and the terms of the first eight steps of `fit` itself, on a
float32 copy of the model as it was built, on the first items: the training in small. What was kept is
used while a mark made now is the same.
"""

import copy
import math
from inspect import signature

import torch
from torch import nn

from companion.data import first_items, parts_of, to_float
from companion.training import checks
from companion.training.loop import fit
from companion.training.parallel import Losses, alone
from companion.training.players import players_of
from companion.training.schedule import clocks_of

STEPS = 8
SAME = 1e-3  # relative; CPUs, threads and releases of torch differ by a tenth of it
PART = 4e-3  # of a term that is but a part of the loss: a kink passed on one CPU only shows in it
NOISE = 1e-4  # of the loss: gradients well below it, such as rounding errors, hardly move a weight
SAME_COPY = 0.05  # of the mean picture, where copies of it in several sizes are about
PARTS, SAMPLE = 16, 2000  # a mean item is kept as so many numbers, and is taken of so many items
HARMLESS = {"model", "data", "moments", "watch", "bar", "resume"}  # these change no weight


def mark_of(model: nn.Module, data, **settings) -> dict:
    """The mark of `fit(model, data, **settings)`: {"lr": 0.002, "items": 60000, "steps of loss": [...]}.

    model: as built. TrainingError, in one sentence, for settings that `fit` does not have, and for a
    model or a loss that no later run could be compared with.
    """
    try:
        (bound := signature(fit).bind(model, data, **settings)).apply_defaults()
    except TypeError as error:
        known = ", ".join(list(signature(fit).parameters)[2:])
        raise checks.TrainingError(f"fit {error}: choose among {known}.") from None
    settings = {key: value for key, value in bound.arguments.items() if key not in HARMLESS}
    labels, precision = settings.pop("labels"), settings.pop("precision")
    checks.training_parts(data, (settings := checks.plain(**settings))["batch"], labels)
    few, twin = first_items(data, labels), float_copy(model)
    short_run = {"epochs": STEPS, "batch": len(few[0]), "precision": "float32", "bar": False}
    numbers, quiet = plain_numbers(twin), quietened(loss_with(twin, data, labels))
    for parameter in twin.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(quiet)
    try:
        with alone():
            steps = fit(twin, few, **settings | short_run).steps
    except checks.DivergenceError as error:  # the rate has no rise here, as it has in a run
        steps = {"divergence": str(error)}
    changed = [key for key, value in plain_numbers(twin).items() if numbers.get(key) != value]
    checks.require(
        not changed,
        f"the loss changes {changed[:1]}, which no checkpoint keeps: register_buffer() what training "
        "changes, and read self.progress, a buffer from 0 to 1 that `fit` sets, for a schedule.",
    )
    mark = settings | {"labels": labels, "precision": precision}
    mark["weights"] = sum(parameter.numel() for parameter in model.parameters())
    return mark | contents(data, labels) | {f"steps of {k}": rounded(v) for k, v in steps.items()}


def quietened(loss: float):
    """A hook that scales gradients down until Adam's ε, 1e-8, stands for `NOISE` times the loss.

    AdamW's step does not depend on the scale of the gradients, but for its ε. Without the hook a
    gradient that is nothing but rounding errors, such as a bias's before batch normalisation, moves a
    weight by the whole learning rate, and eight steps of a ladder of normalised layers differ by
    percents between two kinds of CPU; with it by a hundred-thousandth.
    """
    share = 1e-8 / (NOISE * abs(loss) + 1e-12)

    def hook(parameter):
        parameter.grad.mul_(share)

    return hook


def float_copy(model: nn.Module) -> nn.Module:
    """A float32 copy on the CPU, in training mode, without gradients.

    Its weights lie in plain order in memory, whatever order training left them in: noise is drawn in
    the order of what it is added to.
    """
    try:
        twin = copy.deepcopy(model).cpu().float().train()
    except (RuntimeError, TypeError) as error:
        raise checks.TrainingError(
            f"{type(model).__name__} cannot be copied ({error}): keep tensors that it needs as "
            "buffers or parameters, without gradients from elsewhere."
        ) from None
    for p in twin.parameters():
        p.data, p.grad = p.data.clone(memory_format=torch.contiguous_format), None
    return twin


def loss_with(model: nn.Module, data, labels: bool) -> float:
    """The loss on the first items with the weights that a model has, at the end of its schedules.

    Seeded. Unlike a mark it tells two trained models of one kind apart.
    """
    twin = float_copy(model)
    for clock in clocks_of(twin):
        clock.fill_(1)
    x = [to_float(part) for part in first_items(data, labels)]
    first = next(iter(players_of(twin, len(x))))  # "loss", or the loss of the player named first
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return float(f"{checks.loss_of(Losses(twin), first, x)['loss'].item():.6g}")


def same_at_every_call(model: nn.Module, data, labels: bool) -> None:
    """TrainingError for a loss that no mark could know again: it draws from dice of its own."""
    first, again = (loss_with(model, data, labels) for _ in range(2))
    checks.require(
        not abs(first - again) > SAME * abs(first),
        "the loss is another at every call: draw noise from torch's default generator (no numpy, no "
        "generator of its own), and keep what changes in a buffer.",
    )


def plain_numbers(model: nn.Module) -> dict[str, float]:
    """The numbers that a model's parts keep as plain attributes."""
    return {
        f"{name}.{key}".strip("."): value
        for name, part in model.named_modules()
        for key, value in vars(part).items()
        if isinstance(value, int | float) and key[0] != "_" and key != "training"
    }


def contents(data, labels: bool = False, of: str = "") -> dict:
    """A dataset in a few numbers: how many items, and the mean item of each part."""
    parts = parts_of(data, labels)
    found = {f"items{of}": len(parts[0])}
    for number, part in enumerate(parts, 1):
        some = torch.arange(0, len(part), -(-len(part) // SAMPLE), device=part.device)
        mean = to_float(part[some]).double().mean(0).flatten()
        few = nn.functional.adaptive_avg_pool1d(mean[None], min(PARTS, len(mean)))
        found[f"mean of part {number}{of}"] = rounded(few[0].tolist())
    return found


def rounded(values):
    """Numbers of six digits, as a note shows them; text as it is."""
    return [float(f"{v:.6g}") for v in values] if isinstance(values, list) else values


def differences(old: dict, new: dict, copies: bool = False) -> list[str]:
    """What moved from one mark to another, in words: ["lr 0.002 → 0.001", "step 3: recon 98.1 → 104.2"].

    copies: the data are pictures of which copies in several sizes are about.
    """
    words = []
    for key in dict.fromkeys([*new, *old]):
        before, after = old.get(key), new.get(key)
        name = key.removeprefix("steps of ")
        if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
            share = SAME if name in (key, "loss") else PART
            share = SAME_COPY if copies and name.startswith("mean of") else share
            place = other(before, after, share * size_of(before))
            at = f"step {place + 1}: {name}" if name != key else name
            words += [f"{at} {before[place]:.4g} → {after[place]:.4g}"] if place >= 0 else []
        elif before != after:
            values = [f"{len(v)} numbers" if isinstance(v, list) else v for v in (before, after)]
            words.append(f"{name} {values[0]} → {values[1]}")
    return words


def size_of(values: list[float]) -> float:
    """The mean size of the finite numbers of a list."""
    sizes = [abs(value) for value in values if math.isfinite(value)]
    return sum(sizes) / max(1, len(sizes))


def other(before: list[float], after: list[float], allowed: float) -> int:
    """The place of the first pair that differs by more than is allowed; or -1.

    A number that is not finite is like itself only.
    """
    for place, (a, b) in enumerate(zip(before, after, strict=True)):
        if not (a == b or (a != a and b != b) or abs(a - b) <= allowed):
            return place
    return -1
