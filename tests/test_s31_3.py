"""The models and the sums that notebook 31.3 builds, taken from its cells, and its section's file."""

import math
import sys
import types
from functools import partial
from textwrap import dedent

import numpy as np
import pytest
import torch
from cells import cells, definitions
from shared import LinearGaussian
from torch import nn

from companion import metrics
from companion.metrics import SOURCES, importance_weighted, log_likelihood
from companion.models import bernoulli_nll, discretised_logistic_nll, gaussian_kl, gaussian_nll
from companion.sections import s31_3
from companion.training import TrainingError, fit

BUILT = definitions("31.3")


log_weights = BUILT["log_weights"]


class Curve(nn.Module):
    """One axis, four pixels: small enough to integrate over the code."""

    def __init__(self, spread=1.0):
        super().__init__()
        self.log_var = 2 * math.log(spread)

    def encoder(self, x):
        return torch.cat([x.flatten(1).mean(1, True), torch.full((len(x), 1), self.log_var)], 1)

    def decoder(self, z):
        return (z * torch.tensor([1.0, -2.0, 0.5, 3.0])).view(-1, 1, 2, 2)


@pytest.fixture
def x():
    return torch.bernoulli(
        torch.full((6, 1, 2, 2), 0.4), generator=torch.Generator().manual_seed(0)
    )


def integral(vae, x):
    """log p(x) by a sum over a fine grid of codes: (B,)."""
    z = torch.linspace(-8, 8, 4001)[:, None]
    log_prior = -(z**2).squeeze(1) / 2 - math.log(2 * math.pi) / 2
    log_joint = [log_prior - bernoulli_nll(i.expand(len(z), -1, -1, -1), vae.decoder(z)) for i in x]
    return torch.stack(log_joint).double().logsumexp(1) + math.log(16 / 4000)


@pytest.mark.parametrize("spread", [0.7, 1.0, 2.0])
def test_weights_average_to_the_integral_whatever_the_posterior(x, spread):
    vae = Curve(spread)
    torch.manual_seed(1)
    found = importance_weighted(lambda x, k: log_weights(vae, x, k), x, 100_000, chunk=10_000)
    assert torch.allclose(found, integral(vae, x), atol=0.03)


def test_weights_under_the_prior_are_the_likelihood(x):
    vae = Curve()
    vae.encoder = lambda x: torch.zeros(len(x), 2)
    torch.manual_seed(2)
    weights = log_weights(vae, x, 3)
    torch.manual_seed(2)
    z = torch.randn(3, len(x), 1)
    wanted = torch.stack([-bernoulli_nll(x, vae.decoder(draw)) for draw in z])
    assert torch.allclose(weights, wanted, atol=1e-5)


def test_the_elbo_of_a_decoder_that_ignores_its_code_is_known(x):
    vae = Curve()
    vae.decoder = lambda z: torch.full((len(z), 1, 2, 2), 0.3)
    mean, log_var = torch.randn(6, 1), torch.randn(6, 1)
    wanted = -bernoulli_nll(x, torch.full_like(x, 0.3)) - gaussian_kl(mean, log_var)
    nll = partial(BUILT["distortion"], vae, x)
    assert torch.allclose(s31_3.elbos(nll, mean, log_var, samples=3), wanted, atol=1e-5)


def test_a_gaussian_in_place_of_the_encoders_changes_the_proposals_and_not_the_likelihood(x):
    vae, q = Curve(), torch.stack([torch.full((6, 1), 0.2), torch.full((6, 1), 0.3)])
    bounds = [
        log_likelihood(log_weights, 20_000, q=own, batch=4)(vae, x.repeat(2, 1, 1, 1))
        for own in (None, q.repeat(1, 2, 1))
    ]
    assert torch.allclose(*bounds, atol=0.02) and not torch.equal(*bounds)
    truth = log_likelihood(log_weights, 20_000)(vae, x.repeat(2, 1, 1, 1))
    assert torch.allclose(bounds[0], truth, atol=0.02)


@pytest.mark.parametrize("name", ["VAE", "DenseVAE"])
def test_a_log_variance_that_overflows_is_one_sentence_and_leaves_the_model(images, name):
    torch.manual_seed(0)
    model = BUILT[name](latent_dim=3)
    last = [layer for layer in model.encoder if isinstance(layer, nn.Linear)][-1]
    last.bias.data[3:] = 1000.0
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(TrainingError, match=r"became (inf|nan) at step 1 .*log-variance"):
        fit(model, images, epochs=1, batch=100, bar=False)
    after = model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_unit_gaussian_is_half_the_squared_error_and_a_constant(images):
    torch.manual_seed(0)
    model = BUILT["Grey"](3, gaussian_nll, log_scale=0.0, learned=False)
    x = images[:20].float() / 255
    output = model.decoder(torch.randn(20, 3))
    wanted = (x - output).square().flatten(1).sum(1) / 2 + 392 * math.log(2 * math.pi)
    assert torch.allclose(model.nll(x, output, model.log_scale), wanted, rtol=1e-5)
    assert not model.log_scale.requires_grad


