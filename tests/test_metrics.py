"""Measures against libraries, closed forms and cases whose value is known."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm
from shared import LinearGaussian
from skimage.metrics import peak_signal_noise_ratio
from sklearn.decomposition import PCA as LibraryPCA

from companion import metrics
from companion.data import Images
from companion.metrics import density_coverage, frechet_distance, sample_scores, separable
from companion.training import fit


@pytest.fixture
def pictures():
    return torch.rand(250, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def test_over_runs_on_every_image_in_order(pictures):
    sizes = []

    def count(x):
        sizes.append(len(x))
        return x.flatten(1)[:, :3]

    result = metrics.over(count, pictures, batch=100)
    assert sizes == [100, 100, 50] and torch.equal(result, pictures.flatten(1)[:, :3])


def test_mse_is_numpys_over_the_whole_set(pictures):
    wanted = np.mean((0.7 * pictures.numpy() - pictures.numpy()) ** 2)
    assert metrics.mse(lambda x: 0.7 * x, pictures, batch=100) == pytest.approx(wanted, rel=1e-5)


def test_mse_reads_bytes_as_zero_to_one():
    images = torch.full((3, 1, 2, 2), 255, dtype=torch.uint8)
    assert metrics.mse(lambda x: x - 0.5, images) == 0.25


def test_decibels_are_scikit_images_psnr_of_each_image(pictures):
    noisy = pictures * 0.9 + 0.02
    pairs = zip(pictures.numpy(), noisy.numpy(), strict=True)
    wanted = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in pairs]
    assert metrics.decibels(noisy, pictures).tolist() == pytest.approx(wanted, rel=1e-5)
    over = metrics.decibels(torch.full((1, 1, 2, 2), 3.0), torch.full((1, 1, 2, 2), 0.9))
    assert over.item() == pytest.approx(20, rel=1e-4)  # what lies above white is shown as white


@pytest.mark.parametrize(
    "off", [lambda x: x[:, 0], lambda x: x[:, :1], lambda x: x.flatten(1), lambda x: x[..., :1]]
)
def test_outputs_that_would_be_broadcast_over_the_images_are_refused(off):
    colour = torch.rand(4, 3, 8, 8)
    for measure in (
        lambda: metrics.mse(off, colour),
        lambda: metrics.decibels(off(colour), colour),
    ):
        with pytest.raises(ValueError, match=r"the images are \(4, 3, 8, 8\): they must have the"):
            measure()


def test_pca_is_scikit_learns(pictures):
    ours, library = metrics.PCA(pictures), LibraryPCA(7).fit(pictures.flatten(1).double())
    assert np.allclose(ours.variance[:7] * 250 / 249, library.explained_variance_)
    copies = library.inverse_transform(library.transform(pictures.flatten(1).double()))
    assert np.allclose(ours.reconstruct(pictures, 7).flatten(1), copies, atol=1e-5)


def test_the_variance_pca_discards_is_its_training_error(pictures):
    pca = metrics.PCA(pictures)
    error = metrics.mse(lambda x: pca.reconstruct(x, 5), pictures)
    assert error == pytest.approx(pca.variance[5:].sum().item() / 36, rel=1e-4)


def test_pca_of_more_images_than_one_part_holds():
    images = torch.rand(12_500, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    wanted = torch.linalg.eigvalsh(images.flatten(1).double().T.cov(correction=0)).flip(0)
    assert torch.allclose(metrics.PCA(images).variance, wanted)


def test_a_linear_probe_reads_what_is_linear_and_not_what_is_not():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(600, 2, generator=generator)
    linear, crossed = (codes.sum(1) > 0).long(), (codes.prod(1) > 0).long()
    for labels, low, high in ((linear, 97, 100), (crossed, 30, 70)):
        score = metrics.linear_probe(codes[:400], labels[:400], codes[400:], labels[400:])
        assert low <= score <= high


def test_readable_share_counts_confident_readings():
    images = torch.zeros(4, 1, 2, 2)
    images[:, 0, 0, 0] = torch.tensor([0.0, 0.2, 0.9, 1.0])

    def classifier(x):  # confidence grows with the first pixel
        return torch.cat([20 * x[:, 0, 0, :1], torch.zeros(len(x), 9)], 1)

    assert metrics.readable_share(classifier, images) == 50


def test_jitter_keeps_the_ink_and_moves_it():
    x = torch.zeros(64, 1, 28, 28)
    x[:, :, 10:18, 12:16] = 1
    torch.manual_seed(0)
    y = metrics.jitter(x)
    assert y.shape == x.shape and not torch.equal(x, y)
    ratio = y.sum((1, 2, 3)) / 32
    assert ratio.min() > 0.8 and ratio.max() < 1.25


def test_at_the_exact_posterior_one_sample_gives_log_p():
    truth, x = LinearGaussian(), torch.randn(250, 6, generator=torch.Generator().manual_seed(1))
    bound = metrics.importance_weighted(truth.log_weights, x, samples=1)
    assert torch.allclose(bound, truth.log_p(x.double()), atol=1e-9)


def test_more_samples_tighten_the_bound_towards_log_p():
    torch.manual_seed(0)
    truth, x = LinearGaussian(), torch.randn(500, 6, generator=torch.Generator().manual_seed(1))
    wide = lambda x, k: truth.log_weights(x, k, spread=2.0)
    gaps = [
        (truth.log_p(x.double()) - metrics.importance_weighted(wide, x, k)).mean().item()
        for k in (1, 10, 1000)
    ]
    exact = (2 - 1) - math.log(2)  # KL(N(0, 2S) ‖ N(0, S)) in two axes: (2·2 - 2 - 2 log 2) / 2
    assert gaps[0] == pytest.approx(exact, abs=0.15)
    assert gaps[0] > gaps[1] > gaps[2] and abs(gaps[2]) < 0.01


def test_the_bound_is_streamed_and_counts_every_sample_once():
    asked = []

    def log_weights(x, k):
        asked.append((len(x), k))
        return torch.arange(1.0, k + 1)[:, None].log().expand(k, len(x))

    bound = metrics.importance_weighted(log_weights, torch.zeros(7, 2), 5, batch=4, chunk=2)
    assert asked == [(4, 2), (4, 2), (4, 1), (3, 2), (3, 2), (3, 1)]
    assert torch.allclose(bound, torch.full((7,), math.log((1 + 2 + 1 + 2 + 1) / 5)).double())


@pytest.mark.parametrize("samples", [0, -3])
def test_no_samples_no_bound(samples):
    with pytest.raises(ValueError, match="at least one importance sample"):
        metrics.importance_weighted(lambda x, k: x, torch.zeros(3, 2), samples)


def test_the_measure_of_a_likelihood_is_seeded_and_counts_all_its_samples():
    asked = []

    def log_weights(model, x, count):
        asked.append(count)
        return model + torch.randn(count, len(x))

    measure = metrics.log_likelihood(log_weights, 70)
    first, again = (measure(3.0, torch.zeros(9, 2)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (9,) and first.dtype == torch.float32
    assert first.mean().item() == pytest.approx(3.5, abs=0.3)  # log E exp of a standard normal
    assert asked == 2 * [50, 20]


def test_active_units_count_means_that_move():
    means = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [1.0, 0.15, 0.05]
    )
    assert metrics.active_units(means) == 2
    assert metrics.active_units(means + 100) == 2


def test_mutual_information_of_far_and_of_equal_posteriors():
    far = 100 * torch.arange(20.0)[:, None].expand(20, 2)
    small = torch.full((20, 2), -2.0)
    assert metrics.mutual_information(far, small) == pytest.approx(math.log(20), abs=1e-4)
    same = torch.zeros(20, 2)
    assert metrics.mutual_information(same, small) == pytest.approx(0, abs=1e-5)


def test_mutual_information_of_a_gaussian_channel():
    """Means N(0, 1) and noise of variance v in each of two axes: I = log(1 + 1/v) nats in all."""
    means = torch.randn(8000, 2, generator=torch.Generator().manual_seed(1))
    value = metrics.mutual_information(means, torch.full((8000, 2), math.log(0.25)))
    assert value == pytest.approx(math.log(5), abs=0.05)


def test_weights_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="log-variance that overflows"):
        metrics.importance_weighted(
            lambda x, k: torch.full((k, len(x)), math.nan), torch.zeros(3, 2), 4
        )


def test_the_energy_above_a_frequency_is_parsevals():
    """A mean, a wave of 3 cycles and one of 7: their mean squares are known."""
    t = torch.arange(32) / 32
    wave = 0.5 + 0.3 * (2 * torch.pi * 3 * t).cos() + 0.2 * (2 * torch.pi * 7 * t).sin()
    images = wave.expand(2, 1, 32, 32)
    known = {-1: 0.25 + 0.045 + 0.02, 0: 0.045 + 0.02, 3: 0.02, 2.9: 0.045 + 0.02, 7: 0.0}
    for cycles, energy in known.items():
        assert metrics.high_energy(images, cycles) == pytest.approx(energy, abs=1e-6)


def test_interpolation_holds_both_ends_and_equal_steps():
    a, b = torch.randn(2, 5, 3)
    path = metrics.interpolate(a, b, steps=5)
    assert path.shape == (5, 5, 3) and torch.allclose(path[0], a) and torch.allclose(path[-1], b)
    assert torch.allclose(path.diff(dim=0), ((b - a) / 4).expand(4, 5, 3), atol=1e-6)


def test_pairs_are_of_one_class_or_of_two_and_each_has_two_members():
    labels = torch.randint(10, (1000,), generator=torch.Generator().manual_seed(0))
    pairs = metrics.pairs_by_class(labels, count=500)
    for kind, alike in (("one class", True), ("two classes", False)):
        first, second = pairs[kind]
        assert len(first) == len(second) == 500
        assert ((labels[first] == labels[second]) == alike).all() and (first != second).all()


# How near samples come to data.


def normal(count, dimensions=4, seed=0):
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))


def test_a_set_is_at_no_distance_from_itself_and_halves_at_little():
    x = normal(2000, 16)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    floor = frechet_distance(x[:1000], x[1000:])
    assert 0 < floor < 0.2 < frechet_distance(x, 1.5 * x)


def test_gaussians_have_the_closed_form():
    """Exact moments: means and covariances are set, not drawn."""
    x = normal(500)
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(x.T.cov())).T  # covariance I
    scale, shift = torch.tensor([0.5, 1.0, 2.0, 3.0]), torch.tensor([1.0, 0.0, -2.0, 0.5])
    wanted = shift.square().sum() + (scale - 1).square().sum()  # commuting covariances
    assert frechet_distance(x, scale * x + shift) == pytest.approx(wanted.item(), rel=1e-4)
    a, b = x @ normal(4, seed=1), x @ normal(4, seed=2)  # covariances that do not commute
    sigma = [np.cov(y.double().numpy().T) for y in (a, b)]
    cross = np.trace(sqrtm(sigma[0] @ sigma[1]).real)
    assert frechet_distance(a, b) == pytest.approx(
        np.trace(sigma[0]) + np.trace(sigma[1]) - 2 * cross, rel=1e-6
    )


def test_a_covariance_without_full_rank_is_measured_too():
    x = normal(300, 6)
    x[:, 3:] = 0
    assert frechet_distance(x, x + 1) == pytest.approx(6, rel=1e-4)


def test_density_and_coverage_are_those_of_the_package():
    prdc = pytest.importorskip("prdc")
    for seed, scale in ((1, 1.0), (2, 0.3), (3, 3.0)):
        data, samples = normal(400, 8), scale * normal(300, 8, seed)
        wanted = prdc.compute_prdc(data.numpy(), samples.numpy(), nearest_k=5)
        density, coverage = density_coverage(data, samples, batch=150)
        assert density == pytest.approx(wanted["density"], abs=1e-6)
        assert coverage == pytest.approx(wanted["coverage"], abs=1e-6)


def test_density_and_coverage_by_hand():
    data = torch.tensor([[0.0], [1.0], [3.0], [7.0]])  # balls for k = 1: radius 1, 1, 2, 4
    samples = torch.tensor([[0.5], [4.0], [100.0]])
    # .5 lies in the balls of 0 and 1; 4 in those of 3 and 7; 100 in none
    density, coverage = density_coverage(data, samples, k=1)
    assert density == pytest.approx(4 / 3) and coverage == 1.0
    assert density_coverage(data, samples[2:].repeat(2, 1), k=1) == (0.0, 0.0)
    assert density_coverage(data, samples[:1].repeat(2, 1), k=1)[1] == 0.5


def test_what_lies_elsewhere_is_told_apart_and_what_does_not_is_not():
    ring = torch.nn.functional.normalize(normal(3000, 2), dim=1)
    assert separable(ring, normal(3000, 2, seed=1)) > 90  # the hole in the middle is found
    assert 45 < separable(normal(3000), normal(3000, seed=1)) < 55


@pytest.mark.parametrize(
    "measure, a, b, words",
    [
        (frechet_distance, normal(5), normal(5, 3), r"\(5, 4\) and \(5, 3\)"),
        (frechet_distance, normal(5), normal(1), "at least two"),
        (density_coverage, normal(5), normal(9), "more than 5 data points, and there are 5"),
        (separable, normal(50), normal(49), "50 codes against 49 samples"),
        (separable, normal(50), torch.zeros(50), r"\(50,\): pass"),
    ],
)
def test_sets_that_cannot_be_compared_are_named(measure, a, b, words):
    with pytest.raises(ValueError, match=words):
        measure(a, b)


def test_the_scores_of_images_are_those_of_their_features():
    images, others = torch.rand(200, 1, 4, 4), torch.rand(150, 1, 4, 4) + 0.1
    found = sample_scores(lambda x: x.flatten(1)[:, :5], images, others)
    a, b = images.flatten(1)[:, :5], others.flatten(1)[:, :5]
    density, coverage = density_coverage(a, b)
    assert found == {
        "Fréchet distance": frechet_distance(a, b), "density": density, "coverage": coverage
    }  # fmt: skip


def test_a_scorer_gives_what_its_three_scores_give_one_by_one():
    code = lambda x: x.flatten(1)
    data, samples = (
        normal(count, 2, seed).view(-1, 1, 1, 2) for count, seed in ((500, 0), (400, 2))
    )
    scores = metrics.scorer(code, data)(samples)
    assert scores["Fréchet distance"] == frechet_distance(code(data), code(samples))
    assert (scores["density"], scores["coverage"]) == density_coverage(code(data), code(samples))


# What colour pictures are compared in.


@pytest.fixture
def colour_classifier():
    torch.manual_seed(0)
    return metrics.ColourClassifier(8).eval()


def test_the_maps_halve_and_their_means_are_the_features(colour_classifier):
    x = torch.rand(2, 3, 32, 32)
    maps = colour_classifier.maps(x)
    assert [tuple(m.shape) for m in maps] == [(2, 8, 32, 32), (2, 16, 16, 16), (2, 32, 8, 8)]
    assert torch.allclose(colour_classifier.features(x), maps[-1].mean((2, 3)))


def test_the_distance_is_zero_only_to_itself_and_symmetric(colour_classifier):
    a, b = torch.rand(2, 4, 3, 16, 16)
    assert metrics.perceptual_distance(colour_classifier, a, a).abs().max() < 1e-9
    there, back = (
        metrics.perceptual_distance(colour_classifier, a, b),
        metrics.perceptual_distance(colour_classifier, b, a),
    )
    assert torch.allclose(there, back) and (there > 0).all() and there.shape == (4,)


class Fixed:
    """Activations that are the picture itself: one stage."""

    @staticmethod
    def maps(x):
        return [x]


def test_the_distance_sees_directions_and_no_lengths():
    a = torch.zeros(1, 3, 2, 2)
    a[:, 0] = 1
    assert metrics.perceptual_distance(Fixed, a, 5 * a).item() == pytest.approx(0, abs=1e-9)
    b = torch.zeros(1, 3, 2, 2)
    b[:, 0, 0], b[:, 1, 1] = 1, 1  # half of the places at a right angle: squared distance 2 there
    assert metrics.perceptual_distance(Fixed, a, b).item() == pytest.approx(1)


def test_it_learns_colours_from_labels():
    torch.manual_seed(0)
    labels = torch.arange(400) % 3
    pictures = torch.rand(400, 3, 8, 8) * 0.3
    pictures[torch.arange(400), labels] += 0.6  # class c is bright in channel c
    data = Images("toy", pictures, labels, pictures, labels, "made here")
    network = metrics.ColourClassifier(8, depth=1)
    fit(network, data, epochs=6, batch=50, lr=1e-2, labels=True, bar=False)
    assert metrics.accuracy(network, pictures, labels) > 95


# Image codecs.


def test_webp_counts_its_bytes_and_errs_less_at_a_higher_quality():
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(4, 1, 4, 4), 28, mode="bilinear")
    low, high = (metrics.codec(smooth, "webp", quality=q, method=6) for q in (10, 95))
    assert low[0] < high[0] and low[1] > high[1] > 0
    file = io.BytesIO()
    pixels = (smooth[0, 0] * 255).round().byte().numpy()
    Image.fromarray(pixels).convert("RGB").save(file, "webp", quality=10, method=6)
    counted = metrics.codec(smooth[:1], "webp", quality=10, method=6)[0]
    assert counted == 8 * len(file.getvalue())
    assert metrics.codec(smooth.repeat(1, 3, 1, 1), "webp", quality=50)[1] > 0


def test_lossless_files_come_back_as_they_were_and_are_counted():
    noise = torch.randint(0, 256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0)).byte()
    flat = torch.full((2, 3, 64, 64), 0.5)
    for kind, settings in (("png", {"optimize": True}), ("webp", {"lossless": True, "method": 6})):
        bits, error = metrics.codec(noise, kind, **settings)
        assert bits / noise[0].numel() > 8 and error == 0  # noise does not shrink
        assert metrics.codec(flat, kind, **settings)[0] / flat[0].numel() < 0.2
