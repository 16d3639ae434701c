"""Whole datasets as uint8 tensors on the device, and where they came from.

Every dataset is looked for in this order: the folder in $COMPANION_DATA, the repository's `data/`, a
torchvision download into `data/`, and last a stand-in that needs no download. The choice is printed.
COMPANION_DATA=embedded goes straight to the stand-ins. `folder` reads pictures of your own.
"""

# ruff: noqa: F401, I001 - what is imported here is what the package offers
from companion.data.digits import mnist, pen_digits
from companion.data.dsprites import dsprites
from companion.data.files import EMBEDDED, DataError
from companion.data.images import Images, Indexed, binarised, device, encoded, parts_of
from companion.data.images import patches, tile, to_float, to_uint8
from companion.data.pictures import cat, colours, first_items, first_of, folder, photos, square
from companion.data.superposition import superposed
