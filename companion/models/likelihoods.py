"""The two halves of the ELBO in nats: the KL to the prior, and decoder likelihoods -log p(x | z).

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


def logistic_mixture_nll(x: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Colour pixels by a mixture of discretised logistics, as `mixture_parts` reads it.

    x (B, 3, H, W) holds 0, 1/255, …, 1; numbers (B, 10 K, H, W) for K components. Green's mean moves
    with red, blue's with red and green (Salimans et al. 2017, PixelCNN++, section 2.2).
    """
    if x.shape[1] != 3 or numbers.shape[1] % 10 or x.shape[2:] != numbers.shape[2:]:
        raise ValueError(
            f"images {tuple(x.shape)} and output {tuple(numbers.shape)}: a mixture of K components "
            "is over (B, 3, H, W) and needs (B, 10 K, H, W)."
        )
    logits, means, log_scales, slopes = mixture_parts(numbers)
    red, green, blue = x[:, :, None].unbind(1)  # (B, 1, H, W)
    means = shifted(means, slopes, red, green)
    log_mass = log_bin_mass(torch.stack([red, green, blue], 1), means, log_scales).sum(1)
    return -(log_mass + logits.log_softmax(1)).logsumexp(1).flatten(1).sum(1)


def sample_logistic_mixture(numbers: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Colour pixels drawn from the mixture: (B, 10 K, H, W) -> (B, 3, H, W) in [0, 1].

    The temperature multiplies the logistics' scales: at 0 each pixel is the mean of a drawn component.
    """
    logits, means, log_scales, slopes = mixture_parts(numbers)
    noise = -(-torch.rand_like(logits).clamp(1e-6, 1 - 1e-6).log()).log()  # Gumbel
    chosen = (logits + noise).argmax(1)[:, None, None]  # (B, 1, 1, H, W)
    means, log_scales, slopes = (
        part.gather(2, chosen.expand(-1, 3, -1, -1, -1)) for part in (means, log_scales, slopes)
    )
    chance = torch.rand_like(means).clamp(1e-4, 1 - 1e-4)
    noise = temperature * log_scales.exp() * (chance.log() - (-chance).log1p())  # (B, 3, 1, H, W)
    red = (means[:, 0] + noise[:, 0]).clamp(0, 1)
    green = (shifted(means, slopes, red, red)[:, 1] + noise[:, 1]).clamp(0, 1)
    blue = (shifted(means, slopes, red, green)[:, 2] + noise[:, 2]).clamp(0, 1)
    return torch.cat([red, green, blue], 1)


def mixture_parts(numbers: torch.Tensor) -> tuple:
    """(B, 10 K, H, W) as logits (B, K, H, W), means, log scales and slopes (B, 3, K, H, W) each.

    Numbers near 0 are means near mid-grey and wide scales; scales have a floor of e^-7 / 2.
    """
    logits, means, log_scales, slopes = (
        numbers.float().unflatten(1, (10, -1)).split([1, 3, 3, 3], 1)
    )
    return logits[:, 0], (means + 1) / 2, log_scales.clamp(min=-7) - math.log(2), slopes.tanh()


def shifted(means, slopes, red, green) -> torch.Tensor:
    """The means of the three colours given the first two; distances are from mid-grey."""
    red, green = red - 0.5, green - 0.5
    of_blue = means[:, 2] + slopes[:, 1] * red + slopes[:, 2] * green
    return torch.stack([means[:, 0], means[:, 1] + slopes[:, 0] * red, of_blue], 1)


def same_shape(x: torch.Tensor, output: torch.Tensor) -> None:
    if x.shape != output.shape:
        raise ValueError(
            f"the decoder's output is {tuple(output.shape)}, the images are {tuple(x.shape)}: "
            "they must have the same channels and size."
        )
