"""The scores of 31.4 on codes whose score is known, and what its cells build against collapse."""

import math

import numpy as np
import pytest
import torch
from cells import definitions
from sklearn.metrics import mutual_info_score

from companion import metrics
from companion.data.dsprites import SIZES
from companion.sections import s31_4

BUILT = definitions("31.4")


SCORES = {
    "MIG": s31_4.mig,
    "FactorVAE": s31_4.factor_vae_score,
    "β-VAE": s31_4.beta_vae_score,
    "DCI": lambda *codes, **few: s31_4.dci(*codes, **few)[0],
    "SAP": s31_4.sap,
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
    codes = s31_4.reference_codes(factors)
    return factors, {"turned": codes["rotated 1"]} | codes


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
    shares = s31_4.information_shares(codes["turned"], factors)
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
    constant = torch.zeros(4500, 4).double()
    assert score(name, constant, factors) == pytest.approx(
        0.2 if name in ("FactorVAE", "β-VAE") else 0, abs=0.05
    )
    half = torch.cat([codes["oracle"][:, :5], constant], 1)  # constant axes do no harm
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
    partners = s31_4.like(factor, torch.tensor([2]).expand(8000), draw)
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
    parts = s31_4.kl_parts(*gaussian_posteriors(correlation), draws=3000)
    parts = {name: value.item() for name, value in parts.items()}
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
    parts = s31_4.kl_parts(means, log_vars, seed=3)
    parts = {name: value.item() for name, value in parts.items()}
    kl = (means.square() + log_vars.exp() - log_vars - 1).sum(1).mean().item() / 2
    assert sum(parts.values()) == pytest.approx(kl, abs=0.15)  # one draw for each posterior
    assert parts["mutual information"] == pytest.approx(
        metrics.mutual_information(means, log_vars, seed=3), abs=1e-4
    )


def test_few_images_in_the_mixture_look_like_dependence():
    draw = torch.Generator().manual_seed(4)
    means, log_vars = torch.randn(6000, 6, generator=draw), torch.full((6000, 6), 0.02).log()
    few, many = (
        s31_4.kl_parts(means[:count], log_vars[:count], draws=300)["total correlation"].item()
        for count in (300, 6000)
    )
    assert few > many + 1 > 1  # the axes are independent


def test_the_share_that_settings_explain():
    settings, seeds = torch.tensor([[0.0], [1], [2]]), torch.tensor([[-1.0, 1, 0]])
    assert s31_4.explained_share(3 * settings + 0 * seeds) == pytest.approx((1, 1))
    share, above_noise = s31_4.explained_share(settings + seeds)  # equal sums of squares, 6 and 6
    assert share == pytest.approx(0.5)
    assert above_noise == pytest.approx((6 - 2 * 1) / (12 + 1))  # Hays: noise has mean square 1
    assert s31_4.explained_share(0 * settings + seeds)[0] == pytest.approx(0)


def test_noise_alone_explains_nothing_beyond_chance():
    draw = torch.Generator().manual_seed(0)
    grids = torch.randn(2000, 5, 3, generator=draw)
    shares = torch.tensor([s31_4.explained_share(grid) for grid in grids]).mean(0)
    assert shares.tolist() == pytest.approx([4 / 14, 0], abs=0.02)


def test_dci_names_an_axis_of_two_factors_and_a_factor_on_two_axes(known):
    factors, codes = known
    single, complete, right = s31_4.dci(codes["oracle"], factors, train=3000)
    assert (single, complete) == pytest.approx((1, 1), abs=0.01)
    assert len(right) == 5 and right.min() > 0.95
    shared = s31_4.dci(codes["shared"], factors, train=3000)
    assert shared[0] < 0.9 and shared[1] > 0.95 and shared[2].min() > 0.95
    assert s31_4.mig(codes["shared"], factors) == pytest.approx(
        s31_4.mig(codes["oracle"], factors), abs=0.01
    )
    twice = torch.stack([codes["oracle"][:, 4], codes["noise"][:, 0]], 1)
    split = torch.cat([codes["oracle"][:, :4], twice.sum(1, True), twice.diff(dim=1)], 1)
    found = s31_4.dci(split, factors, train=3000)  # place needs both axes
    assert found[0] > 0.9 and found[1] < 0.95 and found[2][4] < 1
    assert s31_4.dci(codes["noise"], factors, train=3000)[2].max() < 0.5


def test_a_quarter_turn_turns_every_code_by_the_angle():
    quarter = s31_4.quarter_turn(6, seed=3)
    eye = torch.eye(6, dtype=torch.float64)
    assert torch.allclose(quarter @ quarter, -eye) and torch.allclose(quarter @ quarter.T, eye)
    turn = math.cos(0.4) * eye + math.sin(0.4) * quarter
    code = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)).double()
    cosine = torch.cosine_similarity(code, code @ turn.T)
    assert torch.allclose(cosine, torch.full((50,), math.cos(0.4)).double())
    assert not torch.allclose(quarter, s31_4.quarter_turn(6, seed=4))
    with pytest.raises(ValueError, match="3 axes: planes of two are turned"):
        s31_4.quarter_turn(3)


