"""The exercises of 31.3 Variational autoencoders: a solution, and a check that names the wrong step."""

import math

import torch

from companion.exercises.machinery import answer, close, seeded


def nats_lost():
    return 0.5


def check_nats_lost(attempt):
    value = answer(attempt)
    if value.ndim:
        return "Return one number."
    if close(value, 1.0):
        return "The squared distance is halved in the exponent of a Gaussian, and so in the KL."
    if close(value, 0.0):
        return "The bound is exact at the true posterior only: what is the KL of two shifted Gaussians?"
    if close(value, -0.5):
        return "The loss is asked, a positive number."
    if not close(value, nats_lost()):
        return "Bound and gap have a fixed sum: the ELBO loses KL(q ‖ posterior), of equal covariances."


def distortion_at_best():
    return 392 * (math.log(2 * math.pi * 0.0044) + 1)


def check_distortion_at_best(attempt):
    value, wanted = answer(attempt), distortion_at_best()
    if value.ndim:
        return "Return one number."
    for hint, wrong in {
        "That is one pixel's: there are 784.": wanted / 784,
        "The squared errors over 2s² add up to half a nat a pixel.": wanted - 392,
        "The squared error is divided by 2s²: half a nat a pixel, not one.": wanted + 392,
        "The 2π of the normal density is missing.": wanted - 392 * math.log(2 * math.pi),
        "The sign: a density above 1 costs fewer than 0 nats.": -wanted,
        "log s is half of log s²: the ½ is missing.": 784 * (math.log(2 * math.pi * 0.0044) + 0.5),
    }.items():
        if close(value, wrong, 2e-3):
            return hint
    if not close(value, wanted, 2e-3):
        return "784 · (½ log 2πs² + error/2s²), with s² the mean squared error itself."


def best_baseline(values, score):
    return (values * score**2).mean() / (score**2).mean()


def check_best_baseline(attempt):
    values, score = torch.randn(2, 400, generator=seeded())
    values = values + score**2 + 3
    value, wanted = answer(attempt, values, score), best_baseline(values, score)
    if value.ndim:
        return f"Return one constant: yours has shape {tuple(value.shape)}."
    if close(value, values.mean()):
        return "That is the mean of f: weigh each sample by the square of its score."
    if close(value, (values * score).mean() / score.mean()):
        return "Weigh by the square of the score: the variance is quadratic in it."
    if close(value, (values * score.abs()).mean() / score.abs().mean()):
        return "Weigh by the square of the score, not by its absolute value."
    if close(value, (values * score**2).mean()):
        return "Divide by the mean of the squared scores."
    if not close(value, wanted):
        return "Set the derivative of E[(f - b)² score²] with respect to b to zero."


def effective_samples(log_weights):
    return (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()


def check_effective_samples(attempt):
    small = torch.randn(6, 3, generator=seeded())
    value, wanted = answer(attempt, small), effective_samples(small)
    if value.ndim != 1:
        return f"Return one number for each image, (B,): yours has shape {tuple(value.shape)}."
    if value.shape != (3,):
        return "You added over the images: the samples are the first dimension."
    if close(value, wanted.log()):
        return "That is its logarithm."
    if close(value, 1 / wanted):
        return "Upside down: equal weights must give K."
    if close(value, wanted / 6):
        return "That is the share of K."
    if close(value, small.sum(0).square() / small.square().sum(0)):
        return "These are the logarithms: take the weights' exponentials first."
    if not close(value, wanted):
        return "The square of the sum over the sum of the squares."
    if not close(answer(attempt, small - 2000), wanted, 1e-2):
        return "Weights of e^-2000 became 0: work with logsumexp, or take the largest out first."


EXERCISES = {
    "31.3.1": (check_nats_lost, nats_lost),
    "31.3.2": (check_distortion_at_best, distortion_at_best),
    "31.3.3": (check_best_baseline, best_baseline),
    "31.3.4": (check_effective_samples, effective_samples),
}
