"""What notebook 31.6 alone uses: priors over tokens, a codebook's measures, pictures compared, panels.

A prior is over grids of tokens (B, H, W), int64 below `size`: each token given those before it, row by
row. `side`: of a square grid, or its (rows, columns); one row where tokens are a mere sequence. Both
have `logits(tokens)` -> (B, H, W, size), `loss(tokens)` for the training loop, in nats a grid, and
`sample(count)`. ValueError for a token that the codebook does not have.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from companion import metrics
from companion.data import to_float
from companion.metrics import over
from companion.models import Dropout
from companion.show.panel import Choice, Panel, Slider
from companion.show.pixels import palette
from companion.show.plotting import COLOURS


def encoder(dim: int, width: int = 32, channels: int = 1) -> nn.Sequential:
    """(B, channels, 4H, 4W) -> (B, dim, H, W): 7×7 vectors of a digit."""
    layers = []
    for into, out in pairwise((channels, width, 2 * width)):
        layers += [nn.Conv2d(into, out, 4, stride=2, padding=1), nn.SiLU()]  # half the side
    layers += [nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.SiLU()]
    return nn.Sequential(*layers, nn.Conv2d(2 * width, dim, 1))


def decoder(dim: int, width: int = 32, channels: int = 1) -> nn.Sequential:
    """(B, dim, H, W) -> (B, channels, 4H, 4W)."""
    layers = [nn.Conv2d(dim, 2 * width, 3, padding=1), nn.SiLU()]
    layers += [nn.Conv2d(2 * width, 2 * width, 3, padding=1)]
    for into, out in pairwise((2 * width, width, channels)):
        layers += [nn.SiLU(), nn.ConvTranspose2d(into, out, 4, stride=2, padding=1)]
    return nn.Sequential(*layers)


def quantised(quantiser: nn.Module, z: torch.Tensor) -> tuple:
    """In float32, whatever the rest multiplies in: near codes need all digits."""
    with torch.autocast(z.device.type, enabled=False):
        return quantiser(z.float())


def patch_discriminator(width: int) -> nn.Sequential:
    """A score for each patch of 16×16 pixels, high for real ones: (B, 3, 32, 32) -> (B, 1, 14, 14)."""
    layers = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    layers += [nn.Conv2d(width, 2 * width, 4, padding=1), nn.GroupNorm(8, 2 * width)]
    return nn.Sequential(*layers, nn.LeakyReLU(0.2), nn.Conv2d(2 * width, 1, 4, padding=1))


class TokenPrior(nn.Module):
    """What both priors share: the likelihood of a grid, and drawing one token after the other."""

    def __init__(self, size: int, side: int | tuple[int, int]):
        super().__init__()
        self.size, self.grid = size, (side, side) if isinstance(side, int) else side

    def nll(self, tokens: torch.Tensor) -> torch.Tensor:
        """-log p of each token given those before it, in nats: (B, H, W)."""
        in_codebook(tokens, self.size)
        return F.cross_entropy(self.logits(tokens).movedim(-1, 1).float(), tokens, reduction="none")

    def loss(self, tokens):
        nats = self.nll(tokens)
        return {"loss": nats.flatten(1).sum(1).mean(), "bits a token": nats.mean() / math.log(2)}

    @torch.no_grad()
    def sample(self, count: int, temperature: float = 1.0, dice: torch.Tensor | None = None):
        """Grids (count, H, W), token by token. dice: uniform (count, T); the same dice, the same grids."""
        device, places = next(self.parameters()).device, math.prod(self.grid)
        dice = torch.rand(count, places, device=device) if dice is None else dice.to(device)
        row, seen = torch.zeros(count, places, dtype=torch.long, device=device), {}
        for place, chance in enumerate(dice.T):
            row[:, place] = pick(self.next_logits(row, place, seen) / temperature, chance)
        return row.unflatten(1, self.grid)


class TokenTransformer(TokenPrior):
    """A causal transformer (Vaswani et al. 2017, Radford et al. 2019): each token attends to those before."""

    def __init__(self, size, side=7, width=128, layers=3, heads=4, dropout=0.1):
        super().__init__(size, side)
        self.embed = nn.Embedding(size + 1, width)  # the last one stands before the first token
        self.place = nn.Parameter(0.02 * torch.randn(math.prod(self.grid), width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, size))
        nn.init.normal_(self.embed.weight, std=0.02)

    def logits(self, tokens):
        start = torch.full_like(tokens.flatten(1)[:, :1], self.size)
        before = torch.cat([start, tokens.flatten(1)[:, :-1]], 1)  # (B, T): shifted by one
        hidden = self.embed(before) + self.place  # (B, T, C)
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(hidden).unflatten(1, tokens.shape[1:])  # (B, H, W, size)

    def next_logits(self, row, place, seen):
        """Of the token at `place`, after those before it in `row` (B, T): (B, size).

        Only the newest token is computed: `seen` holds the keys and values of those before.
        """
        token = row[:, place - 1] if place else torch.full_like(row[:, 0], self.size)
        hidden = (self.embed(token) + self.place[place])[:, None]  # (B, 1, C)
        for block in self.blocks:
            hidden = block(hidden, seen.setdefault(block, []))
        return self.head(hidden[:, 0])


class Block(nn.Module):
    """Attention to what came before, then two dense layers, each added to what came in."""

    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads = heads
        self.before, self.mixed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        wide = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        self.dense = nn.Sequential(*wide)
        self.dropout = Dropout(dropout)

    def forward(self, x, cache: list | None = None):
        q, k, v = self.attend(self.before(x)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # (B, heads, T, C / heads)
        if cache is not None:  # x is the newest place; the cache holds keys and values so far
            if cache:
                k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
            cache[:] = k, v
        found = F.scaled_dot_product_attention(q, k, v, is_causal=cache is None)
        x = x + self.dropout(self.out(found.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.dense(self.mixed(x)))


class MaskedPrior(TokenPrior):
    """Residual masked convolutions of 3×3 over the embedded tokens (van den Oord et al. 2016)."""

    def __init__(self, size, side=7, width=64, layers=6, dropout=0.1):
        super().__init__(size, side)
        self.embed = nn.Embedding(size, width)
        self.first = MaskedConv2d(width, width, 3, own=False)
        self.rest = nn.ModuleList(MaskedConv2d(width, width, 3, own=True) for _ in range(layers))
        self.head = nn.Conv2d(width, size, 1)
        self.dropout = Dropout(dropout)

    def logits(self, tokens):
        hidden = self.first(self.embed(tokens).movedim(-1, 1))  # (B, C, H, W)
        for layer in self.rest:
            hidden = hidden + self.dropout(layer(F.silu(hidden)))
        return self.head(F.silu(hidden)).movedim(1, -1)

    def next_logits(self, row, place, seen):
        """As the transformer's, by a pass over the whole grid."""
        return self.logits(row.unflatten(1, self.grid)).flatten(1, 2)[:, place]  # (B, size)


