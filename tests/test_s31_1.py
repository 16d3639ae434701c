"""What notebook 31.1 builds, taken from its cells, and its section's file."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from cells import definitions
from matplotlib import pyplot
from torch import nn

from companion.models import Autoencoder
from companion.sections import s31_1
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
    found = s31_1.latent_space(Plane(), images)
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

    found = s31_1.holes(Plane(), images, scores)
    assert found.shape == (3, 4) and found[:, :3].tolist() == 3 * [[1, 2, 3]] and found[2, 3] == 50
    assert found[0, 3] > 70 and found[1, 3] < 60  # told apart, not told apart
    codes = images.flatten(1)
    each, full, own = seen
    assert torch.equal(own, codes)
    for samples, correlated in ((each, False), (full, True)):
        assert torch.allclose(samples.mean(0), codes.mean(0), atol=0.1)
        assert torch.allclose(samples.std(0), codes.std(0), rtol=0.1)
        assert (samples.T.corrcoef()[0, 1] > 0.9) == correlated


@pytest.mark.parametrize(
    "latent_dim, hidden", [(2, (330, 256, 256)), (8, (330, 256, 256)), (32, (392, 256))]
)
def test_the_dense_autoencoder_has_as_many_weights_as_the_convolutional_one(latent_dim, hidden):
    count = lambda model: sum(weight.numel() for weight in model.parameters())
    dense = s31_1.DenseAutoencoder(latent_dim, hidden)
    assert count(dense) == pytest.approx(count(Autoencoder(latent_dim)), rel=0.006)
    x = torch.rand(3, 1, 28, 28)
    assert dense.encoder(x).shape == (3, latent_dim) and dense(x).shape == x.shape
    kinds = [type(layer).__name__ for layer in dense.decoder]
    assert kinds[0] == "Linear" and kinds[-2:] == ["Linear", "Unflatten"] and "Conv2d" not in kinds


@pytest.mark.parametrize("axes", [2, 30])  # by a tree, and by all distances
def test_nearest_is_the_least_of_all_distances(axes):
    dice = torch.Generator().manual_seed(0)
    known, asked = torch.randn(300, axes, generator=dice), torch.randn(50, axes, generator=dice)
    apart, index = s31_1.nearest(known, asked)
    exact = (asked[:, None].double() - known.double()).norm(dim=2)
    assert torch.allclose(apart, exact.amin(1)) and torch.equal(index, exact.argmin(1))
    with pytest.raises(ValueError, match=r"pass \(K, M\) and \(N, M\) of the same M"):
        s31_1.nearest(known, asked[:, :1])


def test_strays_tell_a_hole_from_a_wrong_share():
    """Codes on a ring: a Gaussian's samples in its middle lie in a hole, and half of them are far."""
    angle = 2 * math.pi * torch.rand(4000, 1, generator=torch.Generator().manual_seed(0))
    ring = torch.cat([angle.cos(), angle.sin()], 1).view(-1, 1, 1, 2)
    sets = []

    def scores(samples):
        sets.append(samples.flatten(1))
        return {"Fréchet distance": samples.flatten(1).norm(dim=1).std().item()}

    share, sampled, snapped, encoded, reach = s31_1.strays(
        Plane(), ring[:3000], ring[3000:], scores
    )
    assert share > 80 and sampled > 0.3 and snapped < 1e-3 and encoded < 1e-3 and reach < 0.02
    assert [len(found) for found in sets] == [3000, 3000, 3000]
    cloud = torch.randn(4000, 1, 1, 2, generator=torch.Generator().manual_seed(1))
    assert s31_1.strays(Plane(), cloud[:3000], cloud[3000:], scores)[0] < 2  # a Gaussian has none


def test_half_way_compares_each_pair_with_the_average_of_its_two_images():
    """A code that doubles: its middle is the pixels' average; one that squares: its middle is not."""
    double, square = (SimpleNamespace(encoder=f, decoder=g) for f, g in (
        (lambda x: 2 * x, lambda z: z / 2), (torch.square, torch.sqrt)
    ))  # fmt: skip
    images = torch.tensor([0.0, 1.0, 0.6, 0.8]).view(4, 1, 1, 1)
    pairs = {"near": (torch.tensor([0, 2]), torch.tensor([1, 3]))}
    scores = lambda x: {"Fréchet distance": x.mean().item()}
    near = lambda x: (x.flatten() - 1).abs()
    rows = s31_1.half_way({"double": double, "square": square}, images, pairs, scores, near)
    assert list(rows) == [("pixels", "near"), ("double", "near"), ("square", "near")]
    control, same, other = (list(row.values()) for row in rows.values())
    assert control == same[:2] and same[2] == 0 and len(control) == 2
    assert other[0] == pytest.approx((math.sqrt(0.5) + math.sqrt(0.5)) / 2) and other[2] == 100


