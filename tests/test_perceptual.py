"""What pictures are compared in: a colour classifier's activations; and the discriminator of patches."""

import pytest
import torch

from companion.data import Images
from companion.metrics import ColourClassifier, accuracy, perceptual_distance, picture_scores
from companion.models import PatchDiscriminator
from companion.training import fit


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return ColourClassifier(8).eval()


def test_the_maps_halve_and_their_means_are_the_features(classifier):
    x = torch.rand(2, 3, 32, 32)
    maps = classifier.maps(x)
    assert [tuple(m.shape) for m in maps] == [(2, 8, 32, 32), (2, 16, 16, 16), (2, 32, 8, 8)]
    assert torch.allclose(classifier.features(x), maps[-1].mean((2, 3)))


def test_the_distance_is_zero_only_to_itself_and_symmetric(classifier):
    a, b = torch.rand(2, 4, 3, 16, 16)
    assert perceptual_distance(classifier, a, a).abs().max() < 1e-9
    there, back = perceptual_distance(classifier, a, b), perceptual_distance(classifier, b, a)
    assert torch.allclose(there, back) and (there > 0).all() and there.shape == (4,)


def test_pictures_are_scored_against_themselves_and_a_blur(classifier):
    torch.manual_seed(0)
    pictures = torch.rand(40, 3, 16, 16)
    blurred = torch.nn.functional.avg_pool2d(pictures, 5, stride=1, padding=2)
    same, blur = (picture_scores(classifier, pictures, p) for p in (pictures, blurred))
    assert same["fine detail, %"] == pytest.approx(100) and blur["fine detail, %"] < 20
    assert same["error in it, %"] == 0 and 40 < blur["error in it, %"] < 110
    lost = picture_scores(classifier, pictures, torch.full_like(pictures, 0.5))
    assert lost["error in it, %"] == pytest.approx(100, rel=1e-4)
    for name in ("perceptual distance", "Fréchet distance"):
        assert same[name] == pytest.approx(0, abs=1e-6) and blur[name] > 1e-3
    mse = (blurred - pictures).square().flatten(1).mean(1)
    assert blur["PSNR, dB"] == pytest.approx((-10 * mse.log10()).mean().item(), rel=1e-4)


class Fixed:
    """Activations that are the picture itself: one stage."""

    @staticmethod
    def maps(x):
        return [x]


def test_the_distance_sees_directions_and_no_lengths():
    a = torch.zeros(1, 3, 2, 2)
    a[:, 0] = 1
    assert perceptual_distance(Fixed, a, 5 * a).item() == pytest.approx(0, abs=1e-9)
    b = torch.zeros(1, 3, 2, 2)
    b[:, 0, 0], b[:, 1, 1] = 1, 1  # half of the places at a right angle: squared distance 2 there
    assert perceptual_distance(Fixed, a, b).item() == pytest.approx(1)


def test_it_learns_colours_from_labels():
    torch.manual_seed(0)
    labels = torch.arange(400) % 3
    pictures = torch.rand(400, 3, 8, 8) * 0.3
    pictures[torch.arange(400), labels] += 0.6  # class c is bright in channel c
    data = Images("toy", pictures, labels, pictures, labels, "made here")
    network = ColourClassifier(8, depth=1)
    fit(network, data, epochs=6, batch=50, lr=1e-2, labels=True, bar=False)
    assert accuracy(network, pictures, labels) > 95


@pytest.mark.parametrize(("halvings", "side"), [(1, 14), (2, 6)])
def test_a_discriminators_score_sees_one_patch(halvings, side):
    torch.manual_seed(0)
    discriminator, reach = PatchDiscriminator(width=8, halvings=halvings), {1: 16, 2: 34}[halvings]
    x = torch.rand(1, 3, 32, 32, requires_grad=True)
    scores = x  # without the normalisation, which looks at the whole picture
    for layer in discriminator:
        scores = layer(scores) if not isinstance(layer, torch.nn.GroupNorm) else scores
    assert discriminator(x).shape == (1, 1, side, side)
    (gradient,) = torch.autograd.grad(scores[0, 0, side // 2, side // 2], x)
    rows = gradient.abs().sum((0, 1, 3)).nonzero()
    assert rows.max() - rows.min() + 1 <= reach
