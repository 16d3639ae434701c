"""What notebook 31.3 alone uses: posteriors searched for each image, and a picture of one."""

import io
import lzma
import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Ellipse
from PIL import Image

from companion.data import tile, to_uint8
from companion.metrics import Gaussian, interpolate, over, plane_of, separable
from companion.models import gaussian_kl
from companion.show import table
from companion.show.plotting import COLOURS, WIDE, strip

FOUR_BLOCKS = {  # of diffusers' AutoencoderKL, as narrow as it goes
    "block_out_channels": (8, 16, 32, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "norm_num_groups": 8,
}


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


ROWS = {"plain,\ndiagonal": ("plain", 0), "plain,\nfull": ("plain", 1)}
ROWS |= {"VAE,\nprior": ("VAE", 0), "VAE,\nfull": ("VAE", 1)}
OWN = {"plain,\nown codes": ("plain", 2), "VAE,\nown codes": ("VAE", 2)}


def sample_wall(walls: dict, epochs: int, digits: torch.Tensor, reference: dict) -> None:
    """Samples of each model and Gaussian in blocks of twelve, their scores below; real digits last.

    walls: {("plain" or "VAE", latent dimensions): what `latent_wall` found}; epochs: what they were
    trained for. digits: real images (N, C, H, W), of which twelve stand below each,
    and `reference` their three scores.
    """
    sizes, last = sorted({k for _, k in walls}), in_words(*reference.values())
    figure, axes = plt.subplots(5, len(sizes), squeeze=False, figsize=(WIDE, 7))
    for (label, (name, i)), line in zip(ROWS.items(), axes, strict=False):
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
        for k, axis in zip(sizes, line, strict=True):
            wall = walls[name, k]
            block(axis, wall["pixels"][12 * i :][:12], in_words(*wall["scores"][i]))
    axes[4, 0].set_ylabel("training\ndigits", rotation=0, ha="right", va="center")
    for k, top, axis, images in zip(sizes, axes[0], axes[4], digits.split(12), strict=False):
        top.set_title(f"{k} dimensions, {epochs} epochs")
        block(axis, images, last)
    figure.suptitle("below each block: Fréchet distance, density, coverage")
    plt.show()


def block(axis, images: torch.Tensor, text: str) -> None:
    """Pictures (K, C, H, W), K even, in two rows on one axis, a text below."""
    axis.imshow(tile(images.unflatten(0, (2, -1))), vmin=0, vmax=255)
    axis.set(xticks=[], yticks=[], xlabel=text)
    axis.spines[:].set_visible(False)


def line_wall(walls: dict[tuple[str, int], dict], title: str = "") -> None:
    """Interpolations of each model, one class left and two right; below each middle the Fréchet distance
    of what lies half-way between all pairs. walls: as in `sample_wall`; a size's plain model comes first.
    """
    order = sorted(walls, key=lambda key: (key[1], key[0] != "plain"))
    rows, under = {}, {}
    for name, k in order:
        one, two = walls[name, k]["pixels"][24:].split(9)
        rows[f"{k}, {name}"] = torch.cat([one, torch.full_like(one[:1], 255), two])
        middles = dict(zip((4, 14), walls[name, k]["scores"][2:, 0].tolist(), strict=True))
        under[f"{k}, {name}"] = [f"{middles[i]:.0f}" if i in middles else "" for i in range(19)]
    strip(rows, title=title, under=under)


def holes_table(found: dict[tuple[str, int], torch.Tensor], head: str):
    """{("plain" or "VAE", latent dimensions): (seeds, 3, 4)} of `latent_holes`, a row each source, in words."""
    sizes = sorted({k for _, k in found})
    line = lambda name, i: {f"{k} dim.": in_words(*found[name, k][:, i, :3].T) for k in sizes}
    return table(
        rows={n.replace("\n", " "): line(*key) for n, key in (ROWS | OWN).items()}, head=head
    )


def in_words(distance, density, coverage) -> str:
    """Three scores of samples in a line; of several seeds, (S,) each, means and the distance's range."""
    distance, *shares = (torch.as_tensor(v) for v in (distance, density, coverage))
    ends = f" ({distance.min():.0f} to {distance.max():.0f})" if distance.ndim else ""
    return ", ".join([f"{distance.mean():.0f}{ends}", *(f"{v.mean():.2f}" for v in shares)])


def with_error(values: torch.Tensor) -> str:
    """The mean of values (N,) and its standard error, in words: "2.41 ± 0.05"."""
    return f"{values.mean():.2f} ± {values.std() / len(values) ** 0.5:.2f}"


def stored_bits(train: torch.Tensor, test: torch.Tensor) -> dict[str, float]:
    """What grey images (N, 1, H, W), uint8, take elsewhere, in bits a pixel, by name.

    A histogram of each pixel position read off `train`, half a count added to each level; `test` as
    one square sheet in lossless WebP, so that no file's head is counted twice; LZMA on its bare pixels,
    image after image.
    """
    count = torch.stack([p.bincount(minlength=256) for p in train.flatten(1).T.int().cpu()])
    share = (count + 0.5) / (count + 0.5).sum(1, keepdim=True)  # (H·W, 256)
    levels = test.flatten(1).T.long().cpu()  # (H·W, N)
    found = {"histogram": -share.log2().gather(1, levels).mean().item()}
    side, file = math.isqrt(len(test)), io.BytesIO()
    square = test[: side**2].unflatten(0, (side, side))
    Image.fromarray(tile(square, gap=0)).save(file, "WebP", lossless=True)
    found["WebP, all images on a sheet"] = 8 * len(file.getvalue()) / square.numel()
    file = lzma.compress(test.cpu().numpy().tobytes())
    return found | {"LZMA, all images in a row": 8 * len(file) / test.numel()}


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
    encode: images -> codes (B, M). standard: as in `gaussians`, true for a model with a prior.
    """
    codes = over(encode, images)
    each, full, rows = *gaussians(codes, standard), []
    for samples in (each, full, codes):
        told = 50.0 if samples is codes else separable(codes, samples)
        rows.append([*scores(over(decode, samples)).values(), told])
    return torch.tensor(rows)


def latent_wall(
    encode: Callable,
    decode: Callable,
    images: torch.Tensor,
    scores: Callable,
    standard: bool,
    *ends,
) -> dict[str, torch.Tensor]:
    """Samples of two Gaussians over codes, and interpolations, to look at and scored.

    As in `latent_holes`; ends: codes (P, M) of pairs of images, a and b of one class, a and b of two,
    of which the fifth pair is drawn. "pixels" (42, C, H, W) uint8: twelve samples each of the diagonal
    and the full Gaussian, then nine steps from a to b for each kind. "scores" (4, 3): of all samples of
    the two Gaussians, and of what lies half-way between the pairs of each kind.
    """
    drawn, kinds = gaussians(over(encode, images), standard), (ends[:2], ends[2:])
    lines = [interpolate(a[4], b[4]) for a, b in kinds]  # (9, M) each
    half_way = [(a + b) / 2 for a, b in kinds]
    scored = [list(scores(over(decode, z)).values()) for z in (*drawn, *half_way)]
    pixels = over(decode, torch.cat([*(z[:12] for z in drawn), *lines]))
    return {"pixels": to_uint8(pixels), "scores": torch.tensor(scored)}


def gaussians(codes: torch.Tensor, standard: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """As many samples as codes (N, M) of a diagonal Gaussian and of a full one, seeded: (N, M) each.

    standard: the diagonal one is N(0, I); else each axis has the mean and spread of its codes. The
    full one has their mean and covariance.
    """
    draw = torch.Generator().manual_seed(0)
    each = Gaussian.standard(codes.shape[1], codes.device).sample(len(codes), draw)
    each = each if standard else codes.mean(0) + codes.std(0) * each
    return each, Gaussian.fitted(codes).sample(len(codes), draw)
