import math

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from skimage.metrics import peak_signal_noise_ratio
from sklearn.decomposition import PCA as LibraryPCA

from companion import metrics
from companion.metrics import filters


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


def test_psnr_is_scikit_images(pictures):
    noisy = (pictures * 0.9 + 0.02).numpy()
    wanted = np.mean([
        peak_signal_noise_ratio(a, b, data_range=1)
        for a, b in zip(pictures.numpy(), noisy, strict=True)
    ])  # fmt: skip
    assert metrics.psnr(lambda x: x * 0.9 + 0.02, pictures) == pytest.approx(wanted, rel=1e-5)


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


def test_principal_angles_are_scipys():
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 3, 9, generator=generator, dtype=torch.float64)
    wanted = np.rad2deg(subspace_angles(a.T.numpy(), b.T.numpy()))[::-1]
    assert np.allclose(metrics.principal_angles(a, b), wanted)
    mixed = torch.randn(3, 3, generator=generator, dtype=torch.float64) @ a
    assert metrics.principal_angles(a, mixed).max() < 1e-6  # the same plane, other axes


def test_small_angles_are_exact():
    a = torch.eye(4, dtype=torch.float64)[:1]
    b = torch.tensor([[1.0, 1e-9, 0, 0]], dtype=torch.float64)
    assert metrics.principal_angles(a, b).item() == pytest.approx(np.rad2deg(1e-9), rel=1e-6)


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

    def judge(x):  # confidence grows with the first pixel
        return torch.cat([20 * x[:, 0, 0, :1], torch.zeros(len(x), 9)], 1)

    assert metrics.readable_share(judge, images) == 50


def test_jitter_keeps_the_ink_and_moves_it():
    x = torch.zeros(64, 1, 28, 28)
    x[:, :, 10:18, 12:16] = 1
    torch.manual_seed(0)
    y = metrics.jitter(x)
    assert y.shape == x.shape and not torch.equal(x, y)
    ratio = y.sum((1, 2, 3)) / 32
    assert ratio.min() > 0.8 and ratio.max() < 1.25


def test_mixture_density_and_score_are_those_of_torch_and_autograd():
    torch.manual_seed(0)
    centres, x = torch.randn(7, 2).double(), torch.randn(50, 2).double().requires_grad_()
    weights = torch.distributions.Categorical(torch.ones(7).double())
    parts = torch.distributions.Independent(torch.distributions.Normal(centres, 0.3), 1)
    library = torch.distributions.MixtureSameFamily(weights, parts).log_prob(x)
    (score,) = torch.autograd.grad(library.sum(), x)
    assert torch.allclose(metrics.mixture_log_prob(x, centres, 0.3), library)
    assert torch.allclose(metrics.mixture_score(x, centres, 0.3), score)


class Axes(torch.nn.Module):
    """A dictionary whose features are the first three axes; a fourth never speaks."""

    def encode(self, x):
        return torch.cat([x[:, :3].relu(), torch.zeros(len(x), 1)], 1)

    def decode(self, code):
        return torch.nn.functional.pad(code[:, :3], (0, 1))


def test_sparsity_counts_over_the_whole_set():
    x = torch.zeros(12_000, 4)
    x[0, 0], x[-1, 1], x[:, 3] = 2.0, 1.0, 1.0  # axis 2 never speaks; axis 3 is missed, constantly
    x[5, 3] = 3.0
    found = metrics.sparsity(Axes(), x)
    total = ((x - x.mean(0)) ** 2).sum().item()
    lost = (x[:, 3] ** 2).sum().item()
    assert found["active"] == pytest.approx(2 / 12_000) and found["dead, %"] == 50
    assert found["variance, %"] == pytest.approx(100 * (1 - lost / total), rel=1e-5)