@pytest.mark.parametrize("nll", [gaussian_nll, discretised_logistic_nll])
def test_a_learned_scale_moves_and_the_terms_add_up(images, nll):
    torch.manual_seed(0)
    model = BUILT["Grey"](3, nll)
    before = model.log_scale.item()
    terms = fit(model, images, epochs=2, batch=100, bar=False).terms
    assert model.log_scale.item() != before
    assert terms["loss"][-1] == pytest.approx(terms["recon"][-1] + terms["kl"][-1], rel=1e-5)


def test_without_the_library_its_section_says_so_in_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "diffusers", None)  # an import then raises ImportError
    names = {"nn": nn, "torch": torch, "data": None, "plotting": None, "metrics": None}
    section = [source for source in cells("31.3") if "AutoencoderKL" in source]
    assert len(section) == 2
    for source in section:
        exec(source, names)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "diffusers is not installed, so section 10 stays empty: `make library` installs it."
    ]


def test_the_librarys_model_has_the_losses_of_this_chapter():
    diffusers = pytest.importorskip("diffusers", reason="`make library` installs it")
    torch.manual_seed(0)
    BUILT["AutoencoderKL"] = diffusers.AutoencoderKL
    model, x = BUILT["LibraryKL"](), torch.rand(2, 3, 32, 32)
    q = model.net.encode(2 * x - 1).latent_dist
    kl = gaussian_kl(q.mean.flatten(1), q.logvar.flatten(1)).mean()
    terms = model.loss(x)
    assert terms["kl"].item() == pytest.approx(kl.item(), rel=1e-5)
    assert terms["loss"].item() == pytest.approx((terms["recon"] + kl).item(), rel=1e-5)
    assert q.mean.shape == (2, 4, 4, 4) and BUILT["through"](model.net, x).shape == x.shape


def test_published_weights_out_of_reach_are_one_line(capsys):
    def unreachable(name):
        raise OSError("no connection")

    library = types.SimpleNamespace(from_pretrained=unreachable)
    (source,) = [source for source in cells("31.3") if "from_pretrained" in source]
    part = source[source.index("    try:\n") : source.index("    cat = ")]
    exec(dedent(part), {"AutoencoderKL": library, "PUBLISHED": True, "nets": {}})
    assert capsys.readouterr().out.count("\n") == 1


# Posteriors searched for each image, and samples of codes on spaces whose holes are known.


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
    mean, log_var = s31_3.refined_posterior(nll, start, start, steps=400)
    found = torch.distributions.Normal(mean, (log_var / 2).exp())
    wanted = torch.distributions.Normal(exact, precision**-0.5)
    gap = torch.distributions.kl_divergence(found, wanted).sum(1)  # nats
    assert gap.max() < 0.01
    assert not start.any()  # the encoder's own posterior stays as it was


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
    found = s31_3.elbos(nll, mean, log_var, samples=100_000)
    assert torch.allclose(found, truth.log_p(x) - gap, atol=0.05)
    assert torch.equal(found, s31_3.elbos(nll, mean, log_var, samples=100_000))


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
        found = s31_3.latent_holes(code, lambda z: z, picture(codes()), scores, standard=False)
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
        s31_3.latent_holes(code, lambda z: z, picture(blob()), keep, standard)
    scaled, _, own, prior, _, _ = (value.view(-1, 2) for value in seen.values())
    assert torch.allclose(scaled.mean(0), own.mean(0), atol=0.15)
    assert torch.allclose(scaled.std(0), own.std(0), rtol=0.1)
    assert abs(scaled.T.corrcoef()[0, 1]) < 0.1 < own.T.corrcoef()[0, 1]  # no correlation is kept
    assert torch.allclose(prior.mean(0), torch.zeros(2), atol=0.1)
    assert torch.allclose(prior.std(0), torch.ones(2), atol=0.1)


