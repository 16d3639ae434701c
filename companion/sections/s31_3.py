"""What notebook 31.3 alone uses: posteriors searched for each image, and a picture of one."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Ellipse

from companion.data import tile
from companion.metrics import Gaussian, over, plane_of, separable
from companion.models import gaussian_kl
from companion.show.plotting import COLOURS


@torch.no_grad()
def elbos(nll: Callable, mean: torch.Tensor, log_var: torch.Tensor, samples: int = 20):
    """The ELBO under one Gaussian for each image, means and log variances (B, M), in nats: (B,).

    nll: codes (k, B, M) -> -log p(x | z) (k, B); the KL to N(0, I) is exact. Seeded, so that two
    Gaussians of an image are compared with the same noise.
    """
    draw = torch.Generator().manual_seed(0)
    eps = torch.randn(samples, *mean.shape, generator=draw).to(mean)
    return -nll(mean + (log_var / 2).exp() * eps).mean(0) - gaussian_kl(mean, log_var)


def refined_posterior(
    nll: Callable,
    mean: torch.Tensor,
    log_var: torch.Tensor,
    steps: int = 300,
    lr: float = 0.05,
    samples: int = 8,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best Gaussian posterior of each image by itself: (mean, log_var), (B, M) each.

    Starts from an encoder's and minimises E_q nll(z) + KL(q ‖ N(0, I)) by Adam, with pathwise
    gradients from `samples` draws a step. nll: codes (S, B, M) -> (S, B) nats. What the bound gains
    is the amortization gap; what is then missing to log p(x) is the approximation gap (Cremer, Li
    and Duvenaud 2018).
    """
    mean, log_var = (part.detach().clone().requires_grad_() for part in (mean, log_var))
    optimiser = torch.optim.Adam([mean, log_var], lr)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        noise = torch.randn(samples, *mean.shape, device=mean.device, dtype=mean.dtype)
        z = mean + (log_var / 2).exp() * noise  # (S, B, M)
        bound = nll(z).mean(0) + gaussian_kl(mean, log_var)  # (B,)
        mean.grad, log_var.grad = torch.autograd.grad(bound.sum(), [mean, log_var])
        optimiser.step()
        fall.step()
    return mean.detach(), log_var.detach()


@torch.no_grad()
def posterior_picture(
    log_joint: Callable, ellipses: dict[str, torch.Tensor], image: torch.Tensor, title: str = ""
) -> None:
    """A true posterior in the plane, shaded, under Gaussians that stand for it, beside its image.

    log_joint: codes (G, 2) -> log p(x, z) (G,), up to a constant. ellipses: {name: mean and
    log-variance (2, 2)}, each drawn at two standard deviations.
    """
    means, spreads = (torch.stack([e[k] for e in ellipses.values()]) for k in (0, 1))
    reach = 4 * (spreads / 2).exp()  # (K, 2)
    low, high = (means - reach).amin(0), (means + reach).amax(0)
    across, up = torch.lerp(low, high, torch.linspace(0, 1, 80)[:, None].to(low)).T
    density = log_joint(plane_of(across, up)).view(80, 80)
    _, (axis, beside) = plt.subplots(1, 2, figsize=(7, 4), width_ratios=(3, 1))
    ends = (low[0].item(), high[0].item(), low[1].item(), high[1].item())
    axis.imshow((density - density.max()).exp().cpu(), "Greys", extent=ends, aspect="auto")
    for (name, (mean, log_var)), colour in zip(
        ellipses.items(), COLOURS[5:4:-1] + COLOURS[:1], strict=True
    ):
        axis.add_patch(
            Ellipse(
                mean.tolist(),
                *(4 * (log_var / 2).exp()).tolist(),
                fill=False,
                ec=colour,
                lw=2,
                label=name,
            )
        )
    axis.legend()
    axis.set(xlabel="latent axis 1", ylabel="latent axis 2", title=title)
    beside.imshow(tile(image[None, None]), vmin=0, vmax=255)
    beside.axis("off")
    plt.show()


def columns(values, xlabel: str, ylabel: str, title: str = "") -> None:
    """Numbers as columns, the first at 1."""
    _, axis = plt.subplots(figsize=(6, 2.8))
    axis.bar(range(1, len(values) + 1), values)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    plt.show()


def latent_holes(
    encode: Callable, decode: Callable, images: torch.Tensor, scores: Callable, standard: bool
) -> torch.Tensor:
    """What three distributions over codes decode to, `SOURCES`: (3, 4), a row each.

    Columns: the Fréchet distance, density and coverage of as many decoded samples as there are images
    (`scores`, see `scorer`), and in % how surely a network tells these codes from the encoded ones
    (`separable`; 50 for the encoded ones themselves).
    encode: images -> codes (B, M). standard: the diagonal Gaussian is N(0, I), the prior that the model
    was trained towards; else each axis has the mean and spread of its codes. The full one is fitted.
    """
    codes, draw = over(encode, images), torch.Generator().manual_seed(0)
    each = Gaussian.standard(codes.shape[1], codes.device).sample(len(codes), draw)
    each = each if standard else codes.mean(0) + codes.std(0) * each
    full, rows = Gaussian.fitted(codes).sample(len(codes), draw), []
    for samples in (each, full, codes):
        told = 50.0 if samples is codes else separable(codes, samples)
        rows.append([*scores(over(decode, samples)).values(), told])
    return torch.tensor(rows)
