"""What a sparse dictionary describes, and which directions it has found."""

import math

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
