"""The discriminator: the opponent of a decoder that wants its pictures taken for real ones."""

from torch import nn


class PatchDiscriminator(nn.Sequential):
    """A score for each patch of a picture, high for real ones: (B, channels, H, W) -> (B, 1, h, w).

    Isola et al. 2017's patch discriminator, with group normalisation in place of batch normalisation.
    `halvings` convolutions of stride 2, then two of stride 1, all 4×4: with one a patch has 16×16
    pixels and a picture of 32×32 gives 14×14 scores.
    """

    def __init__(self, channels: int = 3, width: int = 64, halvings: int = 1):
        layers = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for step in range(halvings):
            stride = 2 if step < halvings - 1 else 1
            layers += [nn.Conv2d(width, 2 * width, 4, stride=stride, padding=1)]
            layers += [nn.GroupNorm(8, 2 * width), nn.LeakyReLU(0.2)]
            width *= 2
        super().__init__(*layers, nn.Conv2d(width, 1, 4, padding=1))
