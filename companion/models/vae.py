"""What later notebooks compare with: the VAE that notebook 31.3 builds."""

import torch
from torch import nn

from companion.models.likelihoods import bernoulli_nll
from companion.models.skeleton import Decoder, Encoder


class VAE(nn.Module):
    """Binarised digits and a code near N(0, I) (Kingma and Welling 2014): x (B, 1, 28, 28) in [0, 1].

    `loss` has "loss", "recon" and "kl" in nats; `decoder` turns codes (B, M) into logits.
    """

    def __init__(self, latent_dim):
        super().__init__()
        self.encoder = Encoder(2 * latent_dim)  # (B, 1, 28, 28) -> (B, 2M): mean and log-variance
        self.decoder = Decoder(latent_dim)  # (B, M) -> (B, 1, 28, 28): logits

    def loss(self, x):
        x = torch.bernoulli(x)
        mean, log_var = self.encoder(x).chunk(2, dim=-1)  # (B, M) each
        z = mean + (log_var / 2).exp() * torch.randn_like(mean)
        recon = bernoulli_nll(x, self.decoder(z))  # (B,) nats
        kl = (mean**2 + log_var.exp() - log_var - 1).sum(-1) / 2  # (B,) nats
        return {"loss": (recon + kl).mean(), "recon": recon.mean(), "kl": kl.mean()}
