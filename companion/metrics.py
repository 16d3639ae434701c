"""Numbers that the claims read. Every one runs over the whole set it is given, without gradients."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from companion.data import to_float


@torch.no_grad()
def over(function: Callable, images: torch.Tensor, batch: int = 1000) -> torch.Tensor:
    """`function` of all of `images` (N, ...), float in [0, 1], batch by batch: (N, ...)."""
    return torch.cat([function(to_float(part)).float() for part in images.split(batch)])


def mse(reconstruct: Callable, images: torch.Tensor, batch: int = 1000) -> float:
    """Mean squared error per pixel value (pixels in [0, 1]) over the whole of `images`."""
    errors = over(lambda x: (reconstruct(x) - x).square().flatten(1).mean(1), images, batch)
    return errors.double().mean().item()


def psnr(reconstruct: Callable, images: torch.Tensor, batch: int = 100) -> float:
    """Peak signal-to-noise ratio in dB, the mean over images, output clamped to [0, 1]."""

    def each(x):
        return -10 * (reconstruct(x).clamp(0, 1) - x).square().flatten(1).mean(1).log10()

    return over(each, images, batch).double().mean().item()


class PCA:
    """The exact principal components of `images`: the best linear code of every width at once."""

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

    def reconstruct(self, x: torch.Tensor, width: int) -> torch.Tensor:
        """Project (B, ...) on the first `width` components and back."""
        basis = self.components[:width].to(x.dtype)
        centred = x.flatten(1) - self.mean.to(x.dtype)
        return (centred @ basis.T @ basis + self.mean.to(x.dtype)).view_as(x)


def principal_angles(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Angles in degrees, smallest first, between the row spaces of a, b (k, D): (k,).

    Björck and Golub 1973: sines from the part of one basis outside the other, which keeps small
    angles exact where arc cosines lose half the digits.
    """
    q_a, q_b = (torch.linalg.qr(rows.double().T)[0] for rows in (a, b))
    outside = q_b - q_a @ (q_a.T @ q_b)
    return torch.linalg.svdvals(outside).clamp(max=1).asin().flip(0) * 180 / math.pi


class Gaussian:
    """N(mean, covariance) over codes: the prior that random draws and readouts come from."""

    def __init__(self, mean: torch.Tensor, covariance: torch.Tensor):
        self.mean, self.factor = mean, torch.linalg.cholesky(covariance)

    @classmethod
    def fitted(cls, codes: torch.Tensor) -> "Gaussian":
        """The Gaussian with the mean and covariance of `codes` (N, M)."""
        covariance = codes.T.cov().reshape(codes.shape[1], -1)
        floor = 1e-6 * covariance.diagonal().mean()  # an axis that never moves has no factor
        return cls(codes.mean(0), covariance + floor * torch.eye(len(covariance)).to(codes))

    @classmethod
    def standard(cls, axes: int, device=None) -> "Gaussian":
        return cls(torch.zeros(axes, device=device), torch.eye(axes, device=device))

    def draw(self, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """`count` codes (count, M)."""
        noise = torch.randn(count, len(self.mean), generator=generator).to(self.mean)
        return self.mean + noise @ self.factor.T

    def rarer(self, code: torch.Tensor) -> float:
        """Share of the prior's draws, in %, that are less likely than `code` (M,): χ² tail."""
        whitened = torch.linalg.solve_triangular(
            self.factor, (code - self.mean)[:, None], upper=False
        )
        half = torch.tensor([len(self.mean) / 2, whitened.square().sum().item() / 2])
        return 100 * torch.special.gammaincc(half[0], half[1]).item()


def effects(decoder: Callable, codes: torch.Tensor) -> torch.Tensor:
    """How much each axis moves the picture: mean squared pixel change over ±1 σ, as shares: (M,)."""
    middle, spread = codes.mean(0), codes.std(0)
    with torch.no_grad():
        up, down = decoder(middle + spread.diag()), decoder(middle - spread.diag())
    change = (up - down).square().flatten(1).mean(1)
    return change / change.sum()


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


class Judge(nn.Module):
    """The digit classifier that reads samples: 28×28 grey pixels -> 10 logits.

    It learns from training digits slightly turned, moved and scaled, and is never shown a sample.
    """

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 32, 5, stride=2, padding=2), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Conv2d(32, 64, 5, stride=2, padding=2), nn.BatchNorm2d(64), nn.ReLU()),
            *(nn.Flatten(), nn.Dropout(0.4), nn.Linear(64 * 7 * 7, 128), nn.ReLU()),
        )  # (B, 128) activations
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        return self.head(self.features(x))

    def loss(self, x, y):
        return {"loss": F.cross_entropy(self(jitter(x)), y)}


def jitter(x: torch.Tensor) -> torch.Tensor:
    """Each image turned by up to 9°, scaled by up to 8 % and moved by up to 1.4 pixels."""
    random = torch.rand(4, len(x), device=x.device) * 2 - 1  # (4, B) in [-1, 1]
    angle, scale, shift = 0.16 * random[0], 1 + 0.08 * random[1], 0.1 * random[2:]
    cos, sin = scale * angle.cos(), scale * angle.sin()
    affine = torch.stack([cos, -sin, shift[0], sin, cos, shift[1]], -1).view(-1, 2, 3)
    grid = F.affine_grid(affine, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def accuracy(judge: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of `images` that the judge reads as their label, in %."""
    return 100 * (over(judge, images).argmax(1) == labels).double().mean().item()


def readable_share(judge: nn.Module, images: torch.Tensor, confidence: float = 0.9) -> float:
    """Share of `images` (float, [0, 1]) that the judge reads as some digit surely enough, in %."""
    top = over(judge, images.clamp(0, 1)).softmax(-1).amax(-1)
    return 100 * (top > confidence).double().mean().item()
