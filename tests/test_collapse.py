"""What notebook 31.4 builds on posterior collapse, taken from its cells."""

import math

import pytest
import torch
from cells import definitions

from companion.metrics import code_value

BUILT = definitions("31.4")
FIXES = ("Annealed", "FreeBits", "PixelDropout", "RateFloor", "Aggressive")


@pytest.fixture
def x():
    return torch.bernoulli(
        torch.full((40, 1, 14, 14), 0.3), generator=torch.Generator().manual_seed(0)
    )


def test_a_linear_vae_keeps_the_eigenvalues_above_its_noise():
    eigenvalues = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.29, 0.1, 0.05, 0.01])
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1))).Q
    spread, kl = BUILT["linear_vae"](turn @ eigenvalues.diag() @ turn.T, 0.3, 6)
    assert int((spread > 0.005).sum()) == 4
    exact = (eigenvalues[:4] / 0.3).log() / 2
    assert torch.allclose(kl.sort(descending=True).values[:4], exact, rtol=0.01)
    assert torch.allclose(
        spread.sort(descending=True).values[:4], 1 - 0.3 / eigenvalues[:4], rtol=0.01
    )


@pytest.mark.parametrize("name", ["MaskedVAE", "Alone", *FIXES])
def test_each_model_trains_all_it_has(name, x):
    torch.manual_seed(0)
    model = BUILT[name]()
    players = model.players() if name == "Aggressive" else {"loss": None}
    for loss in players:
        getattr(model, loss)(x)["loss"].backward()
    idle = {key.split(".")[0] for key, p in model.named_parameters() if p.grad is None}
    assert idle == ({"encoder"} if name == "Alone" else set())


def test_the_weight_of_the_kl_rises_to_one():
    model, kl = BUILT["Annealed"](), torch.tensor([2.0, 1.0])
    for progress, weight in ((0.0, 0.0), (1 / 3, 0.5), (2 / 3, 1.0), (1.0, 1.0)):
        model.progress.fill_(progress)
        assert model.price(kl).item() == pytest.approx(3 * weight, abs=1e-5)


def test_free_bits_are_free_up_to_a_quarter_of_a_nat_of_the_batchs_mean():
    model, kl = BUILT["FreeBits"](), torch.tensor([0.1, 0.2, 2.0], requires_grad=True)
    price = model.price(kl)
    price.backward()
    assert price.item() == pytest.approx(2.5) and kl.grad.tolist() == [0, 0, 1]


def test_the_context_opens_until_all_pixels_are_seen():
    model, x = BUILT["PixelDropout"](), torch.ones(50, 1, 14, 14)
    torch.manual_seed(0)
    for progress, seen in ((0.0, 0.0), (0.4, 0.5), (0.8, 1.0), (1.0, 1.0)):
        model.progress.fill_(progress)
        assert model.context(x).mean().item() == pytest.approx(seen, abs=0.02)


def test_a_floor_under_the_rate_holds_however_small_the_means(x):
    torch.manual_seed(0)
    model = BUILT["RateFloor"]().train()
    with torch.no_grad():
        model.encoder[-1].weight[:16] *= 1e-3  # an encoder that tries to say nothing
        mean, _ = model.posterior(x)
    assert torch.allclose(mean.var(0, unbiased=False), torch.tensor(0.49), rtol=1e-2)
    kl = model.loss(x)["kl"].item()
    assert kl >= 16 * 0.7**2 / 2 - 1e-3


def test_a_silent_code_costs_nothing_when_it_is_anothers(x):
    torch.manual_seed(0)
    model = BUILT["MaskedVAE"]().eval()
    with torch.no_grad():
        model.decoder.code.weight.zero_()
        model.encoder[-1].weight.zero_(), model.encoder[-1].bias.zero_()
    log_p, own, other = code_value(model, x, samples=3)
    assert torch.allclose(own, other) and torch.allclose(log_p, own, atol=1e-3)


def test_the_minibatch_estimate_approaches_the_closed_form():
    draw = torch.Generator().manual_seed(0)
    root = torch.linalg.cholesky(torch.tensor([[0.8, 0.6], [0.6, 0.8]]))
    mean = torch.randn(2000, 2, generator=draw) @ root.T
    log_var = torch.full_like(mean, 0.2).log()
    z = mean + 0.2**0.5 * torch.randn(mean.shape, generator=draw)
    exact = -math.log(1 - 0.6**2) / 2
    assert BUILT["total_correlation"](z, mean, log_var).item() == pytest.approx(exact, abs=0.03)


def test_a_weight_below_zero_is_named():
    with pytest.raises(ValueError, match="the weight on the KL is 0 or more"):
        BUILT["BetaVAE"](-1.0)


def test_measuring_a_model_leaves_its_record_of_training_alone():
    """Scores are kept beside a digest of the whole state: what is measured first must not change it."""
    torch.manual_seed(0)
    model, x = BUILT["BetaVAE"](4).eval(), torch.rand(5, 1, 32, 32)
    model.progress.fill_(1.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.loss(x)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    model.train().loss(x)
    assert not torch.equal(before["kl_past"], model.kl_past)
