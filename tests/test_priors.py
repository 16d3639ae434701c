"""Priors over grids of tokens: distributions, causal, drawn as they score."""

import itertools

import pytest
import torch

from companion.models.priors import MaskedPrior, TokenTransformer, pick
from companion.training import fit

PRIORS = {
    "transformer": lambda size, side: TokenTransformer(size, side, width=16, layers=2, heads=2),
    "masked": lambda size, side: MaskedPrior(size, side, width=8, layers=2),
}


@pytest.fixture(params=PRIORS)
def build(request):
    torch.manual_seed(0)
    return PRIORS[request.param]


def test_the_probabilities_of_all_grids_sum_to_one(build):
    prior = build(3, 2).eval()
    grids = torch.tensor(list(itertools.product(range(3), repeat=4))).view(-1, 2, 2)
    with torch.no_grad():
        total = (-prior.nll(grids).flatten(1).sum(1)).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-5)


def test_a_token_changes_no_logit_before_it_nor_its_own(build):
    prior, grid = build(5, 4).eval(), torch.randint(5, (1, 4, 4))
    with torch.no_grad():
        before = prior.logits(grid)
        grid[0, 1, 2] = (grid[0, 1, 2] + 1) % 5
        moved = (prior.logits(grid) - before).abs().amax(-1).flatten() > 1e-7
    assert not moved[: 4 + 2 + 1].any() and moved[4 + 2 + 1 :].any()


def test_samples_are_drawn_from_what_is_scored(build):
    """Token by token without a cache: the same dice give the same grids."""
    prior, dice = build(5, 3).eval(), torch.rand(20, 9)
    for temperature in (1.0, 0.5):
        grid = torch.zeros(20, 3, 3, dtype=torch.long)
        for place in range(9):
            with torch.no_grad():
                logits = prior.logits(grid).flatten(1, 2)[:, place] / temperature
            grid.view(20, 9)[:, place] = pick(logits, dice[:, place])
        assert torch.equal(prior.sample(20, temperature, dice), grid)


def test_a_grid_need_not_be_square(build):
    prior, dice = build(5, (2, 3)).eval(), torch.rand(4, 6)
    grid = prior.sample(4, dice=dice)
    assert grid.shape == (4, 2, 3)
    with torch.no_grad():
        first = prior.logits(torch.zeros(1, 2, 3, dtype=torch.long))[0, 0, 0]
    assert torch.equal(grid[:, 0, 0], pick(first.expand(4, 5), dice[:, 0]))


def test_picks_have_the_probabilities_of_the_logits():
    chances = torch.tensor([0.5, 0.3, 0.2])
    picks = pick(chances.log().expand(30_000, 3), torch.rand(30_000))
    assert torch.allclose(picks.bincount() / 30_000, chances, atol=0.01)
    assert pick(chances.log()[None], torch.tensor([1.0])).item() == 2


@pytest.mark.parametrize("token", [-1, 5])
def test_a_token_outside_the_codebook_is_named(build, token):
    with pytest.raises(ValueError, match="outside the codebook: its numbers are 0 to 4"):
        build(5, 2).nll(torch.full((1, 2, 2), token))


def test_the_loop_trains_a_prior_on_tokens_to_their_entropy(build):
    """Rows that repeat one random token: log₂ 4 bits for the first of three, none for the others."""
    prior, grids = build(4, 3), torch.randint(4, (600, 3, 1)).expand(-1, -1, 3).contiguous()
    past = fit(prior, grids, epochs=30, batch=50, lr=1e-2, bar=False)
    assert past.terms["bits a token"][-1] == pytest.approx(2 / 3, abs=0.1)
