import ast
import math
import textwrap
from functools import partial
from pathlib import Path

import pytest
import torch
from cells import cells, definitions
from torch import nn

from companion.models import (
    Decoder,
    DeepCompression,
    Dropout,
    Encoder,
    MaskedConv2d,
    live_weights,
    masked,
    sample_pixels,
    vae,
)
from companion.models import skeleton as networks


def classes(source: str) -> dict[str, str]:
    """Each class of a module as source without comments and docstrings."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            if ast.get_docstring(node):
                node.body = node.body[1:]
            found[node.name] = ast.unparse(node)
    return found


@pytest.mark.parametrize(
    "section, module, names",
    [
        ("31.1", networks, ["Encoder", "Decoder", "Autoencoder"]),
        ("31.3", vae, ["VAE"]),
        ("31.4", masked, ["MaskedConv2d"]),
    ],
)
def test_the_package_and_the_notebook_build_the_same_models(section, module, names):
    built = {}
    for source in cells(section):
        built |= classes(source)
    ours = classes(Path(module.__file__).read_text())
    assert {name: ours[name] for name in names} == {name: built[name] for name in names}


def test_the_comparison_sees_a_changed_line():
    source = textwrap.dedent("""
        class A:
            "doc"
            x = 1  # comment
    """)
    assert classes(source) == classes("class A:\n    x = 1")
    assert classes(source) != classes("class A:\n    x = 2")


@pytest.mark.parametrize("size, channels", [(28, 1), (28, 3), (56, 1), (64, 1), (64, 3)])
def test_shapes_at_every_size_and_colour(size, channels):
    x = torch.rand(2, channels, size, size)
    z = Encoder(5, size=size, channels=channels)(x)
    assert z.shape == (2, 5)
    assert Decoder(5, size=size, channels=channels)(z).shape == x.shape


def test_the_encoder_halves_until_seven_or_eight():
    for size, side in ((28, 7), (64, 8)):
        convolutions = [
            layer for layer in Encoder(2, size=size) if isinstance(layer, torch.nn.Conv2d)
        ]
        x = torch.rand(1, 1, size, size)
        for layer in convolutions:
            x = layer(x)
        assert x.shape[-1] == side and x.shape[1] == 16 * 2 ** (len(convolutions) - 1)


def test_dropout_keeps_the_mean_and_its_share_and_rests_outside_training():
    torch.manual_seed(0)
    x, dropout = torch.ones(100_000), Dropout(0.4)
    y = dropout(x)
    assert (y == 0).double().mean().item() == pytest.approx(0.4, abs=0.01)
    assert y.mean().item() == pytest.approx(1, abs=0.01) and y.unique().numel() == 2
    assert torch.equal(dropout.eval()(x), x)


@pytest.mark.parametrize("side, own", [(1, False), (1, True), (3, False), (5, True), (7, False)])
def test_a_masked_convolution_sees_what_came_before_and_no_more(side, own):
    torch.manual_seed(0)
    x = torch.randn(1, 2, 9, 9, requires_grad=True)
    MaskedConv2d(2, 3, side, own)(x)[0, :, 4, 4].sum().backward()
    seen = x.grad[0].abs().sum(0) > 0  # (9, 9)
    row, column = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
    near = ((row - 4).abs() <= side // 2) & ((column - 4).abs() <= side // 2)
    before = 9 * row + column < 9 * 4 + 4 + own
    assert torch.equal(seen, near & before)


def test_pixels_are_drawn_one_by_one_each_given_those_before():
    """A chain in which each pixel repeats the one before it with probability .9: its law is known."""

    def logits(x):
        previous = x.flatten(1).roll(1, 1)
        chance = 0.1 + 0.8 * previous
        chance[:, 0] = 0.5
        return chance.logit().view_as(x)

    dice = torch.rand(4000, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    chain = sample_pixels(logits, dice).flatten(1)  # (4000, 12)
    assert set(chain.unique().tolist()) == {0, 1}
    repeats = (chain[:, 1:] == chain[:, :-1]).float().mean()
    assert repeats == pytest.approx(0.9, abs=0.01)
    assert chain[:, 0].mean() == pytest.approx(0.5, abs=0.03)
    assert torch.equal(chain, sample_pixels(logits, dice).flatten(1))


def test_weights_behind_a_mask_are_not_counted():
    layers = torch.nn.Sequential(MaskedConv2d(4, 6, 3, own=True), torch.nn.Linear(5, 2))
    assert live_weights(layers) == 4 * 6 * 5 + 6 + 5 * 2 + 2
    assert live_weights(MaskedConv2d(4, 6, 3, own=False)) == 4 * 6 * 4 + 6


@pytest.mark.parametrize("spatial, grid", [(8, (8, 8, 8)), (16, (32, 4, 4)), (32, (128, 2, 2))])
def test_deep_compression_keeps_the_number_of_values_and_trades_places_for_channels(spatial, grid):
    built = definitions("31.1")
    layers = [partial(built[name], shortcut=True) for name in ("Down", "Up")]
    net, x = DeepCompression(spatial, *layers), torch.rand(2, 3, 64, 64)
    assert net.encoder(x).shape == (2, *grid) and math.prod(grid) == 512
    blocks = [sum(type(m).__name__ == "Block" for m in part) for part in (net.encoder, net.decoder)]
    assert blocks[0] == blocks[1] == 1 + math.log2(spatial / 2)
    assert net(x).shape == x.shape and net.loss(x)["loss"].ndim == 0


def test_the_shortcuts_pass_an_image_where_the_convolutions_are_silent():
    """Averages of groups down, repeats up: space to channels and back keeps each group's mean."""
    built = definitions("31.1")
    down, up = built["Down"](16, 32, True), built["Up"](32, 16, True)
    for layer in (down.conv, up.conv):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    x = torch.rand(2, 16, 8, 8)
    code = down(x)
    pairs = torch.nn.functional.pixel_unshuffle(x, 2).view(2, 32, 2, 4, 4).mean(2)
    assert torch.allclose(code, pairs)
    assert torch.allclose(down(up(code)), code)  # up spreads what down gathers again
    assert up(code).mean().item() == pytest.approx(x.mean().item(), abs=1e-6)
