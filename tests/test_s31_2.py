"""What notebook 31.2 builds, taken from its cells, and what lies in its section's file."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cells import definitions
from shared import Counted, shown, work_of_moves
from torch import nn

from companion import metrics
from companion.data.corruption import CORRUPTIONS
from companion.sections import s31_2
from companion.show import pixels
from companion.training import fit

BUILT = definitions("31.2")


L1, TopK, JumpReLU = BUILT["L1"], BUILT["TopK"], BUILT["JumpReLU"]


RevivedTopK = BUILT["RevivedTopK"]


@pytest.fixture(params=["L1", "TopK", "JumpReLU", "RevivedTopK"])
def dictionary(request):
    torch.manual_seed(0)
    return BUILT[request.param](6, 9, {"L1": 0.1, "JumpReLU": 0.1}.get(request.param, 3))


def test_directions_have_length_one_and_no_gradient_along_themselves(dictionary):
    x = torch.randn(20, 6)
    dictionary.decoder.data *= 3
    dictionary.loss(x)["loss"].backward()
    lengths = dictionary.directions().norm(dim=1)
    along = (dictionary.decoder.grad * dictionary.directions()).sum(1)
    assert torch.allclose(lengths, torch.ones(9)) and along.abs().max() < 1e-6
    assert dictionary.decoder.grad.abs().max() > 1e-3


def test_training_keeps_the_length(dictionary):
    fit(dictionary, torch.randn(64, 6), epochs=3, batch=16, bar=False)
    assert torch.allclose(dictionary.directions().norm(dim=1), torch.ones(9))


def test_the_loss_is_squared_error_plus_the_penalty():
    torch.manual_seed(0)
    model, x = L1(6, 9, penalty=0.3), torch.randn(20, 6)
    code = (x @ model.encoder.weight.T).relu()  # both biases start at zero
    error = ((code @ model.decoder - x) ** 2).sum(1).mean()
    assert model.loss(x)["loss"].item() == pytest.approx((error + 0.3 * code.sum(1).mean()).item())


def test_topk_keeps_the_k_largest():
    model = TopK(6, 9, 3).eval()
    pre = torch.randn(50, 9, generator=torch.Generator().manual_seed(0))
    code = model.activate(pre)
    for row, kept in zip(pre, code, strict=True):
        third = row.sort().values[-3]
        assert torch.equal(kept, torch.where(row >= third, row.relu(), 0.0))


@pytest.mark.parametrize("k", [0, -1, 10])
def test_k_outside_the_dictionary_is_refused(k):
    with pytest.raises(ValueError, match=f"k={k}, but the dictionary has 9 features"):
        TopK(6, 9, k)


def test_a_jump_passes_what_is_above_the_threshold_unchanged():
    model = JumpReLU(6, 3, penalty=0.1, threshold=0.5, width=0.2)
    pre = torch.tensor([[0.49, 0.51, 2.0]])
    assert model.activate(pre).tolist() == [[0, pytest.approx(0.51), 2.0]]


def test_the_jumps_gradient_moves_thresholds_as_the_ramp_of_the_paper():
    model = JumpReLU(6, 4, penalty=0.1, threshold=0.5, width=0.2)
    pre = torch.tensor([[0.45, 0.55, 0.65, 2.0]], requires_grad=True)
    model.gate(pre).sum().backward()
    # d gate / d θ = -1/width within half a width of θ, else 0; θ = exp(log θ)
    assert model.log_threshold.grad.tolist() == pytest.approx([-2.5, -2.5, 0, 0])
    assert pre.grad is None  # the step has none for its input


def test_k_narrows_over_the_first_part_of_training():
    torch.manual_seed(0)
    model, x = BUILT["NarrowingTopK"](6, 40, 2), torch.randn(30, 6)
    model.encoder.bias.data += 5  # all are positive: what is kept is what is active
    counts = []
    for step in range(0, 10, 2):
        model.progress.fill_(step / 10)  # as fit does
        counts.append((model.train().encode(x) > 0).sum(1).unique().tolist())
    assert counts == [[10], [7], [5], [2], [2]]
    assert (model.eval().encode(x) > 0).sum(1).unique().tolist() == [2]


def test_a_wide_start_is_at_most_the_whole_dictionary():
    for kind in ("NarrowingTopK", "RevivedTopK"):
        assert BUILT[kind](6, 7, 3).loss(torch.randn(5, 6))["loss"].isfinite()


@pytest.fixture
def silenced():
    """A dictionary one of whose features has been silent for long, and items that need another."""
    torch.manual_seed(0)
    model = RevivedTopK(6, 20, 2)
    model.encoder.bias.data[7] = -100
    model.silence[7] = 99
    return model, torch.randn(30, 6)


def test_a_silent_feature_starts_anew_along_what_is_missing(silenced):
    model, x = silenced
    before = model.directions().detach().clone()
    model.loss(x)  # the hundredth step of silence
    pre = model.encoder(x - model.bias)
    wide = pre.relu()  # of twenty latents thirty are all
    rest = (x - model.decode(wide)).detach()
    worst = rest[rest.norm(dim=1).argmax()]
    model.loss(x)
    moved = (model.directions() - before).norm(dim=1) > 1e-6
    assert moved.nonzero().tolist() == [[7]]
    assert torch.allclose(model.decoder[7], F.normalize(worst, dim=0), atol=1e-5)
    assert torch.allclose(model.encoder.weight[7], model.decoder[7])
    assert model.encoder.bias[7].item() == pytest.approx(-worst.norm().item() / 2)
    assert (model.silence < 100).all()


def test_late_in_training_and_before_anything_was_seen_nothing_starts_anew(silenced):
    model, x = silenced
    model.silence[7] = 100
    before = model.decoder.detach().clone()
    model.restart()  # nothing is missing yet
    model.loss(x)
    model.progress.fill_(0.9)
    model.loss(x)
    assert torch.equal(model.decoder, before)


def test_silence_is_counted_in_steps_and_ends_with_an_activity():
    torch.manual_seed(0)
    model, x = RevivedTopK(6, 20, 2), torch.randn(8, 6)
    model.encoder.bias.data[7] = -100
    for _ in range(3):
        model.loss(x)
    assert model.silence[7] == 3
    model.encoder.bias.data[7] = 100
    model.loss(x)
    assert model.silence[7] == 0


@pytest.mark.parametrize("kind", ["TopK", "L1", "JumpReLU"])
def test_known_directions_are_found(kind):
    """24 features in 16 dimensions, one or two at a time: every constraint finds most of them."""
    generator = torch.Generator().manual_seed(0)
    truth = F.normalize(torch.randn(24, 16, generator=generator), dim=1)
    on = torch.rand(8000, 24, generator=generator) < 0.05
    x = (on * (0.5 + torch.rand(8000, 24, generator=generator))) @ truth
    torch.manual_seed(1)  # not the truth's seed: the first guess must not know it
    builds = {"TopK": (TopK, 2), "L1": (L1, 0.4), "JumpReLU": (JumpReLU, 0.1, 0.3, 0.3)}
    build, *settings = builds[kind]
    model = build(16, 24, *settings)
    before = metrics.matched(model.directions().detach(), truth)[0].mean()
    fit(model, x, epochs=12, batch=100, lr=5e-3, weight_decay=0.0, bar=False)
    after = metrics.matched(model.directions().detach(), truth)[0].mean()
    found = s31_2.sparsity(model, x)
    assert after > 0.8 > before + 0.2 and found["variance, %"] > 80 and found["active"] < 3, (
        after,
        found,
    )


# Classical restoration.


def test_the_wiener_filter_shrinks_each_component_by_its_share_of_the_variance():
    torch.manual_seed(0)
    basis, spread = torch.linalg.qr(torch.randn(9, 9))[0], torch.linspace(0.1, 2, 9)
    clean = (torch.randn(40_000, 9) * spread @ basis.T + 0.5).view(-1, 1, 3, 3)
    denoise = s31_2.wiener(metrics.PCA(clean), lambda x: x + 0.7 * torch.randn_like(x), clean)
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
    denoise = s31_2.wiener(metrics.PCA(clean), lambda x: corrupt(x, strength), clean)
    noisy = corrupt(clean, strength)
    inputs = torch.cat([noisy.flatten(1), torch.ones(len(noisy), 1)], 1)
    fitted = inputs @ torch.linalg.lstsq(inputs, clean.flatten(1)).solution
    error = (denoise(noisy) - clean).square().mean()
    assert error < 1.02 * (fitted.view_as(clean) - clean).square().mean()


def some_digits(count):
    clean = torch.zeros(count, 1, 28, 28)
    clean[:, :, 6:20, 10:16] = 1
    return clean


KINDS = [kind for kind in s31_2.FILTERS if kind != "BM3D"]


def tried(kind, corrupt, settings=None, strengths=(0.3,), held_out=None):
    settings = torch.tensor(settings or s31_2.FILTERS[kind])
    clean = some_digits(10)
    return s31_2.tried(
        None, settings, kind, corrupt, strengths, clean, clean if held_out is None else held_out
    )


def test_a_filter_is_scaled_back_where_that_helps():
    unseen = torch.rand(10, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found = tried("Gaussian blur", lambda x, s: 0.5 * x + s, [0, 2], held_out=unseen)
    assert found["examples"][0, 0, 1:].tolist() == pytest.approx([2, -0.6], abs=1e-3)
    assert found["examples"][0, 0, 0] > 40 + found["examples"][1, 0, 0]  # nothing to smooth
    assert found["held out"].shape == (1, 10) and found["held out"].min() > 40
    same = tried("Gaussian blur", lambda x, s: x, [0])
    assert same["examples"][0, 0, 1:].tolist() == pytest.approx([1, 0], abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_each_filter_has_a_setting_between_the_ends_that_restores_best(kind):
    corrupt = CORRUPTIONS["salt and pepper" if kind == "median" else "Gaussian"]
    found = tried(kind, corrupt)
    quality = found["examples"][:, 0, 0]
    noisy = metrics.decibels(s31_2.seeded(corrupt, some_digits(10), 0.3), some_digits(10)).mean()
    assert quality.max() > noisy + 3 and quality.max() > max(quality[0], quality[-1]) + 0.1
    assert found["held out"].mean().item() == pytest.approx(quality.max().item(), abs=1e-3)


def test_digits_come_back_from_the_page_as_they_went():
    x = torch.rand(20, 1, 28, 28)
    assert torch.allclose(s31_2.filtered(x, "Gaussian blur", 0.3, 0), x)
    assert torch.allclose(s31_2.filtered(x, "BM3D", 0.3, 0), x)  # told no noise: no package needed
    one = torch.zeros(10, 1, 28, 28)
    one[7, 0, 3, 5] = 1.0
    assert s31_2.filtered(one, "Gaussian blur", 0.3, 1.0)[7, 0, 3, 5] > 0.1


def test_noise_is_the_same_at_every_call_and_the_dice_stay():
    x = torch.zeros(3, 1, 4, 4)
    torch.manual_seed(5)
    wanted = torch.rand(2)
    torch.manual_seed(5)
    first = s31_2.seeded(CORRUPTIONS["Gaussian"], x, 0.3)
    assert torch.equal(torch.rand(2), wanted)
    assert torch.equal(first, s31_2.seeded(CORRUPTIONS["Gaussian"], x, 0.3))


def test_a_probe_is_regularised_by_its_strength():
    codes, labels = torch.tensor([[1.0], [1.0], [1.0], [-1.0]]), torch.tensor([0, 0, 0, 1])
    probe = lambda C: metrics.linear_probe(codes, labels, codes[3:], labels[3:], C)
    assert probe(100.0) == 100 and probe(1e-6) == 0  # held so strongly, it says the commoner class


# What dictionaries are asked, on truths known in advance.


class ThreeAxes(torch.nn.Module):
    """A dictionary whose features are the first three axes; a fourth never speaks."""

    def encode(self, x):
        return torch.cat([x[:, :3].relu(), torch.zeros(len(x), 1)], 1)

    def decode(self, code):
        return torch.nn.functional.pad(code[:, :3], (0, 1))


def test_sparsity_counts_over_the_whole_set():
    x = torch.zeros(12_000, 4)
    x[0, 0], x[-1, 1], x[:, 3] = 2.0, 1.0, 1.0  # axis 2 never speaks; axis 3 is missed, constantly
    x[5, 3] = 3.0
    found = s31_2.sparsity(ThreeAxes(), x)
    total = ((x - x.mean(0)) ** 2).sum().item()
    lost = (x[:, 3] ** 2).sum().item()
    assert found["active"] == pytest.approx(2 / 12_000) and found["inactive, %"] == 50
    assert found["variance, %"] == pytest.approx(100 * (1 - lost / total), rel=1e-5)


def test_a_feature_is_active_however_small_it_is():
    x = torch.zeros(10, 4)
    x[:, 0], x[3, 1], x[4, 2] = 1e-6, 1e-30, -1.0  # the third is negative: not active
    found = s31_2.sparsity(ThreeAxes(), x)
    assert found["active"] == pytest.approx(1.1) and found["inactive, %"] == 50


@pytest.mark.parametrize(
    ("rows", "message"),
    [(torch.zeros(0, 4), "no activations"), (torch.full((3, 4), float("nan")), "NaN")],
)
def test_sparsity_refuses_what_it_cannot_measure(rows, message):
    with pytest.raises(ValueError, match=message):
        s31_2.sparsity(ThreeAxes(), rows)


def test_matched_cosines_count_a_direction_once():
    truth = torch.eye(4)[:3]
    doubled = torch.stack([truth[0], truth[0] * 5, truth[1], truth[3 - 1] + truth[1]])
    cosines, places = metrics.matched(truth[[2, 0, 1]], truth)
    assert torch.allclose(cosines, torch.ones(3)) and places.tolist() == [1, 2, 0]
    assert metrics.matched(doubled, truth)[0].tolist() == pytest.approx([1, 1, 0.5**0.5])
    cosines, places = metrics.matched(truth[:1], truth)  # too few: the rest 0, and nobody
    assert cosines.tolist() == [1, 0, 0] and places.tolist() == [0, -1, -1]
    # taken greedily, the first would have the second's partner and leave it almost nothing
    near = torch.tensor([[1.0, 0.1, 0], [1.0, 0.0, 0.5]])
    assert metrics.matched(near, torch.eye(3)[[0, 2]])[0][1] > 0.4


class Axes(nn.Module):
    """A dictionary of given directions (F, D) whose activities are half of what lies along them."""

    def __init__(self, directions):
        super().__init__()
        self.kept = directions

    def directions(self):
        return self.kept

    def encode(self, x):
        return (x @ self.kept.T).relu() / 2


def test_recovery_counts_hits_among_activities_and_among_features():
    truth = torch.eye(4)
    strength = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]])
    found = metrics.recovery(Axes(torch.eye(4)[:3]), strength @ truth, strength, truth)
    assert list(found) == list(metrics.RECOVERY) and found["mean cosine"] == 0.75
    assert found["found, %"] == 75 and found["precision, %"] == 100
    assert found["recall, %"] == pytest.approx(60)  # three of five: the fourth axis has no latent
    assert found["strength, %"] == pytest.approx(50)
    doubled = Axes(torch.eye(4)[[0, 0, 1, 2]])  # the second of the first axis is nobody's partner
    found = metrics.recovery(doubled, strength @ truth, strength, truth)
    assert found["precision, %"] == pytest.approx(75) and found["recall, %"] == pytest.approx(60)
    tilted = torch.eye(4)[:3]
    tilted[0, 3] = 0.3  # still found, but active for the fourth axis too: two of five are no hits
    found = metrics.recovery(Axes(F.normalize(tilted, dim=1)), strength @ truth, strength, truth)
    assert found["found, %"] == 75 and found["precision, %"] == pytest.approx(60)
    nothing = metrics.recovery(Axes(-torch.eye(4)), strength @ truth, strength, truth)
    assert nothing["precision, %"] == nothing["strength, %"] == 0  # none active: 0, not NaN


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
    assert s31_2.named_features(activity, labels) == {0: (3, 2.0)}
    assert s31_2.named_features(activity, labels, count=80) == {0: (3, 2.0), 3: (3, 1.0)}


@pytest.fixture
def head():
    torch.manual_seed(0)
    return nn.Linear(128, 10)


def test_steering_along_the_heads_own_row_is_the_ceiling(head):
    means = head.weight.detach()
    rows = s31_2.steering(means, range(10), head, means)
    by_chance = (2 / torch.pi / 128) ** 0.5  # the mean size of a cosine in 128 dimensions
    assert rows["own ÷ random"] == pytest.approx(1 / by_chance, rel=0.03)
    assert rows["own rises most, %"] == 100 and rows["cosine"] == pytest.approx(1)
    against = s31_2.steering(-means, range(10), head, means)
    assert against["own ÷ random"] == pytest.approx(-rows["own ÷ random"])
    assert against["cosine"] == pytest.approx(-1)


def test_steering_asks_whether_another_logit_rises_more():
    head = nn.Linear(2, 3, bias=False)
    head.weight.data = torch.tensor([[1.0, 0.0], [0.5, 0.0], [-1.0, 0.0]])
    means = torch.tensor([[3.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    row = s31_2.steering(torch.tensor([[2.0, 0.0]]), [0], head, means)
    assert row["own rises most, %"] == 100 and row["cosine"] == pytest.approx(1)
    row = s31_2.steering(torch.tensor([[2.0, 0.0]]), [1], head, means)
    assert row["own rises most, %"] == 0 and row["cosine"] == pytest.approx(0)
    nothing = s31_2.steering(torch.zeros(0, 2), [], head, means)
    assert all(value != value for value in nothing.values())  # NaN, not an error


def test_what_a_classifier_reads_when_a_description_is_put_back():
    labels = torch.tensor([0, 1, 2, 2])
    x = 3 * torch.eye(3)[labels]
    row = s31_2.put_back(nn.Identity(), x, labels, lambda h: h)
    assert row["accuracy, %"] == 100
    assert row["cross-entropy, nats"] == pytest.approx(np.log(1 + 2 * np.exp(-3)), rel=1e-4)
    first_two = lambda h: h * torch.tensor([1.0, 1.0, 0.0])  # what stands for a 2 is not described
    row = s31_2.put_back(first_two, x, labels, lambda h: h - torch.tensor([0.0, 0.0, 1.0]))
    assert row["accuracy, %"] == 50


class Pair(nn.Module):
    """Dictionaries of given directions, as `sizes_compared` takes them."""

    class One(nn.Module):
        def __init__(self, directions):
            super().__init__()
            self.encoder = nn.Linear(*directions.shape[::-1], bias=False)
            self.encoder.weight.data, self.bias = directions, torch.zeros(directions.shape[1])

        def directions(self):
            return self.encoder.weight

        def encode(self, x):
            return self.encoder(x).relu()

        def decode(self, code):
            return code @ self.directions()

        def forward(self, x):
            return self.decode(self.encode(x))

    def __init__(self, *directions):
        super().__init__()
        self.members = nn.ModuleList(map(self.One, directions))


def test_sizes_are_compared_with_their_twins_and_with_the_smallest():
    axes, labels = torch.eye(8), torch.arange(3).repeat(10)
    close = F.normalize(axes[0] + 0.5 * axes[3:5], dim=1)  # two with a cosine of .89 to the first
    many = torch.cat([axes, close])
    x = F.normalize(axes[labels] + 0.1 * axes[3 + torch.arange(30) % 2], dim=1)
    with torch.no_grad():
        model = Pair(axes, axes.flip(0), many, -many)
        found = s31_2.sizes_compared(model, x, labels, lambda h: h[:, :3])
    assert found["twin in another seed, %"].tolist() == [100, 0]
    assert found["near a parent"].tolist() == pytest.approx([1, 7 / 5])  # of five that are active
    assert found["accuracy, %"].tolist() == [100, 100]
    assert found["inactive, %"].tolist() == pytest.approx([37.5, 30])
    assert found["items"].shape == (2, 5, 8)
    excited = {x[i, 0].item() > 0.9 for i in found["items"][1, 0].tolist()}
    assert excited == {True}  # the parent is the first axis, and its own items excite it


def test_a_map_of_recovery_takes_the_best_of_the_settings():
    maps = torch.zeros(2, 3, 2, 2, 5)  # active, ratios, kinds, settings, quantities
    maps[..., 1, 0] = 1.0  # the second setting has the larger cosine
    maps[:, :, 1, 1, 1], maps[:, :, 1, 0, 1] = 100.0, 50.0
    panel = s31_2.recovery_map(maps, ("a", "b"), (1, 2, 4), (1, 2))
    assert panel.picture.shape == (3 * 56, 4 * 56, 3) and "found, %: 0 on" in panel.readout
    panel.set(kind=1)
    assert "found, %: 100 on the mean" in panel.readout
    assert ((panel.picture[56:, 56:] == (0, 70, 140)).all(-1)).mean() > 0.7  # full blue


def test_a_name_needs_its_share_of_the_best_items_and_no_more():
    activity, labels = 1 + torch.arange(20.0)[:, None], torch.ones(20, dtype=torch.long)
    labels[13] = 2  # of the ten best items nine show a 1
    assert s31_2.named_features(activity, labels, count=10, purity=0.9) == {0: (1, 15.5)}
    assert s31_2.named_features(activity, labels, count=10, purity=0.95) == {}


# Panels.


def test_a_corruption_slider_corrupts_by_its_own_strength_alone():
    denoisers = {name: torch.nn.Identity() for name in CORRUPTIONS}
    images = torch.full((4, 1, 28, 28), 128, dtype=torch.uint8)
    panel = s31_2.corruption_sliders(denoisers, CORRUPTIONS, images)
    rows = lambda: [row[:28, :115] for row in np.split(panel.picture, (29, 58))]
    for kind in CORRUPTIONS:
        panel.set(kind=kind, strength=0.0)
        assert all(np.array_equal(row, rows()[0]) for row in rows())
    panel.set(kind="masking", strength=1.0)
    _, corrupted, denoised = rows()
    assert corrupted.max() == 255 and (corrupted == 0).mean() > 0.95  # the white gaps stay
    assert np.array_equal(corrupted, denoised) and panel.readout == "denoised: 6.0 dB"  # (128/255)²
    panel.set(kind="Gaussian", strength=0.5)
    first = panel.picture
    panel.set(strength=0.7)
    panel.set(strength=0.5)
    assert np.array_equal(panel.picture, first)  # the noise stays while the slider moves


def test_a_score_field_draws_both_fields_and_says_how_well_they_agree():
    points = torch.zeros(3, 2)
    towards = lambda x, sigma: -x
    panel = s31_2.score_field(towards, towards, points, (0.1, 1.0))
    assert "mean cosine 1.000" in panel.readout
    colours = lambda: [(panel.picture == c).all(-1).sum() for c in ((230, 159, 0), (0, 114, 178))]
    assert min(colours()) > 100  # the thin one does not cover the thick one
    panel.set(sigma=0.1)
    fewer = (panel.picture < 255).mean()
    panel.set(sigma=0.6)
    assert (panel.picture < 255).mean() > 3 * fewer  # wider noise, more places
    turned = s31_2.score_field(
        lambda x, s: -x @ torch.tensor([[0.0, 1], [-1, 0]]), towards, points, (0.1, 1)
    )
    assert "mean cosine 0.000" in turned.readout or "mean cosine -0.000" in turned.readout


class Words(torch.nn.Module):
    """A dictionary of four activations: its features are the axes."""

    def encode(self, x):
        return x.relu()

    def directions(self):
        return torch.eye(4)


class Reader(torch.nn.Module):
    """A classifier whose activations are four pixels, and logits 0 to 3 these activations."""

    def features(self, x):
        return x[:, 0, 0, :4]

    def head(self, h):
        return torch.nn.functional.pad(h, (0, 6))


def test_a_clamped_feature_moves_its_logit_by_what_it_lacks():
    images = torch.zeros(2, 1, 28, 28)
    images[0, 0, 0, 1], images[1, 0, 0, 2] = 0.5, 1.0
    panel = s31_2.feature_clamp(Reader(), Words(), 0.1, {3: "three", 1: "one"}, images, most=90)
    panel.set(feature=3, value=0.0, image=0)
    assert panel.readout.startswith("read as 1") and ", now as 1" in panel.readout
    panel.set(value=60.0)  # 60 × 0.1 = 6 on activation 3, beside 0.5 on activation 1
    chance = np.exp(6) / (np.exp(6) + np.exp(0.5) + 8)
    assert panel.readout.endswith(f"now as 3 ({chance:.0%})")
    blue = (shown(panel)[:, -pixels.BAR :] == (0, 114, 178)).all(-1)
    columns = blue[:, 3 * (pixels.BAR // 10) : 4 * (pixels.BAR // 10)]
    assert columns.sum() > 2 * blue.sum() / 3  # the tallest blue bar is the digit's
    panel.set(image=1)
    assert panel.readout.startswith("read as 2")
    panel.set(feature=1, value=5.0, image=0)  # held where it is: 5 × 0.1 is the pixel's 0.5
    before, after = panel.readout.removeprefix("read as ").split(", now as ")
    assert before == after


def test_a_move_of_the_other_panels_calls_each_network_once(monkeypatch):
    denoisers = {name: Counted(torch.nn.Identity()) for name in CORRUPTIONS}
    images = torch.rand(8, 1, 28, 28)
    corrupted = s31_2.corruption_sliders(denoisers, CORRUPTIONS, images)
    first = corrupted.values["kind"]
    assert work_of_moves(corrupted, "strength", denoisers[first], monkeypatch) == 1
    assert sum(counted.calls for counted in denoisers.values()) == denoisers[first].calls
    reader = SimpleNamespace(features=Reader().features, head=Counted(Reader().head))
    clamp = s31_2.feature_clamp(reader, Words(), 1.0, {0: "zero"}, images)
    assert work_of_moves(clamp, "value", reader.head, monkeypatch) == 1
