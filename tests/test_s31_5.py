"""The hierarchies that notebook 31.5 builds, taken from its cells, and its section's file."""

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cells import definitions
from torch import nn
from torch.distributions import Normal, kl_divergence

from companion.models import discretised_logistic_nll
from companion.models.likelihoods import log_bin_mass
from companion.sections import s31_5
from companion.sections.s31_5 import logistic_mixture_nll, mixture_mean, mixture_parts
from companion.training import fit, fit_or_load

nb = SimpleNamespace(**definitions("31.5"))


TINY = {"sides": (1, 7, 7), "width": 16, "latent": 2}


def gaussians(count, *shape):
    """So many random (mean, log variance) pairs."""
    generator = torch.Generator().manual_seed(0)
    return [tuple(torch.randn(2, *shape, generator=generator)) for _ in range(count)]


def normal(pair):
    return Normal(pair[0], (pair[1] / 2).exp())


def tiny(kind=nb.Deep, **settings):
    torch.manual_seed(0)
    return kind(**TINY | settings)


def digits(count):
    return torch.bernoulli(
        torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(1)).round() * 0.8
    )


def shaken(model, scale=0.05):
    """Random weights everywhere, so that nothing begins as zero."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(scale * torch.randn_like(weight))
    return model


MODELS = {
    "stack": lambda: nb.Stack(),
    "stack, both repairs": lambda: nb.Stack(norm=True, warm_up=0.2),
    "ladder": lambda: nb.Ladder(norm=True, warm_up=0.2),
    "deep": tiny,
    "nvae": lambda: tiny(nb.NVAE),
    "nvae, plain posterior": lambda: tiny(nb.NVAE, without="residual normal"),
}


def test_the_kl_and_the_density_are_torchs():
    q, p = gaussians(2, 5, 3)
    z = torch.randn(5, 3)
    assert torch.allclose(nb.unit_kl(q, p), kl_divergence(normal(q), normal(p)), atol=1e-5)
    assert torch.allclose(nb.log_density(z, q), normal(q).log_prob(z), atol=1e-4)


def test_the_merge_is_the_product_of_the_densities():
    a, b = gaussians(2, 1, 3)
    z = torch.randn(1000, 3)
    product = (normal(a).log_prob(z) + normal(b).log_prob(z)).double()
    constant = product - normal(nb.merged(a, b)).log_prob(z)
    assert torch.allclose(constant, constant.mean(0).expand_as(constant), atol=1e-4)


def test_zeros_of_a_network_are_nearly_a_standard_normal():
    mean, log_var = nb.gaussian(torch.zeros(2, 6))
    assert torch.equal(mean, torch.zeros(2, 3))
    assert torch.allclose(log_var, torch.full((2, 3), math.log(1.01)))
    _, log_var = nb.gaussian(torch.tensor([[0.0, -1e4], [0.0, 1e4]]))
    assert log_var.isfinite().all()


def weights_and_bound(model, x, rounds=4):
    """log p(x, z) - log q(z | x) of 500 draws a round, and the bound of as many: (500 rounds, B) each."""
    with torch.no_grad():
        weights = torch.cat([nb.log_weights(model, x, 500) for _ in range(rounds)])
        terms = [model.terms(x.repeat(500, 1, 1, 1)) for _ in range(rounds)]
    return weights, torch.cat([-(recon + kl.sum(0)).view(500, -1) for recon, kl in terms])


def apart(a, b):
    """How many standard errors the means of two sets of draws (N, B) lie apart, at most."""
    return ((a.mean(0) - b.mean(0)).abs() / (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()).max()


def test_levels_that_cannot_share_the_channels_are_refused():
    with pytest.raises(ValueError, match="8 channels cannot be shared by 3 levels: 1, 2, 4 or 8"):
        nb.of_depth(3)


def test_rivals_of_every_depth_have_as_many_weights_and_as_many_latent_dimensions():
    models, x = [nb.of_depth(levels) for levels in (0, 1, 2, 4, 8)], torch.zeros(2, 1, 16, 16)
    sizes = [sum(p.numel() for p in model.parameters()) for model in models]
    assert max(sizes) < 1.03 * min(sizes)
    codes = [sum(z[0].numel() for *_, z in model.infer(x)[0]) for model in models]
    assert codes == [32, 128, 128, 128, 128]
    assert [len(model.infer(x)[0]) for model in models] == [1, 1, 2, 4, 8]


def test_the_flat_rivals_weights_average_to_its_bound():
    torch.manual_seed(0)
    x = torch.bernoulli(torch.full((2, 1, 16, 16), 0.3))
    assert apart(*weights_and_bound(shaken(nb.Flat(), 0.02).eval(), x)) < 4


LONG = ("deep", "nvae", "nvae, plain posterior")  # seconds each


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow) if k in LONG else k for k in MODELS]
)
def test_the_importance_weights_average_to_the_bound(kind):
    torch.manual_seed(0)
    model = shaken(MODELS[kind](), 0.05 if kind in LONG else 0.08).eval()
    assert apart(*weights_and_bound(model, digits(2))) < 4


def test_a_level_of_the_stack_is_charged_for_what_the_level_above_has_seen_of_it():
    """z ~ q = N(0, 1); above it N(z, .1) is inferred; its prior is N(-.9 · above, .2): exact by hand."""
    torch.manual_seed(0)
    z = torch.randn(40_000, 1)
    above = z + 0.1**0.5 * torch.randn_like(z)
    q, p = (0 * z, 0 * z), (-0.9 * above, torch.full_like(z, math.log(0.2)))
    exact = -0.5 + math.log(0.2) / 2 + (1.9**2 + 0.81 * 0.1) / 0.4
    assert nb.Stack().gap(q, p, z).mean().item() == pytest.approx(exact, abs=0.15)
    assert (
        nb.Ladder().gap(q, p, z).mean().item() < exact - 4
    )  # the closed form, right from the top down


@pytest.mark.parametrize("kind", MODELS)
def test_given_all_levels_one_pass_down_gives_the_output_of_inference(kind):
    model, x = shaken(MODELS[kind]()).eval(), digits(3)
    with torch.no_grad():
        levels, output = model.infer(x)
        again = nb.generate(model, 3, given=[z for _, _, z in levels])
    assert len(levels) == model.depth
    assert torch.allclose(again, output, atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_temperature_zero_is_the_mean_and_needs_no_dice(kind):
    model = shaken(MODELS[kind]()).eval()
    first, second = (nb.generate(model, 2, 0.0) for _ in range(2))
    assert torch.equal(first, second) and first.isfinite().all()
    assert torch.allclose(first[0], first[1], atol=1e-5)
    assert not torch.allclose(first, nb.generate(model, 2, 1.0), atol=1e-3)


def test_a_temperature_works_on_its_level_alone():
    model = shaken(tiny()).eval()
    torch.manual_seed(0)
    cold = nb.generate(model, 2, [0.0, 0.0, 1.0])
    with torch.no_grad():
        torch.manual_seed(0)
        warm = (0.0, 0.0, 1.0)
        levels, output = model.descend(lambda level, p, h: (p, nb.sample(p, warm[level])), 2)
    assert torch.equal(cold, output)
    assert torch.equal(levels[0][2][0], levels[0][2][1])  # levels at 0 are the same for both draws


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, "temperature -0.1: choose 0"),
        ({"temperature": [1.0, 1.0]}, "2 temperatures: there are 3 levels"),
        ({"given": [torch.zeros(1, 2, 1, 1)] * 4}, "4 levels given.*there are 3 levels"),
    ],
)
def test_bad_levels_and_temperatures_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        nb.generate(tiny(), 1, **settings)


def test_images_and_sides_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"images of \(30, 30\): the hierarchy takes 28×28"):
        tiny().infer(torch.zeros(1, 1, 30, 30))
    with pytest.raises(ValueError, match=r"images of \(32, 32\): the hierarchy takes 28×28"):
        tiny().infer(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match=r"sides \(1, 3, 7\): each must divide the next"):
        tiny(sides=(1, 3, 7))


def test_the_warm_up_weighs_the_kl_and_the_bound_does_not_feel_it():
    model, x = nb.Ladder(norm=True, warm_up=0.2), digits(8)
    found = {}
    for progress in (0.0, 0.1, 0.2, 1.0):
        model.progress.fill_(progress)
        torch.manual_seed(0)
        terms = {name: term.item() for name, term in model.loss(x).items()}
        kl = sum(terms[f"kl {level}"] for level in range(1, 6))
        assert terms["bound"] == pytest.approx(terms["recon"] + kl, rel=1e-5)
        found[progress] = (terms["loss"] - terms["recon"]) / kl
    assert list(found.values()) == pytest.approx([0, 0.5, 1, 1], abs=1e-5)


def test_every_prior_begins_as_a_standard_normal():
    model, x = tiny(), digits(4)
    for _, (mean, log_var), _ in model.infer(x)[0]:
        assert mean.abs().max() == 0
        assert torch.allclose(log_var, torch.full_like(log_var, math.log(1.01)))


def test_last_convolutions_begin_smaller_by_the_root_of_the_number_of_levels():
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 4, 1)
    before = convolution.weight.clone()
    nb.scaled(nn.Sequential(nn.GELU(), convolution), 9**-0.5)
    assert torch.allclose(convolution.weight, before / 3)
    few, many = (nb.Deep(**TINY | {"sides": (1,) + (7,) * n}) for n in (3, 15))
    size = [model.levels[1].then[-1].weight.std().item() for model in (few, many)]
    assert size[0] / size[1] == pytest.approx(2, rel=0.1)


def test_a_residual_posterior_that_corrects_nothing_costs_nothing():
    model = shaken(tiny())
    for level in model.levels:
        nb.scaled(level.look, 0)
    for q, p, _ in model.eval().infer(digits(2))[0]:
        assert torch.equal(q[0], p[0])
        assert torch.allclose(q[1], p[1] + math.log(1.01))


def test_the_gate_scales_whole_channels():
    torch.manual_seed(0)
    gate, h = nb.Squeeze(8), torch.randn(3, 8, 5, 5)
    factor = gate(h) / h
    assert torch.allclose(factor, factor[:, :, :1, :1].expand_as(factor), atol=1e-5)
    assert ((factor > 0) & (factor < 1)).all()


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ("Swish", nn.SiLU),
        ("squeeze and excitation", nb.Squeeze),
        ("batch normalisation", nn.BatchNorm2d),
    ],
)
def test_each_part_of_nvae_can_be_taken_out_and_no_other_goes_with_it(part, kind):
    def kinds(without=""):
        return [type(layer) for cell in nb.nvae_cells(8, without) for layer in cell]

    assert kind in kinds() and kind not in kinds(part)
    kept = {nn.SiLU, nb.Squeeze, nn.BatchNorm2d, nn.Conv2d} - {kind}
    for other in kept:
        assert kinds().count(other) == kinds(part).count(other)


def test_depthwise_filters_each_channel_by_itself():
    groups = [
        max(part.groups for part in nb.nvae_cells(8, without)[0] if isinstance(part, nn.Conv2d))
        for without in ("", "depthwise")
    ]
    assert groups == [48, 1]


def test_the_residual_normal_and_the_spectral_term_can_be_taken_out():
    x, h = digits(2), torch.randn(2, 16, 7, 7)
    prior = torch.full((2, 2, 7, 7), 3.0), torch.zeros(2, 2, 7, 7)
    for without, moved in (("", 3.0), ("residual normal", 0.0)):
        level = tiny(nb.NVAE, without=without).levels[1]
        plain = nb.gaussian(level.look(0 * h + level.mix(h)))
        assert torch.allclose(level.posterior(h, 0 * h, prior)[0], plain[0] + moved)
    for without, extra in (("", True), ("spectral regularisation", False)):
        terms = tiny(nb.NVAE, without=without).loss(x)
        assert (terms["loss"] > terms["bound"] + 0.01).item() == extra


def test_the_spectral_term_is_the_sum_of_the_largest_singular_values():
    torch.manual_seed(0)
    model, x = nb.NVAE(strength=0.5, **TINY), digits(4)
    kernels = [part.weight for part in model.modules() if isinstance(part, nn.Conv2d)]
    exact = sum(torch.linalg.svdvals(kernel.flatten(1))[0] for kernel in kernels)
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    nn.init.normal_(norms[0].weight, -3.0)  # the largest |γ| is of a negative one
    exact = exact + sum(norm.weight.abs().max() for norm in norms)
    terms = model.loss(x)
    added = terms["loss"] - terms["bound"]
    assert added.item() == pytest.approx(0.5 * exact.item(), rel=1e-2)
    added.backward()
    assert all(kernel.grad is not None for kernel in kernels)


def test_colours_are_mirrored_half_of_the_time():
    torch.manual_seed(0)
    model = nb.Colours(mixtures=2, sides=(1, 4), width=8, latent=2)
    x = torch.rand(200, 3, 16, 16)
    seen = model.prepared(x)
    mirrored = (seen == x.flip(3)).flatten(1).all(1)
    assert ((seen == x).flatten(1).all(1) ^ mirrored).all()
    assert 60 < mirrored.sum() < 140
    assert model.nll(x, model.infer(x)[1]).shape == (200,)


def test_a_checkpoint_of_another_depth_is_not_used(folder, capsys):
    images = (255 * digits(64)).byte()
    deeper = partial(nb.Deep, **TINY | {"sides": (1, 7, 7, 7)})
    settings = {"epochs": 1, "batch": 32, "bar": False}
    models = [fit_or_load("tiny", b, images, **settings)[0] for b in (tiny, tiny, deeper)]
    first, second, third = capsys.readouterr().out.splitlines()
    assert "training on" in first and "loaded" in second and "training on" in third
    assert "weights" in third and len(models[2].levels) == 4


@pytest.mark.slow
def test_a_deep_hierarchy_learns():
    x = torch.zeros(256, 1, 28, 28, dtype=torch.uint8)
    x[:128, :, :14], x[128:, :, 14:] = 255, 255  # the upper half is white, or the lower
    past = fit(tiny(), x, epochs=10, batch=32, lr=4e-3, average=0.9, bar=False)
    assert past.terms["bound"][-1] < 0.2 * past.terms["bound"][0]


# The likelihood of colour pixels.


@pytest.fixture
def numbers():
    """What a decoder might say of three pixels: two components, sharp and wide."""
    return torch.randn(1, 20, 1, 3, generator=torch.Generator().manual_seed(0)).double()


def mass_of(red, green, blue, numbers):
    """Probabilities under the mixture of colours (N,) each, at the first pixel."""
    x = torch.stack([red, green, blue], 1)[:, :, None, None].double()
    return (-logistic_mixture_nll(x, numbers[..., :1].expand(len(x), -1, -1, -1))).exp()


def test_the_mixture_sums_to_one_over_all_colours(numbers):
    """Over all blues and greens at each of some reds it is red's own mixture, which sums to one."""
    level = torch.arange(256).double() / 255
    logits, means, log_scales, _ = mixture_parts(numbers[..., :1])
    red = log_bin_mass(level[:, None], means[0, 0, :, 0, 0], log_scales[0, 0, :, 0, 0]).exp()
    red = red.double() @ logits[0, :, 0, 0].double().softmax(0)  # (256,)
    assert red.sum().item() == pytest.approx(1, abs=1e-5)
    green, blue = torch.cartesian_prod(level, level).unbind(1)
    for at in (0, 77, 254, 255):
        total = mass_of(level[at].expand_as(green), green, blue, numbers).sum()
        assert total.item() == pytest.approx(red[at].item(), rel=1e-4)