def pick(logits: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
    """The token at which the running sum of probabilities passes `chance`: (B, K), (B,) -> (B,)."""
    total = logits.softmax(-1).cumsum(-1)
    return (total < chance[:, None]).sum(-1).clamp(max=logits.shape[-1] - 1)


def in_codebook(tokens: torch.Tensor, size: int) -> torch.Tensor:
    """The tokens, or a ValueError. On a GPU, where a look would wait, and in a trace they are taken on trust."""
    if not (tokens.is_cuda or Panel.traced or ((tokens >= 0) & (tokens < size)).all()):
        raise ValueError(f"a token is outside the codebook: its numbers are 0 to {size - 1}.")
    return tokens


class MaskedConv2d(nn.Conv2d):
    """Sees the rows above and what stands to the left; its own place only with `own`."""

    def __init__(self, into, out, side, own):
        super().__init__(into, out, side, padding=side // 2)
        mask = (torch.arange(side**2) < side**2 // 2 + own).float()
        self.register_buffer("mask", mask.view(side, side), persistent=False)

    def forward(self, x):
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


def codebook_use(tokens: torch.Tensor, size: int) -> dict[str, torch.Tensor]:
    """Of tokens (...) over one pass of a dataset: "usage, %" and "perplexity" of a codebook of `size`.

    Usage is the share of codes that occur; perplexity exp of the entropy of their frequencies, the
    number of codes that would say as much if all were equally frequent. ValueError for a token that
    the codebook does not have.
    """
    tokens = in_codebook(tokens.flatten().cpu(), size)
    share = tokens.bincount(minlength=size).double() / len(tokens)
    entropy = -torch.special.xlogy(share, share).sum()
    return {"usage, %": 100 * (share > 0).double().mean(), "perplexity": entropy.exp()}


def listed(values, digits: int = 2) -> str:
    """What was found for each seed, beside each other: "3.41, 2.94, 2.87"."""
    return ", ".join(f"{float(value):.{digits}f}" for value in values)


def in_use(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """How many codes are active, the nearest of some vector of these images."""
    return {"codes in use": torch.tensor(float(over(model.encode, images).unique().numel()))}


def bits_by_counts(model: nn.Module, images: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Bits a token by its frequency in the `known` images, anywhere and at its own place: (2,)."""
    known, asked = (over(model.encode, part).long().flatten(1) for part in (known, images))
    places = (size := model.quantiser.size) * torch.arange(known.shape[1], device=known.device)
    counts = (known + places).flatten().bincount(minlength=size * len(places)).view(-1, size) + 0.1
    shares = [c / c.sum(1, keepdim=True) for c in (counts.sum(0).expand_as(counts), counts)]
    return torch.stack([-share.log2().gather(1, asked.T).mean() for share in shares])


def terms_of(model: nn.Module, images: torch.Tensor, terms: list[str]) -> dict[str, torch.Tensor]:
    """The mean of these terms of a model's loss over images, with seeded dice."""
    torch.manual_seed(0)
    mean = lambda term: over(lambda x: model.loss(x)[term][None], images).mean()
    return {term: mean(term) for term in terms}


@torch.no_grad()
def entropy_coded(encode, decode, images, known, steps=(0.125, 0.25, 0.5, 1.0)) -> torch.Tensor:
    """(bits an image, squared error) of `images`, all axes of their codes rounded to each step: (S, 2).

    encode: images -> (B, M). A rounded value takes -log2 of its share in the codes of `known`, smoothed
    by one code in all, and is decoded as the mean of those that round to it; outside their range it is
    the outermost. An axis that varies less than the step costs nothing: reverse water-filling.
    """
    known, codes, found = over(encode, known), over(encode, images), []
    for step in steps:
        low, high = ((end / step).round() for end in (known.amin(0), known.amax(0)))
        levels = int((high - low).max()) + 1
        first = levels * torch.arange(known.shape[1], device=known.device)  # (M,)
        cell = lambda z: ((z / step).round().clamp(low, high) - low).long() + first  # noqa: B023
        inside, here = cell(known).flatten(), cell(codes)  # (N·M,), (B, M)
        counts = inside.bincount(minlength=levels * known.shape[1])
        middles = inside.bincount(known.flatten(), len(counts)) / counts.clamp(min=1)
        bits = -((counts + 1 / levels) / (len(known) + 1)).log2()
        copies = over(decode, middles[here].float()).view(images.shape)
        error = (copies - to_float(images)).square().mean()
        found.append((bits[here].sum(1).mean().item(), error.item()))
    return torch.tensor(found)


def token_file(prior: TokenPrior, grids: torch.Tensor) -> bytes:
    """Grids (B, H, W) as a file: a range coder spends -log2 p bits on a token of probability p.

    It begins with two numbers, of grids and of 32-bit words, so that a file that is cut short is known.
    """
    from constriction import stream  # optional

    coder, row, seen = stream.queue.RangeEncoder(), grids.flatten(1), {}
    for place in range(row.shape[1]):
        symbols, given = row[:, place].int().cpu().numpy(), chances(prior, row, place, seen)
        coder.encode(symbols, stream.model.Categorical(perfect=False), given)
    words = coder.get_compressed()
    return np.array([len(grids), len(words)], "<u4").tobytes() + words.astype("<u4").tobytes()


def tokens_of(prior: TokenPrior, file: bytes) -> torch.Tensor:
    """The grids (B, H, W) that `token_file` wrote with the same prior on the same machine, or ValueError."""
    count, words = np.frombuffer(file[:8], "<u4").tolist() if len(file) >= 8 else (0, 0)
    if len(file) < 8 + 4 * words or not words:
        raise ValueError(f"the file of tokens is cut short: it has only {len(file)} bytes.")
    from constriction import stream

    body = np.frombuffer(file[8 : 8 + 4 * words], "<u4").astype(np.uint32)
    coder, family = stream.queue.RangeDecoder(body), stream.model.Categorical(perfect=False)
    row, seen = torch.zeros(count, math.prod(prior.grid), dtype=torch.long), {}
    for place in range(row.shape[1]):
        given = chances(prior, row, place, seen)
        row[:, place] = torch.from_numpy(coder.decode(family, given))
    return row.unflatten(1, prior.grid)


@torch.no_grad()
def chances(prior: TokenPrior, row: torch.Tensor, place: int, seen: dict) -> np.ndarray:
    """Probabilities (B, K) of the tokens at `place`, computed alike in writing and in reading a file."""
    row = row.to(next(prior.parameters()).device)
    return prior.next_logits(row, place, seen).double().softmax(-1).cpu().numpy()


def picture_scores(network, pictures: torch.Tensor, copies: torch.Tensor) -> dict:
    """How copies of colour pictures look beside them, float (N, 3, H, W) both, in five numbers.

    "PSNR, dB"; "fine detail, %", the copies' energy in waves shorter than four pixels as a share of
    the pictures'; "error in it, %", the energy there of the difference, above 100 where blanks would
    err less; "perceptual distance" and "Fréchet distance" in the activations of `network`.
    """
    pairs = zip(pictures.split(500), copies.split(500), strict=True)
    with torch.no_grad():
        apart = torch.cat([metrics.perceptual_distance(network, *pair) for pair in pairs])
    limit = pictures.shape[-1] // 4  # cycles an image, of waves four pixels long
    real, fine, off = (metrics.high_energy(x, limit) for x in (pictures, copies, copies - pictures))
    features = [over(network.features, images) for images in (pictures, copies)]
    return {
        "PSNR, dB": metrics.decibels(copies, pictures).mean(),
        "fine detail, %": torch.tensor(100 * fine / real),
        "error in it, %": torch.tensor(100 * off / real),
        "perceptual distance": apart.mean(),
        "Fréchet distance": torch.tensor(metrics.frechet_distance(*features)),
    }


@torch.no_grad()
def token_sliders(decode: Callable, tokens: torch.Tensor, size: int) -> Panel:
    """One token of an image by its place and its value: what it decodes to, and what has changed.

    decode: tokens (B, H, W) -> images (B, C, h, w); one call a move. tokens: (H, W), below `size`.
    """
    rows, columns = tokens.shape
    places = torch.arange(rows * columns, device=tokens.device).view(rows, columns)
    before = decode(tokens[None])[0]  # (C, h, w)
    white = torch.ones_like(before[..., :1])

    def draw(row, column, value):
        chosen = places == row * columns + column
        after = decode(torch.where(chosen, value, tokens)[None])[0]
        change = (after - before).abs()
        numbers = torch.where(chosen, tokens, 0).sum(), value, (change > 0.05).float().mean()
        return torch.cat([before, white, after, white, change], 2), *numbers

    controls = {
        "row": Slider("row", 0, rows - 1, rows // 2, step=1),
        "column": Slider("column", 0, columns - 1, columns // 2, step=1),
        "value": Slider("token", 0, size - 1, size // 2, step=1),
    }
    words = "token {:.0f} → {:.0f}: {:.0%} of the pixels change"
    return Panel(draw, controls, text="A token's row, column and value.", readout=words)


def codes_among(moments: dict[str, tuple], title: str = "") -> None:
    """Where encoder vectors (N, D) and code vectors (K, D) lie: {moment: (vectors, codes)}, a panel each.

    All on the plane of the last vectors' first two principal components, under one scale: vectors as
    grey dots, active codes, each the nearest of some vector, as blue ones, the others as crosses.
    """
    last = [*moments.values()][-1][0].cpu()
    plane = torch.linalg.eigh(last.T.cov()).eigenvectors[:, -2:]  # (D, 2)
    count, shared = len(moments), {"sharex": True, "sharey": True, "squeeze": False}
    _, axes = plt.subplots(1, count, figsize=(min(9, 2.2 + 2 * count), 3), **shared)
    for axis, (name, (vectors, codes)) in zip(axes[0], moments.items(), strict=True):
        z, codes = vectors.cpu(), codes.cpu()
        idle = torch.ones(len(codes)).index_fill(0, torch.cdist(z, codes).argmin(1), 0).bool()
        axis.plot(*(z[:3000] @ plane).T, ".", color="#BBBBBB", markersize=2)
        axis.plot(*(codes[~idle] @ plane).T, "o", color=COLOURS[0], markersize=4)
        axis.plot(*(codes[idle] @ plane).T, "x", color=COLOURS[5], markersize=8)
        axis.set_title(f"{name}\n{(~idle).sum()} of {len(codes)} active", fontsize="medium")
        axis.set(xlabel="component 2", aspect="equal")
    axes[0, 0].set_ylabel("component 1"), axes[0, 0].figure.suptitle(title)
    plt.show()


def codebook_plane(codebooks: dict[int, torch.Tensor], points: torch.Tensor, side=224) -> Panel:
    """A slider over codebooks in the plane, {size: codes (K, 2)}: their cells, and the points (N, 2)."""
    shown = {}
    for size, codes in codebooks.items():
        error = torch.cdist(points, codes).amin(1).square().mean()
        shown[size] = plane_cells(codes, points, side), f"{size} codes, squared error {error:.3f}"
    controls = {"size": Choice("codes", {str(size): size for size in shown})}
    return Panel(lambda size: shown[size], controls, text="A slider over the size of a codebook.")


def plane_cells(codes: torch.Tensor, points: torch.Tensor, side: int) -> np.ndarray:
    """The plane cut into the cells of code vectors (K, 2), points (N, 2) as dots: (side, side, 3) uint8.

    A cell is what lies nearer its code than any other; each code is a white square with a black rim.
    """
    points, codes = points.cpu(), codes.cpu()
    low, high = points.quantile(0.005, 0), points.quantile(0.995, 0)
    across, up = (torch.linspace(low[i], high[i], side) for i in (0, 1))
    nearest = torch.cdist(metrics.plane_of(across, up), codes).argmin(1).view(side, side)
    picture = palette(COLOURS)[nearest.numpy() % len(COLOURS)] // 3 + 170
    place = lambda at: ((at - low) / (high - low) * (side - 1)).round().long()
    dots = place(points)
    column, row = dots[((dots >= 0) & (dots < side)).all(1)].T.numpy()
    picture[side - 1 - row, column] = 90
    for column, row in place(codes).clamp(3, side - 4).tolist():
        top = side - 1 - row
        picture[top - 3 : top + 4, column - 3 : column + 4] = 0
        picture[top - 2 : top + 3, column - 2 : column + 3] = 255
    return picture.astype(np.uint8)
