"""What notebook 31.1 builds, taken from its cells, and its section's file."""

import math
from functools import partial

import pytest
import torch
from cells import definitions
from torch import nn

from companion.sections.s31_1 import DeepCompression

BUILT = definitions("31.1")


@pytest.mark.parametrize("spatial, grid", [(8, (8, 8, 8)), (16, (32, 4, 4)), (32, (128, 2, 2))])
def test_deep_compression_keeps_the_number_of_values_and_trades_places_for_channels(spatial, grid):
    layers = [partial(BUILT[name], shortcut=True) for name in ("Down", "Up")]
    net, x = DeepCompression(spatial, *layers), torch.rand(2, 3, 64, 64)
    assert net.encoder(x).shape == (2, *grid) and math.prod(grid) == 512
    blocks = [sum(type(m).__name__ == "Block" for m in part) for part in (net.encoder, net.decoder)]
    assert blocks[0] == blocks[1] == 1 + math.log2(spatial / 2)
    assert net(x).shape == x.shape and net.loss(x)["loss"].ndim == 0


def test_the_shortcuts_pass_an_image_where_the_convolutions_are_silent():
    """Averages of groups down, repeats up: space to channels and back keeps each group's mean."""
    down, up = BUILT["Down"](16, 32, True), BUILT["Up"](32, 16, True)
    for layer in (down.conv, up.conv):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    x = torch.rand(2, 16, 8, 8)
    code = down(x)
    pairs = torch.nn.functional.pixel_unshuffle(x, 2).view(2, 32, 2, 4, 4).mean(2)
    assert torch.allclose(code, pairs)
    assert torch.allclose(down(up(code)), code)  # up spreads what down gathers again
    assert up(code).mean().item() == pytest.approx(x.mean().item(), abs=1e-6)