def test_a_feature_is_active_however_small_it_is():
    x = torch.zeros(10, 4)
    x[:, 0], x[3, 1], x[4, 2] = 1e-6, 1e-30, -1.0  # the third is negative: not active
    found = metrics.sparsity(Axes(), x)
    assert found["active"] == pytest.approx(1.1) and found["dead, %"] == 50


@pytest.mark.parametrize(
    ("rows", "message"),
    [(torch.zeros(0, 4), "no activations"), (torch.full((3, 4), float("nan")), "NaN")],
)
def test_sparsity_refuses_what_it_cannot_measure(rows, message):
    with pytest.raises(ValueError, match=message):
        metrics.sparsity(Axes(), rows)


def test_matched_cosines_count_a_direction_once():
    truth = torch.eye(4)[:3]
    doubled = torch.stack([truth[0], truth[0] * 5, truth[1], truth[3 - 1] + truth[1]])
    assert torch.allclose(metrics.matched_cosines(truth[[2, 0, 1]], truth), torch.ones(3))
    assert metrics.matched_cosines(doubled, truth).tolist() == pytest.approx([1, 1, 0.5**0.5])
    assert metrics.matched_cosines(truth[:1], truth).tolist() == [1, 0, 0]  # too few: the rest 0
    # taken greedily, the first would have the second's partner and leave it almost nothing
    near = torch.tensor([[1.0, 0.1, 0], [1.0, 0.0, 0.5]])
    assert metrics.matched_cosines(near, torch.eye(3)[[0, 2]])[1] > 0.4


class LinearGaussian:
    """z ~ N(0, I), x | z ~ N(W z, s² I): everything is known in closed form."""

    def __init__(self, pixels=6, axes=2, s=0.7):
        generator = torch.Generator().manual_seed(0)
        self.w, self.s = torch.randn(pixels, axes, generator=generator).double(), s
        eye = torch.eye(axes).double()
        self.posterior = torch.linalg.inv(eye + self.w.T @ self.w / s**2)  # covariance

    def log_p(self, x):
        covariance = self.w @ self.w.T + self.s**2 * torch.eye(len(self.w))
        mean = torch.zeros(len(self.w)).double()
        return torch.distributions.MultivariateNormal(mean, covariance).log_prob(x)

    def log_weights(self, x, k, spread=1.0):
        """Draws from the exact posterior, its covariance enlarged by `spread`."""
        mean = x.double() @ self.w @ self.posterior / self.s**2
        q = torch.distributions.MultivariateNormal(mean, spread * self.posterior)
        z = q.sample((k,))  # (k, B, M)
        prior = torch.distributions.Normal(0, 1).log_prob(z).sum(-1)
        likelihood = torch.distributions.Normal(z @ self.w.T, self.s).log_prob(x).sum(-1)
        return prior + likelihood - q.log_prob(z)


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


def test_a_refined_posterior_is_the_exact_one_where_that_is_gaussian():
    """Orthogonal axes make the exact posterior a diagonal Gaussian: then both gaps close."""
    torch.manual_seed(0)
    truth, x = LinearGaussian(), torch.randn(20, 6).double()
    truth.w = torch.linalg.qr(truth.w)[0] * torch.tensor([2.0, 0.5])
    precision = 1 + truth.w.square().sum(0) / truth.s**2  # (2,)
    exact = x @ truth.w / truth.s**2 / precision

    def nll(z):
        return -torch.distributions.Normal(z @ truth.w.T, truth.s).log_prob(x).sum(-1)

    start = torch.zeros(20, 2).double()
    mean, log_var = metrics.refined_posterior(nll, start, start, steps=400)
    found = torch.distributions.Normal(mean, (log_var / 2).exp())
    wanted = torch.distributions.Normal(exact, precision**-0.5)
    gap = torch.distributions.kl_divergence(found, wanted).sum(1)  # nats
    assert gap.max() < 0.01
    assert not start.any()  # the encoder's own posterior stays as it was


@pytest.mark.parametrize("samples", [0, -3])
def test_no_samples_no_bound(samples):
    with pytest.raises(ValueError, match="at least one importance sample"):
        metrics.importance_weighted(lambda x, k: x, torch.zeros(3, 2), samples)


