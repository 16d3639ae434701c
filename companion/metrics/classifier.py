"""The classifiers that images are compared with, of digits and of colour pictures, and what is read off them."""

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


def readable_share(classifier: nn.Module, images: torch.Tensor, above: float = 90) -> float:
    """Share of `images` (float, [0, 1]) that the classifier reads with a confidence above 90 %, in %.

    The confidence is the probability of the class that it reads.
    """
    confidence = 100 * over(classifier, images.clamp(0, 1)).softmax(-1).amax(-1)  # (N,)
    return 100 * (confidence > above).double().mean().item()


class ColourClassifier(nn.Module):
    """Ten classes of colour pictures (B, 3, H, W), H and W divisible by 4, and activations to compare in.

    Three stages of `depth` 3×3 convolutions, the side halved and the width doubled between them.
    `maps` -> the activations after each stage, `features` -> (B, 4 · width), the last ones' means.
    """

    def __init__(self, width: int = 16, depth: int = 2):
        super().__init__()
        self.stages, into = nn.ModuleList(), 3
        for stage in range(3):
            layers, out = [nn.AvgPool2d(2)] if stage else [], width * 2**stage
            for _ in range(depth):
                layers += [nn.Conv2d(into, out, 3, padding=1), nn.GroupNorm(8, out), nn.SiLU()]
                into = out
            self.stages.append(nn.Sequential(*layers))
        self.head = nn.Sequential(Dropout(0.3), nn.Linear(into, 10))

    def maps(self, x):
        found, x = [], 2 * x - 1
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def features(self, x):
        return self.maps(x)[-1].mean((2, 3))

    def forward(self, x):
        return self.head(self.features(x))

    def loss(self, x, y):
        turned = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
        return {"loss": F.cross_entropy(self(torch.where(turned, x.flip(3), x)), y)}


def perceptual_distance(network: ColourClassifier, a: torch.Tensor, b: torch.Tensor):
    """How different two batches of pictures (B, 3, H, W) look to a trained network: (B,).

    At each place of each stage the activations are scaled to length 1; the squared differences are
    summed over channels and averaged over places, and the stages added: LPIPS without its learned
    weights (Zhang et al. 2018, eq. 1).
    """
    total = 0
    for u, v in zip(network.maps(a), network.maps(b), strict=True):
        apart = F.normalize(u.float(), dim=1) - F.normalize(v.float(), dim=1)
        total = total + apart.square().sum(1).mean((1, 2))
    return total