def test_all_five_at_once_are_the_five(known):
    factors, codes = known
    found = s31_4.scores_of(codes["oracle"][:1000], factors[:1000])
    names = ["β-VAE", "FactorVAE", "MIG", "DCI", "SAP", "completeness", "read"]
    assert list(found) == names and len(found["read"]) == 5
    assert found["MIG"] == pytest.approx(s31_4.mig(codes["oracle"][:1000], factors[:1000]))


# What a code holds and is worth.


class Reader:
    """One axis and one pixel, p(x | z) = N(z, s²): log p(x) is that of N(0, 1 + s²)."""

    s = 0.5

    def posterior(self, x):
        var = torch.full_like(x, self.s**2 / (1 + self.s**2))
        return x / (1 + self.s**2), var.log()

    def nll(self, x, z):
        return ((x - z).square() / self.s**2 + math.log(2 * math.pi * self.s**2)).sum(1) / 2


def test_a_codes_value_is_known_for_a_linear_reader():
    torch.manual_seed(0)
    reader = Reader()
    x = torch.randn(4000, 1) * (1 + reader.s**2) ** 0.5
    elbo, log_p, own, other = s31_4.code_value(reader, x, (1, 3)).double()
    exact = torch.distributions.Normal(0, (1 + reader.s**2) ** 0.5).log_prob(x[:, 0])
    for bound in (elbo, log_p):  # the posterior is exact, so that each bound is
        assert torch.allclose(bound, -exact.double(), atol=1e-4)
    constant = math.log(2 * math.pi * reader.s**2) / 2
    var = reader.s**2 / (1 + reader.s**2)
    assert own.mean().item() - constant == pytest.approx(0.5, abs=0.03)  # E(x - z)² is s²
    apart = 1 + reader.s**2 + 1  # variances of x and of an independent z, which is N(0, 1)
    assert other.mean().item() - constant == pytest.approx(apart / reader.s**2 / 2, rel=0.06)
    assert var < 1


def test_more_samples_tighten_the_bound_of_a_reader_with_a_poor_posterior():
    class Poor(Reader):
        def posterior(self, x):
            return 0 * x, 0 * x  # the prior

    torch.manual_seed(0)
    x = torch.randn(500, 1)
    by_count = s31_4.code_value(Poor(), x, (1, 4, 64))[:3].mean(1)
    assert (by_count.diff() < -0.01).all()


