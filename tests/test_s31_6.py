"""What notebook 31.6 builds, taken from its cells, and what lies in its section's file."""

import itertools

import numpy as np
import pytest
import torch
from cells import definitions
from shared import Counted
from torch import nn

from companion import metrics
from companion.data import Images
from companion.models import bernoulli_nll
from companion.sections import s31_6
from companion.training import TrainingError, fit

BUILT = definitions("31.6")


Quantiser, MovingQuantiser, FSQ, VQVAE = (
    BUILT[name] for name in ("Quantiser", "MovingQuantiser", "FSQ", "VQVAE")
)


KINDS = {
    "gradient": lambda: Quantiser(32, 8),
    "moving": lambda: MovingQuantiser(32, 8, restarts=False),
    "FSQ": lambda: FSQ(5, 4, 3, 3, 5, 3, 3, 4),
}


@pytest.fixture
def z():
    return torch.randn(5, 8, 7, 7, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
def test_what_leaves_the_quantiser_is_the_vector_of_its_token(kind, z):
    torch.manual_seed(0)
    quantiser = KINDS[kind]().eval()
    out, tokens, _ = quantiser(z)
    assert torch.equal(tokens, quantiser.tokens(z)) and tokens.shape == (5, 7, 7)
    assert torch.allclose(out, quantiser.vectors(tokens).float(), atol=1e-6)


def test_the_nearest_code_is_chosen(z):
    torch.manual_seed(0)
    quantiser = Quantiser(32, 8)
    vectors = z.movedim(1, -1).reshape(-1, 8)
    nearest = torch.cdist(vectors.double(), quantiser.codes.double()).argmin(1)
    assert torch.equal(quantiser.tokens(z).flatten(), nearest)


@pytest.mark.parametrize("kind", ["gradient", "moving"])
def test_the_gradient_passes_straight_through(kind, z):
    torch.manual_seed(0)
    quantiser, upstream = KINDS[kind](), torch.randn_like(z)
    z.requires_grad_()
    (quantiser(z)[0] * upstream).sum().backward()
    assert torch.equal(z.grad, upstream)


def test_the_commitment_moves_the_encoder_as_finite_differences_say(z):
    torch.manual_seed(0)
    quantiser, z = MovingQuantiser(32, 8).double().eval(), z[:1].double()
    z.requires_grad_()
    quantiser(z)[2].sum().backward()
    step = 1e-6 * torch.nn.functional.one_hot(torch.tensor(77), z.numel()).view_as(z)
    with torch.no_grad():
        slope = (quantiser(z + step)[2] - quantiser(z - step)[2]).sum() / 2e-6
    assert z.grad.flatten()[77].item() == pytest.approx(slope.item(), rel=1e-5)
    codes = quantiser.vectors(quantiser.tokens(z))
    assert torch.allclose(z.grad, 0.5 * (z - codes))  # β of .25, and 2 of the square


def test_the_codebook_term_moves_the_codes_and_not_the_encoder(z):
    torch.manual_seed(0)
    quantiser = Quantiser(32, 8)
    tokens = quantiser.tokens(z)
    quantiser(z)[2].sum().backward()
    chosen = torch.zeros(32, 8)
    apart = (quantiser.codes.detach()[tokens] - z.movedim(1, -1)).flatten(0, 2)
    chosen.index_add_(0, tokens.flatten(), 2 * apart)
    assert torch.allclose(quantiser.codes.grad, chosen, atol=1e-4)


def test_three_steps_of_training_are_the_librarys():
    library = pytest.importorskip("vector_quantize_pytorch")
    torch.manual_seed(0)
    settings = {"decay": 0.99, "commitment_weight": 0.25, "rotation_trick": False}
    theirs = library.VectorQuantize(8, codebook_size=32, accept_image_fmap=True, **settings).train()
    ours = MovingQuantiser(32, 8, restarts=False).train()
    ours.fresh.zero_()
    fair = 5 * 7 * 7 / 32  # vectors a code: our counts are in shares of it
    theirs._codebook.embed.copy_(ours.codes[None])
    theirs._codebook.embed_avg.copy_(fair * ours.codes[None])
    theirs._codebook.cluster_size.fill_(fair)
    for _ in range(3):
        z = torch.randn(5, 8, 7, 7)
        (out, tokens, loss), (out_, tokens_, loss_) = ours(z), theirs(z)
        assert torch.equal(tokens, tokens_) and torch.allclose(out, out_, atol=1e-6)
        assert loss.sum().item() / z.numel() == pytest.approx(loss_.item(), abs=1e-6)
        assert torch.allclose(ours.codes, theirs._codebook.embed[0], atol=1e-6)


def test_rounding_is_the_librarys():
    library = pytest.importorskip("vector_quantize_pytorch")
    for levels in ((8, 5, 5, 5), (8, 8, 8), (7, 5, 5, 5, 5)):
        ours, theirs = FSQ(*levels), library.FSQ(list(levels), channel_first=True)
        z = 3 * torch.randn(20, len(levels), 7, 7, generator=torch.Generator().manual_seed(1))
        (out, tokens, _), (out_, tokens_) = ours(z), theirs(z)
        assert torch.equal(tokens, tokens_.long()) and torch.allclose(out, out_, atol=1e-6)


def test_every_level_of_a_rounded_number_can_be_reached_and_named():
    for levels in ((5, 3), (8, 6, 5), (3, 4)):
        quantiser = FSQ(*levels)
        tokens = torch.arange(quantiser.size).view(1, 1, -1)
        vectors = quantiser.vectors(tokens)  # (1, D, 1, size)
        assert len({tuple(v.tolist()) for v in vectors[0, :, 0].T}) == quantiser.size
        half = quantiser.levels // 2
        offset = (quantiser.levels % 2 == 0) / 2
        bound = (quantiser.levels - 1) * (1 + 1e-3) / 2
        level = (vectors * half + offset) / bound
        z = level.clamp(-0.999999, 0.999999).double().atanh() - (offset / bound).double().atanh()
        assert torch.equal(quantiser.tokens(z.float()), tokens)


def test_codes_find_the_middles_of_far_clusters_and_unused_ones_come_back():
    torch.manual_seed(0)
    middles = 10 * torch.randn(6, 4)
    quantiser = MovingQuantiser(8, 4, decay=0.8).train()
    for _ in range(60):
        z = (middles[torch.randint(6, (600,))] + 0.1 * torch.randn(600, 4)).T.view(1, 4, 20, 30)
        quantiser(z)
    near = torch.cdist(middles, quantiser.codes).amin(1)
    assert near.max() < 0.1
    quantiser.codes[0] = quantiser.sums[0] = 1000.0  # far away: nobody chooses it
    for _ in range(40):
        quantiser(z)
    assert quantiser.codes.abs().max() < 100


@pytest.mark.parametrize("restarts", [False, True])
def test_one_vector_that_is_no_number_reaches_no_code(restarts, z):
    torch.manual_seed(0)
    quantiser = MovingQuantiser(32, 8, restarts=restarts).train()
    quantiser(z)
    before = {name: value.clone() for name, value in quantiser.state_dict().items()}
    z[2, 3, 4, 5] = float("nan")
    quantiser(z)
    assert all(torch.equal(before[name], value) for name, value in quantiser.state_dict().items())


def test_bad_settings_and_tokens_are_named():
    with pytest.raises(ValueError, match="choose 2 codes or more"):
        Quantiser(1, 4)
    for levels in ((8, 1), (2, 4)):
        with pytest.raises(ValueError, match="take 3 or more; of 2 the lower is out of reach"):
            FSQ(*levels)
    for quantiser, size in ((Quantiser(8, 2), 8), (FSQ(4, 3), 12)):
        for token in (-1, size):
            with pytest.raises(ValueError, match=f"its numbers are 0 to {size - 1}"):
                quantiser.vectors(torch.full((1, 2, 2), token))


@pytest.mark.parametrize("restarts", [False, True])
def test_an_inactive_code_goes_to_zero_or_to_a_vector(restarts, z):
    """m and c shrink alike, and a little is added to c: without restarts the code ends at the origin."""
    torch.manual_seed(0)
    z = z + 5  # away from the origin, which the code passes on its way
    quantiser = MovingQuantiser(4, 8, decay=0.8, restarts=restarts).train()
    quantiser(z)
    quantiser.codes[0] = quantiser.sums[0] = -50.0  # far from every vector
    for _ in range(120):
        quantiser(z)
    assert (quantiser.codes[0].norm() < 0.01) != restarts
    assert quantiser.codes[quantiser.tokens(z).unique()].norm(dim=1).min() > 0.1


def test_an_image_whose_sides_do_not_divide_is_named():
    images = torch.zeros(20, 1, 30, 30, dtype=torch.uint8)
    data = Images("toy", images, torch.zeros(20), images, torch.zeros(20), "made here")
    model = VQVAE(Quantiser(8, 16))
    assert isinstance(model, nn.Module)
    with pytest.raises(
        TrainingError, match=r"output is \(10, 1, 28, 28\), the images are \(10, 1, 30, 30\)"
    ):
        fit(model, data, epochs=1, batch=10, bar=False)


# Two levels, black and white, and VQGAN.


@pytest.fixture
def two():
    torch.manual_seed(0)
    return BUILT["VQVAE2"](top=32, bottom=4).eval()


@pytest.fixture
def gan():
    torch.manual_seed(0)
    return BUILT["VQGAN"](metrics.ColourClassifier(8, 1))


@pytest.fixture
def pictures():
    return torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_two_levels_reconstruct_what_their_tokens_say(two):
    x = torch.rand(6, 1, 28, 28)
    top, bottom = two(x)[2]
    assert top.shape == (6, 4, 4) and bottom.shape == (6, 7, 7)
    with torch.no_grad():
        error = (two.decode(top, bottom) - x).square().flatten(1).sum(1).mean()
        assert two.loss(x)["error"].item() == pytest.approx(error.item(), rel=1e-5)


def test_the_bottom_is_told_what_the_top_has_said(two):
    """With another top codebook the same image has other bottom tokens."""
    x = torch.rand(6, 1, 28, 28)
    two.bottom.codes.mul_(0.05)  # near what an untrained encoder says
    before = two(x)[2][1]
    two.top.codes.mul_(-30)
    assert not torch.equal(two(x)[2][1], before)


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
    seen = gan.seen * metrics.perceptual_distance(gan.perceptual, pictures, copy).mean()
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


# Priors over grids of tokens: distributions, causal, drawn as they score.


PRIORS = {
    "transformer": lambda size, side: s31_6.TokenTransformer(
        size, side, width=16, layers=2, heads=2
    ),
    "masked": lambda size, side: s31_6.MaskedPrior(size, side, width=8, layers=2),
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
            grid.view(20, 9)[:, place] = s31_6.pick(logits, dice[:, place])
        assert torch.equal(prior.sample(20, temperature, dice), grid)


def test_a_grid_need_not_be_square(build):
    prior, dice = build(5, (2, 3)).eval(), torch.rand(4, 6)
    grid = prior.sample(4, dice=dice)
    assert grid.shape == (4, 2, 3)
    with torch.no_grad():
        first = prior.logits(torch.zeros(1, 2, 3, dtype=torch.long))[0, 0, 0]
    assert torch.equal(grid[:, 0, 0], s31_6.pick(first.expand(4, 5), dice[:, 0]))


def test_picks_have_the_probabilities_of_the_logits():
    chances = torch.tensor([0.5, 0.3, 0.2])
    picks = s31_6.pick(chances.log().expand(30_000, 3), torch.rand(30_000))
    assert torch.allclose(picks.bincount() / 30_000, chances, atol=0.01)
    assert s31_6.pick(chances.log()[None], torch.tensor([1.0])).item() == 2


@pytest.mark.parametrize("token", [-1, 5])
def test_a_token_outside_the_codebook_is_named(build, token):
    with pytest.raises(ValueError, match="outside the codebook: its numbers are 0 to 4"):
        build(5, 2).nll(torch.full((1, 2, 2), token))


def test_the_loop_trains_a_prior_on_tokens_to_their_entropy(build):
    """Rows that repeat one random token: log₂ 4 bits for the first of three, none for the others."""
    prior, grids = build(4, 3), torch.randint(4, (600, 3, 1)).expand(-1, -1, 3).contiguous()
    past = fit(prior, grids, epochs=30, batch=50, lr=1e-2, bar=False)
    assert past.terms["bits a token"][-1] == pytest.approx(2 / 3, abs=0.1)


# Usage and perplexity where they are known, and a codec's bits.


def test_usage_and_perplexity_of_known_frequencies():
    assert s31_6.codebook_use(torch.arange(8), 8) == pytest.approx(
        {"usage, %": 100, "perplexity": 8}
    )
    half = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 0]])
    assert s31_6.codebook_use(half, 16) == pytest.approx({"usage, %": 12.5, "perplexity": 2})
    uneven = torch.tensor([3] * 9 + [5])
    entropy = -0.9 * torch.tensor(0.9).log() - 0.1 * torch.tensor(0.1).log()
    assert s31_6.codebook_use(uneven, 8)["perplexity"] == pytest.approx(entropy.exp().item())


