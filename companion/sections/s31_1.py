"""What notebook 31.1 alone uses: two networks to compare with, and where codes and errors lie."""

from collections.abc import Callable
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle
from torch import nn

from companion.data import tile, to_float, to_uint8
from companion.metrics import Gaussian, accuracy, over, plane_of, separable
from companion.models import Autoencoder
from companion.show.plotting import COLOURS, WIDE


class DenseAutoencoder(nn.Module):
    """The autoencoder without its convolutions: (B, 1, 28, 28) -> M numbers -> (B, 1, 28, 28).

    hidden: the widths of the encoder's layers; the decoder has them in reverse. With (392, 256) or
    (330, 256, 256) it has as many weights as 31.1's autoencoder, to half a percent.
    """

    def __init__(self, latent_dim, hidden=(392, 256)):
        super().__init__()
        widths = 784, *hidden, latent_dim
        self.encoder = nn.Sequential(nn.Flatten(), *dense_layers(widths))
        self.decoder = nn.Sequential(*dense_layers(widths[::-1]), nn.Unflatten(1, (1, 28, 28)))

    forward = Autoencoder.forward
    loss = Autoencoder.loss


def dense_layers(widths) -> list[nn.Module]:
    """Linear layers from each width to the next, SiLU between them."""
    return [part for pair in pairwise(widths) for part in (nn.SiLU(), nn.Linear(*pair))][1:]


class Dense(nn.Module):
    """One dense layer each way: with 1,024 latent dimensions there is no bottleneck."""

    def __init__(self, latent_dim):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, latent_dim), nn.SiLU())
        self.decoder = nn.Sequential(nn.Linear(latent_dim, 784), nn.Unflatten(1, (1, 28, 28)))

    forward = Autoencoder.forward
    loss = Autoencoder.loss


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


