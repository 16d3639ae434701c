import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from companion.models import (
    bernoulli_nll,
    discretised_logistic_nll,
    gaussian_kl,
    gaussian_nll,
    logistic_mixture_nll,
    sample_logistic_mixture,
)
from companion.models.likelihoods import log_bin_mass, mixture_parts


@pytest.fixture
def output():
    return torch.randn(5, 2, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_bernoulli_is_torchs(output):
    x = (torch.rand(output.shape, generator=torch.Generator().manual_seed(1)) < 0.5).double()
    wanted = -Bernoulli(logits=output).log_prob(x).flatten(1).sum(1)
    assert torch.allclose(bernoulli_nll(x, output), wanted)


def test_grey_pixels_are_no_bernoullis(output):
    with pytest.raises(ValueError, match="these are grey: binarise"):
        bernoulli_nll(torch.full_like(output, 0.5), output)


@pytest.mark.parametrize("shape", [(), (5, 2, 4, 6)])
def test_gaussian_is_torchs(output, shape):
    x, log_sigma = torch.rand_like(output), torch.full(shape, -0.7, dtype=torch.float64)
    wanted = -Normal(output, math.exp(-0.7)).log_prob(x).flatten(1).sum(1)
    assert torch.allclose(gaussian_nll(x, output, log_sigma), wanted)


@pytest.mark.parametrize("log_scale", [-5.0, -2.0, 1.0])
def test_the_discretised_logistic_sums_to_one_over_the_levels(output, log_scale):
    x = (torch.arange(256.0, dtype=torch.float64) / 255).view(256, 1, 1, 1)
    for mean in (-0.3, 0.2, 0.5, 1.4):
        nll = discretised_logistic_nll(x, torch.full_like(x, mean), torch.tensor(log_scale))
        assert (-nll).exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_the_discretised_logistic_is_a_difference_of_sigmoids(output):
    x, s = torch.full_like(output, 100 / 255), math.exp(-2)
    edges = [((x + side * 0.5 / 255 - output) / s).sigmoid() for side in (1, -1)]
    wanted = -(edges[0] - edges[1]).log().flatten(1).sum(1)
    assert torch.allclose(discretised_logistic_nll(x, output, torch.tensor(-2.0)), wanted)


def test_a_far_mean_gives_a_finite_number_and_gradient():
    x = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1)
    mean = torch.tensor([40.0, -40.0, -40.0]).view(3, 1, 1, 1).requires_grad_()
    nll = discretised_logistic_nll(x, mean, torch.tensor(-5.0))
    nll.sum().backward()
    assert nll.isfinite().all() and mean.grad.isfinite().all()


@pytest.mark.parametrize("nll", [bernoulli_nll, gaussian_nll, discretised_logistic_nll])
def test_wrong_channels_are_named(nll, output):
    with pytest.raises(ValueError, match="same channels and size"):
        nll(torch.zeros(5, 1, 4, 6), output, *[torch.tensor(0.0)][: nll is not bernoulli_nll])


def test_kl_is_that_of_torch_and_of_a_monte_carlo_estimate():
    torch.manual_seed(0)
    mean, log_var = torch.randn(5, 3).double(), torch.randn(5, 3).double()
    zero, one = torch.zeros(3).double(), torch.ones(3).double()
    q, prior = Normal(mean, (log_var / 2).exp()), Normal(zero, one)
    ours = gaussian_kl(mean, log_var)
    library = torch.distributions.kl_divergence(q, prior).sum(-1)
    assert torch.allclose(ours, library, atol=1e-12)
    z = q.sample((100_000,))
    draws = (q.log_prob(z) - prior.log_prob(z)).sum(-1)  # (S, 5)
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - ours).abs() < 3 * error).all()


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


def test_samples_of_the_mixture_are_as_likely_as_it_says(numbers):
    """The share of draws in the bin of each red, and blue's mean where red and green are known."""
    torch.manual_seed(0)
    drawn = sample_logistic_mixture(numbers[..., :1].expand(40_000, -1, -1, -1))[:, :, 0, 0]
    level = torch.arange(256).double() / 255
    logits, means, log_scales, slopes = mixture_parts(numbers[..., :1])
    mass = log_bin_mass(level[:, None], means[0, 0, :, 0, 0], log_scales[0, 0, :, 0, 0]).exp()
    mass = mass.double() @ logits[0, :, 0, 0].double().softmax(0)
    counts = (255 * drawn[:, 0]).round().long().bincount(minlength=256) / len(drawn)
    assert (counts.cumsum(0) - mass.cumsum(0)).abs().max() < 0.01
    one = numbers.unflatten(1, (10, 2))[:, :, :1].flatten(1, 2)[..., :1].clone()
    one[:, 1:4], one[:, 4:7], one[:, 8] = 0, -9, 3  # sharp, mid-grey; blue moves with red
    one[:, 1] = 0.4
    red, green, blue = sample_logistic_mixture(one)[0, :, 0, 0].tolist()
    slopes = one[0, 7:, 0, 0].tanh()
    assert red == pytest.approx(0.7, abs=0.01)
    assert green == pytest.approx(0.5 + 0.2 * slopes[0].item(), abs=0.01)
    moved = 0.2 * slopes[1].item() + (green - 0.5) * slopes[2].item()
    assert blue == pytest.approx(0.5 + moved, abs=0.01)


def test_at_temperature_zero_a_pixel_is_a_components_mean(numbers):
    torch.manual_seed(0)
    drawn = sample_logistic_mixture(numbers.expand(50, -1, -1, -1), 0.0)[:, 0]  # red
    means = mixture_parts(numbers)[1][0, 0].clamp(0, 1)  # (2, 1, 3)
    assert ((drawn[:, None] - means).abs().amin(1) < 1e-6).all()


def test_a_mixture_that_does_not_fit_the_picture_is_refused():
    for x, numbers in (((1, 1, 2, 2), (1, 20, 2, 2)), ((1, 3, 2, 2), (1, 21, 2, 2))):
        with pytest.raises(ValueError, match=r"needs \(B, 10 K, H, W\)"):
            logistic_mixture_nll(torch.zeros(x), torch.zeros(numbers))
