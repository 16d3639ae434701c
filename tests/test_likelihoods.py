import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from companion.models import (
    bernoulli_nll,
    discretised_logistic_nll,
    gaussian_kl,
    gaussian_nll,
)


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
