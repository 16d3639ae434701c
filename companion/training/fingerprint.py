"""What a model does to its data: the mark by which a checkpoint knows the code that it belongs to.

Text is the wrong depth: a constant in a list or a closure changes what training does and no line of
the loss; a renamed argument changes lines and nothing that training does. So a checkpoint's note
holds what each loss and its gradients are, with the checkpoint's weights, on the first items of the
data, and the code fits where it finds the same.
"""

import copy
import math

import torch
from torch import nn

from companion.data import first_items, parts_of, to_float
from companion.training.checks import TrainingError, loss_of
from companion.training.parallel import Losses
from companion.training.players import players_of
from companion.training.schedule import clocks_of

TERM, GRADIENT = 1e-3, 1e-2  # relative; CPUs and releases of torch differ by a tenth of that
MEAN = 1e-3  # of a mean item
RESAMPLED = 0.05  # the same for Imagenette, of which copies of several sizes are about
PARTS = 16  # numbers that a mean item is kept as
SAMPLE = 2000  # items that the mean is taken of


def behaviour(model: nn.Module, data, labels: bool = False, state: dict | None = None) -> dict:
    """{player: {progress: {"terms": {...}, "gradients": {...}, "buffers": {...}}}} of a model.

    Terms by their name, norms of the gradients by parameter, and of what the call changed by buffer.

    A float32 copy on the CPU, in training mode, with the weights of `state` where given, is called on
    the first items of `data` with seeded dice; `progress` (0, 0.5 and 1) matters to a schedule. TrainingError, one sentence, for a
    loss that cannot be called so.
    """
    twin, found = double(model), {}
    if state is not None:
        twin.load_state_dict(state)
    x = [to_float(part).cpu().contiguous() for part in first_items(data, labels)]
    clocks = clocks_of(twin)
    kept = [(value, value.clone()) for value in twin.buffers()]
    before = plain_numbers(twin)
    for name, player in players_of(twin).items():
        for progress in (0.0, 0.5, 1.0) if clocks else (1.0,):
            reset(kept, clocks, progress)
            here = called(twin, name, player.parameters, x)
            found.setdefault(name, {})[f"{progress:g}"] = here | {"buffers": changed(twin, kept)}
        reset(kept, clocks, progress)
        again = called(twin, name, player.parameters, x)
        if moved(name, here | {"buffers": {}}, again | {"buffers": {}}):
            raise TrainingError(
                f"{name}(x) is another at every call: draw noise from torch's default generator (no "
                "numpy, no generator of its own), and keep what changes in a buffer."
            )
    for key, value in plain_numbers(twin).items():
        if before.get(key) != value:
            raise TrainingError(
                f"the loss changes {key}, which no checkpoint keeps: register_buffer() what training "
                "changes, and read self.progress, a buffer from 0 to 1 that `fit` sets, for a schedule."
            )
    return found


@torch.no_grad()  # a library's buffer may ask for gradients
def reset(kept: list[tuple], clocks: list[torch.Tensor], progress: float) -> None:
    """Before a call: buffers as they were loaded (a codebook would have moved), the clock set."""
    for value, as_loaded in kept:
        value.copy_(as_loaded)
    for clock in clocks:
        clock.fill_(progress)


def double(model: nn.Module) -> nn.Module:
    """The float32 copy, contiguous, on the CPU, in training mode.

    Strides count: noise is drawn in the order of memory, and a 1×1 kernel that was channels-last
    calls itself contiguous and would still make its output channels-last.
    """
    try:
        twin = copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:
        raise TrainingError(
            f"{type(model).__name__} cannot be copied ({error}): keep tensors that it needs as "
            "buffers or parameters, without gradients from elsewhere."
        ) from None
    twin.cpu().float().train()
    for parameter in twin.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        parameter.grad = None
    return twin


def called(twin: nn.Module, name: str, parameters: list, x: list[torch.Tensor]) -> dict:
    """The terms of one loss and the norms of its gradients, with seeded dice."""
    names = {id(value): key for key, value in twin.named_parameters()}
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        try:
            terms = loss_of(Losses(twin), name, x)
        except TrainingError as error:
            if "same device" not in str(error):
                raise
            raise TrainingError(
                f"{name}(x) reads a tensor that is no part of its model: register_buffer(NAME, tensor, "
                "persistent=False) makes it one, a constant that moves with the model."
            ) from error
        gradients = torch.autograd.grad(terms["loss"], learning, allow_unused=True)
    reached = zip(learning, gradients, strict=True)
    norms = {names[id(p)]: short(g.norm().item()) for p, g in reached if g is not None}
    if not norms:
        raise TrainingError(
            f"{name}(x) reaches no parameter of its own model: it must read them from `self`, for a "
            "copy of the model is asked too."
        )
    terms = {key: short(term.detach().item()) for key, term in terms.items()}
    return {"terms": terms, "gradients": norms}


