import hashlib
import os
import shutil
import urllib.error
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from tqdm import tqdm

from companion import data, metrics
from companion.data import DataError, Images, binarised, digits, encoded, files, pictures, strokes
from companion.training import notes

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
        with open(temporary, "w") as file:
            file.write("half of the n")
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


def test_a_judge_of_each_kind_of_digits_reads_the_other():
    pens, pen_labels = strokes.digits(2000, seed=1)  # not those the judge of pens has seen
    judge = metrics.DigitClassifier().eval()
    judge.load_state_dict(notes.read_tensors(notes.COMMITTED / "31.1" / "judge.mnist.safetensors"))
    assert metrics.accuracy(judge, pens, pen_labels) >= 80
    real = digits._real_mnist()
    if real is None:
        pytest.skip("MNIST is not at hand: the other direction cannot be measured")
    judge.load_state_dict(
        notes.read_tensors(notes.COMMITTED / "31.1" / "judge.strokes.safetensors")
    )
    assert metrics.accuracy(judge, real.test[:2000], real.test_labels[:2000]) >= 80


@pytest.mark.slow
def test_photos_hold_the_cat_out(folder):
    pictures = data.photos(32, crops=40)
    assert pictures.train.shape == (40, 3, 32, 32) and pictures.name == "photos-32"
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


def test_packed_images_come_back_bit_for_bit_by_any_index():
    images = (torch.rand(20, 1, 5, 7, generator=torch.Generator().manual_seed(0)) < 0.4).byte()
    bits = data.packed("bits", images)
    index = torch.tensor([3, 0, 19, 3])
    assert len(bits) == 20 and torch.equal(bits[index], 255 * images[index])
    assert bits[index].dtype == torch.uint8


def test_indexed_items_are_made_when_asked_for():
    asked = []
    squares = data.Indexed(
        "squares", 5, lambda i: asked.append(len(i)) or i**2, torch.device("cpu")
    )
    assert asked == [] and squares[torch.tensor([2, 4])].tolist() == [4, 16] and asked == [2]


def test_the_first_items_are_the_datas_own_save_for_imagenette():
    images = torch.arange(40 * 3 * 16 * 16).view(40, 3, 16, 16).byte()
    other = data.Images("other-16", images, torch.arange(40), images[:1], torch.zeros(1), "here")
    first, labels = data.first_items(other, labels=True)
    assert torch.equal(first, images[:8]) and labels.tolist() == list(range(8))
    genuine = data.Images("imagenette-16", images, torch.arange(40), images[:1], torch.zeros(1), "")
    (stand_in,) = data.first_items(genuine)
    assert stand_in.shape == (8, 3, 16, 16) and not torch.equal(stand_in, images[:8])
    assert (
        len(data.first_items(images[:, :1])[0]) == 32 and len(data.first_items(images[:5])[0]) == 5
    )


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
