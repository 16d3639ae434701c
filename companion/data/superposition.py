"""A toy of superposition: more features than dimensions, and only their sums are seen."""

import torch
import torch.nn.functional as F


def superposed(
    count: int, seed: int, features: int = 512, dimensions: int = 256
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of random features (count, dimensions), and the features' directions (features, dimensions).

    Feature i is present with a probability that falls as 0.99^i, five are present on average, each
    with a strength uniform in [0, 1]. The directions have length one and are the same for every seed.
    """
    fixed = torch.Generator().manual_seed(31)
    truth = F.normalize(torch.randn(features, dimensions, generator=fixed), dim=1)
    chance = 0.99 ** torch.arange(features)
    chance *= 5 / chance.sum()
    generator = torch.Generator().manual_seed(seed)
    dice, strength = torch.rand(2, count, features, generator=generator)
    return (strength * (dice < chance)) @ truth, truth
