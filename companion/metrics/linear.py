"""The exact linear code, and what a linear classifier reads from a code."""

from collections.abc import Callable

import torch

from companion.data import to_float
from companion.metrics.reconstruction import over


class PCA:
    """The exact principal components of `images`: the best linear code of every size at once."""

    def __init__(self, images: torch.Tensor):
        flat = to_float(images).flatten(1)  # (N, D)
        self.mean = flat.double().mean(0)
        covariance = torch.zeros(flat.shape[1], flat.shape[1], dtype=torch.float64)
        for part in flat.split(10_000):
            centred = (part.double() - self.mean).cpu()
            covariance += centred.T @ centred / len(flat)
        values, vectors = torch.linalg.eigh(covariance)  # ascending
        self.variance = values.flip(0)  # (D,) squared pixel values
        self.components = vectors.flip(1).T.to(flat.device)  # (D, D), one component a row

    def reconstruct(self, x: torch.Tensor, latent_dim: int) -> torch.Tensor:
        """Project (B, ...) on the first `latent_dim` components and back."""
        basis = self.components[:latent_dim].to(x.dtype)
        centred = x.flatten(1) - self.mean.to(x.dtype)
        return (centred @ basis.T @ basis + self.mean.to(x.dtype)).view_as(x)


def linear_probe(codes, labels, test_codes, test_labels, strength: float = 1.0) -> float:
    """Accuracy in % of a linear classifier (logistic regression) on codes (N, M).

    Codes are standardised with the training set's mean and spread, so that scale gives no advantage.
    strength: scikit-learn's C, the smaller the more regularised.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200))
    probe.fit(codes.cpu().numpy(), labels.cpu().numpy())
    return 100 * probe.score(test_codes.cpu().numpy(), test_labels.cpu().numpy())


def probe_digits(encode: Callable, digits, count: int) -> float:
    """Accuracy in % of a linear probe on the codes of all test digits, from `count` labelled ones."""
    known, asked = over(encode, digits.train[:count]), over(encode, digits.test)
    return linear_probe(known, digits.train_labels[:count], asked, digits.test_labels)
