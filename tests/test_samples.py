import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from companion.metrics import (
    DigitClassifier,
    compare_samplers,
    density_coverage,
    frechet_distance,
    sample_scores,
    separable,
)


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


def test_samplers_are_compared_seed_by_seed():
    torch.manual_seed(0)
    classifier, images = DigitClassifier().eval(), torch.rand(40, 1, 28, 28)
    samplers = {
        "alike": lambda n: torch.rand(n, 1, 28, 28),
        "blank": lambda n: torch.zeros(n, 1, 28, 28),
    }
    found = compare_samplers(samplers, classifier, images, seeds=(3, 4))
    assert found.shape == (2, 2, 4)
    torch.manual_seed(4)
    again = torch.rand(40, 1, 28, 28)
    assert found[0, 1, :3].tolist() == pytest.approx(
        list(sample_scores(classifier.features, images, again).values()), rel=1e-5
    )
    assert (found[1, :, 0] > found[0, :, 0]).all() and (found[1, :, 2] == 0).all()
