"""The exact linear code, subspaces, and what a linear classifier reads from a code."""

import math
from collections.abc import Callable

import torch

from companion.data import to_float
from companion.metrics.reconstruction import over
from companion.training import measured_by_seed


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

    def log_likelihood(self, images: torch.Tensor, latent_dim: int) -> tuple[float, float]:
        """(s², the mean log-likelihood in nats) of images (N, ...) under probabilistic PCA.

        Tipping and Bishop 1999: s² is the mean of the eigenvalues left out, the covariance W Wᵀ + s² I
        has the eigenvalues kept and s². A density of grey levels.
        """
        kept, noise = self.variance[:latent_dim], self.variance[latent_dim:].mean()
        centred = to_float(images).flatten(1).double() - self.mean  # (N, D)
        inside = (centred @ self.components[:latent_dim].T).square()  # (N, latent_dim)
        outside = centred.square().sum(1) - inside.sum(1)  # (N,)
        squares = (inside.cpu() / kept).sum(1) + outside.cpu() / noise
        size = len(self.variance)
        log_det = kept.log().sum() + (size - latent_dim) * noise.log()
        return noise.item(), -(squares.mean() + log_det + size * math.log(2 * math.pi)).item() / 2


@torch.no_grad()
def wiener(pca: PCA, corrupt: Callable, images: torch.Tensor) -> Callable:
    """The best affine denoiser of data with the mean μ and covariance C of `pca` (Wiener 1949).

    x̂ = μ + a C (a² C + V)⁻¹ (x̃ − E x̃), for a corruption x̃ = a x + b + noise that is independent from
    pixel to pixel, with variances V. a, b and V are measured on `corrupt(images)`, (N, ...) -> (N, ...).
    """
    clean = to_float(images)
    noisy, clean = (x.flatten(1).double() for x in (corrupt(clean), clean))
    shift = noisy.mean(0), clean.mean(0)  # (D,) each
    spread = clean.var(0, correction=0)
    a = ((noisy - shift[0]) * (clean - shift[1])).mean(0).sum() / spread.sum()
    noise = (noisy.var(0, correction=0) - a**2 * spread).clamp(min=1e-6)
    basis = pca.components
    covariance = (basis.T * pca.variance.to(basis)) @ basis  # (D, D)
    gain = torch.linalg.solve(a**2 * covariance + noise.diag(), a * covariance)
    expected = shift[0] + a * (pca.mean - shift[1])

    def denoise(x):
        return (pca.mean + (x.flatten(1) - expected) @ gain).view_as(x).to(x.dtype)

    return denoise


def principal_angles(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Angles in degrees, smallest first, between the row spaces of a, b (k, D): (k,).

    Björck and Golub 1973: sines from the part of one basis outside the other, which keeps small
    angles exact where arc cosines lose half the digits.
    """
    q_a, q_b = (torch.linalg.qr(rows.double().T)[0] for rows in (a, b))
    outside = q_b - q_a @ (q_a.T @ q_b)
    return torch.linalg.svdvals(outside).clamp(max=1).asin().flip(0) * 180 / math.pi


def linear_probe(codes, labels, test_codes, test_labels) -> float:
    """Accuracy in % of a linear classifier (logistic regression) on codes (N, M).

    Codes are standardised with the training set's mean and spread, so that scale gives no advantage.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    probe.fit(codes.cpu().numpy(), labels.cpu().numpy())
    return 100 * probe.score(test_codes.cpu().numpy(), test_labels.cpu().numpy())


def probe_digits(encode: Callable, digits, count: int) -> float:
    """Accuracy in % of a linear probe on the codes of all test digits, from `count` labelled ones."""
    known, asked = over(encode, digits.train[:count]), over(encode, digits.test)
    return linear_probe(known, digits.train_labels[:count], asked, digits.test_labels)


def trained_probes(
    name: str, build: Callable, digits, keys, seeds, count: int = 1000, **settings
) -> torch.Tensor:
    """`probe_digits` of the encoders of models trained with several seeds, in %: (seeds, keys).

    build: key -> an untrained model with an `encoder`. settings: as in `fit`. The numbers are kept
    (`measured_by_seed`), the models are not.
    """
    items = torch.cat([digits.train[:count], digits.test])
    labels = torch.cat([digits.train_labels[:count], digits.test_labels])

    def probed(model, images):
        z, known = over(model.encoder, images), min(count, len(images) // 2)  # half of a few
        y = labels[: len(z)]
        return torch.tensor([linear_probe(z[:known], y[:known], z[known:], y[known:])])

    found = measured_by_seed(name, build, digits, probed, keys, seeds, items, **settings)
    return torch.cat(list(found.values()), 1)
