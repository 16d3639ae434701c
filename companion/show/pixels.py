"""Pictures drawn by setting pixels: no plotting library, so a slider can redraw them."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from companion.show.plotting import COLOURS

DECODED, PAGE = 224, 800  # pixels on the page: a picture's height, and the width there is
FONT = ImageFont.load_default(14)


def png(picture: np.ndarray, height: int = DECODED, rows: Sequence[str] = ()) -> bytes:
    """A uint8 picture (H, W[, 3]) as PNG bytes, enlarged by whole pixels, the names of its rows beside it.

    The height comes near `height`, or the width near the page's, whichever is less.
    """
    zoom = max(1, min(round(height / picture.shape[0]), round(PAGE / picture.shape[1])))
    large = Image.fromarray(picture.repeat(zoom, 0).repeat(zoom, 1))
    if rows:
        large = named_rows(large, rows)
    buffer = io.BytesIO()
    large.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def named_rows(picture: Image.Image, rows: Sequence[str]) -> Image.Image:
    """The picture with a name to the left of each of its rows, dark on white."""
    margin = 8 + max(round(FONT.getlength(name)) for name in rows)
    page = Image.new(picture.mode, (margin + picture.width, picture.height), "white")
    page.paste(picture, (margin, 0))
    for number, name in enumerate(rows):
        middle = (number + 0.5) * picture.height / len(rows)
        ImageDraw.Draw(page).text((margin - 6, middle), name, "black", FONT, anchor="rm")
    return page


def map_picture(
    codes: torch.Tensor, labels: torch.Tensor, low, high, side: int, dot: int = 1
) -> np.ndarray:
    """Codes (N, 2) as coloured dots on white, axis 2 upwards: (side, side, 3) uint8."""
    place = ((codes - low) / (high - low) * (side - 1)).round().long().cpu()
    inside = ((place >= 0) & (place < side)).all(1)
    (column, row), colour = place[inside].T, labels.cpu()[inside]
    picture = np.full((side, side, 3), 255, np.uint8)
    for down, right in np.ndindex(dot, dot):
        at = (
            (side - 1 - row.numpy() + down).clip(0, side - 1),
            (column.numpy() + right).clip(0, side - 1),
        )
        picture[at] = palette(COLOURS)[colour.numpy()]
    return picture


BAR = 224  # the side of the bar picture in pixels


def bars(logits: np.ndarray) -> np.ndarray:
    """Logits before and after (2, 10) as pairs of bars, zero in the middle: (BAR, BAR, 3) uint8."""
    pitch = BAR // 10
    page = Image.new("RGB", (BAR, BAR), "white")
    ImageDraw.Draw(page).text((2, 0), "logits", fill="black")
    for digit in range(10):
        ImageDraw.Draw(page).text((digit * pitch + 8, BAR - 12), str(digit), fill="black")
    picture = np.array(page)
    unit = (BAR // 2 - 14) / max(20.0, np.abs(logits).max())
    for digit in range(10):
        for row, colour in enumerate(((190, 190, 190), (0, 114, 178))):
            end = BAR // 2 - round(float(logits[row, digit]) * unit)
            top, bottom = sorted((end, BAR // 2))
            left = digit * pitch + 3 + row * (pitch // 2 - 2)
            picture[top : bottom + 1, left : left + pitch // 2 - 3] = colour
    return picture


def beside(image: np.ndarray, chart: np.ndarray) -> np.ndarray:
    """A grey image (H, W) enlarged to the height of a colour chart and put to its left."""
    zoom = max(1, len(chart) // len(image))
    large = image.repeat(zoom, 0).repeat(zoom, 1)
    side = np.full((len(chart), large.shape[1] + 8, 3), 255, np.uint8)
    side[: len(large), : large.shape[1]] = large.reshape(*large.shape[:2], -1)
    return np.concatenate([side, chart], 1)


def bar_chart(values: list[float], top: float) -> np.ndarray:
    """Numbers from 0 to `top` as a row of bars with their places below: (BAR, W, 3) uint8."""
    pitch, floor = 28, BAR - 18
    page = Image.new("RGB", (pitch * len(values), BAR), "white")
    pen = ImageDraw.Draw(page)
    for place, value in enumerate(values):
        height = round(value / max(top, 1e-9) * (floor - 4))
        pen.rectangle(
            (pitch * place + 5, floor - height, pitch * (place + 1) - 5, floor), (0, 114, 178)
        )
        pen.text((pitch * (place + 0.5), BAR - 2), str(place + 1), "black", FONT, anchor="mb")
    return np.array(page)


def plane_cells(codes: torch.Tensor, points: torch.Tensor, side: int) -> np.ndarray:
    """The plane cut into the cells of code vectors (K, 2), points (N, 2) as dots: (side, side, 3) uint8.

    A cell is what lies nearer its code than any other; each code is a white square with a black rim.
    """
    points, codes = points.cpu(), codes.cpu()
    low, high = points.quantile(0.005, 0), points.quantile(0.995, 0)
    across, up = (torch.linspace(low[i], high[i], side) for i in (0, 1))
    grid = torch.stack(torch.meshgrid(up.flip(0), across, indexing="ij")[::-1], -1)  # (S, S, 2)
    nearest = torch.cdist(grid.view(-1, 2), codes).argmin(1).view(side, side)
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


def arrow_picture(
    starts: torch.Tensor, steps: torch.Tensor, points: torch.Tensor, reach: float, side: int = 300
) -> np.ndarray:
    """Arrows (P, 2) from places (P, 2) on white, with points (K, 2) as dots: (side, side, 3) uint8.

    The square reaches from -reach to reach on both axes, axis 2 upwards; an arrow ends in a dot.
    """
    page = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(page)
    flip = torch.tensor([1.0, -1.0])
    place = lambda x: ((x.cpu() * flip / reach + 1) * (side - 1) / 2).tolist()
    for x, y in place(points):
        pen.ellipse((x - 2, y - 2, x + 2, y + 2), COLOURS[1])
    for start, end in zip(place(starts), place(starts + steps), strict=True):
        pen.line((*start, *end), COLOURS[0])
        pen.ellipse((end[0] - 2, end[1] - 2, end[0] + 2, end[1] + 2), COLOURS[0])
    return np.array(page)


def lit_grid(values: torch.Tensor, columns: int, lit: int, cell: int = 7) -> np.ndarray:
    """Numbers (K,) as a grid of grey squares, small ones dark, one framed in red: (H, W, 3) uint8."""
    levels = torch.nn.functional.pad(values, (0, -len(values) % columns), value=values.max().item())
    grey = 255 * (levels - values.min()) / (values.max() - values.min()).clamp(min=1e-12)
    grid = grey.view(-1, columns).byte().cpu().numpy().repeat(cell, 0).repeat(cell, 1)
    picture = np.stack([grid] * 3, -1)
    top, left = cell * (lit // columns), cell * (lit % columns)
    red = picture[top : top + cell, left : left + cell]
    red[:] = (213, 94, 0)
    return picture


def palette(colours: Sequence[str]) -> np.ndarray:
    """Hexadecimal colours as (K, 3) uint8."""
    return np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours], np.uint8)
