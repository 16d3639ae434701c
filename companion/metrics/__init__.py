"""What a notebook measures. Each runs over the whole set it is given, without gradients."""

from companion.metrics.bounds import (
    active_units,
    importance_weighted,
    mutual_information,
    refined_posterior,
)
from companion.metrics.classifier import Judge, accuracy, jitter, readable_share
from companion.metrics.dictionaries import matched_cosines, sparsity
from companion.metrics.linear import PCA, linear_probe, principal_angles
from companion.metrics.mixtures import mixture_log_prob, mixture_score
from companion.metrics.reconstruction import mse, over, psnr, spectrum
from companion.metrics.samples import Gaussian, effects

__all__ = [
    "PCA",
    "Gaussian",
    "Judge",
    "accuracy",
    "active_units",
    "effects",
    "importance_weighted",
    "jitter",
    "linear_probe",
    "matched_cosines",
    "mixture_log_prob",
    "mixture_score",
    "mse",
    "mutual_information",
    "over",
    "principal_angles",
    "psnr",
    "readable_share",
    "refined_posterior",
    "sparsity",
    "spectrum",
]
