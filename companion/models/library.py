"""Quantisers of vector-quantize-pytorch in the place of those that notebook 31.6 builds."""

from torch import nn


class LibraryQuantiser(nn.Module):
    """`theirs`, such as VectorQuantize(accept_image_fmap=True), spoken to as ours are.

    z (B, D, H, W) -> (vectors of that shape, tokens (B, H, W, ...), loss (B,), a sum over the vectors'
    entries where theirs is a mean). size: how many values a token has.
    """

    def __init__(self, theirs: nn.Module, size: int):
        super().__init__()
        self.theirs, self.size = theirs, size

    def forward(self, z):
        out, tokens, loss = self.theirs(z)
        return out, tokens, loss.sum() * z[0].numel() * z.new_ones(len(z))

    def tokens(self, z):
        return self.theirs(z)[1]
