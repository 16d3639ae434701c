"""A toy of superposition: more features than dimensions, and only their sums are seen."""

import torch
import torch.nn.functional as F


def superposed(
    count: int, seed: int, features: int = 512, dimensions: int = 256, active: float = 5,
    decay: float = 0.99,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Sums of random features, the features' directions, and how strongly each is present in each sum.

    (count, dimensions), (features, dimensions), (count, features). Feature i is present with a
    probability that falls as decay^i, `active` are present on average, each with a strength uniform in
    [0, 1]. The directions have length one and are the same for every seed.
    """
    fixed = torch.Generator().manual_seed(31)
    truth = F.normalize(torch.randn(features, dimensions, generator=fixed), dim=1)
    chance = float(decay) ** torch.arange(features)
    chance *= active / chance.sum()
    generator = torch.Generator().manual_seed(seed)
    dice, strength = torch.rand(2, count, features, generator=generator)
    strength = strength * (dice < chance)
    return strength @ truth, truth, strength
