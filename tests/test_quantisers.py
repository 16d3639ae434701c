"""The quantisers that notebook 31.6 builds, taken from its cells."""

import pytest
import torch
from cells import definitions
from torch import nn

from companion.data import Images
from companion.training import TrainingError, fit

BUILT = definitions("31.6")
Quantiser, MovingQuantiser, FSQ, VQVAE = (
    BUILT[name] for name in ("Quantiser", "MovingQuantiser", "FSQ", "VQVAE")
)
KINDS = {
    "gradient": lambda: Quantiser(32, 8),
    "moving": lambda: MovingQuantiser(32, 8, restarts=False),
    "FSQ": lambda: FSQ(5, 4, 3, 3, 5, 2, 3, 4),
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


def test_three_steps_of_training_are_the_librarys(z):
    library = pytest.importorskip("vector_quantize_pytorch")
    BUILT["VectorQuantize"] = library.VectorQuantize
    torch.manual_seed(0)
    assert max(BUILT["beside_the_library"]().values()) < 1e-6


def test_rounding_is_the_librarys():
    library = pytest.importorskip("vector_quantize_pytorch")
    for levels in ((8, 5, 5, 5), (8, 8, 8), (7, 5, 5, 5, 5)):
        ours, theirs = FSQ(*levels), library.FSQ(list(levels), channel_first=True)
        z = 3 * torch.randn(20, len(levels), 7, 7, generator=torch.Generator().manual_seed(1))
        (out, tokens, _), (out_, tokens_) = ours(z), theirs(z)
        assert torch.equal(tokens, tokens_.long()) and torch.allclose(out, out_, atol=1e-6)


def test_every_level_of_a_rounded_number_can_be_reached_and_named():
    for levels in ((5, 3), (8, 6, 5), (2, 4)):
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
    with pytest.raises(ValueError, match="needs 2 levels or more"):
        FSQ(8, 1)
    for quantiser in (Quantiser(8, 2), FSQ(4, 2)):
        for token in (-1, 8):
            with pytest.raises(ValueError, match="its numbers are 0 to 7"):
                quantiser.vectors(torch.full((1, 2, 2), token))


def test_an_image_whose_sides_do_not_divide_is_named():
    images = torch.zeros(20, 1, 30, 30, dtype=torch.uint8)
    data = Images("toy", images, torch.zeros(20), images, torch.zeros(20), "made here")
    model = VQVAE(Quantiser(8, 16))
    assert isinstance(model, nn.Module)
    with pytest.raises(TrainingError, match="check the size"):
        fit(model, data, epochs=1, batch=10, bar=False)
