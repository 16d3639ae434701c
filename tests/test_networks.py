import ast
import textwrap
from pathlib import Path

import pytest
import torch
from cells import cells

from companion.models import Decoder, Dropout, Encoder, vae
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
    "section, module, names", [("31.1", networks, ["Encoder", "Decoder"]), ("31.3", vae, ["VAE"])]
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
