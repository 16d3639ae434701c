"""Priors over grids of tokens (B, H, W), int64 below `size`: each token given those before it, row by row.

`side`: of a square grid, or its (rows, columns); one row where tokens are a mere sequence.
Both have `logits(tokens)` -> (B, H, W, size), `loss(tokens)` for the training loop, in nats a grid, and
`sample(count)`. ValueError for a token that the codebook does not have.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from companion.models.masked import MaskedConv2d
from companion.models.skeleton import Dropout


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

    @torch.no_grad()
    def sample(self, count: int, temperature: float = 1.0, dice: torch.Tensor | None = None):
        """Grids (count, H, W). dice: uniform numbers (count, T); the same dice, the same grids.

        Each step computes the newest token alone: keys and values of those before are kept.
        """
        device = self.place.device
        dice = (
            torch.rand(count, len(self.place), device=device) if dice is None else dice.to(device)
        )
        caches = [[] for _ in self.blocks]
        token, grid = torch.full((count,), self.size, device=device), []
        for place, chance in zip(self.place, dice.T, strict=True):
            hidden = (self.embed(token) + place)[:, None]  # (B, 1, C)
            for block, cache in zip(self.blocks, caches, strict=True):
                hidden = block(hidden, cache)
            token = pick(self.head(hidden[:, 0]) / temperature, chance)
            grid.append(token)
        return torch.stack(grid, 1).unflatten(1, self.grid)


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

    @torch.no_grad()
    def sample(self, count: int, temperature: float = 1.0, dice: torch.Tensor | None = None):
        """Grids (count, H, W), one pass for each place; dice as for the transformer."""
        device = self.embed.weight.device
        dice = (
            torch.rand(count, math.prod(self.grid), device=device)
            if dice is None
            else dice.to(device)
        )
        grid = torch.zeros(count, *self.grid, dtype=torch.long, device=device)
        for place, chance in enumerate(dice.T):
            row, column = divmod(place, self.grid[1])
            grid[:, row, column] = pick(self.logits(grid)[:, row, column] / temperature, chance)
        return grid


def pick(logits: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
    """The token at which the running sum of probabilities passes `chance`: (B, K), (B,) -> (B,)."""
    total = logits.softmax(-1).cumsum(-1)
    return (total < chance[:, None]).sum(-1).clamp(max=logits.shape[-1] - 1)


def in_codebook(tokens: torch.Tensor, size: int) -> torch.Tensor:
    """The tokens, or a ValueError. On a GPU they are taken on trust: a look would wait for it."""
    if not tokens.is_cuda and not ((tokens >= 0) & (tokens < size)).all():
        raise ValueError(f"a token is outside the codebook: its numbers are 0 to {size - 1}.")
    return tokens
