"""Pictures drawn by setting pixels: no plotting library, so a slider can redraw them."""

import io

import numpy as np
import torch
from PIL import Image, ImageDraw

from companion.show.plotting import COLOURS

DECODED = 224  # pixels on the page


def png(picture: np.ndarray, height: int = DECODED) -> bytes:
    """A uint8 picture (H, W[, 3]) enlarged by whole pixels to about `height`, as PNG bytes."""
    zoom = max(1, round(height / picture.shape[0]))
    large = picture.repeat(zoom, 0).repeat(zoom, 1)
    buffer = io.BytesIO()
    Image.fromarray(large).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def map_picture(codes: torch.Tensor, labels: torch.Tensor, low, high, side: int) -> np.ndarray:
    """Codes (N, 2) as coloured dots on white, axis 2 upwards: (side, side, 3) uint8."""
    place = ((codes - low) / (high - low) * (side - 1)).round().long().cpu()
    inside = ((place >= 0) & (place < side)).all(1)
    (column, row), colour = place[inside].T, labels.cpu()[inside]
    palette = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in COLOURS], np.uint8)
    picture = np.full((side, side, 3), 255, np.uint8)
    picture[side - 1 - row.numpy(), column.numpy()] = palette[colour.numpy()]
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
