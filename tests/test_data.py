"""Datasets: where they come from, what they hold, and what is said of a file that cannot be used."""

import hashlib
import math
import os
import shutil
import sys
import urllib.error
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from cells import definitions
from PIL import Image
from safetensors.torch import load_file
from tqdm import tqdm

from companion import data, metrics
from companion.data import (
    DataError,
    Images,
    binarised,
    digits,
    dsprites,
    encoded,
    files,
    pictures,
    strokes,
)
from companion.data.corruption import CORRUPTIONS, gaussian, masking, salt_and_pepper
from companion.training import fit_or_load, kept

drawn = sys.modules["companion.data.dsprites"]


REAL = os.environ.get("COMPANION_DATA")  # before a test takes it away


@pytest.fixture
def tiny_mnist(folder, monkeypatch):
    """Files in MNIST's format, 20 + 10 images, whose digests are the ones expected."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in digits.MNIST_SHA256:
        count = 20 if name.startswith("train") else 10
        if "images" in name:
            head, body = (2051, count, 28, 28), random.integers(0, 256, count * 784)
        else:
            head, body = (2049, count), np.arange(count) % 10
        content = b"".join(n.to_bytes(4, "big") for n in head) + body.astype(np.uint8).tobytes()
        (raw / name).write_bytes(content)
        monkeypatch.setitem(digits.MNIST_SHA256, name, hashlib.sha256(content).hexdigest())
    return raw


@pytest.fixture
def no_network(monkeypatch):
    """Every attempt to open an address fails as it does on a machine without a network."""

    def refuse(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


def test_mnist_is_read_whole_and_says_where(tiny_mnist, capsys):
    digits = data.mnist()
    assert (digits.name, digits.train.shape, digits.test.shape) == (
        "mnist",
        (20, 1, 28, 28),
        (10, 1, 28, 28),
    )
    assert digits.train.dtype == torch.uint8 and digits.test_labels.tolist() == list(range(10))
    raw = (tiny_mnist / "t10k-images-idx3-ubyte").read_bytes()[16:]
    assert digits.test.cpu().numpy().tobytes() == raw
    assert capsys.readouterr().out.startswith("mnist: 20 + 10 digits, MNIST read from")


@pytest.mark.parametrize("damage", ["missing", "truncated", "bit-flipped"])
def test_a_damaged_mnist_file_is_named_with_its_mend(tiny_mnist, damage):
    path = tiny_mnist / "t10k-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[:-100])
    else:
        content[5000] ^= 1
        path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"t10k-images-idx3-ubyte is .*: delete .*MNIST to have it"
    ) as caught:
        data.mnist()
    assert "\n" not in str(caught.value)


def test_a_chosen_folder_goes_first_and_must_exist(tiny_mnist, folder, monkeypatch, tmp_path):
    chosen = tmp_path / "chosen"
    monkeypatch.setenv("COMPANION_DATA", str(chosen))
    with pytest.raises(DataError, match="chosen is not a folder: correct it or unset it"):
        data.mnist()
    (folder / "MNIST").rename(tmp_path / "MNIST")
    chosen.mkdir()
    (tmp_path / "MNIST").rename(chosen / "MNIST")
    assert str(chosen) in data.mnist().origin


def test_without_network_pen_digits_stand_in_and_nothing_is_left(
    folder, no_network, monkeypatch, capsys
):
    draw = strokes.digits
    monkeypatch.setattr(strokes, "digits", lambda count, seed: draw(count // 1000, seed))
    digits = data.mnist()
    assert digits.name == "strokes"
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and "because MNIST was not found" in out
    assert [path.name for path in folder.iterdir()] == ["cache"]


def test_a_download_cut_short_leaves_nothing(folder, monkeypatch):
    def cut_short(root, download):
        os.makedirs(os.path.join(root, "MNIST", "raw"))
        raise ConnectionResetError

    monkeypatch.setattr("torchvision.datasets.MNIST", cut_short)
    assert digits._real_mnist() is None
    assert list(folder.iterdir()) == []


def test_a_download_lands_whole_and_quietly(tiny_mnist, folder, monkeypatch, capsys, tmp_path):
    read, source = torchvision.datasets.MNIST, tmp_path / "remote"
    (folder / "MNIST").rename(source)

    def fetch(root, train=True, download=False):
        if download:
            for _ in tqdm(range(3)):  # as torchvision shows a bar
                print("Extracting")
            shutil.copytree(source, os.path.join(root, "MNIST"))
            return None
        return read(root, train=train)

    monkeypatch.setattr("torchvision.datasets.MNIST", fetch)
    assert data.mnist().name == "mnist"
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 1 and not shown.err
    assert {path.name for path in folder.iterdir()} == {"MNIST", "cache"}


def test_embedded_looks_nowhere(tiny_mnist, monkeypatch):
    monkeypatch.setenv("COMPANION_DATA", "embedded")
    assert files.places() == [] and digits._real_mnist() is None


def test_a_folder_that_cannot_be_written_costs_only_time(folder, monkeypatch):
    monkeypatch.setattr(files, "DATA", folder / "file")
    (folder / "file").write_text("a file where a folder should be: nothing can be written below it")
    assert files.cached("x", lambda: {"a": np.arange(3)})["a"].tolist() == [0, 1, 2]


def test_a_damaged_cache_is_named(folder):
    files.cached("x", lambda: {"a": np.arange(30_000)})
    path = folder / "cache" / "x.npz"
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(DataError, match=r"x.npz is damaged .*: delete it"):
        files.cached("x", dict)


def test_an_interrupted_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def write(temporary):
        temporary.write(b"half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(path, write)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_pen_digits_are_seeded_balanced_and_centred_as_mnist_is():
    images, labels = strokes.digits(500, seed=3)
    again, _ = strokes.digits(500, seed=3)
    other, _ = strokes.digits(500, seed=4)
    assert torch.equal(images, again) and not torch.equal(images, other)
    assert labels.bincount().tolist() == [50] * 10
    ink = images[:, 0].double()
    assert (ink[:, :2].sum() + ink[:, :, :2].sum()) / ink.sum() < 0.01  # the edges are empty
    for axis, limit in ((1, 0.6), (2, 0.95)):  # columns, rows: mean distance from the middle
        centre = (ink.sum(axis) * torch.arange(28)).sum(1) / ink.sum((1, 2))
        assert (centre - 13.5).abs().mean() < limit


def test_a_classifier_of_each_kind_of_digits_reads_the_other():
    def trained_on(name):
        path = kept.COMMITTED / "31.1" / f"classifier.{name}.safetensors"
        (classifier := metrics.DigitClassifier().eval()).load_state_dict(load_file(path))
        return classifier

    pens, pen_labels = strokes.digits(2000, seed=1)  # not those a classifier of pens has seen
    assert metrics.accuracy(trained_on("mnist"), pens, pen_labels) >= 80
    if (real := digits._real_mnist()) is None:
        pytest.skip("MNIST is not at hand: the other direction cannot be measured")
    some = real.test[:2000], real.test_labels[:2000]
    assert metrics.accuracy(trained_on("strokes"), *some) >= 80


@pytest.mark.slow
def test_photos_hold_the_cat_out(folder):
    pictures = data.photos(32, crops=40)
    assert pictures.train.shape == (40, 3, 32, 32) and pictures.name == "photos-32"
    assert pictures.stand_in
    assert data.cat(96).shape == (1, 3, 96, 96)
    crop = data.to_float(data.cat(32)).cpu()
    nearest = (data.to_float(pictures.train) - crop).square().flatten(1).mean(1).min()
    assert nearest > 0.005  # no training crop shows the cat


def test_square_cuts_the_middle():
    picture = np.zeros((10, 30, 3), np.uint8)
    picture[:, 10:20] = 255
    assert (data.square(picture, 10) == 255).all()


def test_tile_places_pictures_row_by_row():
    rows = torch.zeros(2, 3, 1, 4, 5)
    rows[1, 2] = 1
    picture = data.tile(rows)
    assert picture.shape == (9, 17)
    assert (picture[5:, 12:] == 255).all() and (picture[:4, :5] == 0).all()
    assert data.tile(torch.rand(1, 2, 3, 4, 5)).shape == (4, 11, 3)


def test_indexed_items_are_made_when_asked_for():
    asked = []
    squares = data.Indexed(
        "squares", 5, lambda i: asked.append(len(i)) or i**2, torch.device("cpu")
    )
    assert asked == [] and squares[torch.tensor([2, 4])].tolist() == [4, 16] and asked == [2]


def test_the_first_items_are_the_datas_own_unless_copies_of_it_are_about():
    images = torch.arange(40 * 3 * 16 * 16).view(40, 3, 16, 16).byte()
    parts = images, torch.arange(40), images[:1], torch.zeros(1), "here"
    first, labels = data.first_items(Images("other-16", *parts), labels=True)
    assert torch.equal(first, images[:8]) and labels.tolist() == list(range(8))
    (stand_in,) = data.first_items(Images("any-16", *parts, copies=True))
    assert stand_in.shape == (8, 3, 16, 16) and not torch.equal(stand_in, images[:8])
    assert [len(data.first_items(x)[0]) for x in (images[:, :1], images[:5])] == [16, 5]


def test_two_copies_of_a_dataset_do_not_share_a_cache(tmp_path):
    for size in (10, 20):
        (tmp_path / str(size) / "val" / "a").mkdir(parents=True)
        (tmp_path / str(size) / "val" / "a" / "one.JPEG").write_bytes(b"x" * size)
    assert pictures._copy_of(tmp_path / "10") != pictures._copy_of(tmp_path / "20")


def test_the_data_folder_is_the_checkouts_or_that_of_where_one_works(tmp_path):
    book, site = tmp_path / "book", tmp_path / "site-packages"
    for folder in (book / "data", book / "notebooks", book / "companion", site / "companion"):
        folder.mkdir(parents=True)
    (book / "data" / "README.md").write_text("words")
    assert files.data_folder(book / "companion", tmp_path) == book / "data"
    assert files.data_folder(site / "companion", book / "notebooks") == book / "data"
    assert files.data_folder(site / "companion", tmp_path) == tmp_path / "data"


def test_mnist_is_decoded_once_and_torchvision_left_alone_afterwards(folder, monkeypatch):
    if not REAL or not (Path(REAL) / "MNIST").is_dir():
        pytest.skip("MNIST is not at hand")
    monkeypatch.setenv("COMPANION_DATA", REAL)
    first = data.mnist(verbose=False)
    monkeypatch.setattr(digits, "torchvision_datasets", lambda: 1 / 0)
    again = data.mnist(verbose=False)
    assert torch.equal(first.train, again.train) and torch.equal(
        first.test_labels, again.test_labels
    )


def test_where_imagenette_cannot_be_had_photographs_stand_in(folder, monkeypatch, capsys):
    asked = []

    def no_network(root, split, **_):
        asked.append(split)
        raise RuntimeError("no such host")

    monkeypatch.setattr("torchvision.datasets.Imagenette", no_network)
    monkeypatch.setattr(
        pictures, "photos", lambda size: data.Images("photos-8", *[torch.zeros(2)] * 4, "here")
    )
    assert data.colours(8).name == "photos-8" and asked == ["train"]
    assert "photos-8: 2 + 2 pictures, here" in capsys.readouterr().out
    assert [path.name for path in folder.iterdir()] == []


def test_imagenette_is_fetched_whole_where_it_can_be(folder, monkeypatch):
    def fetched(root, split, size, download=False):
        place = Path(root) / "imagenette2-160" / split / "n01440764"
        if download:
            for part in ("train", "val"):
                (place.parent.parent / part / "n01440764").mkdir(parents=True)
                Image.new("RGB", (20, 16), "red").save(
                    place.parent.parent / part / "n01440764/a.JPEG"
                )
        return SimpleNamespace(_samples=[(place / "a.JPEG", 0)])

    monkeypatch.setattr("torchvision.datasets.Imagenette", fetched)
    found = data.colours(8, verbose=False)
    assert found.name == "imagenette-8" and found.train.shape == found.test.shape == (1, 3, 8, 8)


def test_patches_are_squares_of_the_images_away_from_their_edges():
    places = torch.arange(28 * 28).view(1, 1, 28, 28).repeat(200, 1, 1, 1)
    cut = data.patches(places, 12, seed=3)  # int64: left as they are, so that places can be read
    rows, columns = cut[:, 0, 0, 0] // 28, cut[:, 0, 0, 0] % 28
    wanted = (rows[:, None] + torch.arange(12))[:, :, None] * 28
    wanted = wanted + (columns[:, None] + torch.arange(12))[:, None]
    assert torch.equal(cut[:, 0], wanted)
    assert {rows.min().item(), columns.min().item()} == {3}
    assert {rows.max().item(), columns.max().item()} == {28 - 3 - 12}
    assert torch.equal(cut, data.patches(places, 12, seed=3))
    assert not torch.equal(cut, data.patches(places, 12, seed=4))


def test_halved_images_are_the_means_of_blocks():
    images = torch.randint(0, 256, (5, 2, 8, 6), generator=torch.Generator().manual_seed(0)).byte()
    labels = torch.arange(5)
    half = Images("toy", images, labels, images[:2], labels[:2], "made here").halved()
    wanted = torch.nn.functional.avg_pool2d(images.double(), 2)
    assert half.name == "toy-3" and half.train.dtype == torch.uint8
    assert (half.train.double() - wanted).abs().max() <= 0.5
    assert half.test.shape == (2, 2, 4, 3) and torch.equal(half.test, half.train[:2])


def test_binarised_pixels_are_white_as_often_as_they_are_grey_and_always_the_same():
    grey = torch.tensor([0, 64, 255], dtype=torch.uint8).repeat(4000, 1)
    black = binarised(grey)
    assert set(black.unique().tolist()) == {0, 255} and black.dtype == torch.uint8
    assert (black.float().mean(0) / 255).tolist() == pytest.approx([0, 64 / 255, 1], abs=0.02)
    assert torch.equal(black, binarised(grey)) and not torch.equal(black, binarised(grey, seed=1))


def test_encoded_items_are_made_of_the_images_asked_for():
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 1, 2, 2)
    items = encoded("tokens", images, lambda x: (255 * x).round().long().sum((1, 2, 3)))
    assert len(items) == 10 and items.name == "tokens"
    assert items[torch.tensor([3, 0, 9])].tolist() == [12, 0, 36]


def test_superposed_features_are_five_on_average_and_the_same_for_every_seed():
    sums, truth, strength = data.superposed(4000, seed=1)
    other = data.superposed(10, seed=2)
    assert sums.shape == (4000, 256) and torch.equal(truth, other[1])
    assert torch.allclose(truth.norm(dim=1), torch.ones(512), atol=1e-5)
    chance = 0.99 ** torch.arange(512)
    mean = (5 * chance / chance.sum() / 2) @ truth  # each strength is a half on average
    assert torch.cosine_similarity(sums.mean(0), mean, dim=0) > 0.9
    # E |sum|² is about E Σ strength²: five features of mean square 1/3
    assert sums.square().sum(1).mean().item() == pytest.approx(5 / 3, rel=0.1)
    assert (
        torch.allclose(strength @ truth, sums) and 4.9 < (strength > 0).sum(1).float().mean() < 5.1
    )
    _, _, even = data.superposed(4000, seed=1, features=64, dimensions=8, active=16, decay=1)
    assert (even > 0).float().mean(0).sub(0.25).abs().max() < 0.04  # each as often as any other


def test_a_set_of_the_readers_own_is_no_stand_in_and_is_trained_on_for_as_long():
    x = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    own = Images("own", x, torch.zeros(4), x, torch.zeros(4), "here")
    assert not own.stand_in and not own.copies and [own.epochs(k) for k in (1, 24)] == [1, 24]
    stand_in = Images("s", x, torch.zeros(4), x, torch.zeros(4), "here", stand_in=True)
    assert [stand_in.epochs(k) for k in (1, 11, 12, 30)] == [1, 1, 1, 2]
    assert stand_in.halved().stand_in and stand_in.first(2).stand_in  # whatever becomes of them


def test_what_stands_in_says_so_and_what_is_real_does_not(tiny_mnist, monkeypatch):
    assert not data.mnist(verbose=False).stand_in and not data.mnist(verbose=False).copies
    monkeypatch.setenv("COMPANION_DATA", "embedded")
    draw = strokes.digits
    monkeypatch.setattr(strokes, "digits", lambda count, seed: draw(count // 1000, seed))
    assert data.mnist(verbose=False).stand_in


# A folder of the reader's own pictures.


@pytest.fixture
def album(tmp_path):
    """Twelve pictures in two subfolders, in many formats, and three files that are none."""
    for name in ("red", "blue"):
        (tmp_path / name).mkdir()
    for number in range(6):
        kind = ("png", "jpg", "bmp", "gif", "tiff", "webp")[number]
        Image.new("RGB", (40, 20), "red").save(tmp_path / "red" / f"{number}.{kind}")
        Image.new("RGB", (20, 40), "blue").save(tmp_path / "blue" / f"{number}.{kind}")
    return tmp_path


def test_a_folder_gives_every_tenth_to_the_test_and_a_label_to_each_subfolder(album):
    found = data.folder(album, 8)
    assert found.name == f"{album.name}-8" and str(album) in found.origin
    assert found.train.shape == (11, 3, 8, 8) and found.test.shape == (1, 3, 8, 8)
    assert found.train.dtype == torch.uint8 and not found.stand_in and not found.copies
    assert found.train_labels.tolist() == [0] * 6 + [1] * 5 and found.test_labels.tolist() == [1]
    blue, red = found.train[:6].float().mean((0, 2, 3)), found.train[6:].float().mean((0, 2, 3))
    assert blue[2] > 250 > 10 > blue[0] and red[0] > 250 > 10 > red[2]  # in the order of names
    grey = data.folder(album, 16, channels=1)
    assert grey.train.shape == (11, 1, 16, 16) and set(grey.train[:6].unique().tolist()) <= {
        *range(27, 31)
    }  # blue is dark
    assert data.folder(album / "red", 8).test.shape[0] == 1  # of fewer than ten the last


def test_a_folders_pictures_are_upright_middle_squares_on_white(tmp_path):
    half = np.zeros((20, 60, 3), np.uint8)
    half[:, 20:40, 0] = 255  # red in the middle, cut at the sides
    Image.fromarray(half).save(tmp_path / "a.png")
    upper = np.zeros((16, 16, 3), np.uint8)
    upper[:, :8] = 255  # its left half is white; turned by a quarter to the right, its upper half
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(upper).save(tmp_path / "b.png", exif=turned)
    alpha = np.zeros((16, 16, 4), np.uint8)
    alpha[8:, :, 3] = 255  # transparent above, black below
    Image.fromarray(alpha).save(tmp_path / "c.png")
    palette = Image.fromarray(np.repeat([[0], [1]], 8, 0).repeat(16, 1).astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 0, 0, 255])
    palette.save(tmp_path / "d.png", transparency=0)
    Image.new("L", (16, 16), 77).save(tmp_path / "e.png")
    Image.new("I;16", (16, 16), 0).save(tmp_path / "f.png")
    found = data.folder(tmp_path, 16)
    a, b, c, d, e = found.train
    assert a[0, :, 1:-1].min() == 255 and a[1:].max() == 0  # resized: the edges are a little mixed
    assert a[0].min() > 240
    for picture in (b, c):
        assert picture[:, :8].min() == 255 and picture[:, 8:].max() == 0
    assert d[:, :8].min() == 255 and d[2, 8:].min() == 255 and d[:2, 8:].max() == 0
    assert set(e.unique().tolist()) == {77} and len(found.test) == 1


def test_a_file_that_is_no_picture_is_named_and_left_out(album, capsys):
    whole = (album / "red" / "0.png").read_bytes()
    (album / "red" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (album / "red" / "notes.txt").write_text("no picture")
    (album / "red" / ".hidden.png").write_bytes(b"")
    assert len(data.folder(album, 8).train) == 11
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and all("is no readable picture (" in line for line in said)
    assert "cut.png" in said[0] and "notes.txt" in said[1] and said[0].endswith("left out.")


def test_a_folder_without_pictures_or_with_other_channels_is_refused(album, tmp_path):
    with pytest.raises(ValueError, match=r"channels=4: choose 1 \(grey\) or 3 \(colour\)"):
        data.folder(album, 8, channels=4)
    for path, count in ((tmp_path / "nowhere", 0), (album / "one", 1)):
        if count:
            path.mkdir()
            Image.new("L", (9, 9)).save(path / "only.png")
        with pytest.raises(DataError, match=f"holds {count} readable pictures: two or more are"):
            data.folder(path, 8)


def test_a_vae_trains_on_a_folder_and_is_kept_under_its_name(album, folder, capsys):
    own = data.folder(album, 28, channels=1)
    settings = {"epochs": 2, "batch": 5, "bar": False}
    build = lambda: definitions("31.3")["VAE"](2)
    model, history = fit_or_load("t/own", build, own, **settings)
    again, _ = fit_or_load("t/own", build, own, **settings)
    assert history.terms["kl"] and "loaded" in capsys.readouterr().out
    assert torch.equal(model.encoder[0].weight, again.encoder[0].weight)
    assert (folder / "trained" / "t" / f"own.{album.name}-28.json").exists()
    assert metrics.over(model.decoder, torch.zeros(1, 2)).shape == own.test.shape


# Corruption.


GREY = torch.full((40, 1, 28, 28), 0.5)  # 31,360 pixels


@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_strength_zero_leaves_the_image(corrupt):
    x = torch.rand(5, 1, 8, 8)
    assert torch.equal(corrupt(x, 0.0), x)


@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS)
@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan"), torch.tensor([0.5, 1.1])])
def test_a_strength_outside_zero_to_one_is_refused(corrupt, strength):
    with pytest.raises(ValueError, match=r"corruption strength .*: choose 0 to 1"):
        corrupt(torch.zeros(2, 1, 4, 4), strength)


def test_gaussian_noise_has_mean_zero_and_the_given_spread():
    torch.manual_seed(0)
    noise = gaussian(GREY, 0.4) - GREY
    assert abs(noise.mean()) < 4 * 0.4 / GREY.numel() ** 0.5
    assert noise.std() == pytest.approx(0.4, rel=0.02)


def test_masking_sets_the_given_share_to_zero_and_leaves_the_rest():
    torch.manual_seed(0)
    x = masking(GREY, 0.3)
    assert set(x.unique().tolist()) == {0.0, 0.5}
    assert (x == 0).float().mean() == pytest.approx(0.3, abs=0.01)


def test_salt_and_pepper_replaces_by_zero_and_one_alike():
    torch.manual_seed(0)
    x = salt_and_pepper(GREY, 0.6)
    shares = {value: (x == value).float().mean().item() for value in (0.0, 0.5, 1.0)}
    assert shares == pytest.approx({0.0: 0.3, 0.5: 0.4, 1.0: 0.3}, abs=0.01)


@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_each_image_of_a_batch_may_have_its_own_strength(corrupt):
    torch.manual_seed(0)
    x = corrupt(GREY[:2], torch.tensor([0.0, 0.9]).view(2, 1, 1, 1))
    assert torch.equal(x[0], GREY[0]) and (x[1] != GREY[1]).float().mean() > 0.8


# The sprites against the published geometry, written out anew, pixel by pixel.


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
