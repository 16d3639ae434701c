"""Numbers that the claims read. Every one runs over the whole set it is given, without gradients."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from companion.data import to_float
from companion.likelihoods import gaussian_kl
from companion.networks import Dropout


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
            *(nn.Flatten(), Dropout(0.4), nn.Linear(64 * 7 * 7, 128), nn.ReLU()),
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


def spectrum(images: torch.Tensor) -> torch.Tensor:
    """Mean power by spatial frequency: (N, C, H, H) -> (H // 2 + 1,), entry f for f cycles an image.

    The squared Fourier transform, divided by H², over the rings of wave vectors whose length rounds to
    f and over images and channels. Corners beyond H / 2 are left out.
    """
    size = images.shape[-1]
    power = torch.fft.fft2(images.float()).abs().square().flatten(0, 1).double().mean(0)  # (H, H)
    waves = torch.fft.fftfreq(size, 1 / size, device=images.device)  # -H/2 … H/2 cycles
    ring = torch.hypot(waves[:, None], waves).round().long().flatten()  # (H²,)
    sums = torch.zeros(ring.max() + 1, dtype=torch.float64, device=images.device)
    return (sums.index_add(0, ring, power.flatten()) / ring.bincount())[: size // 2 + 1] / size**2


def mixture_log_prob(x: torch.Tensor, centres: torch.Tensor, sigma: float) -> torch.Tensor:
    """log p(x) in nats under equally likely Gaussians N(centre, sigma² I): (B, D), (K, D) -> (B,)."""
    squares = (x[:, None] - centres).square().sum(-1)  # (B, K)
    normaliser = len(centres) * (2 * math.pi * sigma**2) ** (x.shape[1] / 2)
    return (-squares / (2 * sigma**2)).logsumexp(1) - math.log(normaliser)


def mixture_score(x: torch.Tensor, centres: torch.Tensor, sigma: float) -> torch.Tensor:
    """∇ log p(x) of the same mixture: towards each centre by its posterior share, over sigma²."""
    squares = (x[:, None] - centres).square().sum(-1)  # (B, K)
    shares = (-squares / (2 * sigma**2)).softmax(1)  # (B, K) p(centre | x)
    return (shares @ centres - x) / sigma**2  # (B, D)


@torch.no_grad()
def sparsity(dictionary: nn.Module, activations: torch.Tensor) -> dict[str, float]:
    """How a dictionary with `encode` and `decode` describes `activations` (N, D), float.

    {"L0": active features an item, "variance": share of the variance explained in %, "dead": share
    of the features in % that no item of the whole set activates}. ValueError for an empty set or NaN.
    """
    if not len(activations):
        raise ValueError("there are no activations: pass at least one row.")
    if not activations.isfinite().all():
        raise ValueError("activations hold NaN or infinite values: leave those rows out.")
    active, error, alive = 0, 0.0, False
    for x in activations.split(5000):
        code = dictionary.encode(x)  # (B, F)
        active += (code != 0).sum().item()
        alive = alive | (code != 0).any(0)  # (F,)
        error += (dictionary.decode(code) - x).double().square().sum().item()
    total = (activations - activations.mean(0)).double().square().sum().item()
    return {
        "L0": active / len(activations),
        "variance": 100 * (1 - error / total) if total else math.nan,
        "dead": 100 * (~alive).double().mean().item(),
    }


def matched_cosines(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cosine of each true direction (T, D) with the found one (F, D) matched to it: (T,).

    The matching is one to one and has the largest sum (the Hungarian algorithm of SciPy), so that a
    direction found twice counts once; a true one left without a partner counts 0.
    """
    from scipy.optimize import linear_sum_assignment

    cosines = F.normalize(truth, dim=1) @ F.normalize(found, dim=1).T  # (T, F)
    rows, columns = linear_sum_assignment(cosines.cpu().numpy(), maximize=True)
    matched = torch.zeros(len(truth))
    matched[rows] = cosines.cpu()[rows, columns]
    return matched


@torch.no_grad()
def importance_weighted(
    log_weights: Callable, images: torch.Tensor, samples: int, batch: int = 100, chunk: int = 50
) -> torch.Tensor:
    """log p(x) from below, by `samples` importance weights an image, in nats: (N,).

    log_weights: (x (B, ...), k) -> (k, B) draws of log p(x, z) - log q(z | x). The bound is the log of
    the weights' mean (Burda, Grosse and Salakhutdinov 2016, eq. 8); with one sample it is the ELBO.
    Weights are added up `chunk` at a time, so that any number of samples fits the memory. ValueError
    for less than one sample, and where the weights are not finite.
    """
    if samples < 1:
        raise ValueError(f"samples={samples}: the bound needs at least one importance sample.")
    bounds = []
    for part in images.split(batch):
        x, total = to_float(part), None
        for start in range(0, samples, chunk):
            weights = log_weights(x, min(chunk, samples - start)).double().logsumexp(0)  # (B,)
            total = weights if total is None else torch.logaddexp(total, weights)
        if not total.isfinite().all():
            raise ValueError(
                "importance weights are not finite: an encoder's log-variance that overflows exp() "
                "is the usual cause; train with a lower learning rate, or clamp it."
            )
        bounds.append(total - math.log(samples))
    return torch.cat(bounds)


def refined_posterior(
    nll: Callable,
    mean: torch.Tensor,
    log_var: torch.Tensor,
    steps: int = 300,
    lr: float = 0.05,
    samples: int = 8,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best Gaussian posterior of each image by itself: (mean, log_var), (B, M) each.

    Starts from an encoder's and minimises E_q nll(z) + KL(q ‖ N(0, I)) by Adam, with pathwise
    gradients from `samples` draws a step. nll: codes (S, B, M) -> (S, B) nats. What the bound gains
    is the amortization gap; what is then missing to log p(x) is the approximation gap (Cremer, Li
    and Duvenaud 2018).
    """
    mean, log_var = (part.detach().clone().requires_grad_() for part in (mean, log_var))
    optimiser = torch.optim.Adam([mean, log_var], lr)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        noise = torch.randn(samples, *mean.shape, device=mean.device, dtype=mean.dtype)
        z = mean + (log_var / 2).exp() * noise  # (S, B, M)
        bound = nll(z).mean(0) + gaussian_kl(mean, log_var)  # (B,)
        mean.grad, log_var.grad = torch.autograd.grad(bound.sum(), [mean, log_var])
        optimiser.step()
        fall.step()
    return mean.detach(), log_var.detach()


def active_units(means: torch.Tensor, threshold: float = 0.01) -> int:
    """How many axes of posterior means (N, M) vary over the data by more than `threshold`.

    The variance of E[z | x] over x, as in Burda, Grosse and Salakhutdinov 2016.
    """
    return int((means.double().var(0) > threshold).sum())


@torch.no_grad()
def mutual_information(
    means: torch.Tensor, log_vars: torch.Tensor, seed: int = 0, batch: int = 100
) -> float:
    """I(x; z) in nats under Gaussian posteriors (N, M) of N images, each equally likely.

    E log q(z | x) - E log q(z), with q(z) the exact mixture of all N posteriors and one draw of z for
    each (Hoffman and Johnson 2016). It cannot exceed log N.
    """
    means, log_vars = means.double(), log_vars.double()  # far means would cancel in float32
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(means.shape, generator=generator).to(means)
    draws = means + (log_vars / 2).exp() * noise  # (N, M)
    own = -(noise.square() + log_vars).sum(1) / 2  # (N,) the constant of both terms left out
    precision = (-log_vars).exp()  # (N, M)
    constant = -((means.square() * precision) + log_vars).sum(1) / 2  # (N,)
    total = 0.0
    for z, mine in zip(draws.split(batch), own.split(batch), strict=True):
        cross = z @ (means * precision).T - z.square() @ precision.T / 2 + constant  # (B, N)
        total += (mine - cross.logsumexp(1)).sum().item()
    return total / len(means) + math.log(len(means))
