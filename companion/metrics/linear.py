"""The exact linear code, subspaces, and what a linear classifier reads from a code."""

import math

import torch

from companion.data import to_float


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
