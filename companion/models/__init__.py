"""The skeleton that all six notebooks share, its decoder's likelihoods, and 31.3's VAE to compare with."""

from companion.models.likelihoods import (
    bernoulli_nll,
    discretised_logistic_nll,
    gaussian_kl,
    gaussian_nll,
)
from companion.models.skeleton import Decoder, Dropout, Encoder
from companion.models.vae import VAE

__all__ = [
    "VAE",
    "Decoder",
    "Dropout",
    "Encoder",
    "bernoulli_nll",
    "discretised_logistic_nll",
    "gaussian_kl",
    "gaussian_nll",
]
