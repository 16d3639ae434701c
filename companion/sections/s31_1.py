"""What notebook 31.1 alone uses: the network that it puts DC-AE's shortcuts into."""

from itertools import pairwise

from torch import nn

from companion.models import Autoencoder


class Block(nn.Module):
    """(B, C, H, W) -> the same shape, plus what two convolutions add to it."""

    def __init__(self, channels):
        super().__init__()
        self.net = nn.Sequential(
            nn.GroupNorm(channels // 16, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x):
        return x + self.net(x)


class DeepCompression(nn.Module):
    """Pictures (B, 3, H, W) to a grid `spatial` (8, 16, 32) times smaller a side, and back.

    24 times fewer code values than pixel values at each `spatial`: the fewer the positions, the more
    channels. down: (channels, out) -> a layer that halves the side; up: one that doubles it
    (31.1 writes both, as in DC-AE: Chen et al. 2025, section 3.2).
    """

    def __init__(self, spatial, down, up):
        super().__init__()
        widths = {8: (16, 32, 64), 16: (16, 32, 64, 128), 32: (16, 32, 64, 128, 128)}[spatial]
        code = 8 * (spatial // 8) ** 2  # channels of the code
        first, last = nn.Conv2d(12, 16, 3, padding=1), nn.Conv2d(16, 12, 3, padding=1)
        inwards, outwards = [nn.PixelUnshuffle(2), first], [last, nn.PixelShuffle(2)]
        for fine, coarse in pairwise(widths):
            inwards += [Block(fine), down(fine, coarse)]
            outwards = [up(coarse, fine), Block(fine), *outwards]
        squeeze = nn.Conv2d(widths[-1], code, 3, padding=1)
        expand = nn.Conv2d(code, widths[-1], 3, padding=1)
        self.encoder = nn.Sequential(*inwards, Block(widths[-1]), squeeze)
        self.decoder = nn.Sequential(expand, Block(widths[-1]), *outwards)

    forward = Autoencoder.forward
    loss = Autoencoder.loss
