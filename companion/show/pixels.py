"""Pictures drawn by setting pixels: no plotting library, so a slider can redraw them."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from companion.show.plotting import COLOURS

DECODED, PAGE = 224, 800  # pixels on the page: a picture's height, and the width there is


FONT = ImageFont.load_default(14)


def png(picture: np.ndarray | Image.Image, level: int = 1) -> bytes:
    """A uint8 picture (H, W[, 3]) as PNG bytes; `level` from fast, 1, to small, 9."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(picture)).save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


def enlarged(picture: np.ndarray, height: int = DECODED) -> np.ndarray:
    """A picture (H, W[, 3]) by whole pixels: its height near `height`, or its width near the page's."""
    zoom = max(1, min(round(height / picture.shape[0]), round(PAGE / picture.shape[1])))
    return picture.repeat(zoom, 0).repeat(zoom, 1)


def with_cross(plane: np.ndarray, x: float, y: float) -> np.ndarray:
    """A map (S, S, 3) with a cross at the shares x of its width and y of its height, from below."""
    last, marked = len(plane) - 1, plane.copy()
    row, column = (round(last * min(1, max(0, share))) for share in (1 - y, x))
    marked[row, :], marked[:, column] = 120, 120
    marked[max(0, row - 3) : row + 4, max(0, column - 3) : column + 4] = (255, 0, 0)
    return marked


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
    (column, row), colour = place[inside].T, classes_of(labels)[inside.numpy()]
    picture = np.full((side, side, 3), 255, np.uint8)
    for down, right in np.ndindex(dot, dot):
        at = (
            (side - 1 - row.numpy() + down).clip(0, side - 1),
            (column.numpy() + right).clip(0, side - 1),
        )
        picture[at] = palette([*COLOURS, "#CCCCCC"])[colour]
    return picture


def classes_of(labels) -> np.ndarray:
    """Labels (N,) or (N, 1), numbers or words, as places among COLOURS, which repeat; -1 without a label."""
    labels = np.asarray(labels.cpu() if isinstance(labels, torch.Tensor) else labels).reshape(-1)
    if labels.dtype.kind in "iub" and labels.min() >= -1 and labels.max() < len(COLOURS):
        return labels.astype(int)
    without = np.isin(labels.astype(str), ["-1", "nan", "None", ""])
    return np.where(
        without, -1, np.unique(labels.astype(str), return_inverse=True)[1] % len(COLOURS)
    )


BAR = 224  # the side of the bar picture in pixels


def beside(image: np.ndarray, chart: np.ndarray) -> np.ndarray:
    """A grey or colour image enlarged to the height of a colour chart and put to its left."""
    zoom = max(1, len(chart) // len(image))
    large = image.repeat(zoom, 0).repeat(zoom, 1)
    height, start = max(len(chart), len(large)), large.shape[1] + 8
    page = np.full((height, start + chart.shape[1], 3), 255, np.uint8)
    page[: len(large), : large.shape[1]] = large.reshape(*large.shape[:2], -1)
    page[: len(chart), start:] = chart
    return page


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