def test_the_mixture_of_one_grey_component_is_the_discretised_logistic(numbers):
    """Without slopes the three colours are apart, and one component is the plain likelihood."""
    one = numbers.unflatten(1, (10, 2))[:, :, 0].clone()
    one[:, 7:] = 0
    x = torch.randint(0, 256, (1, 3, 1, 3), generator=torch.Generator().manual_seed(2)) / 255.0
    mean, log_scale = (one[:, 1:4].float() + 1) / 2, one[:, 4:7].float() - math.log(2)
    wanted = discretised_logistic_nll(x, mean, log_scale)
    assert torch.allclose(logistic_mixture_nll(x, one), wanted, rtol=1e-5)


def test_the_mean_colour_is_the_components_mean_weighted_and_moved_by_the_colours_before(numbers):
    logits, means, _, slopes = (part.double() for part in mixture_parts(numbers))
    weight, slopes = logits.softmax(1), slopes.movedim(1, 0)  # (1, 2, 1, 3), and one by one
    red = (weight * means[:, 0]).sum(1).clamp(0, 1)
    green = (weight * (means[:, 1] + slopes[0] * (red - 0.5)[:, None])).sum(1).clamp(0, 1)
    moved = slopes[1] * (red - 0.5)[:, None] + slopes[2] * (green - 0.5)[:, None]
    blue = (weight * (means[:, 2] + moved)).sum(1).clamp(0, 1)
    assert torch.allclose(
        mixture_mean(numbers).double(), torch.stack([red, green, blue], 1), atol=1e-6
    )


