"""Three corruptions of an image, each with a strength from 0 (untouched) to 1.

A strength is one number for all images, or a tensor (B, 1, 1, 1) with one for each. ValueError where
it lies outside [0, 1].
"""

import torch


def gaussian(x: torch.Tensor, strength) -> torch.Tensor:
    """Add independent normal noise of standard deviation `strength`. The sum is not clamped."""
    return x + in_range(strength) * torch.randn_like(x)


def masking(x: torch.Tensor, strength) -> torch.Tensor:
    """Set each pixel to 0 with probability `strength` (Vincent et al. 2008)."""
    return x * (torch.rand_like(x) >= in_range(strength))


def salt_and_pepper(x: torch.Tensor, strength) -> torch.Tensor:
    """Replace each pixel with probability `strength`, by 0 or by 1 with equal chance."""
    dice = torch.rand_like(x)
    return torch.where(dice < in_range(strength), (dice < strength / 2).to(x), x)


CORRUPTIONS = {"Gaussian": gaussian, "masking": masking, "salt and pepper": salt_and_pepper}


def in_range(strength):
    """The strength, or a ValueError. On a GPU a tensor is taken on trust: a look would wait for it."""
    if torch.is_tensor(strength) and strength.is_cuda:
        return strength
    low, high = (strength.min(), strength.max()) if torch.is_tensor(strength) else [strength] * 2
    if not 0 <= low <= high <= 1:
        raise ValueError(f"corruption strength {low if low < 0 else high:g}: choose 0 to 1.")
    return strength
