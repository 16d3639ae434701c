"""What notebook 31.6 alone uses: priors over tokens, a codebook's measures, pictures compared, panels.

A prior is over grids of tokens (B, H, W), int64 below `size`: each token given those before it, row by
row. `side`: of a square grid, or its (rows, columns); one row where tokens are a mere sequence. Both
have `logits(tokens)` -> (B, H, W, size), `loss(tokens)` for the training loop, in nats a grid, and
`sample(count)`. ValueError for a token that the codebook does not have.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from companion import metrics
from companion.data import tile
from companion.metrics import over
from companion.models import Dropout
from companion.show.panel import Choice, Panel, Slider
from companion.show.pixels import beside, palette
from companion.show.plotting import COLOURS


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
        self.dense = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
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
    """The tokens, or a ValueError. On a GPU they are taken on trust: a look would wait for it."""
    if not tokens.is_cuda and not ((tokens >= 0) & (tokens < size)).all():
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


def live_weights(model: nn.Module) -> int:
    """How many parameters a model has, those that a mask keeps at zero not counted."""
    total = sum(parameter.numel() for parameter in model.parameters())
    masked = (part for part in model.modules() if isinstance(part, MaskedConv2d))
    return total - sum(int((1 - m.mask).sum()) * m.weight[..., 0, 0].numel() for m in masked)


class LibraryQuantiser(nn.Module):
    """`theirs`, such as VectorQuantize(dim=16), spoken to as ours are.

    z (B, D, H, W) -> (vectors of that shape, tokens (B, H, W), loss (B,), a sum over the vectors'
    entries where theirs is a mean). size: how many values a token has; where theirs gives several
    numbers for a place, as residual quantisation does, they are the digits of one token.
    """

    def __init__(self, theirs: nn.Module, size: int):
        super().__init__()
        self.theirs, self.size = theirs, size

    def forward(self, z):
        vectors = z.flatten(2).movedim(1, 2)  # (B, H·W, D), for not all of theirs take images
        out, tokens, loss = self.theirs(vectors)
        if tokens.ndim == 3:
            each = round(self.size ** (1 / tokens.shape[2]))
            tokens = (tokens * each ** torch.arange(tokens.shape[2], device=z.device)).sum(2)
        total = loss.sum() * z[0].numel() * z.new_ones(len(z))
        return out.movedim(1, 2).view_as(z), tokens.unflatten(1, z.shape[2:]), total

    def tokens(self, z):
        return self(z)[1]


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


def rounded(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes (N, M), each rounded to one of 2**bits even levels from its axis's least to its largest."""
    low, high, steps = codes.amin(0), codes.amax(0), 2**bits - 1
    return low + ((codes - low) / (high - low) * steps).round() / steps * (high - low)


def rounded_errors(
    codes: torch.Tensor, decode: Callable, images: torch.Tensor, bits: Sequence[int] = range(3, 9)
) -> list[tuple[int, float]]:
    """(bits an image, squared error a pixel) of codes (N, M) rounded to so many bits a number.

    decode: codes -> images, (N, ...) in any shape; images: float (N, C, H, W).
    """
    found = []
    for each in bits:
        copies = over(decode, rounded(codes, each)).view_as(images)
        found.append((each * codes.shape[1], (copies - images).square().mean().item()))
    return found


