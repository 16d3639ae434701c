"""What the notebook on sparse dictionaries measures beside them, on truths known in advance."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from companion import data, metrics
from companion.data.corruption import CORRUPTIONS


def test_the_wiener_filter_shrinks_each_component_by_its_share_of_the_variance():
    torch.manual_seed(0)
    basis, spread = torch.linalg.qr(torch.randn(9, 9))[0], torch.linspace(0.1, 2, 9)
    clean = (torch.randn(40_000, 9) * spread @ basis.T + 0.5).view(-1, 1, 3, 3)
    denoise = metrics.wiener(metrics.PCA(clean), lambda x: x + 0.7 * torch.randn_like(x), clean)
    x = torch.randn(5, 1, 3, 3)
    kept = spread**2 / (spread**2 + 0.7**2)
    wanted = 0.5 + ((x.flatten(1) - 0.5) @ basis * kept) @ basis.T
    assert torch.allclose(denoise(x).flatten(1), wanted, atol=0.03)


@pytest.mark.parametrize("strength", [0.3, 0.6])
@pytest.mark.parametrize("name", ["masking", "salt and pepper"])
def test_the_wiener_filter_is_the_least_squares_fit(name, strength):
    torch.manual_seed(0)
    mixed = torch.rand(20_000, 4) @ torch.rand(4, 16) / 4  # in [0, 1], correlated
    clean, corrupt = mixed.view(-1, 1, 4, 4), CORRUPTIONS[name]
    denoise = metrics.wiener(metrics.PCA(clean), lambda x: corrupt(x, strength), clean)
    noisy = corrupt(clean, strength)
    inputs = torch.cat([noisy.flatten(1), torch.ones(len(noisy), 1)], 1)
    fitted = inputs @ torch.linalg.lstsq(inputs, clean.flatten(1)).solution
    error = (denoise(noisy) - clean).square().mean()
    assert error < 1.02 * (fitted.view_as(clean) - clean).square().mean()


def test_each_filter_restores_what_examples_of_the_same_corruption_taught_it():
    clean = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    darker = lambda x: 0.5 * x + 0.2
    found = metrics.restored(darker, clean, darker(clean))
    assert set(found) == set(metrics.FILTERS)
    assert torch.allclose(found["Gaussian blur"], clean, atol=1e-4)


def test_spread_is_nothing_for_a_pixel_and_known_for_two():
    weights = torch.zeros(2, 144)
    weights[0, 30], weights[1, 12 * 3 + 2], weights[1, 12 * 3 + 8] = 5, 1, -1  # six pixels apart
    assert metrics.spread(weights[:1], 12) == 0
    assert metrics.spread(weights[1:], 12) == pytest.approx(3)


def named_activity():
    """1,000 items of ten classes; feature 0 speaks for 3, 1 for anything, 2 never, 3 for 3 in part."""
    labels = torch.arange(1000) % 10
    activity = torch.zeros(1000, 4)
    activity[:, 0] = (labels == 3) * 2.0
    activity[:, 1] = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    activity[:, 3] = (labels == 3) * 1.0
    activity[labels == 3, 3] *= (torch.arange(100) % 5 > 0).float()  # active on 80 of 100
    return activity, labels


def test_a_feature_is_named_for_the_class_of_its_best_items():
    activity, labels = named_activity()
    assert metrics.named_features(activity, labels) == {0: (3, 2.0)}
    assert metrics.named_features(activity, labels, count=80) == {0: (3, 2.0), 3: (3, 1.0)}


@pytest.fixture
def head():
    torch.manual_seed(0)
    return nn.Linear(128, 10)


def test_steering_along_the_heads_own_row_is_the_ceiling(head):
    rows = metrics.steering(head.weight.detach(), range(10), head)
    by_chance = (2 / torch.pi / 128) ** 0.5  # the mean size of a cosine in 128 dimensions
    assert rows["own ÷ random"] == pytest.approx(1 / by_chance, rel=0.03)
    assert rows["own rises most, %"] == 100
    against = metrics.steering(-head.weight.detach(), range(10), head)
    assert against["own ÷ random"] == pytest.approx(-rows["own ÷ random"])


def test_steering_counts_the_other_logits_that_rise():
    head = nn.Linear(2, 3, bias=False)
    head.weight.data = torch.tensor([[1.0, 0.0], [0.5, 0.0], [-1.0, 0.0]])
    row = metrics.steering(torch.tensor([[2.0, 0.0]]), [0], head)
    assert row["others that rise, %"] == 50 and row["own rises most, %"] == 100
    row = metrics.steering(torch.tensor([[2.0, 0.0]]), [1], head)
    assert row["own rises most, %"] == 0
    nothing = metrics.steering(torch.zeros(0, 2), [], head)
    assert all(value != value for value in nothing.values())  # NaN, not an error


def test_names_and_their_effects_come_together(head):
    activity, labels = named_activity()
    directions = F.normalize(torch.randn(4, 128), dim=1)
    directions[0] = head.weight[3].detach()
    names, rows = metrics.named_and_steered({"a": (activity, directions)}, labels, head)
    assert names["a"] == {0: (3, 2.0)} and rows["a"]["named, %"] == 25
    assert rows["a"]["own ÷ random"] > 10


class Axes(nn.Module):
    """A dictionary whose features are the axes."""

    def encode(self, x):
        return x.relu()

    def directions(self):
        return torch.eye(4)


def test_held_features_move_items_of_other_classes_and_random_steps_rarely_do():
    x = torch.tensor([[1.0, 0, 0, 0]] * 30 + [[0, 1.0, 0, 0]] * 30)
    labels, named = torch.tensor([0] * 30 + [1] * 30), {0: (0, 1.5), 1: (1, 0.5), 2: (1, 9.0)}
    head = lambda x: torch.stack([x[:, 0], x[:, 1] + 0.1 * x[:, 2]], 1)
    best = {0: [0], 1: [2, 1]}
    means = torch.eye(4)[:2]
    rows = metrics.held(Axes(), named, best, x, labels, head, means, counts=(1, 2))
    assert rows[1]["named features"] == 50  # 0 is reached, 1 is not: .9 against 1
    assert rows[2]["named features"] == 100  # with .5 more it is
    assert rows[1]["random directions"] < 50 < rows[1]["class mean"]
    assert rows[1]["length of the step"] == pytest.approx((1.5 + 9) / 2)


def test_superposed_features_are_five_on_average_and_the_same_for_every_seed():
    sums, truth = data.superposed(4000, seed=1)
    other = data.superposed(10, seed=2)
    assert sums.shape == (4000, 256) and torch.equal(truth, other[1])
    assert torch.allclose(truth.norm(dim=1), torch.ones(512), atol=1e-5)
    chance = 0.99 ** torch.arange(512)
    mean = (5 * chance / chance.sum() / 2) @ truth  # each strength is a half on average
    assert F.cosine_similarity(sums.mean(0), mean, dim=0) > 0.9
    # E |sum|² is about E Σ strength²: five features of mean square 1/3
    assert sums.square().sum(1).mean().item() == pytest.approx(5 / 3, rel=0.1)


def test_the_nearest_of_the_known_images():
    known = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    found = metrics.nearest_distances(torch.tensor([[3.0, 0.0], [3.0, 4.0]]), known)
    assert found.tolist() == pytest.approx([3, 0], abs=1e-3)


def test_a_name_needs_its_share_of_the_best_items_and_no_more():
    activity, labels = 1 + torch.arange(20.0)[:, None], torch.ones(20, dtype=torch.long)
    labels[13] = 2  # of the ten best items nine show a 1
    assert metrics.named_features(activity, labels, count=10, purity=0.9) == {0: (1, 15.5)}
    assert metrics.named_features(activity, labels, count=10, purity=0.95) == {}


class Untouched(nn.Module):
    """Its training leaves the encoder as it was."""

    def __init__(self):
        super().__init__()
        self.encoder, self.height = nn.Flatten(), nn.Parameter(torch.zeros(()))

    def loss(self, x):
        return {"loss": (x.mean() - self.height).square()}


def test_probes_of_trained_models_are_the_probes_of_their_encoders(folder):
    pixels, labels = torch.randint(0, 256, (500, 1, 4, 4), dtype=torch.uint8), torch.arange(500) % 2
    pixels[:, 0, 0, 0] = 60 * labels + torch.randint(0, 120, (500,))  # a hint of the class
    parts = {"train": pixels[:300], "train_labels": labels[:300]}
    tiny = data.Images("tiny", **parts, test=pixels[300:], test_labels=labels[300:], origin="")
    build, settings = lambda key: Untouched(), {"count": 100, "epochs": 1, "batch": 50}
    found = metrics.trained_probes("t/probe", build, tiny, ("a", "b"), (0, 1), **settings)
    assert found.shape == (2, 2) and found.unique().numel() == 1
    assert found[0, 0].item() == pytest.approx(metrics.probe_digits(nn.Flatten(), tiny, 100))
    assert 60 < found[0, 0] < 95