def test_shuffling_moves_the_pixels_of_the_middle_and_no_others():
    x = torch.rand(3, 1, 28, 28)
    moved = s31_1.shuffled_middle(x, torch.Generator().manual_seed(0))
    middle = moved[:, :, 4:24, 4:24].flatten(1)
    assert torch.equal(middle.sort().values, x[:, :, 4:24, 4:24].flatten(1).sort().values)
    moved[:, :, 4:24, 4:24] = x[:, :, 4:24, 4:24]
    assert torch.equal(moved, x) and not torch.equal(middle, x[:, :, 4:24, 4:24].flatten(1))


def test_robustness_has_the_error_and_the_share_read_right_of_both():
    digits = SimpleNamespace(
        test=torch.full((4, 1, 28, 28), 255, dtype=torch.uint8),
        test_labels=torch.tensor([1, 1, 1, 0]),
    )
    reads = lambda x: nn.functional.one_hot((x.mean((1, 2, 3)) > 0.5).long(), 2).float()
    row = s31_1.robustness(reads, digits, torch.ones(4, 1, 28, 28), torch.zeros(4, 1, 28, 28))
    assert row == {"error": 0, "with noise": 1, "read right, %": 75, "with noise, %": 25}


def test_the_map_of_holes_draws_the_line_where_codes_are_far(monkeypatch):
    """Codes in a triangle, its right angle at the origin: nothing of it is the same turned over."""
    monkeypatch.setattr(pyplot, "show", lambda: None)
    codes = torch.rand(3000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 2])
    codes = codes[codes @ torch.tensor([1, 0.5]) < 1]
    decode = lambda z: z[:, :1, None, None].expand(-1, 1, 4, 4)
    s31_1.holes_map(decode, codes, 0.3, "a title", reached=4, fine=60)
    figure = pyplot.gcf()
    far, decoded = figure.axes[:2]
    assert far.get_xlabel() == "latent axis 1" and figure._suptitle.get_text() == "a title"
    left, right, low, high = far.images[0].get_extent()
    assert [left, right] == pytest.approx(
        [(codes[:, 0].mean() + f * codes[:, 0].std()).item() for f in (-4, 4)]
    )
    x, y = torch.linspace(left, right, 60), torch.linspace(low, high, 60)
    places = torch.stack([x.expand(60, 60), y[:, None].expand(60, 60)], -1).view(-1, 2)
    exact = torch.cdist(places, codes).amin(1).view(60, 60) / 0.3  # row by row upwards
    drawn = torch.tensor(far.images[0].get_array())
    assert far.images[0].origin == "lower" and torch.allclose(drawn.float(), exact, atol=1e-3)
    for axis in (far, decoded):
        (line,) = (c.get_paths()[0].vertices for c in axis.collections)
        assert line.min(0) == pytest.approx([-0.3, -0.3], abs=0.05)
        assert line.max(0) == pytest.approx([1.3, 2.3], abs=0.1)
    pyplot.close("all")


def test_error_maps_share_one_scale_and_say_where_the_error_lies(monkeypatch):
    monkeypatch.setattr(pyplot, "show", lambda: None)
    image = torch.zeros(1, 28, 28)
    middle, border = image.clone(), image.clone()
    middle[:, 4:24, 4:24], border[:, 0] = 3.0, -1.0
    s31_1.error_maps(image, {"in the middle": middle, "at the border": border}, "a title", limit=2)
    axes = pyplot.gcf().axes
    assert [axis.get_title() for axis in axes[:3]] == ["image", "in the middle", "at the border"]
    assert all(axis.images[0].get_clim() == (-2, 2) for axis in axes[1:3])
    assert axes[1].images[0].get_array().max() == 3 and axes[2].images[0].get_array().min() == -1
    assert "100% in the square" in axes[1].get_xlabel() and "0% in" in axes[2].get_xlabel()
    pyplot.close("all")
