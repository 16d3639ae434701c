"""Likelihoods from below, the gaps in them, and the information in a code, in nats."""

import math
from collections.abc import Callable
from functools import partial

import torch

from companion.data import to_float
from companion.models import gaussian_kl


def gaussian_log_weights(
    nll: Callable, mean: torch.Tensor, log_var: torch.Tensor, samples: int
) -> torch.Tensor:
    """log p(x, z) - log q(z | x) of draws from N(mean, exp(log_var)) under the prior N(0, I), in nats.

    mean, log_var: (B, M). nll: codes (B, M) -> -log p(x | z) (B,). Returns (samples, B), for
    `importance_weighted`.
    """
    noise = torch.randn(samples, *mean.shape, device=mean.device)
    z = mean + (log_var / 2).exp() * noise  # (K, B, M)
    prior_to_q = (noise.square() + log_var - z.square()).sum(-1) / 2  # log p(z) - log q(z | x)
    return prior_to_q - torch.stack([nll(codes) for codes in z])


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


def log_likelihood(
    log_weights: Callable, samples: int, q: torch.Tensor | None = None, batch: int = 100
) -> Callable:
    """A measure for `measure_or_load`: (model, images) -> log p(x) from below, (N,) nats, seeded.

    log_weights: (model, x, k) -> (k, B), as for `importance_weighted`; (model, x, k, (mean, log
    variance)) where `q` (2, N, M) has Gaussians to draw from in place of the encoder's. Eight images
    or fewer, which only tell whether a kept file fits, get 20 samples.
    """

    def measure(model, images):
        torch.manual_seed(0)
        count, found = samples if len(images) > 8 else 20, []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            own = () if q is None else (q[:, start : start + len(part)].to(part.device),)
            weights = lambda x, k, own=own: log_weights(model, x, k, *own)
            found.append(importance_weighted(weights, part, count, batch))
        return torch.cat(found).float()

    return measure


@torch.no_grad()
def elbos(nll: Callable, mean: torch.Tensor, log_var: torch.Tensor, samples: int = 20):
    """The ELBO under one Gaussian for each image, means and log variances (B, M), in nats: (B,).

    nll: codes (k, B, M) -> -log p(x | z) (k, B); the KL to N(0, I) is exact. Seeded, so that two
    Gaussians of an image are compared with the same noise.
    """
    draw = torch.Generator().manual_seed(0)
    eps = torch.randn(samples, *mean.shape, generator=draw).to(mean)
    return -nll(mean + (log_var / 2).exp() * eps).mean(0) - gaussian_kl(mean, log_var)


@torch.no_grad()
def code_value(model, x: torch.Tensor, samples: int = 100) -> torch.Tensor:
    """What a code is worth, in nats an image: (3, B).

    -log p(x) by `samples` importance weights; -log p(x | z) with a code of the image's own; the same
    with the code of the image beside it, which misleads a decoder that reads its code. model has
    `posterior(x)`, means and log variances (B, M) each, and `nll(x, z)` (B,).
    """

    def log_weights(x, count):
        return gaussian_log_weights(partial(model.nll, x), *model.posterior(x), count)

    mean, log_var = model.posterior(x)
    z = mean + (log_var / 2).exp() * torch.randn_like(mean)
    log_p = importance_weighted(log_weights, x, samples).to(z)
    return torch.stack([-log_p, model.nll(x, z), model.nll(x, z.roll(1, 0))])


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
def latent_use(means: torch.Tensor, log_vars: torch.Tensor) -> dict[str, float]:
    """What Gaussian posteriors (N, M) hold: "KL, nats", "mutual information, nats", "active units".

    Over N images, N of 2,000 or more: the mutual information cannot exceed log N.
    """
    return {
        "KL, nats": gaussian_kl(means, log_vars).mean().item(),
        "mutual information, nats": mutual_information(means, log_vars),
        "active units": active_units(means),
    }


@torch.no_grad()
def mutual_information(
    means: torch.Tensor, log_vars: torch.Tensor, seed: int = 0, batch: int = 100
) -> float:
    """I(x; z) in nats under Gaussian posteriors (N, M) of N images, each equally likely.

    E log q(z | x) - E log q(z), with q(z) the exact mixture of all N posteriors and one draw of z for
    each (Hoffman and Johnson 2016). It cannot exceed log N.
    """
    means, log_vars, noise, draws = one_draw_each(means, log_vars, seed)
    own = -(noise.square() + log_vars).sum(1) / 2  # (N,) the constant of both terms left out
    precision = (-log_vars).exp()  # (N, M)
    constant = -((means.square() * precision) + log_vars).sum(1) / 2  # (N,)
    total = 0.0
    for z, mine in zip(draws.split(batch), own.split(batch), strict=True):
        cross = z @ (means * precision).T - z.square() @ precision.T / 2 + constant  # (B, N)
        total += (mine - cross.logsumexp(1)).sum().item()
    return total / len(means) + math.log(len(means))


@torch.no_grad()
def kl_parts(means: torch.Tensor, log_vars: torch.Tensor, seed: int = 0, batch: int = 50) -> dict:
    """The mean KL to N(0, I) in three parts, in nats, under Gaussian posteriors (N, M) of N images.

    "mutual information" of image and code, "total correlation" KL(q(z) ‖ Π q(z_j)) of its axes, and
    "dimension-wise KL" Σ KL(q(z_j) ‖ N(0, 1)) (Chen et al. 2018, eq. 2). q(z) is the exact mixture of
    all N posteriors, one draw of z for each; the parts add up to those draws' KL.
    """
    means, log_vars, noise, z = one_draw_each(means, log_vars, seed)
    own = (
        -(noise.square() + log_vars) / 2
    )  # (N, M) log densities, their constant left out throughout
    joint, single = [], []
    for some in z.split(batch):
        each = -((some[:, None] - means).square() * (-log_vars).exp() + log_vars) / 2  # (B, N, M)
        joint.append(each.sum(-1).logsumexp(1))
        single.append(each.logsumexp(1))
    joint = torch.cat(joint) - math.log(len(z))  # (N,) log q(z)
    single = torch.cat(single) - math.log(len(z))  # (N, M) log q(z_j)
    parts = {
        "mutual information": own.sum(1) - joint,
        "total correlation": joint - single.sum(1),
        "dimension-wise KL": (single + z.square() / 2).sum(1),
    }
    return {name: part.mean().item() for name, part in parts.items()}


def one_draw_each(means: torch.Tensor, log_vars: torch.Tensor, seed: int) -> tuple:
    """Means and log variances in float64, in which far means do not cancel; noise and one z for each."""
    means, log_vars = means.double(), log_vars.double()
    noise = torch.randn(means.shape, generator=torch.Generator().manual_seed(seed)).to(means)
    return means, log_vars, noise, means + (log_vars / 2).exp() * noise
