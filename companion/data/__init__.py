"""Whole datasets as uint8 tensors on the device, and where they came from.

Every dataset is looked for in this order: the folder in $COMPANION_DATA, the repository's `data/`, a
torchvision download into `data/`, and last a stand-in that needs no download. The choice is printed.
COMPANION_DATA=embedded goes straight to the stand-ins.
"""

from companion.data.digits import mnist, pen_digits
from companion.data.dsprites import dsprites
from companion.data.files import EMBEDDED, DataError
from companion.data.images import (
    Images,
    Indexed,
    binarised,
    device,
    encoded,
    packed,
    parts_of,
    patches,
    tile,
    to_float,
    to_uint8,
)
from companion.data.pictures import cat, colours, first_items, photos, square
from companion.data.superposition import superposed

__all__ = [
    "EMBEDDED",
    "DataError",
    "Images",
    "Indexed",
    "binarised",
    "cat",
    "colours",
    "device",
    "dsprites",
    "encoded",
    "first_items",
    "mnist",
    "packed",
    "parts_of",
    "patches",
    "pen_digits",
    "photos",
    "square",
    "superposed",
    "tile",
    "to_float",
    "to_uint8",
]
