"""The skeleton that all six notebooks share, and the likelihoods of its decoder."""

from companion.models.likelihoods import (
    bernoulli_nll,
    discretised_logistic_nll,
    gaussian_kl,
    gaussian_nll,
)
from companion.models.skeleton import Decoder, Dropout, Encoder

__all__ = [
    "Decoder",
    "Dropout",
    "Encoder",
    "bernoulli_nll",
    "discretised_logistic_nll",
    "gaussian_kl",
    "gaussian_nll",
]