@pytest.mark.parametrize("token", [-1, 8])
def test_a_token_that_the_codebook_does_not_have(token):
    with pytest.raises(ValueError, match="its numbers are 0 to 7"):
        s31_6.codebook_use(torch.tensor([0, token]), 8)


def test_rounded_codes_cost_their_entropy_and_err_by_the_step():
    """Two axes, uniform over 16 steps: 8 bits, and a twelfth of the squared step; a narrow third is free."""
    torch.manual_seed(0)
    images = torch.cat([16 * torch.rand(20_000, 2) - 0.5, 0.1 * torch.rand(20_000, 1)], 1)
    images = images.view(-1, 1, 1, 3)
    codes = lambda x: x.flatten(1)
    ((bits, error),) = s31_6.entropy_coded(
        codes, lambda z: z, images[:5000], images, [1.0]
    ).tolist()
    assert bits == pytest.approx(8, abs=0.02)
    assert error == pytest.approx((2 / 12 + 0.01 / 12) / 3, rel=0.03)


def test_a_value_that_training_never_had_costs_bits_and_has_a_decoded_value():
    known, codes = torch.zeros(99, 1, 1, 1), torch.full((1, 1, 1, 1), 7.0)
    known[:9] = 2.0
    flat = lambda x: x.flatten(1)
    ((bits, error),) = s31_6.entropy_coded(flat, lambda z: z, codes, known, [1.0]).tolist()
    assert bits == pytest.approx(-np.log2((9 + 1 / 3) / 100)) and error == 25  # the outermost: 2