def test_a_code_and_pixels_go_onto_the_stack_of_bits_and_come_off_it_as_they_were():
    stream = pytest.importorskip("constriction").stream
    coder = stream.stack.AnsCoder()
    torch.manual_seed(0)
    q = torch.randn(1, 300), torch.randn(1, 300) - 2
    z = ((q[0] + (q[1] / 2).exp() * torch.randn(1, 300)) * s31_5.GRID).round() / s31_5.GRID
    logits = 2 * torch.randn(1, 1, 28, 28)
    x = torch.bernoulli(logits.sigmoid())
    s31_5.push(coder, q, z)
    density = normal(q).log_prob(z).sum() - 300 * math.log(s31_5.GRID)
    bits = coder.num_valid_bits()
    assert bits == pytest.approx(-density.item() / math.log(2), rel=0.02, abs=40)
    s31_5.push_pixels(coder, x, logits)
    nats = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum").item()
    assert coder.num_valid_bits() - bits == pytest.approx(nats / math.log(2), rel=0.02, abs=40)
    assert torch.equal(s31_5.pop_pixels(coder, logits), x)
    assert torch.equal(s31_5.pop(coder, q), z)


def test_bits_back_gives_back_the_digits_and_the_bits_that_were_borrowed():
    stream = pytest.importorskip("constriction").stream
    model = shaken(tiny(), 0.02).eval()
    noise = np.random.default_rng(0).integers(0, 2**32, 500, dtype=np.uint32)
    coder, images = stream.stack.AnsCoder(noise, seal=True), digits(3)
    before = coder.num_bits()
    promised = sum(nb.push(coder, model, image[None]).item() for image in images)
    assert coder.num_bits() - before == pytest.approx(promised, rel=0.01)
    for image in images.flip(0):
        assert torch.equal(nb.pop(coder, model)[0], image)
    assert np.array_equal(coder.get_compressed(unseal=True), noise)