def nearest(known: torch.Tensor, asked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The distance (N,) from each of `asked` (N, M) to the nearest of `known` (K, M), and its index (N,).

    Exact, in double precision on the CPU. ValueError for sets of different dimensions.
    """
    from sklearn.neighbors import NearestNeighbors

    if known.ndim != 2 or asked.ndim != 2 or known.shape[1] != asked.shape[1]:
        shapes = f"{tuple(known.shape)} and {tuple(asked.shape)}"
        raise ValueError(f"the sets are {shapes}: pass (K, M) and (N, M) of the same M.")
    known, asked = (codes.detach().cpu().double().numpy() for codes in (known, asked))
    apart, index = NearestNeighbors(n_neighbors=1).fit(known).kneighbors(asked)
    return torch.from_numpy(apart[:, 0]), torch.from_numpy(index[:, 0])


def latent_space(model: nn.Module, images: torch.Tensor, side: int = 7) -> dict[str, torch.Tensor]:
    """The codes (N, 2) of images, and the `planes` (side², ...) that a grid over nine tenths of them decodes to."""
    codes = over(model.encoder, images)
    ends = codes.quantile(torch.tensor([0.05, 0.95]).to(codes), 0)  # (2, 2): low and high
    across, up = torch.lerp(*ends, torch.linspace(0, 1, side)[:, None].to(codes)).T
    return {"codes": codes.half(), "planes": to_uint8(over(model.decoder, plane_of(across, up)))}


def holes(model: nn.Module, images: torch.Tensor, scores: Callable) -> torch.Tensor:
    """What three distributions over codes decode to: three scores each, and how surely they are told apart.

    (3, 4), a row for each of `metrics.SOURCES`: samples of a diagonal and a full Gaussian fitted to the
    codes of `images`, as many, and these codes themselves. scores: of a set of images, {name: number}.
    """
    codes, dice = over(model.encoder, images), torch.Generator().manual_seed(0)
    noise = torch.randn(codes.shape, generator=dice).to(codes)
    each = codes.mean(0) + codes.std(0) * noise
    full = Gaussian.fitted(codes).sample(len(codes), dice)
    told = separable(codes, each), separable(codes, full), 50.0
    decoded = (over(model.decoder, z) for z in (each, full, codes))
    return torch.tensor([[*scores(x).values(), t] for x, t in zip(decoded, told, strict=True)])


def strays(
    model: nn.Module, known: torch.Tensor, held_out: torch.Tensor, scores: Callable
) -> torch.Tensor:
    """How samples of the full Gaussian lie among the codes of `known` images, and what they lose: (5,).

    The share of samples, in %, farther from every known code than 99 % of held-out codes are; the
    Fréchet distance of what samples decode to, of what the known codes nearest to them decode to, and
    of encoded images; that distance between codes. As many samples as codes, 10,000 at the most; the
    Gaussian is fitted to as many codes. scores: of a set of images, with a "Fréchet distance".
    """
    codes, dice = over(model.encoder, known), torch.Generator().manual_seed(0)
    reach = nearest(codes, over(model.encoder, held_out))[0].quantile(0.99)
    few = codes[:10_000]
    samples = Gaussian.fitted(few).sample(len(few), dice)
    apart, index = nearest(codes, samples)
    share = 100 * (apart > reach).double().mean()
    sets = samples, codes[index.to(codes.device)], few
    distances = [scores(over(model.decoder, z))["Fréchet distance"] for z in sets]
    return torch.tensor([share, *distances, reach])


def half_way(
    models: dict, images: torch.Tensor, pairs: dict, scores: Callable, near: Callable
) -> dict:
    """What lies half-way between images (N, C, H, W), in pixels and in codes: {(where, kind): scores}.

    models: {name: an autoencoder}. pairs: {kind: (first, second)}, as `metrics.pairs_by_class` gives
    them. scores: of a set of images, with a "Fréchet distance". near: images -> (N,), how far each lies
    from the nearest digit; it is compared pair by pair with that of the two images' average.
    """
    rows, images, of_pixels = {}, to_float(images), {}
    for name, model in {"pixels": None, **models}.items():
        codes = over(model.encoder, images) if model else images
        for kind, (a, b) in pairs.items():
            middles = (codes[a] + codes[b]) / 2
            middles = over(model.decoder, middles) if model else middles
            apart = near(middles)
            row = {"Fréchet distance": scores(middles)["Fréchet distance"]}
            row |= {"to the nearest digit": apart.median()}
            if model:
                nearer = (apart < of_pixels[kind]).double().mean()
                row["nearer than by pixels, % of pairs"] = 100 * nearer
            else:
                of_pixels[kind] = apart
            rows[name, kind] = row
    return rows


def to_nearest_digit(classifier, digits, images: torch.Tensor) -> torch.Tensor:
    """How far images (N, 1, 28, 28) lie from the nearest test digit, in the classifier's features: (N,)."""
    return nearest(over(classifier.features, digits.test), over(classifier.features, images))[0]


def shuffled_middle(images: torch.Tensor, dice: torch.Generator) -> torch.Tensor:
    """Digits (N, 1, 28, 28) whose 20×20 pixels in the middle are in another order, one for all."""
    order, moved = torch.randperm(400, generator=dice).to(images.device), images.clone()
    moved[:, :, 4:24, 4:24] = images[:, :, 4:24, 4:24].flatten(1)[:, order].view(-1, 1, 20, 20)
    return moved


def robustness(classifier, digits, plain: torch.Tensor, noisy: torch.Tensor) -> dict[str, float]:
    """Of outputs (N, 1, 28, 28) for the N test digits, without and with noise: error, share read right."""
    row, images = {}, to_float(digits.test)
    for name, output in {"error": plain, "with noise": noisy}.items():
        row[name] = (output - images).square().double().mean().item()  # per pixel
    for name, output in {"read right, %": plain, "with noise, %": noisy}.items():
        row[name] = accuracy(classifier, output, digits.test_labels)
    return row


def holes_map(
    decode: Callable, codes: torch.Tensor, reach: float, title: str = "", reached: float = 2.0,
    fine: int = 160, side: int = 10,
) -> None:  # fmt: skip
    """How far each place of a plane lies from the nearest of `codes` (N, 2), beside what decodes there.

    The plane goes `reached` standard deviations from the mean; the line, in both pictures, is where the
    distance is `reach`. fine, side: places an axis on the left, pictures an axis on the right.
    """
    ends = codes.mean(0) + reached * codes.std(0) * torch.tensor([[-1.0], [1.0]]).to(
        codes
    )  # (2, 2)
    across, up = torch.lerp(*ends, torch.linspace(0, 1, fine)[:, None].to(codes)).T
    apart = (
        nearest(codes, plane_of(across, up))[0].view(fine, fine).flip(0).numpy()
    )  # axis 2 upwards
    # Each picture is decoded from the middle of its cell, so that the line goes round the right ones.
    places = (torch.arange(side, dtype=torch.float)[:, None] + 0.5) / side
    planes = over(decode, plane_of(*torch.lerp(*ends, places.to(codes)).T))  # (side², 1, H, W)
    (left, low), (right, high) = ends.tolist()
    place = {"extent": (left, right, low, high), "aspect": "auto"}
    figure, (far, decoded) = plt.subplots(1, 2, figsize=(WIDE, 4.2), sharey=True)
    tones = plt.get_cmap("cividis", 24)  # few, for a file half as large
    shown = {"interpolation": "nearest", "origin": "lower"} | place
    shade = far.imshow(apart / reach, tones, norm="log", vmin=0.1, vmax=5, **shown)
    bar = figure.colorbar(shade, ax=far, label="distance to the nearest code ÷ the line's")
    bar.set_ticks([0.1, 0.3, 1, 3], labels=["0.1", "0.3", "1", "3"])
    picture = tile(planes.unflatten(0, (side, side)), gap=0)
    decoded.imshow(picture, vmin=0, vmax=255, interpolation="nearest", **place)
    for axis, name in ((far, "where codes are far"), (decoded, "what decodes there")):
        lines = across.cpu().numpy(), up.cpu().numpy(), apart, [reach]
        axis.contour(*lines, colors=COLOURS[5 if axis is decoded else 4], linewidths=1.5)
        axis.set(title=name, xlabel="latent axis 1")
    far.set_ylabel("latent axis 2")
    figure.suptitle(title)
    plt.show()


def error_maps(
    image: torch.Tensor, outputs: dict[str, torch.Tensor], title: str = "", limit: float = 2.0
) -> None:
    """An image (1, H, W), and output − image of each {name: (1, H, W)} on one scale, ± `limit`.

    Under each: its error per pixel and, in the square in the middle where digits lie, its part of it.
    """
    _, axes = plt.subplots(1, 1 + len(outputs), figsize=(WIDE, 3))
    axes[0].imshow(image[0].cpu().numpy(), vmin=0, vmax=1)
    axes[0].set_title("image")
    for axis, (name, output) in zip(axes[1:], outputs.items(), strict=True):
        error = (output - image)[0].cpu()
        middle = error[4:24, 4:24].square().sum() / error.square().sum()
        shade = axis.imshow(error.numpy(), "RdBu_r", vmin=-limit, vmax=limit)
        axis.add_patch(Rectangle((3.5, 3.5), 20, 20, fill=False, lw=1))
        under = f"error {error.square().mean():.2f}\n{middle:.0%} in the square"
        axis.set(title=name, xlabel=under)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    bar = axes[0].figure.colorbar(shade, ax=axes, label="output − image", extend="both")
    bar.ax.set_yticks([-limit, -1, 0, 1, limit])
    axes[0].figure.suptitle(title)
    plt.show()
