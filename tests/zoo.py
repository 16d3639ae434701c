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
    """The chapter's model, the KL coming in over the first part of training."""

    warm_up = 0.7

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = Encoder(8, width=4), Decoder(4, width=4)
        self.register_buffer("progress", torch.zeros(()), persistent=False)

    def loss(self, x):
        x = (torch.rand_like(x) < x).float()
        mean, log_var = self.encoder(x).chunk(2, -1)
        z = mean + (log_var / 2).exp() * torch.randn_like(mean)
        recon, kl = bernoulli_nll(x, self.decoder(z)).mean(), gaussian_kl(mean, log_var).mean()
        weight = (self.progress / self.warm_up).clamp(max=1)
        loss = recon + weight * kl
        return {"loss": loss, "recon": recon, "kl": kl, "clock": self.progress}


class Codebook(nn.Module):
    """Nearest codes, straight-through; the codebook follows the mean of what chose each."""

    decay, commitment = 0.9, 0.25

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(784, 4), nn.Linear(4, 784)
        self.register_buffer("codes", torch.randn(8, 4))

    def loss(self, x):
        x = x.flatten(1)
        z = self.encoder(x)  # (B, 4)
        nearest = torch.cdist(z, self.codes).argmin(1)  # (B,)
        chosen = self.codes[nearest]
        with torch.no_grad():
            member = F.one_hot(nearest, 8).float()  # (B, K)
            count = member.sum(0)[:, None]
            mean = torch.where(count > 0, member.T @ z / count.clamp(min=1), self.codes)
            self.codes.lerp_(mean, 1 - self.decay)
        recon = (self.decoder(z + (chosen - z).detach()) - x).square().sum(1).mean()
        commit = (z - chosen.detach()).square().sum(1).mean()
        return {"loss": recon + self.commitment * commit, "commit": commit}


class Rivals(nn.Module):
    """A generator and a critic, each with a rate of its own."""

    def __init__(self):
        super().__init__()
        self.generator, self.critic = nn.Linear(3, 784), nn.Linear(784, 1)

    def players(self):
        critic = Player(self.critic.parameters(), lr=1e-4, betas=(0.5, 0.9), steps=2)
        return {"loss": self.generator.parameters(), "critic_loss": critic}

    def fake(self, x):
        return self.generator(torch.randn(len(x), 3))

    def loss(self, x):
        return {"loss": -self.critic(self.fake(x)).mean()}

    def critic_loss(self, x):
        real, fake = self.critic(x.flatten(1)), self.critic(self.fake(x).detach())
        return {"loss": F.relu(1 - real).mean() + F.relu(1 + fake).mean(), "real": real.mean()}


KINDS = {"vae": VAE, "codebook": Codebook, "rivals": Rivals, "classifier": DigitClassifier}


def images(seed=0) -> Images:
    """Two hundred smooth grey images with labels."""
    coarse = torch.rand(200, 1, 7, 7, generator=torch.Generator().manual_seed(seed))
    x = (255 * F.interpolate(coarse, scale_factor=4, mode="bilinear")).byte()
    return Images("smooth", x, torch.arange(200) % 10, x[:10], torch.zeros(10), "made here")


def use(kind: str) -> None:
    settings = {"epochs": 1, "batch": 50, "bar": False, "labels": kind == "classifier"}
    fit_or_load(f"zoo/{kind}", KINDS[kind], images(), **settings)


if __name__ == "__main__":
    for name in KINDS:
        use(name)