def test_the_measure_of_a_likelihood_is_seeded_and_short_for_a_spot_check():
    asked = []

    def log_weights(model, x, count):
        asked.append(count)
        return model + torch.randn(count, len(x))

    measure = metrics.log_likelihood(log_weights, 50)
    first, again = (measure(3.0, torch.zeros(9, 2)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (9,) and first.dtype == torch.float32
    assert first.mean().item() == pytest.approx(3.5, abs=0.3)  # log E exp of a standard normal
    asked.clear()
    measure(3.0, torch.zeros(8, 2))
    assert asked == [20]


def test_the_elbo_of_a_gaussian_is_the_linear_models_in_closed_form():
    """log p(x) less the KL to the posterior, whatever the Gaussian; the same noise for each."""
    truth, x = (
        LinearGaussian(),
        torch.randn(5, 6, generator=torch.Generator().manual_seed(1)).double(),
    )

    def nll(z):
        return -torch.distributions.Normal(z @ truth.w.T, truth.s).log_prob(x).sum(-1)

    mean, log_var = torch.full((5, 2), 0.3).double(), torch.full((5, 2), -1.0).double()
    exact = x @ truth.w @ truth.posterior / truth.s**2
    normal = torch.distributions.MultivariateNormal
    q = normal(mean, torch.diag_embed(log_var.exp()))
    gap = torch.distributions.kl_divergence(q, normal(exact, truth.posterior))
    found = metrics.elbos(nll, mean, log_var, samples=100_000)
    assert torch.allclose(found, truth.log_p(x) - gap, atol=0.05)
    assert torch.equal(found, metrics.elbos(nll, mean, log_var, samples=100_000))


def test_probabilistic_pca_is_scikit_learns(pictures):
    pca, flat = metrics.PCA(pictures), pictures.flatten(1).double().numpy()
    library = LibraryPCA(5).fit(flat)
    noise, log_p = pca.log_likelihood(pictures, 5)
    scale = 249 / 250  # the library divides the covariance by N - 1
    assert noise == pytest.approx(library.noise_variance_ * scale)
    covariance = library.get_covariance() * scale
    normal = torch.distributions.MultivariateNormal(
        torch.tensor(flat.mean(0)), torch.tensor(covariance)
    )
    assert log_p == pytest.approx(normal.log_prob(torch.tensor(flat)).mean().item(), rel=1e-4)


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


def test_the_spectrum_of_a_wave_is_at_its_frequency():
    across = torch.arange(28) / 28
    wave = torch.cos(2 * math.pi * 5 * across).expand(2, 1, 28, 28)
    power = metrics.spectrum(wave)
    assert power.shape == (15,) and power.argmax() == 5
    assert power[5] > 1e6 * power[[f for f in range(15) if f != 5]].max()


def test_the_spectrum_of_white_noise_is_flat_at_its_variance():
    noise = 0.3 * torch.randn(400, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(metrics.spectrum(noise), torch.full((11,), 0.09).double(), rtol=0.1)


def test_the_energy_above_a_frequency_is_parsevals():
    """A mean, a wave of 3 cycles and one of 7: their mean squares are known."""
    t = torch.arange(32) / 32
    wave = 0.5 + 0.3 * (2 * torch.pi * 3 * t).cos() + 0.2 * (2 * torch.pi * 7 * t).sin()
    images = wave.expand(2, 1, 32, 32)
    known = {-1: 0.25 + 0.045 + 0.02, 0: 0.045 + 0.02, 3: 0.02, 2.9: 0.045 + 0.02, 7: 0.0}
    for cycles, energy in known.items():
        assert metrics.high_energy(images, cycles) == pytest.approx(energy, abs=1e-6)


def test_a_slanted_wave_counts_at_the_length_of_its_wave_vector():
    across, down = torch.meshgrid(torch.arange(28) / 28, torch.arange(28) / 28, indexing="xy")
    wave = torch.cos(2 * math.pi * (4 * across + 4 * down))[None, None]  # √32 = 5.66 cycles
    assert metrics.spectrum(wave).argmax() == 6


def test_a_filter_is_tuned_by_examples_and_scaled_back():
    clean = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    restore = metrics.tuned("Gaussian blur", 0.5 * clean + 0.2, clean)
    assert restore.setting == 0  # nothing to smooth: only gain and offset are wrong
    unseen = torch.rand(3, 1, 28, 28)
    assert torch.allclose(restore(0.5 * unseen + 0.2), unseen, atol=1e-4)


@pytest.mark.parametrize("kind", metrics.FILTERS)
def test_each_filter_takes_the_setting_that_restores_best(kind):
    clean = torch.zeros(2, 1, 28, 28)
    clean[:, :, 6:20, 10:16] = 1
    noisy = clean + 0.3 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    restore = metrics.tuned(kind, noisy, clean)
    quality = metrics.decibels(restore(noisy), clean).mean()
    assert quality > metrics.decibels(noisy, clean).mean() + 3
    for setting in metrics.FILTERS[kind]:
        other = filters.filtered(noisy, kind, setting)
        gain = ((other - other.mean()) * clean).mean() / other.var()
        scaled = gain * (other - other.mean()) + clean.mean()
        assert metrics.decibels(scaled, clean).mean() <= quality + 1e-4


def test_interpolation_holds_both_ends_and_equal_steps():
    a, b = torch.randn(2, 5, 3)
    path = metrics.interpolate(a, b, steps=5)
    assert path.shape == (5, 5, 3) and torch.allclose(path[0], a) and torch.allclose(path[-1], b)
    assert torch.allclose(path.diff(dim=0), ((b - a) / 4).expand(4, 5, 3), atol=1e-6)


class Reader:
    """One axis and one pixel, p(x | z) = N(z, s²): log p(x) is that of N(0, 1 + s²)."""

    s = 0.5

    def posterior(self, x):
        var = torch.full_like(x, self.s**2 / (1 + self.s**2))
        return x / (1 + self.s**2), var.log()

    def nll(self, x, z):
        return ((x - z).square() / self.s**2 + math.log(2 * math.pi * self.s**2)).sum(1) / 2


def test_a_codes_value_is_known_for_a_linear_reader():
    torch.manual_seed(0)
    reader = Reader()
    x = torch.randn(4000, 1) * (1 + reader.s**2) ** 0.5
    log_p, own, other = metrics.code_value(reader, x, samples=3).double()
    exact = torch.distributions.Normal(0, (1 + reader.s**2) ** 0.5).log_prob(x[:, 0])
    assert torch.allclose(log_p, -exact.double(), atol=1e-4)  # the posterior is exact
    constant = math.log(2 * math.pi * reader.s**2) / 2
    var = reader.s**2 / (1 + reader.s**2)
    assert own.mean().item() - constant == pytest.approx(0.5, abs=0.03)  # E(x - z)² is s²
    apart = 1 + reader.s**2 + 1  # variances of x and of an independent z, which is N(0, 1)
    assert other.mean().item() - constant == pytest.approx(apart / reader.s**2 / 2, rel=0.06)
    assert var < 1


def test_what_a_latent_code_holds_in_one_line():
    torch.manual_seed(1)  # the measure draws with seed 0
    means = torch.randn(2500, 3) * torch.tensor([0.8**0.5, 0.05, 0.0])
    log_vars = torch.tensor([0.2, 1.0, 1.0]).log().expand_as(means)
    found = metrics.latent_use(means, log_vars)
    assert found["active units"] == 1
    assert found["mutual information, nats"] == pytest.approx(math.log(5) / 2, abs=0.05)
    assert found["KL, nats"] == pytest.approx(math.log(5) / 2, abs=0.05)
