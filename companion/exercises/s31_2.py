"""The exercises of 31.2 Denoising and sparse autoencoders: a solution, and a check that names the wrong step."""

import math

import torch

from companion.exercises.machinery import answer, close, seeded


def mask(x, strength, dice):
    return x * (dice >= strength)


def check_mask(attempt):
    x, dice = torch.rand(2, 3, 1, 4, 5, generator=seeded()) * 0.9 + 0.05
    value, wanted = answer(attempt, x, 0.3, dice), mask(x, 0.3, dice)
    if value.shape != x.shape:
        return f"The shape is {tuple(value.shape)}, not that of x, {tuple(x.shape)}."
    if close(value, x * (dice < 0.3)):
        return (
            "You kept the pixels that should go: keep those whose dice are not below the strength."
        )
    if close(value, x * (dice >= 0.3) / 0.7):
        return "You scaled the rest as dropout does: leave it as it is."
    if close(value, (dice >= 0.3).float()):
        return "You returned the mask: multiply x by it."
    if close(value, x * (dice.flatten(1)[:, 0] >= 0.3).view(-1, 1, 1, 1)):
        return "You masked whole images: each pixel has its own dice."
    if not close(value, wanted):
        return "Set a pixel to 0 where its dice are below the strength, and leave the others."


def score_of(denoised, x, sigma):
    return (denoised - x) / sigma**2


def check_score_of(attempt):
    denoised, x = torch.randn(2, 6, 2, generator=seeded())
    value, step = answer(attempt, denoised, x, 0.5), denoised - x
    if close(value, -step / 0.25):
        return "The sign is wrong: the score points from the noisy point to the denoised one."
    if close(value, step):
        return "That is σ² times the score: divide by σ²."
    if close(value, step / 0.5):
        return "You divided by σ: divide by its square."
    if close(value, step * 0.25):
        return "You multiplied by σ²: divide by it."
    if not close(value, score_of(denoised, x, 0.5)):
        return "Solve r(x) - x = σ² ∇ log p(x) for the gradient."


def best_guess(x, centres, sigma):
    squares = (x[:, None] - centres).square().sum(-1)  # (B, K)
    return (-squares / (2 * sigma**2)).softmax(1) @ centres  # (B, D)


def check_best_guess(attempt):
    x = torch.randn(6, 2, generator=seeded())
    centres = torch.tensor([[0.0, 0.5], [1.0, -0.5], [-1.0, 0.2]])
    value, squares = answer(attempt, x, centres, 0.7), (x[:, None] - centres).square().sum(-1)
    if value.shape != x.shape:
        return f"The shape is {tuple(value.shape)}, not that of x, {tuple(x.shape)}."
    if close(value, centres[squares.argmin(1)]):
        return "That is the nearest centre: average over all, each by its posterior share."
    if close(value, centres.mean(0).expand_as(x)):
        return "All centres count the same: near ones are likelier, by exp(-distance² / 2σ²)."
    if close(value, (-squares / (2 * 0.7)).softmax(1) @ centres):
        return "You divided by 2σ: the exponent is -distance² / (2σ²)."
    if close(value, (-squares / 0.7**2).softmax(1) @ centres):
        return "The factor ½ in the exponent is missing."
    if close(value, (-squares.sqrt() / (2 * 0.7**2)).softmax(1) @ centres):
        return "You took distances: the exponent holds their squares."
    if close(value, (squares / (2 * 0.7**2)).softmax(1) @ centres):
        return "The sign of the exponent is wrong: far centres must be unlikely."
    if not close(value, best_guess(x, centres, 0.7)):
        return "Weigh the centres by softmax(-distance² / 2σ²) over the centres, and add them up."


def keep_largest(pre, k):
    top = pre.topk(k, dim=1)  # (B, k)
    return torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())


