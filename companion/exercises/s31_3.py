"""The exercises of 31.3 Variational autoencoders: a solution, and a check that names the wrong step."""

import math

import torch

from companion.exercises.machinery import answer, close, seeded


def drawn_code(mean, log_var, noise):
    return mean + (log_var / 2).exp() * noise


def check_drawn_code(attempt):
    mean, log_var, noise = torch.randn(3, 5, 4, generator=seeded())
    value = answer(attempt, mean, log_var, noise)
    if value.shape != mean.shape:
        return f"The shape is {tuple(value.shape)}, not that of the mean, {tuple(mean.shape)}."
    if close(value, mean + log_var.exp() * noise):
        return (
            "You scaled the noise by the variance: σ is the exponential of half the log variance."
        )
    if close(value, mean + log_var * noise):
        return (
            "You scaled the noise by the log variance itself: take the exponential of half of it."
        )
    if close(value, mean + noise):
        return "The noise keeps its unit size: scale it by σ."
    if close(value, mean):
        return "That is the mean: nothing is drawn."
    if close(value, mean + (log_var / 2).exp() * noise.abs()):
        return "You dropped the sign of the noise."
    if not close(value, drawn_code(mean, log_var, noise)):
        return "z = μ + σ ε, with σ the exponential of half the log variance."


def price(mean, log_var):
    return (mean**2 + log_var.exp() - log_var - 1).sum(1) / 2


def check_price(attempt):
    mean, log_var = torch.randn(2, 5, 4, generator=seeded())
    value, wanted = answer(attempt, mean, log_var), price(mean, log_var)
    if value.ndim == 0:
        return "Return the price of each image, (B,): yours is one number."
    if value.shape != wanted.shape:
        return f"The shape is {tuple(value.shape)}, not {tuple(wanted.shape)}: sum over the axes."
    if close(value, wanted / 4):
        return "You averaged over the axes: their nats add up."
    if close(value, 2 * wanted):
        return "The factor ½ is missing."
    if close(value, -wanted):
        return "The sign is wrong: a divergence is never negative."
    if close(value, (mean**2 + (2 * log_var).exp() - 2 * log_var - 1).sum(1) / 2):
        return "You took the second argument for log σ: it is the log of the variance."
    if close(value, (mean**2 + log_var.exp() - log_var).sum(1) / 2):
        return "The -1 is missing: at the prior itself the price must be zero."
    if close(value, wanted / math.log(2)):
        return "That is in bits: use natural logarithms."
    if not close(value, wanted):
        return "Half the sum over axes of μ² + σ² - log σ² - 1."


def bits_per_dimension(nats, shape):
    return nats / (math.prod(shape) * math.log(2))


def check_bits_per_dimension(attempt):
    nats, shape = torch.tensor([1000.0, 2500.0]), (3, 8, 5)
    value, wanted = answer(attempt, nats, shape), bits_per_dimension(nats, shape)
    if value.shape != nats.shape:
        return f"The shape is {tuple(value.shape)}, not {tuple(nats.shape)}: one number an image."
    if close(value, nats / 120):
        return "That is nats per dimension: a bit is log 2 nats."
    if close(value, wanted * 3):
        return "The channels count too: a dimension is one value of one channel."
    if close(value, nats / math.log(2)):
        return "That is bits for the whole image: divide by the number of its values."
    if close(value, nats * math.log(2) / 120):
        return "You multiplied by log 2: there are more bits than nats, so divide by it."
    if close(value, -wanted):
        return "The sign is wrong: nats of -log p stay positive."
    if not close(value, wanted):
        return "Divide the nats by log 2 and by C·H·W."


def score_gradient(values, noise, sigma):
    return (values * noise / sigma).mean()


def check_score_gradient(attempt):
    values, noise = torch.randn(2, 50, generator=seeded()) + 0.5
    value, wanted = answer(attempt, values, noise, 0.4), score_gradient(values, noise, 0.4)
    if value.ndim:
        return f"Return the mean over the draws, a scalar: yours has shape {tuple(value.shape)}."
    if close(value, 50 * wanted):
        return "You summed over the draws: take their mean."
    if close(value, wanted / 0.4):
        return "You divided by σ²: (z - μ)/σ² is ε/σ, because z - μ = σε."
    if close(value, wanted * 0.4):
        return "Divide by σ: (z - μ)/σ² with z - μ = σε."
    if close(value, wanted * 0.4**2):
        return "You multiplied by σ: (z - μ)/σ² is ε/σ."
    if close(value, -wanted):
        return "The sign is wrong: log q grows where μ moves towards z."
    if close(value, values.mean() * (noise / 0.4).mean()):
        return "You multiplied two means: multiply draw by draw, then take the mean."
    if not close(value, wanted):
        return "The mean over draws of f(z) ∇ log q(z), and ∇ log q(z) with respect to μ is ε/σ."


def tighter_bound(log_weights):
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def check_tighter_bound(attempt):
    small = torch.randn(6, 3, generator=seeded())
    value, wanted = answer(attempt, small), tighter_bound(small)
    if value.ndim != 1:
        return f"Return one number for each image, (B,): yours has shape {tuple(value.shape)}."
    if close(value, small.mean(0)):
        return "That is the mean of the logs, the ELBO: take the log of the mean."
    if close(value, small.logsumexp(0)):
        return "You took the log of the sum: subtract log K."
    if value.shape != (3,):
        return "You averaged over the images: the draws are the first dimension."
    if close(value, small.amax(0)):
        return "You kept the largest weight only: average all of them."
    if close(value, wanted / math.log(2)):
        return "That is in bits: use the natural logarithm."
    if not close(value, wanted):
        return "The log of the mean of the weights over the draws."
    if not close(answer(attempt, small - 2000), wanted - 2000):
        return (
            "Weights of e^-2000 became 0: use torch.logsumexp, which takes the largest out first."
        )


EXERCISES = {
    "31.3.1": (check_drawn_code, drawn_code),
    "31.3.2": (check_price, price),
    "31.3.3": (check_bits_per_dimension, bits_per_dimension),
    "31.3.4": (check_score_gradient, score_gradient),
    "31.3.5": (check_tighter_bound, tighter_bound),
}
