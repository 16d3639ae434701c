"""The exercises of 31.2 Denoising and sparse autoencoders: solutions, and mistakes with their hints."""

import math

import torch

from companion.exercises.machinery import Exercise


def variance_of_denoised():
    return 0.5


def best_activity():
    return 3 - 1 / 2


def keep_largest_of_batch(pre, k):
    values = pre.flatten()
    top = values.topk(k * len(pre))  # (kB,)
    code = torch.zeros_like(values)
    code[top.indices] = top.values.relu()
    return code.view_as(pre)


def before_the_constraint(draw):
    """Rows of different size, one without a positive value; once fewer than k·B values are positive."""
    pre = torch.randn(5, 8, generator=draw) * torch.tensor([0.2, 0.5, 1, 2, 3])[:, None]
    pre[0] = -pre[0].abs() - 0.1
    few = torch.randn(4, 6, generator=draw) - 1
    return [(pre, 3), (few, 5), (pre.flip(1) + 0.5, 2)]


def largest(values, count):
    """Which of a tensor's values are among its `count` largest."""
    return values >= values.flatten().topk(count).values.min()


def sparsity_penalty(activity, target):
    mean = activity.mean(0)  # (F,) how often each unit is active
    on = target * (target / mean).log()
    off = (1 - target) * ((1 - target) / (1 - mean)).log()
    return (on + off).sum()


def activities(draw):
    return [
        (torch.rand(40, 5, generator=draw) * 0.6 + 0.05, 0.1),
        (torch.rand(30, 4, generator=draw) * 0.6 + 0.2, 0.3),
    ]


def swapped_penalty(activity, target):
    mean = activity.mean(0)
    off = (1 - mean) * ((1 - mean) / (1 - target)).log()
    return (mean * (mean / target).log() + off).sum()


PROOFS = {
    "31.2.2": """With |d| = 1 the loss is |x|² - 2az + z² + λz, a parabola in z that opens upwards; its
vertex is at z = a - λ/2. Where that is negative, z = 0 is best: z = max(a - λ/2, 0), a soft
threshold. Here 3 - 1/2 = 2.5.""",
}

GOALS = (
    "say what the best denoiser returns, and derive the score from it",
    "compare a method with rivals that are tuned as carefully as itself",
    "build three sparse dictionaries, and measure what they find in directions and in codes",
    "tell the name of a latent from its effect",
)
RUBRIC = (  # of the open question, a point each
    "Asks for a control: random directions earn names too (section 8).",
    "Tests the name by acting: steering, against random directions and against the mean difference.",
    "Asks for another seed or size: few latents have a twin.",
    "Says which result would refute the name.",
)

EXERCISES = {
    "31.2.1": Exercise(
        variance_of_denoised,
        lambda draw: [()],
        "By what does the best denoiser multiply x̃, and how much does x̃ vary?",
        {
            "That is the variance of the data: the denoiser returns means, which vary less.": lambda: (
                1
            ),
            "That is the variance of the noisy points: by what does the denoiser multiply them?": lambda: (
                2
            ),
            "The factor is squared, and the noisy points have variance 2.": lambda: 0.25,
            "That is the standard deviation: square it.": lambda: 0.5**0.5,
            "Only for infinite noise does it return one point.": lambda: 0,
        },
        tolerance=0.02,
    ),
    "31.2.2": Exercise(
        best_activity,
        lambda draw: [()],
        "Where is the derivative of (a - z)² + λz zero?",
        {
            "That is the best activity without a penalty.": lambda: 3,
            "The derivative of (a - z)² is -2 (a - z): the penalty is shared between two.": lambda: (
                2
            ),
            "The sign of the penalty is wrong: it makes the activity smaller.": lambda: 3.5,
            "The penalty is subtracted, not a factor.": lambda: 1.5,
        },
    ),
    "31.2.3": Exercise(
        keep_largest_of_batch,
        before_the_constraint,
        "How many values does the whole batch keep, and which of them are positive?",
        {
            "You kept k of each row: choose the largest values of the whole batch, k·B in all.": lambda u, k: (
                torch.where(u >= u.topk(k, 1).values[:, -1:], u, 0).relu()
            ),
            "You kept k values of the batch: its budget is k for each item, k·B in all.": lambda u, k: (
                u.relu() * largest(u, k)
            ),
            "You chose by absolute value: choose the largest values.": lambda u, k: (
                u.relu() * largest(u.abs(), k * len(u))
            ),
            "You chose by absolute value: choose the largest values, where they are positive.": lambda u, k: (
                u * largest(u.abs(), k * len(u))
            ),
            "Where fewer than k·B are positive, the others of the largest stay out: a code is not negative.": lambda u, k: (
                u * largest(u, k * len(u))
            ),
            "You returned the mask: keep the values.": lambda u, k: keep_largest_of_batch(u, k) > 0,
            "Nothing was left out: only k·B of the values may stay.": lambda u, k: u.relu(),
        },
        "The shape is {shape}, not {wanted}: zeros stay in place.",
    ),
    "31.2.4": Exercise(
        sparsity_penalty,
        activities,
        "Which mean is taken first, and which two terms has the divergence of two coins?",
        {
            "You averaged over the units: sum over them.": lambda a, t: (
                sparsity_penalty(a, t) / a.shape[1]
            ),
            "The two distributions are exchanged: it is KL(target ‖ mean activity).": swapped_penalty,
            "The term for the unit being off is missing.": lambda a, t: (
                t * (t / a.mean(0)).log()
            ).sum(),
            "The term for the unit being on is missing.": lambda a, t: (
                (1 - t) * ((1 - t) / (1 - a.mean(0))).log()
            ).sum(),
            "Take the mean of each unit over the batch first, then the divergence.": lambda a, t: (
                sum(sparsity_penalty(row[None], t) for row in a) / len(a)
            ),
            "The mean is over the batch, the first axis, and the sum over the units.": lambda a, t: (
                sparsity_penalty(a.T, t)
            ),
            "That is in bits: use the natural logarithm.": lambda a, t: (
                sparsity_penalty(a, t) / math.log(2)
            ),
            "The sign is wrong: a divergence is never negative.": lambda a, t: (
                -sparsity_penalty(a, t)
            ),
        },
        "Return a scalar, the sum over the units: yours has shape {shape}.",
    ),
}