def check_keep_largest(attempt):
    pre = torch.randn(5, 8, generator=seeded()) + 0.5
    pre[0] = -pre[0].abs() - 0.1  # a row without a positive value
    pre[1, :3] = torch.tensor([-9.0, -8.0, -7.0])
    value, wanted = answer(attempt, pre, 3), keep_largest(pre, 3)
    if value.shape != pre.shape:
        return f"The shape is {tuple(value.shape)}, not {tuple(pre.shape)}: zeros stay in place."
    if close(
        value, torch.zeros_like(pre).scatter(1, pre.topk(3, 1).indices, pre.topk(3, 1).values)
    ):
        return "Negative values are kept: a feature is active or zero, so apply relu too."
    size = pre.abs().topk(3, 1).indices
    for kept in (pre, pre.relu(), pre.abs()):
        if close(value, torch.zeros_like(pre).scatter(1, size, kept.gather(1, size))):
            return "You chose by absolute value: choose the largest values."
    if close(value, pre.relu()):
        return "Nothing was left out: only k of a row may stay."
    all_at_once = pre.flatten().topk(15).values.min()
    if close(value, pre.relu() * (pre >= all_at_once)):
        return "You chose over the whole batch: each row keeps k of its own."
    if close(value, (wanted > 0).to(pre)):
        return "You returned the mask: keep the values."
    if not close(value, wanted):
        return "Keep the k largest of each row, in their places, where they are positive."


def sparsity_price(activity, target):
    mean = activity.mean(0)  # (F,) how often each unit is active
    on = target * (target / mean).log()
    off = (1 - target) * ((1 - target) / (1 - mean)).log()
    return (on + off).sum()


def check_sparsity_price(attempt):
    activity = torch.rand(40, 5, generator=seeded()) * 0.6 + 0.05
    value, wanted = answer(attempt, activity, 0.1), sparsity_price(activity, 0.1)
    mean, target = activity.mean(0), 0.1
    if value.ndim:
        return f"Return a scalar, the sum over the units: yours has shape {tuple(value.shape)}."
    if close(value, wanted / 5):
        return "You averaged over the units: sum over them."
    swapped = mean * (mean / target).log() + (1 - mean) * ((1 - mean) / (1 - target)).log()
    if close(value, swapped.sum()):
        return "The two distributions are exchanged: it is KL(target ‖ mean activity)."
    if close(value, (target * (target / mean).log()).sum()):
        return "The term for the unit being off is missing: (1 - target) log of (1 - target)/(1 - mean)."
    if close(value, sum(sparsity_price(row[None], target) for row in activity) / len(activity)):
        return "Take the mean of each unit over the batch first, then the divergence."
    if close(value, wanted / math.log(2)):
        return "That is in bits: use the natural logarithm."
    if not close(value, wanted):
        return "Sum over units of target·log(target/mean) + (1-target)·log((1-target)/(1-mean))."


def mean_max_cosine(found, truth):
    from scipy.optimize import linear_sum_assignment

    unit = [rows / rows.norm(dim=1, keepdim=True) for rows in (truth, found)]
    cosines = unit[0] @ unit[1].T  # (T, F)
    rows, columns = linear_sum_assignment(cosines, maximize=True)
    return cosines[rows, columns].mean()


def matching(gains):
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(gains.numpy(), maximize=True)


def check_mean_max_cosine(attempt):
    truth = torch.tensor([[1.0, 0, 0], [0, 2.0, 0], [0, 0, 1.0]])
    found = torch.tensor([[3.0, 0.3, 0], [1.0, 0, 0.1], [0, 1.0, 1.0], [-0.4, 0, -2.0]])
    value, wanted = answer(attempt, found, truth), mean_max_cosine(found, truth)
    cosines = torch.nn.functional.cosine_similarity(truth[:, None], found, dim=-1)
    if value.ndim:
        return "Return one number, the mean over the true directions."
    if close(value, cosines.amax(1).mean()):
        return "One found direction is counted for two true ones: match them one to one."
    if close(value, cosines.amax(0).mean()):
        return "You took the best true one of each found one: ask for each true one, one to one."
    if close(value, mean_max_cosine(found.abs(), truth)):
        return "You dropped the signs: a direction and its opposite are not the same."
    products = truth @ found.T
    if close(value, products[matching(products)].mean()):
        return "These are inner products: divide by both lengths."
    if close(value, cosines[matching(-cosines)].mean()):
        return "The matching has the smallest sum: ask for the largest."
    if not close(value, wanted):
        return "Cosines (T, F), a one-to-one matching with the largest sum, the mean over matches."


EXERCISES = {
    "31.2.1": (check_mask, mask),
    "31.2.2": (check_score_of, score_of),
    "31.2.3": (check_keep_largest, keep_largest),
    "31.2.4": (check_sparsity_price, sparsity_price),
    "31.2.5": (check_best_guess, best_guess),
    "31.2.6": (check_mean_max_cosine, mean_max_cosine),
}