def lower_envelope(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (cost, error) pairs those that no cheaper pair beats, by their cost."""
    kept = []
    for cost, error in sorted(points):
        if not kept or error < kept[-1][1]:
            kept.append((cost, error))
    return kept


SCORES = ("Fréchet distance", "density", "coverage", "read with confidence, %")


def compare_samplers(
    samplers: dict[str, Callable], classifier, images: torch.Tensor, seeds=(0, 1, 2)
) -> torch.Tensor:
    """The `SCORES` of each sampler at each seed, against digits: (samplers, seeds, 4).

    samplers: {name: count -> images (count, 1, 28, 28) in [0, 1]}; each gives as many as `images` has.
    """
    found, scores = [], metrics.scorer(classifier.features, images)
    for draw in samplers.values():
        for seed in seeds:
            torch.manual_seed(seed)
            some = draw(len(images))
            found.append([*scores(some).values(), metrics.readable_share(classifier, some)])
    return torch.tensor(found).view(len(samplers), len(seeds), 4)


def picture_scores(network, pictures: torch.Tensor, copies: torch.Tensor) -> dict[str, float]:
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
        "PSNR, dB": metrics.decibels(copies, pictures).mean().item(),
        "fine detail, %": 100 * fine / real,
        "error in it, %": 100 * off / real,
        "perceptual distance": apart.mean().item(),
        "Fréchet distance": metrics.frechet_distance(*features),
    }


def token_sliders(decode: Callable, tokens: torch.Tensor, size: int) -> Panel:
    """One token of an image by its place and its value: what it decodes to, and what has changed.

    decode: tokens (B, H, W) -> images (B, C, h, w); one call a move. tokens: (H, W), below `size`.
    """
    rows, columns = tokens.shape
    with torch.no_grad():
        before = decode(tokens[None])

    @torch.no_grad()
    def draw(row, column, value):
        edited = tokens.clone()
        edited[row, column] = value
        after = decode(edited[None])
        change = (after - before).abs()
        moved = (change > 0.05).float().mean().item()
        text = f"token {tokens[row, column].item()} → {value}: {moved:.0%} of the pixels change"
        return tile(torch.stack([before[0], after[0], change[0]])[None]), text

    controls = {
        "row": Slider("row", 0, rows - 1, rows // 2, step=1),
        "column": Slider("column", 0, columns - 1, columns // 2, step=1),
        "value": Slider("token", 0, size - 1, size // 2, step=1),
    }
    return Panel(draw, controls, text="Three sliders: a token's row, its column and its value.")


def swapped_levels(decode: Callable, top: torch.Tensor, bottom: torch.Tensor) -> Panel:
    """The top tokens of one image with the bottom tokens of another, between the two: one call a move.

    decode: (top tokens, bottom tokens) -> images (B, C, h, w). top, bottom: (N, H, W) each, N images.
    """
    with torch.no_grad():
        copies = decode(top, bottom)

    @torch.no_grad()
    def draw(first, second):
        mixed = decode(top[first, None], bottom[second, None])[0]
        moved = [(mixed - copies[at]).square().mean().sqrt().item() for at in (first, second)]
        words = (
            f"differs by {moved[0]:.2f} from the top's image and {moved[1]:.2f} from the bottom's"
        )
        return tile(torch.stack([copies[first], mixed, copies[second]])[None]), words

    last = len(top) - 1
    controls = {
        "first": Slider("top of image", 0, last, 0, step=1),
        "second": Slider("bottom of image", 0, last, min(1, last), step=1),
    }
    return Panel(draw, controls, text="Two sliders: whose top tokens, and whose bottom tokens.")


def nearest_code(image: torch.Tensor, vectors: torch.Tensor, codes: torch.Tensor) -> Panel:
    """The inside of the quantiser: how far one place's vector is from every code, the nearest lit.

    image: (C, h, w). vectors: the encoder's output (D, H, W) for it. codes: (K, D).
    """
    high, wide = vectors.shape[1:]
    scale = image.shape[-2] // high, image.shape[-1] // wide

    @torch.no_grad()
    def draw(row, column):
        distance = (codes - vectors[:, row, column]).norm(dim=1)  # (K,)
        nearest = distance.argmin().item()
        marked = image.clone()
        top, left = row * scale[0], column * scale[1]
        marked[:, top : top + scale[0], left : left + scale[1]] += 0.35
        chart = lit_grid(distance, 32 if len(codes) > 64 else 8, nearest)
        text = f"nearest is code {nearest}, at {distance[nearest]:.2f}; the mean is {distance.mean():.2f}"
        return beside(tile(marked.clamp(0, 1)[None, None]), chart), text

    controls = {
        "row": Slider("row", 0, high - 1, high // 2, step=1),
        "column": Slider("column", 0, wide - 1, wide // 2, step=1),
    }
    return Panel(draw, controls, text="Two sliders over the image; the distances to all codes.")


def codebook_plane(codebooks: dict[int, torch.Tensor], points: torch.Tensor, side=224) -> Panel:
    """A slider over codebooks in the plane, {size: codes (K, 2)}: their cells, and the points (N, 2)."""
    shown = {}
    for size, codes in codebooks.items():
        error = torch.cdist(points, codes).amin(1).square().mean()
        shown[size] = plane_cells(codes, points, side), f"{size} codes, squared error {error:.3f}"
    control = Choice("codes", {str(size): size for size in shown})
    text = "A slider over the size of a codebook in the plane."
    return Panel(lambda size: shown[size], {"size": control}, text=text)


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


def lit_grid(values: torch.Tensor, columns: int, lit: int, cell: int = 7) -> np.ndarray:
    """Numbers (K,) as a grid of grey squares, small ones dark, one of them red: (H, W, 3) uint8."""
    low, high = values.aminmax()
    grey = 255 * (values - low) / (high - low).clamp(min=1e-12)
    squares = F.pad(grey, (0, -len(values) % columns), value=255)[:, None].repeat(1, 3)  # (K', 3)
    squares[lit] = squares.new_tensor([213, 94, 0])
    return squares.byte().view(-1, columns, 3).cpu().numpy().repeat(cell, 0).repeat(cell, 1)
