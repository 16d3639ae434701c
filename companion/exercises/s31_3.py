"""The exercises of 31.3 Variational autoencoders: solutions, and mistakes with their hints."""

import math

import torch

from companion.exercises.machinery import Exercise


def nats_lost():
    return 0.5


def distortion_at_best():
    return 392 * (math.log(2 * math.pi * 0.0044) + 1)


def best_baseline(values, score):
    return (values * score**2).mean() / (score**2).mean()


def draws_of_score(draw):
    """Values that hang on the score, so that the best baseline is not their mean."""
    cases = []
    for count, shift in ((400, 3), (300, -1)):
        values, score = torch.randn(2, count, generator=draw)
        cases.append((values + score**2 + shift, score + 0.3))
    return cases


def effective_samples(log_weights):
    return (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()


def log_weights(draw):
    """Small ones, and such as images really have: far below 0, another level for each."""
    small = torch.randn(6, 3, generator=draw)
    levels = -1500 - 2000 * torch.rand(4, generator=draw)
    return [(small,), (torch.randn(5, 4, generator=draw) + levels,)]


PROOFS = {
    "31.3.2": """With n pixels in all, whose squared errors sum to E, the distortion is
n/2 log(2πs²) + E/(2s²). Its derivative by s² is n/(2s²) - E/(2s⁴): negative below
s² = E/n, zero there, positive above. So the best s² is E/n, the mean squared error a pixel.
An image of 784 pixels with that error costs 392 (log(2πs²) + 1) nats.""",
}

GOALS = (
    "derive the ELBO and its gap, and compute both where the truth is known",
    "explain by variance why the gradient goes through the sample",
    "tell what holes, interpolations and samples say about a prior",
    "estimate log p(x), and split what is lost into the amortization and the approximation gap",
    "say where the blur comes from, and under which likelihood a draw is snow",
)
RUBRIC = (  # of the open question, a point each
    "Both can be right: likelihood and the look of samples are different yardsticks.",
    "Likelihood: the same binarisation or pixels, the same estimator and K, proposals good enough.",
    "Samples: the decoder's means or draws, from the prior or from a Gaussian fitted afterwards.",
    "A score beside its reference row (as many training digits), with its range over seeds.",
)

EXERCISES = {
    "31.3.1": Exercise(
        nats_lost,
        lambda draw: [()],
        "The ELBO falls short of log p(x) by a KL: what is it for two Gaussians of equal covariance?",
        {
            "The squared distance is halved in the exponent of a Gaussian, and so in the KL.": lambda: (
                1.0
            ),
            "The bound is exact at the true posterior only: what is the KL of two shifted Gaussians?": lambda: (
                0.0
            ),
            "The loss is asked, a positive number.": lambda: -0.5,
            "Both Gaussians are as wide: only the distance of the means counts.": lambda: 0.25,
        },
    ),
    "31.3.2": Exercise(
        distortion_at_best,
        lambda draw: [()],
        "What does one pixel cost, -log of a normal density, where the squared error is s² on average?",
        {
            "That is one pixel's: there are 784.": lambda: distortion_at_best() / 784,
            "The squared errors over 2s² add up to half a nat a pixel.": lambda: (
                distortion_at_best() - 392
            ),
            "The squared error is divided by 2s²: half a nat a pixel, not one.": lambda: (
                distortion_at_best() + 392
            ),
            "The 2π of the normal density is missing.": lambda: (
                distortion_at_best() - 392 * math.log(2 * math.pi)
            ),
            "The sign: a density above 1 costs fewer than 0 nats.": lambda: -distortion_at_best(),
            "log s is half of log s²: the ½ is missing.": lambda: (
                784 * (math.log(2 * math.pi * 0.0044) + 0.5)
            ),
        },
        tolerance=2e-3,
    ),
    "31.3.3": Exercise(
        best_baseline,
        draws_of_score,
        "Where is the derivative of E[(f - b)² score²] with respect to b zero?",
        {
            "That is the mean of f: weigh each sample by the square of its score.": lambda f, s: (
                f.mean()
            ),
            "Weigh by the square of the score: the variance is quadratic in it.": lambda f, s: (
                (f * s).mean() / s.mean()
            ),
            "Weigh by the square of the score, not by its absolute value.": lambda f, s: (
                (f * s.abs()).mean() / s.abs().mean()
            ),
            "Divide by the mean of the squared scores.": lambda f, s: (f * s**2).mean(),
            "The square is of the score's size, and outside the mean it is another number.": lambda f, s: (
                (f * s**2).mean() / s.mean() ** 2
            ),
        },
        "Return one constant: yours has shape {shape}.",
    ),
    "31.3.4": Exercise(
        effective_samples,
        log_weights,
        "Which sum is squared, and which holds squares?",
        {
            "You added over the images: the samples are the first dimension.": lambda w: (
                effective_samples(w.T)
            ),
            "That is its logarithm.": lambda w: effective_samples(w).log(),
            "Upside down: equal weights must give K.": lambda w: 1 / effective_samples(w),
            "That is the share of K.": lambda w: effective_samples(w) / len(w),
            "These are the logarithms: take the weights' exponentials first.": lambda w: (
                w.sum(0).square() / w.square().sum(0)
            ),
            "Weights of e^-2000 became 0: work with logsumexp, or take the largest out first.": lambda w: (
                w.double().exp().sum(0) ** 2 / (w.double().exp() ** 2).sum(0)
            ),
            "One maximum for all images leaves some with weights of 0: each image has its own.": lambda w: (
                (v := (w - w.max()).exp()).sum(0) ** 2 / (v**2).sum(0)
            ),
        },
        "Return one number for each image, (B,): yours has shape {shape}.",
        {
            "Weights of e^-2000 became 0, or infinite: take each image's largest out first.": lambda value, *_: (
                not value.isfinite().all()
            )
        },
    ),
}