def a_wall(sizes=(2, 8)):
    keys = [(name, k) for name in ("plain", "VAE") for k in sizes]
    pixels = torch.arange(42).view(42, 1, 1, 1).expand(42, 1, 4, 4).byte()
    scores = lambda n: torch.tensor([[100.0 * n + i, 0.5, 0.25] for i in range(4)])
    return {key: {"pixels": pixels, "scores": scores(n)} for n, key in enumerate(keys)}


def test_a_latent_wall_scores_all_samples_and_what_lies_half_way():
    seen = []

    def scores(images):
        seen.append(images)
        return {"a": float(len(seen)), "b": 0.0, "c": 0.0}

    codes = blob() / 100  # pictures in [0, 1] are asked for, and twelve of many are kept
    ends = [codes[:7], codes[7:14], codes[14:21], codes[21:28]]
    found = s31_3.latent_wall(code, picture, picture(codes), scores, False, *ends)
    assert found["pixels"].shape == (42, 1, 1, 2) and found["pixels"].dtype == torch.uint8
    assert found["scores"][:, 0].tolist() == [1, 2, 3, 4]
    assert [len(images) for images in seen] == [2000, 2000, 7, 7]
    full = s31_3.gaussians(codes, standard=False)[1]
    assert torch.allclose(seen[1], picture(full))
    assert torch.allclose(seen[3], picture((ends[2] + ends[3]) / 2))
    first, middle, last = found["pixels"][[33, 37, 41]].view(3, 2) / 255
    for shown, wanted in ((first, ends[2][4]), (last, ends[3][4])):
        assert torch.allclose(shown, wanted.clamp(0, 1), atol=0.01)
    assert torch.allclose(middle, seen[3].view(-1, 2)[4].clamp(0, 1), atol=0.01)


def test_a_wall_of_samples_has_each_source_in_its_row_and_real_digits_last(figures):
    reference = {"Fréchet distance": 9.0, "density": 1.0, "coverage": 0.9}
    digits = torch.full((24, 1, 4, 4), 200, dtype=torch.uint8)
    s31_3.sample_wall(a_wall(), 20, digits, reference)
    axes = np.array(figures[0].axes).reshape(5, 2)
    titles = [axis.get_title() for axis in axes[0]]
    assert titles == ["2 dimensions, 20 epochs", "8 dimensions, 20 epochs"]
    assert axes[0, 1].get_xlabel() == "100, 0.50, 0.25"  # plain, 8 dimensions, diagonal
    assert axes[3, 0].get_xlabel() == "201, 0.50, 0.25"  # VAE, 2 dimensions, full
    assert axes[4, 0].get_xlabel() == axes[4, 1].get_xlabel() == "9, 1.00, 0.90"
    shown = [np.asarray(axis.images[0].get_array()) for axis in axes[:, 0]]
    assert [image[0, 0] for image in shown] == [0, 12, 0, 12, 200]
    assert shown[0].shape == (2 * 5 - 1, 6 * 5 - 1)


def test_a_wall_of_lines_has_the_plain_model_above_and_a_number_at_each_middle(figures):
    s31_3.line_wall(a_wall(), "title")
    axes = figures[0].axes
    assert [axis.get_ylabel() for axis in axes] == ["2, plain", "2, VAE", "8, plain", "8, VAE"]
    words = [text.get_text() for text in axes[3].get_xticklabels()]
    assert words == [*[""] * 4, "302", *[""] * 9, "303", *[""] * 4]
    assert np.asarray(axes[0].images[0].get_array())[0, 0] == 24


def test_scores_in_words_have_the_range_of_the_seeds():
    many = torch.tensor([1.0, 2.0, 6.0])
    assert s31_3.in_words(205.2, 0.74, 0.66) == "205, 0.74, 0.66"
    assert s31_3.in_words(100 * many, many / 10, many / 100) == "300 (100 to 600), 0.30, 0.03"
    assert s31_3.with_error(torch.tensor([1.0, 3.0, 1.0, 3.0])) == "2.00 ± 0.58"
    found = {
        (name, k): torch.arange(24.0).view(2, 3, 4) for name in ("plain", "VAE") for k in (2, 8)
    }
    table = s31_3.holes_table(found, "head")
    assert list(table.columns) == ["2 dim.", "8 dim."] and len(table) == 6
    assert table.loc["VAE, full", "8 dim."] == "10 (4 to 16), 11.00, 12.00"
    assert table.loc["plain, own codes", "2 dim."].startswith("14 (8 to 20)")


