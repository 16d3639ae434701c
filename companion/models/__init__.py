"""The skeleton of all six notebooks, likelihoods, and the VAE that later notebooks compare with."""

# ruff: noqa: F401, I001 - what is imported here is what the package offers
from companion.models.likelihoods import bernoulli_nll, discretised_logistic_nll, gaussian_kl
from companion.models.likelihoods import gaussian_nll, same_shape, squared_error
from companion.models.skeleton import Autoencoder, Decoder, Dropout, Encoder
from companion.models.vae import VAE