def test_bits_by_counts_are_those_of_known_frequencies():
    class Tokens(nn.Module):
        quantiser = Quantiser(4, 2)

        def encode(self, x):
            return x[:, 0].long()

    known = torch.tensor([[0.0, 1.0], [0.0, 2.0]] * 500).view(-1, 1, 1, 2)
    anywhere, at_place = s31_6.bits_by_counts(Tokens(), known, known).tolist()
    assert anywhere == pytest.approx(1.5, abs=0.01) and at_place == pytest.approx(0.5, abs=0.01)
    assert s31_6.in_use(Tokens(), known)["codes in use"] == 3


# A file of tokens.


@pytest.mark.parametrize("count", [1, 20])
def test_a_file_of_tokens_is_read_back_bit_for_bit_at_the_priors_length(build, count):
    pytest.importorskip("constriction")
    prior = build(50, 5).eval()
    grids = prior.sample(count, temperature=0.5)
    file = s31_6.token_file(prior, grids)
    assert torch.equal(s31_6.tokens_of(prior, file), grids)
    with torch.no_grad():
        wanted = prior.nll(grids).sum().item() / np.log(2)
    assert wanted - 1 <= 8 * len(file) - 64 <= 1.01 * wanted + 64  # two words begin it, two end it


@pytest.mark.parametrize("kept", [0, 5, 8, 13, 19])
def test_a_file_that_is_cut_short_is_refused_in_one_sentence(build, kept):
    file = np.array([2, 3, 11, 12, 13], "<u4").tobytes()  # of two grids and three words
    with pytest.raises(ValueError, match=f"the file of tokens is cut short: .* {kept} bytes"):
        s31_6.tokens_of(build(50, 5).eval(), file[:kept])


