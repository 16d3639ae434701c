"""What notebook 31.6 builds on the quantiser: two levels, black and white, and VQGAN."""

import pytest
import torch
from cells import definitions

from companion.metrics import ColourClassifier, perceptual_distance
from companion.models import bernoulli_nll
from companion.training import fit

BUILT = definitions("31.6")


@pytest.fixture
def two():
    torch.manual_seed(0)
    return BUILT["VQVAE2"](top=32, bottom=4).eval()


@pytest.fixture
def gan():
    torch.manual_seed(0)
    return BUILT["VQGAN"](ColourClassifier(8, 1))


@pytest.fixture
def pictures():
    return torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_two_levels_reconstruct_what_their_tokens_say(two):
    x = torch.rand(6, 1, 28, 28)
    top, bottom = two.encode(x)
    assert top.shape == (6, 4, 4) and bottom.shape == (6, 7, 7)
    with torch.no_grad():
        error = (two.decode(top, bottom) - x).square().flatten(1).sum(1).mean()
        assert two.loss(x)["error"].item() == pytest.approx(error.item(), rel=1e-5)


def test_the_bottom_is_told_what_the_top_has_said(two):
    """With another top codebook the same image has other bottom tokens."""
    x = torch.rand(6, 1, 28, 28)
    two.bottom.codes.mul_(0.05)  # near what an untrained encoder says
    before = two.encode(x)[1]
    two.top.codes.mul_(-30)
    assert not torch.equal(two.encode(x)[1], before)


def test_black_and_white_is_scored_by_its_likelihood():
    torch.manual_seed(0)
    model = BUILT["BinaryVQVAE"](BUILT["MovingQuantiser"](8, 16)).eval()
    x = torch.randint(2, (5, 1, 28, 28)).float()
    with torch.no_grad():
        terms, wanted = model.loss(x), bernoulli_nll(x, model.decode(model.encode(x))).mean()
    assert terms["nats"].item() == pytest.approx(wanted.item(), rel=1e-5)


def test_the_adversary_pulls_at_the_last_layer_in_proportion_to_the_other_terms(gan, pictures):
    gan.eval().progress.fill_(1)
    copy, pull = gan(pictures)
    error = (pictures - copy).square().flatten(1).sum(1).mean()
    seen = gan.seen * perceptual_distance(gan.perceptual, pictures, copy).mean()
    last = gan.decoder[-1].weight
    near, far = (
        torch.autograd.grad(term, last, retain_graph=True)[0].norm()
        for term in (error + seen, -gan.discriminator(copy).mean())
    )
    terms = gan.loss(pictures)
    assert terms["perceptual"].item() == pytest.approx(seen.item(), rel=1e-5)
    assert terms["weight"].item() == pytest.approx(
        min(gan.fooled * near / (far + 1e-4), 3 * 32 * 32).item(), rel=1e-4
    )
    score = gan.discriminator(copy).mean()  # to be raised
    whole = error + seen - terms["weight"] * score + pull.mean()
    assert terms["loss"].item() == pytest.approx(whole.item(), rel=1e-5)


def test_the_adversary_is_let_in_after_a_while(gan, pictures):
    weights = []
    for progress in (0.0, 0.2, 0.3, 1.0):
        gan.progress.fill_(progress)
        weights.append(gan.loss(pictures)["weight"].item())
    assert weights[:2] == [0, 0] and min(weights[2:]) > 0


def test_the_discriminators_loss_reaches_it_alone(gan, pictures):
    gan.train()
    before = gan.quantiser.codes.clone()
    loss = gan.discriminator_loss(pictures)["loss"]
    loss.backward()
    reached = {name.split(".")[0] for name, p in gan.named_parameters() if p.grad is not None}
    assert reached == {"discriminator"} and torch.equal(gan.quantiser.codes, before)
    with torch.no_grad():
        copy = gan.decode(gan.encode(pictures))
        real, fake = gan.discriminator(pictures), gan.discriminator(copy)
    hinge = (1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean()
    assert loss.item() == pytest.approx(hinge.item(), rel=1e-5)


def test_training_moves_both_players_and_not_the_perceptual_network(gan, pictures):
    before = {name: value.clone() for name, value in gan.named_parameters()}
    past = fit(gan, pictures.repeat(4, 1, 1, 1), epochs=4, batch=8, lr=1e-3, bar=False)
    moved = {n for n, p in gan.named_parameters() if not torch.equal(p, before[n])}
    assert {n.split(".")[0] for n in moved} == {"encoder", "decoder", "discriminator"}
    assert {"error", "perceptual", "weight", "discriminator_loss"} <= past.terms.keys()
    gan.loss(pictures)["loss"].backward()
    assert all(p.grad is None for p in gan.perceptual.parameters())