def changed(twin: nn.Module, kept: list[tuple]) -> dict[str, float]:
    """By how much a call moved the buffers that training changes, such as a codebook: the norms."""
    names, norms = {id(value): key for key, value in twin.state_dict(keep_vars=True).items()}, {}
    for value, as_loaded in kept:
        step = (value.double() - as_loaded.double()).norm().item()
        if step and id(value) in names:
            norms[names[id(value)]] = short(step)
    return norms


def plain_numbers(model: nn.Module) -> dict[str, float]:
    """The numbers that a model's parts keep as plain attributes."""
    return {
        f"{name}.{key}".strip("."): value
        for name, part in model.named_modules()
        for key, value in vars(part).items()
        if isinstance(value, int | float) and key[0] != "_"
    }


def contents(data, labels: bool = False) -> dict:
    """What is kept of a dataset: how many items, and the mean item in a few numbers."""
    parts, means = parts_of(data, labels), []
    for part in parts:
        step = -(-len(part) // SAMPLE)
        some = part[torch.arange(0, len(part), step, device=part.device)]
        mean = to_float(some).double().flatten(1).mean(0) if some.ndim > 1 else some.double().mean()
        mean = nn.functional.adaptive_avg_pool1d(mean.view(1, -1), min(PARTS, mean.numel()))
        means.append([short(value) for value in mean[0].tolist()])
    return {"items": len(parts[0]), "means": means}


def short(value: float) -> float:
    """Six digits, as a note shows them."""
    return float(f"{value:.6g}")


def differences(old: dict, new: dict) -> list[str]:
    """What changed from one behaviour to another, in words: ["recon on the same images 98.1 → 104.2"]."""
    words = []
    for name in old.keys() | new.keys():
        before, after = old.get(name), new.get(name)
        if before is None or after is None or before.keys() != after.keys():
            words.append(f"{name}: other players or schedules")
            continue
        for progress in sorted(before):
            told = "" if len(before) == 1 else f" at progress {progress}"
            words += [word + told for word in moved(name, before[progress], after[progress])]
    return words


def moved(player: str, old: dict, new: dict) -> list[str]:
    """The terms and gradients of one player that are not what they were."""
    if old["terms"].keys() != new["terms"].keys():
        return [f"terms {', '.join(old['terms'])} → {', '.join(new['terms'])}"]
    finite = [abs(value) for value in old["terms"].values() if math.isfinite(value)]
    words, largest = [], max(finite, default=0.0)
    for key, before in old["terms"].items():
        after = new["terms"][key]
        if apart(before, after, TERM, 1e-3 * largest):
            who = player if player != "loss" and key == "loss" else key
            words.append(f"{who} on the same images {before:.4g} → {after:.4g}")
    for part, word in (("gradients", "gradient"), ("buffers", "change")):
        before, after = old[part], new[part]
        gone = sorted(before.keys() ^ after.keys())
        words += [f"{word} of {key}, there only before or after" for key in gone]
        total = math.hypot(*(norm for norm in before.values() if math.isfinite(norm)))
        words += [
            f"{word} of {key} {before[key]:.4g} → {after[key]:.4g}"
            for key in sorted(before.keys() & after.keys())
            if apart(before[key], after[key], GRADIENT, 1e-3 * total)
        ]
    return words


def apart(before: float, after: float, tolerance: float, least: float) -> bool:
    """Whether two numbers differ by more than a share of the first, or of `least` if that is larger.

    A number that is not finite is like itself only: inf like inf, NaN like NaN.
    """
    if before == after or (before != before and after != after):
        return False
    if not (math.isfinite(before) and math.isfinite(after)):
        return True
    return abs(after - before) > tolerance * max(abs(before), least)


def other_data(old: dict, new: dict, resampled: bool) -> list[str]:
    """What changed from one `contents` to another, in words."""
    if old["items"] != new["items"]:
        return [f"items {old['items']:,} → {new['items']:,}"]
    if [len(part) for part in old["means"]] != [len(part) for part in new["means"]]:
        return ["items of another shape"]
    words, tolerance = [], RESAMPLED if resampled else MEAN
    for before, after in zip(old["means"], new["means"], strict=True):
        size, off = math.hypot(*before), math.dist(before, after)
        if not off <= tolerance * size + 1e-6:
            words.append(f"other data: their mean is off by {off / max(size, 1e-12):.2g} of itself")
    return words