# What pictures are compared in, and the discriminator of patches.


def test_pictures_are_scored_against_themselves_and_a_blur():
    torch.manual_seed(0)
    classifier = metrics.ColourClassifier(8).eval()
    pictures = torch.rand(40, 3, 16, 16)
    blurred = torch.nn.functional.avg_pool2d(pictures, 5, stride=1, padding=2)
    same, blur = (s31_6.picture_scores(classifier, pictures, p) for p in (pictures, blurred))
    assert same["fine detail, %"] == pytest.approx(100) and blur["fine detail, %"] < 20
    assert same["error in it, %"] == 0 and 40 < blur["error in it, %"] < 110
    lost = s31_6.picture_scores(classifier, pictures, torch.full_like(pictures, 0.5))
    assert lost["error in it, %"] == pytest.approx(100, rel=1e-4)
    for name in ("perceptual distance", "Fréchet distance"):
        assert same[name] == pytest.approx(0, abs=1e-6) and blur[name] > 1e-3
    mse = (blurred - pictures).square().flatten(1).mean(1)
    assert blur["PSNR, dB"] == pytest.approx((-10 * mse.log10()).mean().item(), rel=1e-4)


def test_a_discriminators_score_sees_one_patch():
    torch.manual_seed(0)
    discriminator, x = s31_6.patch_discriminator(8), torch.rand(1, 3, 32, 32, requires_grad=True)
    scores = x  # without the normalisation, which looks at the whole picture
    for layer in discriminator:
        scores = layer(scores) if not isinstance(layer, torch.nn.GroupNorm) else scores
    assert discriminator(x).shape == (1, 1, 14, 14)
    (gradient,) = torch.autograd.grad(scores[0, 0, 7, 7], x)
    rows = gradient.abs().sum((0, 1, 3)).nonzero()
    assert rows.max() - rows.min() + 1 <= 16


