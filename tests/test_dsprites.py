"""The sprites against the published geometry, written out anew, pixel by pixel."""

import math
import sys
import zipfile

import numpy as np
import pytest
import torch

from companion.data import DataError, dsprites, files

drawn = sys.modules["companion.data.dsprites"]


def sprite(shape, scale, orientation, x, y):
    """One sprite from its definition: a polygon's winding for the heart, nothing shared with the renderer."""
    size, angle = 0.5 + 0.1 * scale, -2 * math.pi * orientation / 39
    rows, columns = np.mgrid[:64, :64] + 0.5
    dx, dy = columns - (16 + 32 * x / 31), rows - (16 + 32 * y / 31)
    u = (math.cos(angle) * dx + math.sin(angle) * dy) / size
    v = (-math.sin(angle) * dx + math.cos(angle) * dy) / size
    if shape == 0:
        return (np.abs(u) <= 9.6) & (np.abs(v) <= 9.6)
    if shape == 1:
        return (u / 12.78) ** 2 + (v / 7.22) ** 2 <= 1
    t = np.linspace(0, 2 * math.pi, 4001)
    curve = np.stack(
        [
            9.6 * np.sin(t) ** 3,
            -0.662 * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
            - 1.43,
        ]
    )
    crossings = np.zeros_like(u, int)  # of the curve's pieces to the right of each pixel's centre
    for (u0, v0), (u1, v1) in zip(curve.T[:-1], curve.T[1:], strict=True):
        between = (v0 > v) != (v1 > v)
        with np.errstate(divide="ignore", invalid="ignore"):
            crossings += between & (u < u0 + (v - v0) * (u1 - u0) / (v1 - v0))
    return crossings % 2 == 1


def factors(count, seed=0):
    draw = torch.Generator().manual_seed(seed)
    parts = [torch.randint(size, (count,), generator=draw) for size in drawn.SIZES]
    return torch.stack(parts, 1)


@pytest.mark.parametrize("shape", [0, 1, 2])
def test_sprites_are_as_the_geometry_says(shape):
    some = factors(12 if shape == 2 else 100)
    some[:, 0] = shape
    images = drawn.sprite_images(drawn.index_of(some)).numpy()
    for image, row in zip(images, some.tolist(), strict=True):
        assert np.array_equal(image, sprite(*row)), row


def whole_frame(index):
    """Each image in float64 over the whole frame, no window: (B, 64, 64) bool."""
    _, scale, k, x, y = drawn.factors_of(index).double().T[..., None, None]
    centre = torch.arange(64).double() + 0.5
    dx, dy = centre - (16 + 32 * x / 31), (centre - (16 + 32 * y / 31)).mT
    angle = -2 * math.pi * k / 39
    u = (angle.cos() * dx + angle.sin() * dy) / (0.5 + 0.1 * scale)
    v = (angle.cos() * dy - angle.sin() * dx) / (0.5 + 0.1 * scale)
    shapes = torch.stack([drawn.in_square(u, v), drawn.in_ellipse(u, v), drawn.in_heart(u, v)])
    return shapes[drawn.factors_of(index)[:, 0], torch.arange(len(index))]


@pytest.mark.slow
def test_one_image_in_a_hundred_equals_the_whole_frame():
    every = torch.arange(0, drawn.COUNT, 101)  # 101 shares no divisor with a factor's size
    for index in every.split(500):
        assert torch.equal(drawn.sprite_images(index), whole_frame(index))


def test_the_index_runs_through_the_factors_in_the_published_order():
    every = torch.arange(drawn.COUNT)
    found = drawn.factors_of(every)
    assert torch.equal(drawn.index_of(found), every)
    steps = 245_760 * found[:, 0] + 40_960 * found[:, 1] + 1024 * found[:, 2]
    assert torch.equal(steps + 32 * found[:, 3] + found[:, 4], every)


def test_symmetries():
    some = factors(60)
    full, start = some.clone(), some.clone()
    full[:, 2], start[:, 2] = 39, 0
    images = drawn.sprite_images(drawn.index_of(start))
    assert torch.equal(drawn.sprite_images(drawn.index_of(full)), images)  # a whole turn
    mirrored = start * torch.tensor([1, 1, 1, -1, 1]) + torch.tensor([0, 0, 0, 31, 0])
    assert torch.equal(drawn.sprite_images(drawn.index_of(mirrored)), images.flip(-1))
    area = [
        drawn.sprite_images(drawn.index_of(torch.tensor([[s, k, 0, 15, 15]]))).sum().item()
        for s in range(3) for k in range(6)
    ]  # fmt: skip
    assert all(
        a < b
        for s in range(3)
        for a, b in zip(area[6 * s :], area[6 * s + 1 : 6 * s + 6], strict=False)
    )
    largest = torch.tensor(area).view(3, 6)[:, 5]
    assert largest[0] == pytest.approx(19.2**2, rel=0.04)
    assert largest[1] == pytest.approx(math.pi * 12.78 * 7.22, rel=0.04)


def test_batches_are_blocks_averaged_and_every_eleventh():
    large, small = dsprites(verbose=False), dsprites(32, every=11, verbose=False)
    assert len(large) == 737_280 and len(small) == 67_026 and small.name == "dsprites-32"
    index = torch.tensor([0, 5, 60_000])
    some = large[11 * index].float()
    blocks = some.view(3, 1, 32, 2, 32, 2).mean((3, 5))
    assert some.shape == (3, 1, 64, 64) and set(some.unique().tolist()) == {0.0, 255.0}
    assert torch.equal(small[index].float(), blocks.round())
    counts = [drawn.factors_of(11 * torch.arange(len(small)))[:, f].bincount() for f in range(5)]
    assert all(count.max() - count.min() <= 0.01 * count.max() + 1 for count in counts)


@pytest.mark.parametrize(
    "wrong", [[3, 0, 0, 0, 0], [0, 6, 0, 0, 0], [0, 0, 0, 0, -1], [0, 0, 0, 0]]
)
def test_a_factor_out_of_range_is_named(wrong):
    with pytest.raises(ValueError, match="shape 0 to 2, scale 0 to 5, orientation 0 to 39"):
        drawn.index_of(torch.tensor([wrong]))


def test_an_image_number_or_size_out_of_range_is_named():
    with pytest.raises(ValueError, match="from 0 to 737279"):
        drawn.sprite_images(torch.tensor([737_280]))
    with pytest.raises(ValueError, match="size 48 is not 64, 32, 16 or 8"):
        dsprites(48)


def test_the_original_file_is_used_where_it_lies(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(drawn, "COUNT", 50)
    monkeypatch.setattr(files, "DATA", tmp_path)
    monkeypatch.delenv("COMPANION_DATA", raising=False)
    images = np.random.default_rng(0).integers(0, 2, (50, 64, 64), np.uint8)
    np.savez_compressed(tmp_path / drawn.ORIGINAL, imgs=images)
    sprites = dsprites()
    assert str(tmp_path) in capsys.readouterr().out
    assert np.array_equal(sprites[torch.arange(50)][:, 0].cpu().numpy(), 255 * images)
    whole = (tmp_path / drawn.ORIGINAL).read_bytes()
    (tmp_path / drawn.ORIGINAL).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"is damaged .* delete it, the sprites are drawn"):
        dsprites()
    with (
        zipfile.ZipFile(tmp_path / drawn.ORIGINAL, "w") as archive,
        archive.open("imgs.npy", "w") as file,
    ):
        np.save(file, images[:7])
    with pytest.raises(DataError, match=r"its images are \(7, 64, 64\)"):
        dsprites()
