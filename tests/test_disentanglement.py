"""The five scores on codes whose score is known, and the KL's parts where they have a closed form."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from companion import metrics
from companion.data.dsprites import SIZES
from companion.metrics import disentanglement as scores

SCORES = {
    "MIG": metrics.mig,
    "FactorVAE": metrics.factor_vae_score,
    "β-VAE": metrics.beta_vae_score,
    "DCI": metrics.dci,
    "SAP": metrics.sap,
}
FEW = {
    "FactorVAE": {"votes": 2000},
    "β-VAE": {"votes": 2000},
    "DCI": {"train": 3000},
    "SAP": {"train": 3000},
}


def score(name, codes, factors):
    return SCORES[name](codes, factors, **FEW.get(name, {}))


@pytest.fixture(scope="module")
def known():
    """Factors, and three codes: the factors themselves beside noise, the same turned, and noise alone."""
    draw = torch.Generator().manual_seed(0)
    factors = torch.stack([torch.randint(n, (4500,), generator=draw) for n in SIZES], 1)
    codes = metrics.reference_codes(factors)
    return factors, {"turned": codes.pop("rotated")} | codes


@pytest.mark.parametrize("name", SCORES)
def test_an_oracle_is_far_above_its_rotation_and_noise_is_chance(name, known):
    factors, codes = known
    oracle, turned, noise = (
        score(name, codes[kind], factors) for kind in ("oracle", "turned", "noise")
    )
    chance = 0.2 if name in ("FactorVAE", "β-VAE") else 0.0
    assert noise == pytest.approx(chance, abs=0.05)
    if name == "β-VAE":  # a linear reader of |z - z'| undoes much of a rotation
        assert oracle > 0.99 and oracle >= turned > noise
    else:
        assert oracle - chance > 1.3 * (turned - chance) > 0


def test_the_oracles_ceilings_are_known(known):
    factors, codes = known
    best = {"MIG": 0.895, "FactorVAE": 1.0, "β-VAE": 1.0, "DCI": 1.0, "SAP": 0.245}
    for name, ceiling in best.items():  # 4,500 images, of which the SVM learns from two thirds
        room = 0.08 if name == "SAP" else 0.05
        assert score(name, codes["oracle"], factors) == pytest.approx(ceiling, abs=room), name


def test_information_is_the_librarys(known):
    factors, codes = known
    shares = metrics.information_shares(codes["turned"], factors)
    for j, k in ((0, 0), (3, 2), (9, 4)):
        axis = codes["turned"][:, j].numpy()
        edges = np.linspace(axis.min(), axis.max(), 21)[1:-1]
        place = np.searchsorted(edges, axis, side="right")
        factor = factors[:, k].numpy()
        wanted = mutual_info_score(place, factor) / mutual_info_score(factor, factor)
        assert shares[j, k].item() == pytest.approx(wanted, abs=1e-6)


def test_scores_do_not_depend_on_order_sign_or_scale_of_the_axes(known):
    factors, codes = known
    scale = torch.tensor([2.0, -1, 1, 0.5, -3, 1, 1, -1, 4, 1]).double()
    other = (codes["turned"] * scale)[
        :, torch.randperm(10, generator=torch.Generator().manual_seed(1))
    ]
    for name in ("MIG", "FactorVAE"):
        assert score(name, other, factors) == pytest.approx(
            score(name, codes["turned"], factors), abs=0.03
        )


@pytest.mark.parametrize("name", SCORES)
def test_a_constant_code_has_a_score(name, known):
    factors, codes = known
    silent = torch.zeros(4500, 4).double()
    assert score(name, silent, factors) == pytest.approx(
        0.2 if name in ("FactorVAE", "β-VAE") else 0, abs=0.05
    )
    half = torch.cat([codes["oracle"][:, :5], silent], 1)  # constant axes do no harm
    assert score(name, half, factors) == pytest.approx(
        score(name, codes["oracle"], factors), abs=0.03
    )


@pytest.mark.parametrize("name", SCORES)
def test_codes_that_cannot_be_scored_are_named(name, known):
    factors, codes = known
    with pytest.raises(ValueError, match="two axes or more"):
        SCORES[name](codes["oracle"][:, :1], factors)
    with pytest.raises(ValueError, match="10 codes, 10 factors: as many, at least 20"):
        SCORES[name](codes["oracle"][:10], factors[:10])
    with pytest.raises(ValueError, match="4500 codes, 40 factors"):
        SCORES[name](codes["oracle"], factors[:40])
    with pytest.raises(ValueError, match="not finite"):
        SCORES[name](codes["oracle"].masked_fill(codes["oracle"] > 1, math.nan), factors)


def test_partners_share_the_factor_and_are_spread_over_all_who_do():
    factor = torch.tensor([0, 1, 1, 2, 2, 2, 2])
    draw = torch.Generator().manual_seed(0)
    partners = scores.like(factor, torch.tensor([2]).expand(8000), draw)
    assert set(partners.tolist()) == {3, 4, 5, 6}
    assert partners.bincount()[3:].min() > 1850  # 2,000 each, 3.9 standard deviations


def gaussian_posteriors(correlation, count=3000):
    """Posteriors whose mixture is N(0, C) with unit variances: ((N, 2), (N, 2))."""
    cov = torch.tensor([[0.8, correlation], [correlation, 0.8]]).double()
    draw = torch.Generator().manual_seed(11)
    means = torch.randn(count, 2, generator=draw).double() @ torch.linalg.cholesky(cov).T
    return means, torch.full((count, 2), math.log(0.2)).double()


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.75])
def test_total_correlation_and_information_have_their_closed_forms(correlation):
    parts = metrics.kl_parts(*gaussian_posteriors(correlation))
    exact = -math.log(1 - correlation**2) / 2
    assert parts["total correlation"] == pytest.approx(exact, abs=0.03)
    information = math.log(1 / 0.2) - exact  # entropy of N(0, C) less that of a posterior
    assert parts["mutual information"] == pytest.approx(information, abs=0.05)
    assert parts["dimension-wise KL"] == pytest.approx(0, abs=0.03)


def test_the_parts_add_up_to_the_kl_and_agree_with_the_mutual_information():
    draw = torch.Generator().manual_seed(2)
    means, log_vars = (
        1.5 * torch.randn(800, 4, generator=draw),
        torch.randn(800, 4, generator=draw) / 2 - 1,
    )
    parts = metrics.kl_parts(means, log_vars, seed=3)
    kl = (means.square() + log_vars.exp() - log_vars - 1).sum(1).mean().item() / 2
    assert sum(parts.values()) == pytest.approx(kl, abs=0.15)  # one draw for each posterior
    assert parts["mutual information"] == pytest.approx(
        metrics.mutual_information(means, log_vars, seed=3), abs=1e-6
    )


def test_the_share_that_settings_explain():
    settings, seeds = torch.tensor([[0.0], [1], [2]]), torch.tensor([[-1.0, 1, 0]])
    share, low, high = metrics.explained_share(3 * settings + 0 * seeds)
    assert (share, low, high) == pytest.approx((1, 1, 1))
    share, low, high = metrics.explained_share(settings + seeds)  # equal variances
    assert share == pytest.approx(0.5) and low < 0.5 < high
    assert metrics.explained_share(0 * settings + seeds)[0] == pytest.approx(0)


def test_all_five_at_once_are_the_five(known):
    factors, codes = known
    found = metrics.scores_of(codes["oracle"][:1000], factors[:1000])
    assert list(found) == ["β-VAE", "FactorVAE", "MIG", "DCI", "SAP"]
    assert found["MIG"] == pytest.approx(metrics.mig(codes["oracle"][:1000], factors[:1000]))
