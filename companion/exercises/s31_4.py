"""The exercises of 31.4 Disentanglement: solutions, and mistakes with their hints."""

import math

import torch

from companion.exercises.machinery import Exercise


def gap_of(shares):
    best = shares.sort(0, descending=True).values  # (M, F)
    return (best[0] - best[1]).mean()


def kept(saved, kl, beta):
    return saved > beta * kl


def savings(draw):
    return [
        (12 * saved, 2 * kl, beta)
        for (saved, kl), beta in zip(torch.rand(2, 2, 60, generator=draw), (4.0, 1.5), strict=True)
    ]


def gaussian_total_correlation(covariance):
    return (covariance.diagonal().log().sum() - torch.logdet(covariance)) / 2


def covariances(draw):
    roots = [torch.randn(m, m, generator=draw, dtype=torch.float64) for m in (4, 3)]
    return [(root @ root.T + torch.eye(len(root)).double(),) for root in roots]


def turned_total_correlation(a, b, angle):
    swing = ((a - b) * math.sin(2 * angle)) ** 2 / 4  # what the two new variances' product gains
    return math.log(1 + swing / (a * b)) / 2


def axis_rate(eigenvalue, noise, beta):
    return (eigenvalue / (beta * noise)).clamp(min=1).log() / 2


def axes(draw):
    return [
        (3 * torch.rand(50, generator=draw), noise, beta)
        for noise, beta in ((0.25, 2.0), (0.1, 4.0), (0.6, 0.7))
    ]


PROOFS = {
    "31.4.4": """KL(N(0, C) ‖ N(0, I)) = (tr C - 2 - log det C)/2: a turn changes neither trace nor
determinant. The total correlation is (log C₁₁C₂₂ - log det C)/2. Turned by θ the variances
are a cos²θ + b sin²θ and a sin²θ + b cos²θ, and their product is ab + (a - b)² sin²(2θ)/4.
So it is ½ log(1 + (a - b)² sin²(2θ)/4ab), largest at 45°: ½ log(25/16) = .223 nats.""",
    "31.4.5": """Of one axis, up to a constant: λ(1 - wr)²/(2s²) + w²v/(2s²) + β(r²λ + v - 1 - log v)/2.
Write t = βs². The best v is t/(t + w²), the best r is w/(t + w²). With both the loss is
β/2 · [λ/u + log(u/t)], where u = t + w² is at least t. Its derivative by u is zero at u = λ.
So w² = λ - βs² where that is positive; from s² = λ/β on w = 0, and the axis is inactive.
Before, v = βs²/λ and r²λ = 1 - v, so that the KL is -½ log v = ½ log(λ/βs²).""",
}

GOALS = (
    "split the KL, and say which part a method penalises",
    "say what each of five scores rewards, and what it does not see",
    "separate the effect of a weight from that of the seed",
    "predict when an axis of a linear model becomes inactive",
    "recognise a collapse, mend it, and say what the code is worth",
)
RUBRIC = (  # of the open question, a point each
    "All runs of both methods, medians and ranges: the seed explains most of several scores.",
    "More than one score, and what each does not see: MIG a shared axis, the β-VAE score a rotation.",
    "The scores of an oracle, of noise and of a rotated code in the same protocol.",
    "What told the method the factors: a rotation costs the likelihood nothing, only the family of q.",
)

