"""The skeleton that all six notebooks share: notebook 31.1 builds these classes line by line."""

import torch
from torch import nn

from companion.models.likelihoods import squared_error


class Encoder(nn.Sequential):
    """Pixels to numbers: (B, channels, size, size) -> (B, outputs).

    Convolutions with stride 2 halve the side and double the width until the side is 7 or 8; two
    dense layers follow. `size` is 28 (grey digits), 64, or any size 7·2ⁿ or 8·2ⁿ.
    """

    def __init__(self, outputs, size=28, channels=1, width=16):
        layers = []
        while size > 8:
            layers += [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.SiLU()]
            channels, width, size = width, 2 * width, size // 2  # half the side, twice the width
        layers += [nn.Flatten(), nn.Linear(channels * size * size, 256), nn.SiLU()]
        super().__init__(*layers, nn.Linear(256, outputs))


class Decoder(nn.Sequential):
    """Numbers to pixels: (B, inputs) -> (B, channels, size, size), the encoder's mirror image.

    The output has no squashing function: a notebook reads it as pixels, means or logits.
    """

    def __init__(self, inputs, size=28, channels=1, width=16):
        layers = []
        while size > 8:
            up = nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1)
            layers = [nn.SiLU(), up, *layers]
            channels, width, size = width, 2 * width, size // 2
        dense = [nn.Linear(inputs, 256), nn.SiLU(), nn.Linear(256, channels * size * size)]
        super().__init__(*dense, nn.Unflatten(1, (channels, size, size)), *layers)


class Autoencoder(nn.Module):
    """Constraint: a bottleneck of M latent dimensions (31.1). `loss` is the squared error, summed."""

    def __init__(self, latent_dim, width=16):
        super().__init__()
        self.encoder = Encoder(latent_dim, width=width)  # (B, 1, 28, 28) -> (B, M)
        self.decoder = Decoder(latent_dim, width=width)  # (B, M) -> (B, 1, 28, 28)

    def forward(self, x):
        return self.decoder(self.encoder(x))

    def loss(self, x):
        recon = squared_error(x, self(x))  # (B,) of each image
        return {"loss": recon.mean()}


class Dropout(nn.Module):
    """Each value set to zero with probability `share` in training, the rest scaled up to keep the mean.

    nn.Dropout draws its masks by one of two generators, as torch was built with MKL or without; these
    are drawn by torch.rand, the same for every build.
    """

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, x):
        if not self.training:
            return x
        return x * (torch.rand_like(x) >= self.share) / (1 - self.share)
