"""A mixture of Gaussians whose score is known in closed form."""

import math

import torch


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