def test_one_file_for_all_pictures_has_one_header():
    images = torch.randint(
        0, 256, (4, 3, 16, 16), generator=torch.Generator().manual_seed(0)
    ).byte()
    bits = s31_5.codec_bits(None, images)
    assert bits["WebP, one file for all"] < bits["WebP"] and bits["PNG"] > 8


def test_a_mixture_that_does_not_fit_the_picture_is_refused():
    for x, numbers in (((1, 1, 2, 2), (1, 20, 2, 2)), ((1, 3, 2, 2), (1, 21, 2, 2))):
        with pytest.raises(ValueError, match=r"needs \(B, 10 K, H, W\)"):
            logistic_mixture_nll(torch.zeros(x), torch.zeros(numbers))


def test_fixed_levels_are_redrawn_with_the_same_noise_until_asked_for_other():
    calls = []

    def redraw(fixed):
        calls.append(fixed)
        return torch.rand(3, 1, 4, 4) / (1 + fixed)

    panel = s31_5.fixed_levels(redraw, torch.ones(1, 4, 4), 2)
    calls.clear()
    panel.set(fixed=0)
    first = panel.picture
    panel.set(fixed=2)
    assert calls == [0, 2]  # one pass a move
    assert (first[:4, :4] == 255).all()  # the image stands before its redraws
    assert panel.picture[:, 5:].mean() < first[:, 5:].mean()
    panel.set(fixed=0)
    assert np.array_equal(panel.picture, first)
    panel.press("other noise")
    assert not np.array_equal(panel.picture, first)
    assert "a pixel varies by" in panel.readout


