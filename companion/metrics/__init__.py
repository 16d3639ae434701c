"""What two notebooks or more measure. Each runs over the whole set it is given, without gradients."""

# ruff: noqa: F401, I001 - what is imported here is what the package offers
from companion.metrics.bounds import active_units, gaussian_log_weights, importance_weighted
from companion.metrics.bounds import log_likelihood, mutual_information, one_draw_each
from companion.metrics.classifier import ColourClassifier, DigitClassifier, accuracy
from companion.metrics.classifier import digit_classifier, jitter, perceptual_distance
from companion.metrics.classifier import readable_share
from companion.metrics.codes import Gaussian, effects, interpolate, pairs_by_class
from companion.metrics.codes import RECOVERY, matched, plane_of, recovery, traversal
from companion.metrics.linear import PCA, linear_probe, probe_digits
from companion.metrics.reconstruction import codec, decibels, high_energy, mse, over
from companion.metrics.samples import SOURCES, beside_digits, density_coverage, frechet_distance
from companion.metrics.samples import sample_scores, scorer, separable
