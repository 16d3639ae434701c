import pytest
import torch

from companion.data.corruption import CORRUPTIONS, gaussian, masking, salt_and_pepper
from companion.training import TrainingError, fit

GREY = torch.full((40, 1, 28, 28), 0.5)  # 31,360 pixels


@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_strength_zero_leaves_the_image(corrupt):
    x = torch.rand(5, 1, 8, 8)
    assert torch.equal(corrupt(x, 0.0), x)


@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS)
@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan"), torch.tensor([0.5, 1.1])])
def test_a_strength_outside_zero_to_one_is_refused(corrupt, strength):
    with pytest.raises(ValueError, match=r"corruption strength .*: choose 0 to 1"):
        corrupt(torch.zeros(2, 1, 4, 4), strength)


def test_gaussian_noise_has_mean_zero_and_the_given_spread():
    torch.manual_seed(0)
    noise = gaussian(GREY, 0.4) - GREY
    assert abs(noise.mean()) < 4 * 0.4 / GREY.numel() ** 0.5
    assert noise.std() == pytest.approx(0.4, rel=0.02)


def test_masking_sets_the_given_share_to_zero_and_leaves_the_rest():
    torch.manual_seed(0)
    x = masking(GREY, 0.3)
    assert set(x.unique().tolist()) == {0.0, 0.5}
    assert (x == 0).float().mean() == pytest.approx(0.3, abs=0.01)


def test_salt_and_pepper_replaces_by_zero_and_one_alike():
    torch.manual_seed(0)
    x = salt_and_pepper(GREY, 0.6)
    shares = {value: (x == value).float().mean().item() for value in (0.0, 0.5, 1.0)}
    assert shares == pytest.approx({0.0: 0.3, 0.5: 0.4, 1.0: 0.3}, abs=0.01)


@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_each_image_of_a_batch_may_have_its_own_strength(corrupt):
    torch.manual_seed(0)
    x = corrupt(GREY[:2], torch.tensor([0.0, 0.9]).view(2, 1, 1, 1))
    assert torch.equal(x[0], GREY[0]) and (x[1] != GREY[1]).float().mean() > 0.8


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.zeros(0, 8), "no items"),
        (torch.full((9, 8), float("nan")), "NaN or infinite"),
        (torch.cat([torch.zeros(8, 8), torch.full((1, 8), float("inf"))]), "item 8"),
    ],
)
def test_fit_refuses_empty_and_unusable_activations(data, message):
    with pytest.raises(TrainingError, match=message):
        fit(torch.nn.Linear(8, 8), data, epochs=1, batch=2)
