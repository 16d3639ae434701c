"""Sliders over an image's tokens, and over the inside of the quantiser."""

from collections.abc import Callable

import torch

from companion.data import tile
from companion.show.panel import Choice, Panel, Slider
from companion.show.pixels import beside, lit_grid, plane_cells


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


def codebook_plane(
    codebooks: dict[int, torch.Tensor], points: torch.Tensor, side: int = 224
) -> Panel:
    """A slider over codebooks in the plane, {size: codes (K, 2)}: their cells, and the points (N, 2)."""
    pictures = {size: plane_cells(codes, points, side) for size, codes in codebooks.items()}
    errors = {
        size: torch.cdist(points, codes).amin(1).square().mean().item()
        for size, codes in codebooks.items()
    }

    def draw(size):
        return pictures[size], f"{size} codes, squared error {errors[size]:.3f}"

    controls = {"size": Choice("codes", {str(size): size for size in sorted(codebooks)})}
    return Panel(draw, controls, text="A slider over the size of a codebook in the plane.")
