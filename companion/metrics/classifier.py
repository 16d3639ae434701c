"""The classifier that images of digits are compared with, and what is read off it."""

import torch
import torch.nn.functional as F
from torch import nn

from companion.metrics.reconstruction import over
from companion.models import Dropout
from companion.training import fit_or_load


class DigitClassifier(nn.Module):
    """The digit classifier that samples are measured with: 28×28 grey pixels -> 10 logits.

    It learns from training digits slightly turned, moved and scaled, and is never shown a sample.
    """

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 32, 5, stride=2, padding=2), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Conv2d(32, 64, 5, stride=2, padding=2), nn.BatchNorm2d(64), nn.ReLU()),
            *(nn.Flatten(), Dropout(0.4), nn.Linear(64 * 7 * 7, 128), nn.ReLU()),
        )  # (B, 128) activations
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        return self.head(self.features(x))

    def loss(self, x, y):
        return {"loss": F.cross_entropy(self(jitter(x)), y)}


def digit_classifier(digits) -> DigitClassifier:
    """The classifier trained on these digits, by which all notebooks compare images: loaded, or trained."""
    return fit_or_load("31.1/classifier", DigitClassifier, digits, epochs=12, labels=True)[0]


def jitter(x: torch.Tensor) -> torch.Tensor:
    """Each image turned by up to 9°, scaled by up to 8 % and moved by up to 1.4 pixels."""
    random = torch.rand(4, len(x), device=x.device) * 2 - 1  # (4, B) in [-1, 1]
    angle, scale, shift = 0.16 * random[0], 1 + 0.08 * random[1], 0.1 * random[2:]
    cos, sin = scale * angle.cos(), scale * angle.sin()
    affine = torch.stack([cos, -sin, shift[0], sin, cos, shift[1]], -1).view(-1, 2, 3)
    grid = F.affine_grid(affine, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def accuracy(classifier: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of `images` that the classifier reads as their label, in %."""
    return 100 * (over(classifier, images).argmax(1) == labels).double().mean().item()


def confidence(classifier: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The probability of the class that the classifier reads, in %: float images in [0, 1] -> (N,)."""
    return 100 * over(classifier, images.clamp(0, 1)).softmax(-1).amax(-1)


def readable_share(classifier: nn.Module, images: torch.Tensor, above: float = 90) -> float:
    """Share of `images` (float, [0, 1]) that the classifier reads with a confidence above 90 %, in %."""
    return 100 * (confidence(classifier, images) > above).double().mean().item()
