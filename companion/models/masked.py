"""Images one pixel after the other: notebook 31.4 builds the masked convolution line by line."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn


class MaskedConv2d(nn.Conv2d):
    """Sees the rows above and what stands to the left; its own place only with `own`."""

    def __init__(self, into, out, side, own):
        super().__init__(into, out, side, padding=side // 2)
        mask = (torch.arange(side**2) < side**2 // 2 + own).float()
        self.register_buffer("mask", mask.view(side, side), persistent=False)

    def forward(self, x):
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


def live_weights(model: nn.Module) -> int:
    """How many parameters a model has, those that a mask keeps at zero not counted."""
    total = sum(parameter.numel() for parameter in model.parameters())
    masked = (part for part in model.modules() if isinstance(part, MaskedConv2d))
    return total - sum(int((1 - m.mask).sum()) * m.weight[..., 0, 0].numel() for m in masked)


@torch.no_grad()
def sample_pixels(logits_of: Callable, dice: torch.Tensor) -> torch.Tensor:
    """Black-and-white images drawn pixel by pixel, row by row: one pass of the decoder for each.

    logits_of: images so far (B, 1, H, W) -> logits of the same shape, each a function of the pixels
    before it. dice: uniform numbers of that shape, on the device; with the same dice two samples
    differ only where their probabilities do.
    """
    x = torch.zeros_like(dice)
    for row in range(x.shape[-2]):
        for column in range(x.shape[-1]):
            chance = logits_of(x)[..., row, column].sigmoid()  # (B, 1)
            x[..., row, column] = (dice[..., row, column] < chance).float()
    return x
