"""The skeleton, the likelihoods, and the models that a notebook builds line by line."""

import ast
import math
import textwrap
from pathlib import Path

import pytest
import torch
from cells import cells
from torch.distributions import Bernoulli, Normal

from companion.models import (
    Decoder,
    Dropout,
    Encoder,
    bernoulli_nll,
    discretised_logistic_nll,
    gaussian_kl,
    gaussian_nll,
    skeleton,
    vae,
)
from companion.sections import s31_6


def classes(source: str) -> dict[str, str]:
    """Each class of a module as source without comments and docstrings."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            if ast.get_docstring(node):
                node.body = node.body[1:]
            found[node.name] = ast.unparse(node)
    return found


@pytest.mark.parametrize(
    "section, module, names",
    [
        ("31.1", skeleton, ["Encoder", "Decoder", "Autoencoder"]),
        ("31.3", vae, ["VAE"]),
        ("31.4", s31_6, ["MaskedConv2d"]),
    ],
)
def test_the_package_and_the_notebook_build_the_same_models(section, module, names):
    built = {}
    for source in cells(section):
        built |= classes(source)
    ours = classes(Path(module.__file__).read_text())
    assert {name: ours[name] for name in names} == {name: built[name] for name in names}


def test_the_comparison_sees_a_changed_line():
    source = textwrap.dedent("""
        class A:
            "doc"
            x = 1  # comment
    """)
    assert classes(source) == classes("class A:\n    x = 1")
    assert classes(source) != classes("class A:\n    x = 2")


@pytest.mark.parametrize("size, channels", [(28, 1), (28, 3), (56, 1), (64, 1), (64, 3)])
def test_shapes_at_every_size_and_colour(size, channels):
    x = torch.rand(2, channels, size, size)
    z = Encoder(5, size=size, channels=channels)(x)
    assert z.shape == (2, 5)
    assert Decoder(5, size=size, channels=channels)(z).shape == x.shape


def test_the_encoder_halves_until_seven_or_eight():
    for size, side in ((28, 7), (64, 8)):
        convolutions = [
            layer for layer in Encoder(2, size=size) if isinstance(layer, torch.nn.Conv2d)
        ]
        x = torch.rand(1, 1, size, size)
        for layer in convolutions:
            x = layer(x)
        assert x.shape[-1] == side and x.shape[1] == 16 * 2 ** (len(convolutions) - 1)


def test_dropout_keeps_the_mean_and_its_share_and_rests_outside_training():
    torch.manual_seed(0)
    x, dropout = torch.ones(100_000), Dropout(0.4)
    y = dropout(x)
    assert (y == 0).double().mean().item() == pytest.approx(0.4, abs=0.01)
    assert y.mean().item() == pytest.approx(1, abs=0.01) and y.unique().numel() == 2
    assert torch.equal(dropout.eval()(x), x)


# Likelihoods.


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