def test_a_level_has_its_own_temperature_and_the_others_theirs():
    asked = []

    def generate(warm):
        asked.append(warm)
        return torch.rand(2, 1, 4, 4)

    panel = s31_5.level_temperatures(generate, 3)
    before, asked[:] = panel.picture, []
    panel.set(level=2, own=0.5, rest=1.5)
    assert asked == [[1.5, 0.5, 1.5]]
    assert np.array_equal(panel.picture, before)  # the same noise at every move


def test_a_run_and_a_moment_of_training_are_chosen():
    films = {
        "one": torch.tensor([[0.0, 4.0], [1.0, 1.0]]),
        "two": torch.tensor([[0.0, 0.0], [2.0, 3.0]]),
    }
    panel = s31_5.film_of_levels(films)
    assert "2.0 nats in all, scale to 4" in panel.readout
    panel.set(part=0)
    assert "4.0 nats" in panel.readout
    panel.set(run="two", part=100)
    assert "5.0 nats" in panel.readout


def test_small_digits_get_a_frame():
    from companion.data import Images

    x = torch.ones(2, 1, 14, 14, dtype=torch.uint8)
    digits = Images("d-14", x, x[:, 0, 0, 0], x, x[:, 0, 0, 0], "here")
    framed = s31_5.framed(digits)
    assert framed.name == "d" and framed.test.shape == (2, 1, 16, 16)
    assert framed.train.sum() == x.sum() and framed.train[:, :, 0].sum() == 0


