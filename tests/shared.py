"""What the tests of several modules share: a network that counts, and a model known in closed form."""

import io

import numpy as np
import torch
from PIL import Image


def shown(panel):
    return np.asarray(Image.open(io.BytesIO(panel.image())))


class Counted:
    """A network that counts how often it is asked."""

    def __init__(self, net):
        self.net, self.calls = net, 0

    def __call__(self, x):
        self.calls += 1
        return self.net(x)


def work_of_moves(panel, name, counted, monkeypatch, moves=20):
    """Calls of the network a move; a figure made or a file opened by a move is an error."""
    control = panel.controls[name]
    before = counted.calls
    with monkeypatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.__init__", lambda *_, **__: 1 / 0)
        patch.setattr("builtins.open", lambda *_, **__: 1 / 0)
        for value in np.linspace(control.low, control.high, moves + 1)[1:]:
            panel.set(**{name: float(value)})
            panel.image()
    return (counted.calls - before) / moves


class LinearGaussian:
    """z ~ N(0, I), x | z ~ N(W z, s² I): everything is known in closed form."""

    def __init__(self, pixels=6, axes=2, s=0.7):
        generator = torch.Generator().manual_seed(0)
        self.w, self.s = torch.randn(pixels, axes, generator=generator).double(), s
        eye = torch.eye(axes).double()
        self.posterior = torch.linalg.inv(eye + self.w.T @ self.w / s**2)  # covariance

    def log_p(self, x):
        covariance = self.w @ self.w.T + self.s**2 * torch.eye(len(self.w))
        mean = torch.zeros(len(self.w)).double()
        return torch.distributions.MultivariateNormal(mean, covariance).log_prob(x)

    def log_weights(self, x, k, spread=1.0):
        """Draws from the exact posterior, its covariance enlarged by `spread`."""
        mean = x.double() @ self.w @ self.posterior / self.s**2
        q = torch.distributions.MultivariateNormal(mean, spread * self.posterior)
        z = q.sample((k,))  # (k, B, M)
        prior = torch.distributions.Normal(0, 1).log_prob(z).sum(-1)
        likelihood = torch.distributions.Normal(z @ self.w.T, self.s).log_prob(x).sum(-1)
        return prior + likelihood - q.log_prob(z)
