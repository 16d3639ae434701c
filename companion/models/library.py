"""Quantisers of vector-quantize-pytorch in the place of those that notebook 31.6 builds."""

import torch
from torch import nn


class LibraryQuantiser(nn.Module):
    """`theirs`, such as VectorQuantize(accept_image_fmap=True), spoken to as ours are.

    z (B, D, H, W) -> (vectors of that shape, tokens (B, H, W), loss (B,), a sum over the vectors'
    entries where theirs is a mean). size: how many values a token has; where theirs gives several
    numbers for a place, as residual quantisation does, they are the digits of one token.
    """

    def __init__(self, theirs: nn.Module, size: int):
        super().__init__()
        self.theirs, self.size = theirs, size

    def forward(self, z):
        out, tokens, loss = self.theirs(z)
        return out, self.joined(tokens), loss.sum() * z[0].numel() * z.new_ones(len(z))

    def tokens(self, z):
        return self.joined(self.theirs(z)[1])

    def joined(self, tokens):
        if tokens.ndim == 3:
            return tokens
        count = tokens.shape[-1]
        each = round(self.size ** (1 / count))
        return (tokens * each ** torch.arange(count, device=tokens.device)).sum(-1)