def test_runs_are_put_side_by_side_and_printed_in_a_cell():
    runs = ({"bound": torch.tensor([float(seed), 2.0])} for seed in range(3))
    assert s31_5.together(runs)["bound"].tolist() == [[0, 2], [1, 2], [2, 2]]
    assert s31_5.each(torch.tensor([1.26, 3]), 1) == "1.3, 3.0" and s31_5.each([2, 3]) == "2, 3"


def test_a_library_that_is_not_installed_is_none_and_a_sentence(capsys):
    assert s31_5.library("math") is math
    assert s31_5.library("no_such_library") is None
    assert "no_such_library is not installed: `make library`" in capsys.readouterr().out


def test_the_use_of_levels_adds_up_to_the_bound():
    model, x = shaken(tiny()).eval(), digits(4)
    use, parts = s31_5.use_of_levels(model, x), s31_5.costs(model, (255 * x).byte())
    assert use["nats"].shape == use["units"].shape == (3,) and parts.shape == (4,)
    assert parts.sum().item() == pytest.approx(use["bound"].item(), rel=0.02)
    assert torch.allclose(parts[:3], use["nats"], rtol=0.3, atol=0.5)
    for level in model.levels:
        nb.scaled(level.look, 0)  # q is p, all but a hundredth of its variance
    assert s31_5.use_of_levels(model, x)["units"].tolist() == [0, 0, 0]


def test_the_norm_of_a_gradient_is_its_length():
    model = nn.Linear(2, 1, bias=False)
    model.loss = lambda x: {"loss": (model.weight * torch.tensor([3.0, 4.0])).sum()}
    assert s31_5.gradient_norm(model, torch.zeros(1, 1, 2, 2)).item() == pytest.approx(5)


def test_knowledge_of_all_levels_but_none_is_where_the_change_is():
    model, x = shaken(tiny()).eval(), digits(6)
    last = model.levels[-1]
    nb.scaled(last.add, 0)  # the last level's code changes nothing
    read = lambda images: torch.eye(10)[torch.full((len(images),), 3)]
    labels = torch.tensor([3, 3, 3, 1, 2, 4])
    found = s31_5.knowledge(model, nb.generate, read, x, labels)
    assert found["same digit, %"] == {0: 50, 1: 50, 2: 50}
    assert found["squared change"][0] > 1e-6 and found["squared change"][2] < 1e-9


def test_a_level_that_decides_the_class_is_found():
    def logits(warm):  # the second of three levels draws white or black, and is white at its mean
        drawn = torch.randn(400).sign() if warm[1] else torch.ones(400)
        return 20 * drawn.view(-1, 1, 1, 1)

    read = lambda images: 20 * (images.view(-1, 1) - 0.5) * torch.tensor([-1.0, 1.0])
    changes = s31_5.other_digits(logits, read, 3)
    assert changes[1] == changes[3] == 0 and 40 < changes[2] < 60


def test_the_evidence_is_the_bound_and_what_the_ratio_makes_of_it():
    model, x = shaken(tiny()).eval(), digits(5)
    keep_recon = lambda recon, kl, recon_from_prior, first: kl[:first].sum(0)
    bound, above = s31_5.evidence(model, nb.generate, keep_recon, x, first=3)
    use = s31_5.use_of_levels(model, x)
    assert bound.mean().item() == pytest.approx(use["bound"].item(), rel=0.02)
    assert above.mean().item() == pytest.approx(use["nats"].sum().item(), rel=0.3)
