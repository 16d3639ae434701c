"""What notebook 31.1 builds, taken from its cells, and its section's file."""

import math
from functools import partial

import pytest
import torch
from cells import definitions
from torch import nn

from companion.models import Autoencoder
from companion.sections.s31_1 import DeepCompression
from companion.training import TrainingError, fit

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


class Flat(nn.Module):
    """One dense layer over whatever it is given: it says (B, 784) of pictures (B, 28, 28)."""

    def __init__(self, shape=(784,)):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 2))
        self.decoder = nn.Sequential(nn.Linear(2, math.prod(shape)), nn.Unflatten(1, shape))

    forward, loss = BUILT["Autoencoder"].forward, BUILT["Autoencoder"].loss


@pytest.mark.parametrize("section", ["31.1", "the package"])
@pytest.mark.parametrize(
    "images, outputs",
    [
        (torch.rand(100, 1, 28, 28), (28, 28)),  # (B, 28, 28): B pictures over B pictures
        (torch.rand(100, 28, 28), (1, 28, 28)),
        (torch.rand(100, 28, 28), (784,)),
        (torch.rand(100, 3, 28, 28)[:, :1].expand(-1, 3, -1, -1), (1, 28, 28)),
    ],
    ids=["without its channel", "data without theirs", "a dense model", "three channels, one out"],
)
def test_an_output_that_would_be_broadcast_over_the_images_is_one_sentence(
    images, outputs, section, monkeypatch
):
    model = Flat(outputs)
    if images.shape[1] == 3:
        model.encoder[1] = nn.Linear(3 * 784, 2)
    if section != "31.1":
        monkeypatch.setattr(Flat, "loss", Autoencoder.loss)
    with pytest.raises(TrainingError, match=r"decoder's output is .*, the images are \(50, ") as e:
        fit(model, images, epochs=1, batch=50, bar=False)
    assert "\n" not in str(e.value)


def test_three_channels_do_not_pass_the_autoencoder_of_the_notebook():
    model = BUILT["Autoencoder"](2)
    with pytest.raises(TrainingError, match=r"failed on a batch of \(50, 3, 28, 28\)"):
        fit(model, torch.rand(100, 3, 28, 28), epochs=1, batch=50, bar=False)


class Plane(nn.Module):
    """Codes that are two pixels, and pictures that are two grey levels: (B, 1, 1, 2) both ways."""

    encoder, decoder = nn.Flatten(), nn.Unflatten(1, (1, 1, 2))


def test_a_latent_space_is_its_codes_and_what_a_grid_over_nine_tenths_of_them_decodes_to():
    images = torch.rand(500, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    found = BUILT["latent_space"](Plane(), images)
    assert torch.allclose(found["codes"].float(), images.flatten(1), atol=1e-3)
    assert found["planes"].shape == (49, 1, 1, 2) and found["planes"].dtype == torch.uint8
    low, high = images.flatten(1).quantile(torch.tensor([0.05, 0.95]), 0)
    corners = torch.stack([torch.stack([low[0], high[1]]), torch.stack([high[0], low[1]])])
    drawn = found["planes"][[0, 48]].flatten(1) / 255  # top left, bottom right: axis 2 upwards
    assert torch.allclose(drawn, corners, atol=3e-3)


def test_holes_are_sought_under_a_diagonal_and_a_full_gaussian_and_the_codes_themselves():
    """Pixels that move together: where they are drawn one by one, most samples lie off their line."""
    line = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))
    images = torch.cat([line, line + 0.1 * line.flip(0)], 1).view(-1, 1, 1, 2)
    seen = []

    def scores(samples):
        seen.append(samples.flatten(1))
        return {"a": 1.0, "b": 2.0, "c": 3.0}

    BUILT["scores"] = scores
    found = BUILT["holes"](Plane(), images)
    assert found.shape == (3, 4) and found[:, :3].tolist() == 3 * [[1, 2, 3]] and found[2, 3] == 50
    assert found[0, 3] > 70 and found[1, 3] < 60  # told apart, not told apart
    codes = images.flatten(1)
    each, full, own = seen
    assert torch.equal(own, codes)
    for samples, correlated in ((each, False), (full, True)):
        assert torch.allclose(samples.mean(0), codes.mean(0), atol=0.1)
        assert torch.allclose(samples.std(0), codes.std(0), rtol=0.1)
        assert (samples.T.corrcoef()[0, 1] > 0.9) == correlated