def test_noise_takes_eight_bits_and_a_constant_none():
    draw = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (400, 1, 28, 28), generator=draw).byte()
    found = s31_3.stored_bits(noise, noise)
    assert all(v == pytest.approx(8, abs=0.1) for k, v in found.items() if k[0] in "WL")
    other = torch.randint(0, 256, (20000, 1, 4, 4), generator=draw).byte()
    assert s31_3.stored_bits(other, other[:100])["histogram"] == pytest.approx(8, abs=0.05)
    flat = torch.zeros(400, 1, 28, 28).byte()
    assert all(value < 0.5 for value in s31_3.stored_bits(flat, flat).values())
    far = 255 - flat  # levels that the training images never have cost, and are possible
    assert 8 < s31_3.stored_bits(flat, far)["histogram"] < 20


@pytest.mark.parametrize(
    "name, spread", [("unit", 1.0), ("logistic", math.pi / 3**0.5), ("Bernoulli", 0.0)]
)
def test_a_draw_has_the_mean_and_the_spread_of_its_density(name, spread):
    level = math.log(0.4 / 0.6) if name == "Bernoulli" else 0.4  # a logit, or the place itself
    decoder = lambda z: torch.full((len(z), 1, 1, 1), level)
    model = types.SimpleNamespace(log_scale=torch.tensor(0.01).log(), decoder=decoder)
    BUILT["four"] = {name: model}
    x = BUILT["drawn"](name, torch.zeros(50_000, 2), torch.Generator().manual_seed(0))
    assert x.mean().item() == pytest.approx(0.4, abs=0.01)
    wanted = 0.24**0.5 if name == "Bernoulli" else 0.01 * spread
    assert x.std().item() == pytest.approx(wanted, rel=0.02)
    assert set(x.unique().tolist()) == {0.0, 1.0} or name != "Bernoulli"
    model.decoder = lambda z: torch.full((len(z), 1, 1, 1), -1.0)  # far below black: no speckles
    x = BUILT["drawn"](name, torch.zeros(1000, 2), torch.Generator().manual_seed(0))
    assert not x.any() or name == "Bernoulli"


def test_what_is_inferred_rises_from_the_encoder_to_the_likelihood(x):
    class Decoded(Curve):
        def encoder(self, x):
            return super().encoder(x) + torch.tensor([0.8, 0.0])  # a mean that is off

    vae = Decoded()
    found = BUILT["inferred"](5000, vae, x)
    assert (found["searched"] > found["encoder"] + 0.05).all()
    assert found["searched"].mean() < found["log p"].mean() + 0.1  # twenty draws of each image
    assert torch.allclose(found["log p"].double(), integral(vae, x), atol=0.05)


def test_a_vae_is_measured_by_sampled_codes_and_its_prior_and_no_other_model_is():
    def measure(encode, decode, images, scores, standard, *means):
        return encode(images), standard, means

    BUILT["scores"] = None
    torch.manual_seed(0)
    vae, plain, images = BUILT["VAE"](3), BUILT["Plain"](3), torch.rand(5, 1, 28, 28)
    codes, standard, (mean,) = BUILT["seen_by"](measure, vae, images, images)
    assert standard and codes.shape == mean.shape == (5, 3) and not torch.allclose(codes, mean)
    codes, standard, (mean,) = BUILT["seen_by"](measure, plain, images, images)
    assert not standard and torch.allclose(codes, mean, atol=1e-5)


def test_a_posterior_is_shaded_under_the_gaussians_that_stand_for_it(figures):
    def log_joint(z):
        return -((z - torch.tensor([1.0, 0.0])) ** 2).sum(1) / (2 * 0.25)

    ellipses = {
        "a": torch.tensor([[0.0, 0.0], [0.0, 0.0]]),
        "b": torch.tensor([[1.0, 0.0], [-1.4, -1.4]]),
    }
    s31_3.posterior_picture(log_joint, ellipses, torch.zeros(1, 4, 4), "title")
    axis = figures[0].axes[0]
    shade = np.asarray(axis.images[0].get_array())
    left, right, low, high = axis.images[0].get_extent()
    row, column = np.unravel_index(shade.argmax(), shade.shape)
    assert left + (column + 0.5) * (right - left) / 80 == pytest.approx(1.0, abs=0.1)
    assert high - (row + 0.5) * (high - low) / 80 == pytest.approx(0.0, abs=0.1)
    assert [patch.width for patch in axis.patches] == pytest.approx([4.0, 4 * math.exp(-0.7)])


def test_columns_start_at_one(figures):
    s31_3.columns([3.0, 1.0], "axis", "nats", "title")
    bars = figures[0].axes[0].patches
    assert [bar.get_height() for bar in bars] == [3, 1]
    assert [bar.get_x() + bar.get_width() / 2 for bar in bars] == pytest.approx([1, 2])
