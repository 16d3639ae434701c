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


def palette(colours: Sequence[str]) -> np.ndarray:
    """Hexadecimal colours as (K, 3) uint8."""
    return np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours], np.uint8)
