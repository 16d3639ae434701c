"""The skeleton of all six notebooks, likelihoods, and what later notebooks take from earlier ones."""

from companion.models.compression import DeepCompression
from companion.models.discriminator import PatchDiscriminator
from companion.models.library import LibraryQuantiser
from companion.models.likelihoods import (
    bernoulli_nll,
    discretised_logistic_nll,
    gaussian_kl,
    gaussian_nll,
    logistic_mixture_nll,
    sample_logistic_mixture,
)
from companion.models.masked import MaskedConv2d, live_weights, sample_pixels
from companion.models.priors import MaskedPrior, TokenTransformer, in_codebook
from companion.models.skeleton import Autoencoder, Decoder, Dropout, Encoder
from companion.models.vae import VAE

__all__ = [
    "VAE",
    "Autoencoder",
    "Decoder",
    "DeepCompression",
    "Dropout",
    "Encoder",
    "LibraryQuantiser",
    "MaskedConv2d",
    "MaskedPrior",
    "PatchDiscriminator",
    "TokenTransformer",
    "bernoulli_nll",
    "discretised_logistic_nll",
    "gaussian_kl",
    "gaussian_nll",
    "in_codebook",
    "live_weights",
    "logistic_mixture_nll",
    "sample_logistic_mixture",
    "sample_pixels",
]
