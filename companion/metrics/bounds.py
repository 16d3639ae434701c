"""Likelihoods from below, and the information in a code, in nats."""

import math
from collections.abc import Callable

import torch

from companion.data import to_float


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
    variance)) where `q` (2, N, M) has Gaussians to draw from in place of the encoder's.
    """

    def measure(model, images):
        torch.manual_seed(0)
        found = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            own = () if q is None else (q[:, start : start + len(part)].to(part.device),)
            weights = lambda x, k, own=own: log_weights(model, x, k, *own)
            found.append(importance_weighted(weights, part, samples, batch))
        return torch.cat(found).float()

    return measure


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
    means, log_vars, noise, draws = one_draw_each(means, log_vars, seed)
    own = -(noise.square() + log_vars).sum(1) / 2  # (N,) the constant of both terms left out
    precision = (-log_vars).exp()  # (N, M)
    constant = -((means.square() * precision) + log_vars).sum(1) / 2  # (N,)
    total = 0.0
    for z, mine in zip(draws.split(batch), own.split(batch), strict=True):
        cross = z @ (means * precision).T - z.square() @ precision.T / 2 + constant  # (B, N)
        total += (mine - cross.logsumexp(1)).sum().item()
    return total / len(means) + math.log(len(means))


def one_draw_each(means: torch.Tensor, log_vars: torch.Tensor, seed: int) -> tuple:
    """Means and log variances in float64, in which far means do not cancel; noise and one z for each."""
    means, log_vars = means.double(), log_vars.double()
    noise = torch.randn(means.shape, generator=torch.Generator().manual_seed(seed)).to(means)
    return means, log_vars, noise, means + (log_vars / 2).exp() * noise
