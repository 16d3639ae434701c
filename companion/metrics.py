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


def psnr(reconstruct: Callable, images: torch.Tensor, batch: int = 500) -> float:
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
