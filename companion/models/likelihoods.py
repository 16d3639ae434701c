"""The two halves of the ELBO in nats, the KL to the prior and decoder likelihoods -log p(x | z); and
the squared error.

Each likelihood is summed over channels and pixels; it takes images x (B, C, H, W) and the decoder's
output, and returns (B,). ValueError where the output has another shape than the images, or the
likelihood does not fit the pixels.
"""

import math

import torch
import torch.nn.functional as F


def gaussian_kl(mean: torch.Tensor, log_var: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, exp(log_var)) ‖ N(0, I)) of each row: (B, M), (B, M) -> (B,) (Kingma 2014, app. B)."""
    return (mean.square() + log_var.exp() - log_var - 1).sum(-1) / 2


def squared_error(x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """The squared differences of images, summed over all but the batch: (B, ...) twice -> (B,)."""
    same_shape(x, output)
    return (x - output).square().flatten(1).sum(1)


def bernoulli_nll(x: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Pixels that are 0 or 1, each with its own probability sigmoid(logits).

    Grey pixels are refused: the Bernoulli is a distribution over {0, 1}, and its formula on a grey
    value is no likelihood (binary cross-entropy then has no zero and no normaliser).
    """
    same_shape(x, logits)
    if not x.is_cuda and not ((x == 0) | (x == 1)).all():  # on a GPU a look would wait for it
        raise ValueError(
            "a Bernoulli likelihood needs pixels that are 0 or 1, and these are grey: binarise "
            "them, or choose gaussian_nll or discretised_logistic_nll."
        )
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)


def gaussian_nll(x: torch.Tensor, mean: torch.Tensor, log_sigma: torch.Tensor) -> torch.Tensor:
    """A normal density round each pixel's mean; `log_sigma` one number, or one for each pixel."""
    same_shape(x, mean)
    scaled = (x - mean) * (-log_sigma).exp()
    return (scaled.square() / 2 + log_sigma + math.log(2 * math.pi) / 2).flatten(1).sum(1)


def discretised_logistic_nll(
    x: torch.Tensor, mean: torch.Tensor, log_scale: torch.Tensor, levels: int = 256
) -> torch.Tensor:
    """The probability of each grey level: a logistic density's mass in the bin round it.

    x holds 0, 1/(levels-1), …, 1. The outermost bins reach to infinity, so that the probabilities of
    all levels sum to one (Kingma et al. 2016, Salimans et al. 2017).
    """
    same_shape(x, mean)
    return -log_bin_mass(x, mean, log_scale, levels).flatten(1).sum(1)


def log_bin_mass(
    x: torch.Tensor, mean: torch.Tensor, log_scale: torch.Tensor, levels: int = 256
) -> torch.Tensor:
    """log of a logistic density's mass in the bin of each level of x; shapes that broadcast."""
    half = 0.5 / (levels - 1)
    upper = (x + half - mean) * (-log_scale).exp()
    lower = (x - half - mean) * (-log_scale).exp()
    # log(sigmoid(u) - sigmoid(l)) = log sigmoid(u) + log sigmoid(-l) + log(1 - exp(l - u))
    inner = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))
    first, last = F.logsigmoid(upper), F.logsigmoid(-lower)
    return torch.where(x < half, first, torch.where(x > 1 - half, last, inner))


def same_shape(x: torch.Tensor, output: torch.Tensor) -> None:
    """ValueError where an output would be broadcast over images of another shape."""
    if x.shape != output.shape:
        raise ValueError(
            f"the decoder's output is {tuple(output.shape)}, the images are {tuple(x.shape)}: "
            "they must have the same channels and size."
        )
