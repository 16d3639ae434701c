"""Quantisers of vector-quantize-pytorch in the place of those that notebook 31.6 builds."""

import torch
from torch import nn


class LibraryQuantiser(nn.Module):
    """`theirs`, such as VectorQuantize(dim=16), spoken to as ours are.

    z (B, D, H, W) -> (vectors of that shape, tokens (B, H, W), loss (B,), a sum over the vectors'
    entries where theirs is a mean). size: how many values a token has; where theirs gives several
    numbers for a place, as residual quantisation does, they are the digits of one token.
    """

    def __init__(self, theirs: nn.Module, size: int):
        super().__init__()
        self.theirs, self.size = theirs, size

    def forward(self, z):
        vectors = z.flatten(2).movedim(1, 2)  # (B, H·W, D), for not all of theirs take images
        out, tokens, loss = self.theirs(vectors)
        if tokens.ndim == 3:
            each = round(self.size ** (1 / tokens.shape[2]))
            tokens = (tokens * each ** torch.arange(tokens.shape[2], device=z.device)).sum(2)
        total = loss.sum() * z[0].numel() * z.new_ones(len(z))
        return out.movedim(1, 2).view_as(z), tokens.unflatten(1, z.shape[2:]), total

    def tokens(self, z):
        return self(z)[1]
