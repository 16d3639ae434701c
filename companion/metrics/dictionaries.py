"""What a sparse dictionary describes, which directions it has found, and what a step along them does."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn


@torch.no_grad()
def sparsity(dictionary: nn.Module, activations: torch.Tensor) -> dict[str, float]:
    """How a dictionary with `encode` and `decode` describes `activations` (N, D), float.

    {"active": features an item, "variance, %": share of the variance explained, "dead, %": share
    of the features in % that no item of the whole set activates}. ValueError for an empty set or NaN.
    """
    if not len(activations):
        raise ValueError("there are no activations: pass at least one row.")
    if not activations.isfinite().all():
        raise ValueError("activations hold NaN or infinite values: leave those rows out.")
    active, error, alive = 0, 0.0, False
    for x in activations.split(5000):
        code = dictionary.encode(x)  # (B, F)
        active += (code != 0).sum().item()
        alive = alive | (code != 0).any(0)  # (F,)
        error += (dictionary.decode(code) - x).double().square().sum().item()
    total = (activations - activations.mean(0)).double().square().sum().item()
    return {
        "active": active / len(activations),
        "variance, %": 100 * (1 - error / total) if total else math.nan,
        "dead, %": 100 * (~alive).double().mean().item(),
    }


def matched_cosines(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cosine of each true direction (T, D) with the found one (F, D) matched to it: (T,).

    The matching is one to one and has the largest sum (the Hungarian algorithm of SciPy), so that a
    direction found twice counts once; a true one left without a partner counts 0.
    """
    from scipy.optimize import linear_sum_assignment

    cosines = F.normalize(truth, dim=1) @ F.normalize(found, dim=1).T  # (T, F)
    rows, columns = linear_sum_assignment(cosines.cpu().numpy(), maximize=True)
    matched = torch.zeros(len(truth))
    matched[rows] = cosines.cpu()[rows, columns]
    return matched


def spread(directions: torch.Tensor, side: int) -> float:
    """How far the energy of a direction lies from its centre, root mean square, in pixels: their mean.

    directions: (K, side²), weights of square patches. A stroke is small, a wave over the patch is not.
    """
    energy = directions.square().view(-1, side, side)
    energy = energy / energy.sum((1, 2), keepdim=True)
    steps = torch.arange(float(side), device=energy.device)
    var = 0
    for share in (energy.sum(2), energy.sum(1)):  # (K, side) down and across
        middle = (share * steps).sum(1, keepdim=True)
        var = var + (share * (steps - middle) ** 2).sum(1)
    return var.sqrt().mean().item()


def named_features(
    activity: torch.Tensor, labels: torch.Tensor, count: int = 100, purity: float = 0.9
) -> dict[int, tuple[int, float]]:
    """Features that stand for a class: {feature: (class, its mean activity on its `count` best items)}.

    activity: (N, F), labels (N,). A feature is named for a class if it is active on its `count` best
    items and the share `purity` of these, or more, belong to the class.
    """
    top = activity.topk(count, dim=0)  # values and places, (count, F) each
    classes = labels.to(activity.device)[top.indices]  # (count, F)
    common = classes.mode(0).values  # (F,)
    pure = ((classes == common).double().mean(0) >= purity) & (top.values[-1] > 0)
    level = top.values.mean(0)
    return {f: (common[f].item(), level[f].item()) for f in pure.nonzero()[:, 0].tolist()}


@torch.no_grad()
def steering(
    directions: torch.Tensor, classes: Sequence[int], head: nn.Linear, seed: int = 0
) -> dict[str, float]:
    """What a step along each direction (F, A), named for a class, does to the logits of a linear head.

    "own ÷ random": the rise of its own logit, by the mean size of the change in 1,000 random directions
    of that length; "own rises most, %": the share of directions along which no other logit rises
    as much; "others that rise, %": how many of the other logits rise at all. The last layer is linear,
    so none of the three depends on the item or on the length of the step. NaN for no directions.
    """
    classes = torch.tensor(classes, dtype=torch.long, device=directions.device)
    random = torch.randn(1000, directions.shape[1], generator=torch.Generator().manual_seed(seed))
    change, by_chance = (
        F.normalize(rows, dim=1) @ head.weight.T for rows in (directions, random.to(directions))
    )  # (F, C), (1000, C)
    own = change.gather(1, classes[:, None])  # (F, 1)
    others = (change > 0).double().sum(1) - (own[:, 0] > 0).double()
    return {
        "own ÷ random": (own[:, 0] / by_chance.abs().mean(0)[classes]).mean().item(),
        "own rises most, %": 100 * (change.argmax(1) == classes).double().mean().item(),
        "others that rise, %": 100 * others.mean().item() / (change.shape[1] - 1),
    }


def named_and_steered(
    rivals: dict[str, tuple[torch.Tensor, torch.Tensor]], labels: torch.Tensor, head: nn.Linear
) -> tuple[dict, dict]:
    """`named_features` of each rival {name: (activity (N, F), directions (F, A))}, and their `steering`.

    The second has the share of the directions that are named, in %, besides.
    """
    names = {rival: named_features(activity, labels) for rival, (activity, _) in rivals.items()}
    rows = {}
    for rival, (_, directions) in rivals.items():
        features, classes = list(names[rival]), [c for c, _ in names[rival].values()]
        share = {"named, %": 100 * len(features) / len(directions)}
        rows[rival] = share | steering(directions[features], classes, head)
    return names, rows


@torch.no_grad()
def held(
    dictionary: nn.Module, named: dict, best: dict[int, list], activations: torch.Tensor,
    labels: torch.Tensor, head: Callable, means: torch.Tensor, counts: Sequence[int] = (1, 2, 4, 8),
    count: int = 500,
) -> dict[int, dict[str, float]]:  # fmt: skip
    """How many items are read as a class when features named for it are held at their levels.

    named: as `named_features` returns it. best: {class: its features, strongest first}. On `count` of
    the activations (N, A) whose label is another class, the first 1, 2, 4, 8 are held. head: activations
    -> logits. means: (C, A), a direction for each class. Returns {how many: {"named features": share
    in % over all classes, "class mean" and "random directions": the same after steps as long along
    the class's mean, or in a random direction for each item, "length of the step": its mean}}.
    """
    directions, dice, rows = dictionary.directions(), torch.Generator().manual_seed(6), {}
    ways = ("named features", "class mean", "random directions")
    for many in counts:
        shares, lengths = [], []
        for wanted, features in best.items():
            x, some = activations[labels != wanted][:count], features[:many]
            levels = torch.tensor([named[f][1] for f in some]).to(x)
            step = (levels - dictionary.encode(x)[:, some]) @ directions[some]  # (B, A)
            length = step.norm(dim=1, keepdim=True)
            noise = torch.randn(step.shape, generator=dice).to(x)
            others = (length * F.normalize(way, dim=-1) for way in (means[wanted], noise))
            moved = (x + change for change in (step, *others))
            shares.append([(head(y).argmax(1) == wanted).double().mean() for y in moved])
            lengths.append(length.mean())
        found = 100 * torch.tensor(shares).mean(0)
        rows[many] = dict(zip(ways, found.tolist(), strict=True))
        rows[many]["length of the step"] = torch.stack(lengths).mean().item()
    return rows
