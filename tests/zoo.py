"""Small models of every kind whose training a mark has to know, for the tests of what is kept.

`python tests/zoo.py` loads each from `$COMPANION_TRAINED` and prints what `fit_or_load` says: run with
other threads, or another kind of CPU imitated, it must load what was trained here.
"""

import torch
import torch.nn.functional as F
from torch import nn

from companion.data import Images
from companion.metrics import DigitClassifier
from companion.models import Decoder, Encoder, bernoulli_nll, gaussian_kl
from companion.training import Player, fit_or_load


class VAE(nn.Module):
    """The chapter's model; β is a constant that no file keeps."""

    def __init__(self, beta=1.0):
        super().__init__()
        self.encoder, self.decoder = Encoder(8, width=4), Decoder(4, width=4)
        self.beta = beta

    def loss(self, x):
        x = (torch.rand_like(x) < x).float()
        mean, log_var = self.encoder(x).chunk(2, -1)
        z = mean + (log_var / 2).exp() * torch.randn_like(mean)
        recon, kl = bernoulli_nll(x, self.decoder(z)).mean(), gaussian_kl(mean, log_var).mean()
        return {"loss": recon + self.beta * kl, "recon": recon, "kl": kl}


class Warm(VAE):
    """The same with the KL coming in over the first part of training."""

    warm_up = 0.7

    def __init__(self):
        super().__init__()
        self.register_buffer("progress", torch.zeros(()), persistent=False)

    def loss(self, x):
        terms = super().loss(x)
        weight = (self.progress / self.warm_up).clamp(max=1)
        return terms | {"loss": terms["recon"] + weight * terms["kl"]}


class Codebook(nn.Module):
    """Nearest codes, straight-through, and a codebook that follows the mean of what chose it."""

    decay, commitment = 0.9, 0.25

    def __init__(self, codes=8):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 4))
        self.decoder = nn.Linear(4, 784)
        self.register_buffer("codes", torch.randn(codes, 4))

    def loss(self, x):
        z = self.encoder(x)  # (B, 4)
        nearest = torch.cdist(z, self.codes).argmin(1)  # (B,)
        chosen = self.codes[nearest]
        with torch.no_grad():
            member = F.one_hot(nearest, len(self.codes)).float()  # (B, K)
            count = member.sum(0)[:, None]
            mean = torch.where(count > 0, member.T @ z / count.clamp(min=1), self.codes)
            self.codes.lerp_(mean, 1 - self.decay)
        recon = (self.decoder(z + (chosen - z).detach()) - x.flatten(1)).square().sum(1).mean()
        commit = (z - chosen.detach()).square().sum(1).mean()
        return {"loss": recon + self.commitment * commit, "commit": commit}


class Rivals(nn.Module):
    """A generator and a critic, each with a rate of its own."""

    def __init__(self):
        super().__init__()
        self.generator, self.critic = nn.Linear(3, 784), nn.Linear(784, 1)

    def players(self):
        return {
            "loss": self.generator.parameters(),
            "critic_loss": Player(self.critic.parameters(), lr=1e-4, betas=(0.5, 0.9), steps=2),
        }

    def fake(self, x):
        return self.generator(torch.randn(len(x), 3))

    def loss(self, x):
        return {"loss": -self.critic(self.fake(x)).mean()}

    def critic_loss(self, x):
        real, fake = self.critic(x.flatten(1)), self.critic(self.fake(x).detach())
        return {"loss": F.relu(1 - real).mean() + F.relu(1 + fake).mean(), "real": real.mean()}


KINDS = {
    "vae": VAE,
    "warm": Warm,
    "codebook": Codebook,
    "rivals": Rivals,
    "classifier": DigitClassifier,
}


def images(seed=0) -> Images:
    """Two hundred smooth grey images with labels."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(200, 1, 7, 7, generator=generator)
    x = (255 * F.interpolate(coarse, scale_factor=4, mode="bilinear")).byte()
    return Images("smooth", x, torch.arange(200) % 10, x[:10], torch.zeros(10), "made here")


def use(kind: str, build=None, data=None, **settings):
    """One model of a kind by `fit_or_load`."""
    settings = {"epochs": 1, "batch": 50, "bar": False, "labels": kind == "classifier"} | settings
    return fit_or_load(f"zoo/{kind}", build or KINDS[kind], data or images(), **settings)[0]


if __name__ == "__main__":
    for name in KINDS:
        use(name)