EXERCISES = {
    "31.4.1": Exercise(
        gap_of,
        lambda draw: [(torch.rand(7, 5, generator=draw),), (torch.rand(4, 6, generator=draw),)],
        "For one factor: which two axes are compared?",
        {
            "You compared factors of one axis: compare the axes of one factor.": lambda s: gap_of(
                s.T
            ),
            "That is the best axis alone: take off what the second best knows.": lambda s: s.amax(
                0
            ).mean(),
            "You took off the worst axis: take off the second best.": lambda s: (
                s.amax(0) - s.amin(0)
            ).mean(),
            "You summed over the factors: take their mean.": lambda s: s.shape[1] * gap_of(s),
            "The sign: the best less the second best.": lambda s: -gap_of(s),
            "You took the mean over the axes: the largest gap of each factor counts.": lambda s: (
                s.mean()
            ),
        },
        "Return one number: the mean over the factors.",
    ),
    "31.4.2": Exercise(
        kept,
        savings,
        "What does an axis cost in the loss of β-VAE, and what does it save?",
        {
            "You forgot the weight: a nat of KL costs β nats of reconstruction.": lambda saved, kl, beta: (
                saved > kl
            ),
            "The other way round: those are the axes that become inactive.": lambda saved, kl, beta: (
                saved <= beta * kl
            ),
            "β stands before the KL, not before the reconstruction.": lambda saved, kl, beta: (
                beta * saved > kl
            ),
            "Return which axes are worth it, not how much they gain.": lambda saved, kl, beta: (
                saved - beta * kl
            ),
        },
        "Return one truth value for each axis, (M,) bool.",
    ),
    "31.4.3": Exercise(
        gaussian_total_correlation,
        covariances,
        "Which entropies does the total correlation compare, and what are they for a Gaussian?",
        {
            "The factor ½ is missing: an entropy holds half the log determinant.": lambda c: (
                2 * gaussian_total_correlation(c)
            ),
            "The sign is wrong: a divergence is never negative.": lambda c: (
                -gaussian_total_correlation(c)
            ),
            "The axes' own variances are missing: without correlation the result must be zero.": lambda c: (
                -torch.logdet(c) / 2
            ),
            "The joint entropy is missing: without correlation the result must be zero.": lambda c: (
                c.diagonal().log().sum() / 2
            ),
            "That is in bits: use the natural logarithm.": lambda c: (
                gaussian_total_correlation(c) / math.log(2)
            ),
        },
    ),
    "31.4.4": Exercise(
        turned_total_correlation,
        lambda draw: [(1.0, 4.0, math.pi / 4), (0.5, 3.0, 0.3), (2.0, 2.0, 1.0), (5.0, 0.7, 2.1)],
        "What are the two variances after the turn, and what does the turn leave as it is?",
        {
            "The factor ½ is missing.": lambda a, b, t: 2 * turned_total_correlation(a, b, t),
            "You used the angle itself: the product of the variances moves with twice the angle.": lambda a, b, t: (
                turned_total_correlation(a, b, t / 2)
            ),
            "a and b are variances already: do not square them.": lambda a, b, t: (
                turned_total_correlation(a**2, b**2, t)
            ),
            "The sign is wrong: a divergence is never negative.": lambda a, b, t: (
                -turned_total_correlation(a, b, t)
            ),
        },
        signs={
            "With equal variances the turned axes are independent still: the result is zero.": lambda value, wanted, a, b, t: (
                a == b and value.abs() > 1e-6
            )
        },
        tolerance=1e-6,
    ),
    "31.4.5": Exercise(
        axis_rate,
        axes,
        "Divide the loss by β: with which noise would a VAE of β = 1 have had the same optimum?",
        {
            "You forgot β: it makes the KL dearer, so the axis becomes inactive at less noise.": lambda e, n, b: (
                axis_rate(e, n, 1.0)
            ),
            "β the other way round: a larger β makes more axes inactive.": lambda e, n, b: (
                axis_rate(e, n, 1 / b)
            ),
            "`noise` is the variance s² already: do not take its root.": lambda e, n, b: axis_rate(
                e, n**0.5, b
            ),
            "`noise` is the variance s² already: do not square it.": lambda e, n, b: axis_rate(
                e, n**2, b
            ),
            "β counts once: it is not squared.": lambda e, n, b: axis_rate(e, n, b**2),
            "β counts whole: do not take its root.": lambda e, n, b: axis_rate(e, n, b**0.5),
            "The factor ½ is missing.": lambda e, n, b: 2 * axis_rate(e, n, b),
        },
        "Return the nats of each axis, (M,).",
        {
            "No axis holds less than 0 nats: below the threshold it is inactive.": lambda value, *_: (
                (value < 0).any()
            )
        },
    ),
}