def test_pixels_are_drawn_one_by_one_each_given_those_before():
    """A chain in which each pixel repeats the one before it with probability .9: its law is known."""

    def logits(x):
        previous = x.flatten(1).roll(1, 1)
        chance = 0.1 + 0.8 * previous
        chance[:, 0] = 0.5
        return chance.logit().view_as(x)

    dice = torch.rand(4000, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    chain = s31_4.sample_pixels(logits, dice).flatten(1)  # (4000, 12)
    assert set(chain.unique().tolist()) == {0, 1}
    repeats = (chain[:, 1:] == chain[:, :-1]).float().mean()
    assert repeats == pytest.approx(0.9, abs=0.01)
    assert chain[:, 0].mean() == pytest.approx(0.5, abs=0.03)
    assert torch.equal(chain, s31_4.sample_pixels(logits, dice).flatten(1))


# The models of the notebook's cells.


FIXES = ("Annealed", "FreeBits", "PixelDropout", "RateFloor", "FiveSteps")


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
    players = model.players() if name == "FiveSteps" else {"loss": None}
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


def test_an_inactive_code_costs_nothing_when_it_is_anothers(x):
    torch.manual_seed(0)
    model = BUILT["MaskedVAE"]().eval()
    with torch.no_grad():
        model.decoder.code.weight.zero_()
        model.encoder[-1].weight.zero_(), model.encoder[-1].bias.zero_()
    elbo, log_p, own, other = s31_4.code_value(model, x, (1, 3)).float()
    assert torch.allclose(own, other)
    assert torch.allclose(log_p, own, atol=1e-3) and torch.allclose(elbo, own, atol=1e-3)


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


# Pictures and panels.


def test_each_known_factor_has_a_row_in_which_it_alone_moves(monkeypatch):
    rows = {}
    monkeypatch.setattr(s31_4, "strip", lambda found, **_: rows.update(found))
    s31_4.known_factors(lambda values: values, {"shape": 3, "x": 32}, steps=4)
    assert rows["shape"].tolist() == [[0, 16], [0, 16], [1, 16], [2, 16]]
    assert rows["x"].tolist() == [[1, 0], [1, 10], [1, 20], [1, 31]]


def test_true_factors_are_rendered_as_the_sliders_stand():
    panel = s31_4.true_factors(lambda f: f.float().view(1, 1, 1, 3) / 10, {"a": 4, "b": 11, "c": 5})
    panel.set(a=3, b=10, c=0)
    assert panel.picture.tolist() == [[round(255 * 0.3), 255, 0]]
    assert "b 10" in panel.alt() and panel.controls["b"].high == 10


def test_a_traversal_moves_the_axis_of_that_rank_alone():
    models = {
        1.0: (levels_of, torch.tensor([0.1, 2.0, 0.5])),
        4.0: (levels_of, torch.tensor([3.0, 0, 0])),
    }
    panel = s31_4.family_traversals(models, "β", steps=3)
    assert "axis 2: 2.00 nats" in panel.readout
    assert panel.picture[0].tolist()[:3] == [128, 0, 128] and panel.picture[0].tolist()[-3:] == [
        128,
        255,
        128,
    ]
    panel.set(rank=3)
    assert "axis 1: 0.10 nats" in panel.readout
    panel.set(setting=4.0, rank=1)
    assert "axis 1: 3.00 nats" in panel.readout and panel.picture[0, 0] == 0


def levels_of(z):
    """A decoder that shows the code: 0 is grey, -3 black, 3 white."""
    return (0.5 + z / 6).view(-1, 1, 1, 3)


def test_a_map_is_darker_where_an_axis_knows_more():
    shares = torch.tensor([[0.0, 1.0], [0.3, 0.6]])
    picture = s31_4.heat_map(shares, ["axis 1", "axis 2"], ["size", "x"])
    assert picture.mode == "RGBA"  # for which Jupyter writes no JPEG
    picture = np.array(picture.convert("RGB"))
    assert picture.dtype == np.uint8 and picture.shape == (66, 288, 3)
    corners = picture[[25, 25, 47, 47], [130, 210, 130, 210], 0]  # no ink of the numbers there
    assert corners.tolist() == [255, 0, 178, 102]
    other = shares + torch.tensor([[0, 0], [0.01, 0]])
    again = np.array(s31_4.heat_map(other, ["a", "b"], ["c", "d"]).convert("RGB"))
    assert not np.array_equal(again[44:, 128:208], picture[44:, 128:208])  # 31 for 30


def test_the_slider_over_codes_shows_the_map_of_each_and_refuses_one_axis():
    eye, axes = torch.eye(3), ["axis 1", "axis 2", "axis 3"]
    found = {0: (eye, axes, "MIG 1.00"), 90: (eye.flip(0), axes, "MIG 0.10")}
    panel = s31_4.axis_maps(found, "degrees turned", ["a", "b", "c"])
    assert panel.readout == "MIG 1.00"
    before = panel.picture
    panel.set(setting=90)
    assert panel.readout == "MIG 0.10" and not np.array_equal(before, panel.picture)
    assert "degrees turned 90" in panel.alt()
    with pytest.raises(ValueError, match="a code of one axis cannot be turned"):
        s31_4.axis_maps({0: (eye[:1], axes[:1], "")}, "degrees turned", ["a", "b", "c"])


def test_turning_a_code_costs_a_diagonal_covariance_alone(monkeypatch):
    """A decoder of one pixel, log-odds 3 z of axis 1, and posteriors of unequal variances."""

    class Model:
        def decoder(self, z):
            return 3 * z[:, :1].view(-1, 1, 1, 1)

    draw = torch.Generator().manual_seed(0)
    codes = torch.randn(1000, 10, generator=draw)
    log_vars = torch.tensor([-4.0] + 9 * [0.0]).expand(1000, 10)
    known = torch.stack([codes[:, j].mul(2).round().long().clamp(-3, 3) + 3 for j in range(2)], 1)
    prior = torch.distributions.MultivariateNormal(torch.zeros(10).double(), torch.eye(10).double())
    lit = (codes[:, :1] > 0).float().view(-1, 1, 1, 1)
    names = {"posterior": lambda _: (codes, log_vars), "factors": known, "lit": lit, "x": codes}
    for name, value in (names | {"prior": prior}).items():
        monkeypatch.setitem(BUILT, name, value)
    plain, turned = (BUILT["turned_bounds"](Model(), BUILT["turn_by"](t)) for t in (0, 60))
    assert plain[1].item() == pytest.approx(plain[2].item(), abs=1e-6)
    assert turned[1].item() == pytest.approx(plain[1].item(), abs=1e-4)
    assert turned[2] > turned[1] + 0.5 and turned[0] < plain[0] / 2
