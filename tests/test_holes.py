"""Codes against samples of codes, and a latent plane that forms: on spaces whose holes are known."""

import math

import pytest
import torch
from torch import nn

from companion import metrics
from companion.data import Images
from companion.metrics import SOURCES
from companion.show import holes_table
from companion.training import notes


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(notes, "COMMITTED", tmp_path / "checkpoints")
    monkeypatch.setattr(notes, "TRAINED", tmp_path / "trained")
    return tmp_path


def ring(count=2000, seed=0):
    """Codes on a ring of radius 3 in the plane: a hole in the middle."""
    draw = torch.Generator().manual_seed(seed)
    angle, radius = torch.rand(count, generator=draw) * 2 * math.pi, 3.0
    noise = 0.1 * torch.randn(count, 2, generator=draw)
    return radius * torch.stack([angle.cos(), angle.sin()], 1) + noise


def blob(count=2000, seed=0):
    """Correlated normal codes: no hole."""
    mixing = torch.tensor([[2.0, 0.0], [1.5, 0.5]])
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(seed)) @ mixing.T + 4


def picture(z):
    return z.view(-1, 1, 1, 2)


def code(x):
    return x.flatten(1)


def test_a_ring_has_a_hole_that_no_gaussian_avoids_and_a_blob_has_none():
    for codes, holes in ((ring, True), (blob, False)):
        scores = metrics.scorer(code, picture(codes(seed=1)))
        found = metrics.latent_holes(code, lambda z: z, picture(codes()), scores, standard=False)
        assert found.shape == (len(SOURCES), 4)
        fitted, encoded = found[1], found[2]
        assert encoded[1] == pytest.approx(1, abs=0.15) and encoded[3] == pytest.approx(50, abs=4)
        if holes:
            assert fitted[1] < 0.4 and fitted[3] > 85
        else:
            assert fitted[1] == pytest.approx(1, abs=0.15) and fitted[3] < 55


def test_codes_are_standardised_axis_by_axis_unless_the_model_has_a_prior():
    seen = {}

    def keep(samples):
        seen[len(seen)] = samples
        return {"a": 0.0, "b": 0.0, "c": 0.0}

    for standard in (False, True):
        metrics.latent_holes(code, lambda z: z, picture(blob()), keep, standard)
    scaled, _, own, prior, _, _ = (value.view(-1, 2) for value in seen.values())
    assert torch.allclose(scaled.mean(0), own.mean(0), atol=0.15)
    assert torch.allclose(scaled.std(0), own.std(0), rtol=0.1)
    assert abs(scaled.T.corrcoef()[0, 1]) < 0.1 < own.T.corrcoef()[0, 1]  # no correlation is kept
    assert torch.allclose(prior.mean(0), torch.zeros(2), atol=0.1)
    assert torch.allclose(prior.std(0), torch.ones(2), atol=0.1)


def test_a_scorer_gives_what_its_three_scores_give_one_by_one():
    data, samples = picture(ring(500)), picture(ring(400, seed=2) * 1.1)
    scores = metrics.scorer(code, data)(samples)
    assert scores["Fréchet distance"] == metrics.frechet_distance(code(data), code(samples))
    pair = metrics.density_coverage(code(data), code(samples))
    assert (scores["density"], scores["coverage"]) == pair


class Plane(nn.Module):
    """Two latent dimensions, linear, of 4×4 images."""

    def __init__(self, latent_dim=2):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, latent_dim))
        self.decoder = nn.Sequential(nn.Linear(latent_dim, 16), nn.Unflatten(1, (1, 4, 4)))

    def loss(self, x):
        return {"loss": (self.decoder(self.encoder(x)) - x).square().flatten(1).sum(1).mean()}


@pytest.fixture
def images():
    x = torch.rand(400, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return Images("points", x, torch.zeros(400), x[:50], torch.zeros(50), "made here")


def filmed(images, steps, **settings):
    torch.manual_seed(0)
    coders = {"encode": lambda m, x: m.encoder(x), "decode": lambda m, z: m.decoder(z)}
    settings = {"epochs": 2, "batch": 100, "bar": False} | coders | settings
    return metrics.latent_film("t/film", Plane(), images, images.test, steps, side=3, **settings)


def test_a_film_has_the_codes_and_the_plane_of_each_moment(images, capsys):
    codes, planes = filmed(images, (0, 3, 8))
    assert codes.shape == (3, 50, 2) and planes.shape == (3, 9, 1, 4, 4)
    torch.manual_seed(0)
    first = Plane()
    known = first.encoder(images.test)
    assert torch.allclose(codes[0], known, atol=2e-3) and not torch.allclose(
        codes[2], known, atol=1e-2
    )
    low, high = known.quantile(0.05, 0), known.quantile(0.95, 0)
    corners = torch.stack([torch.stack([low[0], high[1]]), torch.stack([high[0], low[1]])])
    drawn = first.decoder(corners)  # top left, bottom right: axis 2 points upwards
    assert torch.allclose(planes[0][[0, 8]], drawn, atol=2e-3)
    assert "training" in capsys.readouterr().out


def test_a_film_is_kept_and_other_moments_film_anew(images, capsys):
    codes, _ = filmed(images, (0, 8))
    capsys.readouterr()
    again, _ = filmed(images, (0, 8))
    assert torch.equal(codes, again) and capsys.readouterr().out == ""
    filmed(images, (0, 4))
    assert "other moments" in capsys.readouterr().out


def test_models_of_each_size_and_seed_are_measured_once(images, folder, capsys):
    built = []

    def build(latent_dim):
        built.append(latent_dim)
        return Plane(latent_dim)

    def measure(model, x):
        return model.encoder(x).std(0).mean() * torch.ones(3, 4)

    settings = {"sizes": (2, 3), "seeds": (0, 1), "epochs": 1, "batch": 100, "bar": False}
    found = metrics.holes_by_size("t/holes", build, images, measure, **settings)
    assert built == [2, 2, 3, 3] and {k: v.shape for k, v in found.items()} == {
        2: (2, 3, 4),
        3: (2, 3, 4),
    }
    assert not torch.equal(found[2][0], found[2][1])  # another seed, another model
    note = notes.read_note(folder / "trained" / "t" / "holes-2-1.points.safetensors")
    assert note["settings"]["seed"] == 1  # and another order of the data
    capsys.readouterr()
    metrics.holes_by_size("t/holes", build, images, measure, **settings)
    assert "training" not in capsys.readouterr().out


def test_the_table_names_each_source_and_takes_the_mean_over_seeds():
    scores = torch.stack([torch.zeros(3, 4), 2 * torch.ones(3, 4)])
    frame = holes_table({"2 dimensions:": scores}, "two seeds")
    assert list(frame.index) == [f"2 dimensions: {source}" for source in SOURCES]
    assert set(frame["density"]) == {"1.00"} and set(frame["Fréchet distance"]) == {"1"}


def test_pairs_are_of_one_class_or_of_two_and_each_has_two_members():
    labels = torch.randint(10, (1000,), generator=torch.Generator().manual_seed(0))
    pairs = metrics.pairs_by_class(labels, count=500)
    for kind, alike in (("one class", True), ("two classes", False)):
        first, second = pairs[kind]
        assert len(first) == len(second) == 500
        assert ((labels[first] == labels[second]) == alike).all() and (first != second).all()
