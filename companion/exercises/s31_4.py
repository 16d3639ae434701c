"""The exercises of 31.4 Disentanglement: a solution, and a check that names the wrong step."""

import math

import torch

from companion.exercises.machinery import answer, close, seeded


def gap_of(shares):
    best = shares.sort(0, descending=True).values  # (M, F)
    return (best[0] - best[1]).mean()


def check_gap_of(attempt):
    shares = torch.rand(7, 5, generator=seeded())
    value, wanted = answer(attempt, shares), gap_of(shares)
    if value.ndim:
        return "Return one number: the mean over the factors."
    if close(value, gap_of(shares.T)):
        return "You compared factors of one axis: compare the axes of one factor."
    if close(value, shares.amax(0).mean()):
        return "That is the best axis alone: take off what the second best knows."
    if close(value, (shares.amax(0) - shares.amin(0)).mean()):
        return "You took off the worst axis: take off the second best."
    if close(value, wanted * 5):
        return "You summed over the factors: take their mean."
    if not close(value, wanted):
        return "Sort each factor's column, largest first; first less second; the mean over factors."


def kept(saved, kl, beta):
    return saved > beta * kl


def check_kept(attempt):
    saved, kl = torch.rand(2, 40, generator=seeded())
    value, wanted = answer(attempt, 12 * saved, 2 * kl, 4.0), kept(12 * saved, 2 * kl, 4.0)
    if value.shape != wanted.shape or value.dtype != torch.bool:
        return "Return one truth value for each axis, (M,) bool."
    if torch.equal(value, 12 * saved > 2 * kl):
        return "You forgot the weight: a nat of KL costs β nats of reconstruction."
    if torch.equal(value, ~wanted):
        return "The other way round: those are the axes that become inactive."
    if torch.equal(value, 4 * 12 * saved > 2 * kl):
        return "β stands before the KL, not before the reconstruction."
    if not torch.equal(value, wanted):
        return "An axis is worth it where what it saves is more than β times what it costs."


def gaussian_total_correlation(covariance):
    return (covariance.diagonal().log().sum() - torch.logdet(covariance)) / 2


def check_gaussian_total_correlation(attempt):
    root = torch.randn(4, 4, generator=seeded(), dtype=torch.float64)
    covariance = root @ root.T + torch.eye(4, dtype=torch.float64)
    value, wanted = answer(attempt, covariance), gaussian_total_correlation(covariance)
    if value.ndim:
        return "Return one number."
    if close(value, 2 * wanted):
        return "The factor ½ is missing: an entropy holds half the log determinant."
    if close(value, -wanted):
        return "The sign is wrong: a divergence is never negative."
    if close(value, -torch.logdet(covariance) / 2):
        return "The axes' own variances are missing: without correlation the result must be zero."
    if not close(value, wanted):
        return (
            "The axes' entropies less the joint one: half of Σ log variance less log determinant."
        )


def turned_total_correlation(a, b, angle):
    swing = ((a - b) * math.sin(2 * angle)) ** 2 / 4  # what the two new variances' product gains
    return math.log(1 + swing / (a * b)) / 2


def check_turned_total_correlation(attempt):
    cases = ((1.0, 4.0, math.pi / 4), (0.5, 3.0, 0.3), (2.0, 2.0, 1.0))
    values = [answer(attempt, *case).double().item() for case in cases]
    wanted = [turned_total_correlation(*case) for case in cases]

    def all_close(others):
        return all(abs(v - w) < 1e-6 for v, w in zip(values, others, strict=True))

    if all_close(wanted):
        return None
    if all_close([2 * w for w in wanted]):
        return "The factor ½ is missing."
    if abs(values[2]) > 1e-6:
        return "With equal variances the turned axes are independent still: the result is zero."
    if all_close([turned_total_correlation(a, b, t / 2) for a, b, t in cases]):
        return "You used the angle itself: the product of the variances moves with twice the angle."
    if all_close([turned_total_correlation(a**2, b**2, t) for a, b, t in cases]):
        return "a and b are variances already: do not square them."
    return "½ log of (product of the two new variances ÷ their determinant, which stays a·b)."


def axis_rate(eigenvalue, noise, beta):
    return (eigenvalue / (beta * noise)).clamp(min=1).log() / 2


def check_axis_rate(attempt):
    eigenvalues = 3 * torch.rand(50, generator=seeded())
    value, wanted = answer(attempt, eigenvalues, 0.25, 4.0), axis_rate(eigenvalues, 0.25, 4.0)
    if value.shape != wanted.shape:
        return "Return the nats of each axis, (M,)."
    if (value < 0).any():
        return "No axis holds less than 0 nats: below the threshold it is inactive."
    if close(value, axis_rate(eigenvalues, 0.25, 1.0)):
        return "You forgot β: it makes the KL dearer, so the axis becomes inactive at less noise."
    if close(value, axis_rate(eigenvalues, 0.25, 1 / 4.0)):
        return "β the other way round: a larger β leaves fewer axes active."
    if close(value, axis_rate(eigenvalues, 0.5, 4.0)):
        return "`noise` is the variance s² already: do not take its root."
    if close(value, 2 * wanted):
        return "The factor ½ is missing."
    if not close(value, wanted):
        return "Divide the ELBO's terms by β: what noise would a VAE with β = 1 have had?"


EXERCISES = {
    "31.4.1": (check_gap_of, gap_of),
    "31.4.2": (check_kept, kept),
    "31.4.3": (check_gaussian_total_correlation, gaussian_total_correlation),
    "31.4.4": (check_turned_total_correlation, turned_total_correlation),
    "31.4.5": (check_axis_rate, axis_rate),
}
