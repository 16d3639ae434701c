"""What a notebook measures. Each runs over the whole set it is given, without gradients."""

from companion.metrics.bounds import (
    active_units,
    code_value,
    gaussian_log_weights,
    importance_weighted,
    kl_parts,
    latent_use,
    mutual_information,
    refined_posterior,
)
from companion.metrics.classifier import (
    ColourClassifier,
    DigitClassifier,
    accuracy,
    confidence,
    jitter,
    perceptual_distance,
    readable_share,
)
from companion.metrics.codebook import codebook_use, lower_envelope, rounded, webp
from companion.metrics.codes import Gaussian, effects, interpolate, traversal
from companion.metrics.dictionaries import matched_cosines, sparsity
from companion.metrics.disentanglement import (
    beta_vae_score,
    dci,
    explained_share,
    factor_vae_score,
    information_shares,
    mig,
    reference_codes,
    sap,
    scores_of,
)
from companion.metrics.filters import FILTERS, tuned
from companion.metrics.linear import PCA, linear_probe, principal_angles
from companion.metrics.mixtures import mixture_log_prob, mixture_score
from companion.metrics.reconstruction import decibels, mse, over, psnr, spectrum
from companion.metrics.samples import density_coverage, frechet_distance, sample_scores, separable

__all__ = [
    "FILTERS",
    "PCA",
    "ColourClassifier",
    "DigitClassifier",
    "Gaussian",
    "accuracy",
    "active_units",
    "beta_vae_score",
    "code_value",
    "codebook_use",
    "confidence",
    "dci",
    "decibels",
    "density_coverage",
    "effects",
    "explained_share",
    "factor_vae_score",
    "frechet_distance",
    "gaussian_log_weights",
    "importance_weighted",
    "information_shares",
    "interpolate",
    "jitter",
    "kl_parts",
    "latent_use",
    "linear_probe",
    "lower_envelope",
    "matched_cosines",
    "mig",
    "mixture_log_prob",
    "mixture_score",
    "mse",
    "mutual_information",
    "over",
    "perceptual_distance",
    "principal_angles",
    "psnr",
    "readable_share",
    "reference_codes",
    "refined_posterior",
    "rounded",
    "sample_scores",
    "sap",
    "scores_of",
    "separable",
    "sparsity",
    "spectrum",
    "traversal",
    "tuned",
    "webp",
]
