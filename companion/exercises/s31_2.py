"""The exercises of 31.2 Denoising and sparse autoencoders: a solution, and a check that names the wrong step."""

import math

import torch

from companion.exercises.machinery import answer, close, seeded


def variance_of_denoised():
    return 0.5


def check_variance_of_denoised(attempt):
    value = answer(attempt)
    if value.ndim:
        return "Return one number."
    for wrong, hint in {
        1: "That is the variance of the data: the denoiser returns means, which vary less.",
        2: "That is the variance of the noisy points: by what does the denoiser multiply them?",
        0.25: "The factor is squared, and the noisy points have variance 2.",
        0.7071: "That is the standard deviation: square it.",
        0: "Only for infinite noise does it return one point.",
    }.items():
        if close(value, float(wrong), 1e-3):
            return hint
    if not close(value, variance_of_denoised(), 0.03):
        return "The best denoiser is x̃ · 1/(1 + σ²), and x̃ has the variance 1 + σ²."


def best_activity():
    return 3 - 1 / 2


def check_best_activity(attempt):
    value = answer(attempt)
    if value.ndim:
        return "Return one number."
    for wrong, hint in {
        3: "That is the best activity without a penalty.",
        2: "The derivative of (a - z)² is -2 (a - z): the penalty is shared between two.",
        3.5: "The sign of the penalty is wrong: it makes the activity smaller.",
        1.5: "The penalty is subtracted, not a factor.",
    }.items():
        if close(value, float(wrong)):
            return hint
    if not close(value, best_activity()):
        return "Set the derivative of (a - z)² + λz to zero, and mind z ≥ 0."


def keep_largest_of_batch(pre, k):
    values = pre.flatten()
    top = values.topk(k * len(pre))  # (kB,)
    code = torch.zeros_like(values)
    code[top.indices] = top.values.relu()
    return code.view_as(pre)


def check_keep_largest_of_batch(attempt):
    pre = torch.randn(5, 8, generator=seeded()) * torch.tensor([0.2, 0.5, 1, 2, 3])[:, None]
    pre[0] = -pre[0].abs() - 0.1  # a row without a positive value
    value, wanted = answer(attempt, pre, 3), keep_largest_of_batch(pre, 3)
    if value.shape != pre.shape:
        return f"The shape is {tuple(value.shape)}, not {tuple(pre.shape)}: zeros stay in place."
    rows = pre.topk(3, dim=1)
    if close(value, torch.zeros_like(pre).scatter(1, rows.indices, rows.values.relu())):
        return "You kept k of each row: choose the largest values of the whole batch, k·B in all."
    if close(value, pre.relu() * (pre >= pre.flatten().topk(3).values.min())):
        return "You kept k values of the batch: its budget is k for each item, k·B in all."
    size = pre.abs().flatten().topk(15).values.min()
    if any(close(value, kept * (pre.abs() >= size)) for kept in (pre, pre.relu(), pre.abs())):
        return "You chose by absolute value: choose the largest values."
    if close(value, pre.relu()):
        return "Nothing was left out: only k·B of the values may stay."
    if close(value, (wanted > 0).to(pre)):
        return "You returned the mask: keep the values."
    if not close(value, wanted):
        return "Keep the k·B largest values of the batch, in their places, where they are positive."


def sparsity_penalty(activity, target):
    mean = activity.mean(0)  # (F,) how often each unit is active
    on = target * (target / mean).log()
    off = (1 - target) * ((1 - target) / (1 - mean)).log()
    return (on + off).sum()


def check_sparsity_penalty(attempt):
    activity = torch.rand(40, 5, generator=seeded()) * 0.6 + 0.05
    value, wanted = answer(attempt, activity, 0.1), sparsity_penalty(activity, 0.1)
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
    if close(value, sum(sparsity_penalty(row[None], target) for row in activity) / len(activity)):
        return "Take the mean of each unit over the batch first, then the divergence."
    if close(value, wanted / math.log(2)):
        return "That is in bits: use the natural logarithm."
    if not close(value, wanted):
        return "Sum over units of target·log(target/mean) + (1-target)·log((1-target)/(1-mean))."


EXERCISES = {
    "31.2.1": (check_variance_of_denoised, variance_of_denoised),
    "31.2.2": (check_best_activity, best_activity),
    "31.2.3": (check_keep_largest_of_batch, keep_largest_of_batch),
    "31.2.4": (check_sparsity_penalty, sparsity_penalty),
}