@pytest.mark.parametrize("side, own", [(1, False), (1, True), (3, False), (5, True), (7, False)])
def test_a_masked_convolution_sees_what_came_before_and_no_more(side, own):
    torch.manual_seed(0)
    x = torch.randn(1, 2, 9, 9, requires_grad=True)
    s31_6.MaskedConv2d(2, 3, side, own)(x)[0, :, 4, 4].sum().backward()
    seen = x.grad[0].abs().sum(0) > 0  # (9, 9)
    row, column = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
    near = ((row - 4).abs() <= side // 2) & ((column - 4).abs() <= side // 2)
    before = 9 * row + column < 9 * 4 + 4 + own
    assert torch.equal(seen, near & before)


# Panels.


def test_a_token_slider_edits_that_token_with_one_call():
    tokens = torch.arange(4).view(2, 2)
    decode = Counted(lambda grid: (grid[:, None] / 8).repeat_interleave(4, -1))
    panel = s31_6.token_sliders(decode, tokens, 8)
    calls = decode.calls
    panel.set(row=0, column=1, value=7)
    assert decode.calls == calls + 1
    assert panel.readout == "token 1 → 7: 25% of the pixels change"
    before, after, change = np.split(panel.picture[:, :26], [9, 18], 1)
    assert after[0, 4] == round(255 * 7 / 8) and before[0, 4] == round(255 / 8)
    assert change[0, 4] == round(255 * 6 / 8) and change[1, 4] == 0
    assert tokens.tolist() == [[0, 1], [2, 3]]


def test_codes_are_drawn_active_where_some_vector_is_nearest(monkeypatch):
    seen = []
    monkeypatch.setattr(s31_6.plt, "show", lambda: seen.append(s31_6.plt.gcf()))
    codes = torch.tensor([[0.0, 0, 1], [5, 0, 0], [0, 5, 0]])
    vectors = codes[[0, 1]].repeat(9, 1) + 0.1 * torch.rand(18, 3)
    s31_6.codes_among({"step 1": (vectors, codes), "step 2": (vectors, codes[:2])}, "a finding")
    titles = [axis.get_title() for axis in seen[0].axes]
    assert titles == ["step 1\n2 of 3 active", "step 2\n2 of 2 active"]
    labels = [(axis.get_xlabel(), axis.get_ylabel()) for axis in seen[0].axes]
    assert labels == [("component 2", "component 1"), ("component 2", "")]
    assert seen[0].get_suptitle() == "a finding"


def test_cells_of_the_plane_belong_to_their_nearest_code():
    codes = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    points = 2 * torch.rand(400, 2, generator=torch.Generator().manual_seed(0)) - 1
    picture = s31_6.plane_cells(codes, points, 60)
    left, right = picture[:, 5:20].reshape(-1, 3), picture[:, 40:55].reshape(-1, 3)
    most = [np.unique(side, axis=0, return_counts=True) for side in (left, right)]
    colours = [tuple(values[counts.argmax()]) for values, counts in most]
    assert colours[0] != colours[1]
    panel = s31_6.codebook_plane({1: codes[:1], 2: codes, 4: codes.repeat(2, 1)}, points)
    assert panel.readout.startswith("1 codes, squared error")
    panel.set(size=4)
    assert panel.readout.startswith("4 codes")
