"""The dictionaries that notebook 31.2 builds, taken from its cells."""

import pytest
import torch
import torch.nn.functional as F
from cells import definitions

from companion.metrics import matched_cosines, sparsity
from companion.training import fit

BUILT = definitions("31.2")
L1, TopK, JumpReLU = BUILT["L1"], BUILT["TopK"], BUILT["JumpReLU"]
RevivedTopK = BUILT["RevivedTopK"]


@pytest.fixture(params=["L1", "TopK", "JumpReLU", "RevivedTopK"])
def dictionary(request):
    torch.manual_seed(0)
    return BUILT[request.param](6, 9, {"L1": 0.1, "JumpReLU": 0.1}.get(request.param, 3))


def test_directions_have_length_one_and_no_gradient_along_themselves(dictionary):
    x = torch.randn(20, 6)
    dictionary.decoder.data *= 3
    dictionary.loss(x)["loss"].backward()
    lengths = dictionary.directions().norm(dim=1)
    along = (dictionary.decoder.grad * dictionary.directions()).sum(1)
    assert torch.allclose(lengths, torch.ones(9)) and along.abs().max() < 1e-6
    assert dictionary.decoder.grad.abs().max() > 1e-3


def test_training_keeps_the_length(dictionary):
    fit(dictionary, torch.randn(64, 6), epochs=3, batch=16, bar=False)
    assert torch.allclose(dictionary.directions().norm(dim=1), torch.ones(9))


def test_the_loss_is_squared_error_plus_the_penalty():
    torch.manual_seed(0)
    model, x = L1(6, 9, penalty=0.3), torch.randn(20, 6)
    code = (x @ model.encoder.weight.T).relu()  # both biases start at zero
    error = ((code @ model.decoder - x) ** 2).sum(1).mean()
    assert model.loss(x)["loss"].item() == pytest.approx((error + 0.3 * code.sum(1).mean()).item())


def test_topk_keeps_the_k_largest():
    model = TopK(6, 9, 3).eval()
    pre = torch.randn(50, 9, generator=torch.Generator().manual_seed(0))
    code = model.activate(pre)
    for row, kept in zip(pre, code, strict=True):
        third = row.sort().values[-3]
        assert torch.equal(kept, torch.where(row >= third, row.relu(), 0.0))


@pytest.mark.parametrize("k", [0, -1, 10])
def test_k_outside_the_dictionary_is_refused(k):
    with pytest.raises(ValueError, match=f"k={k}, but the dictionary has 9 features"):
        TopK(6, 9, k)


def test_a_jump_passes_what_is_above_the_threshold_unchanged():
    model = JumpReLU(6, 3, penalty=0.1, threshold=0.5, width=0.2)
    pre = torch.tensor([[0.49, 0.51, 2.0]])
    assert model.activate(pre).tolist() == [[0, pytest.approx(0.51), 2.0]]


def test_the_jumps_gradient_moves_thresholds_as_the_ramp_of_the_paper():
    model = JumpReLU(6, 4, penalty=0.1, threshold=0.5, width=0.2)
    pre = torch.tensor([[0.45, 0.55, 0.65, 2.0]], requires_grad=True)
    model.gate(pre).sum().backward()
    # d gate / d θ = -1/width within half a width of θ, else 0; θ = exp(log θ)
    assert model.log_threshold.grad.tolist() == pytest.approx([-2.5, -2.5, 0, 0])
    assert pre.grad is None  # the step has none for its input


def test_k_narrows_over_the_first_part_of_training():
    torch.manual_seed(0)
    model, x = BUILT["NarrowingTopK"](6, 40, 2), torch.randn(30, 6)
    model.encoder.bias.data += 5  # all are positive: what is kept is what is active
    counts = []
    for step in range(0, 10, 2):
        model.progress.fill_(step / 10)  # as fit does
        counts.append((model.train().encode(x) > 0).sum(1).unique().tolist())
    assert counts == [[10], [7], [5], [2], [2]]
    assert (model.eval().encode(x) > 0).sum(1).unique().tolist() == [2]


def test_a_wide_start_is_at_most_the_whole_dictionary():
    for kind in ("NarrowingTopK", "RevivedTopK"):
        assert BUILT[kind](6, 7, 3).loss(torch.randn(5, 6))["loss"].isfinite()


@pytest.fixture
def silenced():
    """A dictionary one of whose features has been silent for long, and items that need another."""
    torch.manual_seed(0)
    model = RevivedTopK(6, 20, 2)
    model.encoder.bias.data[7] = -100
    model.silence[7] = 99
    return model, torch.randn(30, 6)


def test_a_silent_feature_starts_anew_along_what_is_missing(silenced):
    model, x = silenced
    before = model.directions().detach().clone()
    model.loss(x)  # the hundredth step of silence
    pre = model.before(x)
    wide = torch.zeros_like(pre).scatter(1, pre.topk(10, 1).indices, pre.topk(10, 1).values.relu())
    rest = (x - model.decode(wide)).detach()
    worst = rest[rest.norm(dim=1).argmax()]
    model.loss(x)
    moved = (model.directions() - before).norm(dim=1) > 1e-6
    assert moved.nonzero().tolist() == [[7]]
    assert torch.allclose(model.decoder[7], F.normalize(worst, dim=0), atol=1e-5)
    assert torch.allclose(model.encoder.weight[7], model.decoder[7])
    assert model.encoder.bias[7].item() == pytest.approx(-worst.norm().item() / 2)
    assert (model.silence < 100).all()


def test_late_in_training_and_before_anything_was_seen_nothing_starts_anew(silenced):
    model, x = silenced
    model.silence[7] = 100
    before = model.decoder.detach().clone()
    model.restart()  # nothing is missing yet
    model.loss(x)
    model.progress.fill_(0.9)
    model.loss(x)
    assert torch.equal(model.decoder, before)


def test_silence_is_counted_in_steps_and_ends_with_an_activity():
    torch.manual_seed(0)
    model, x = RevivedTopK(6, 20, 2), torch.randn(8, 6)
    model.encoder.bias.data[7] = -100
    for _ in range(3):
        model.loss(x)
    assert model.silence[7] == 3
    model.encoder.bias.data[7] = 100
    model.loss(x)
    assert model.silence[7] == 0


@pytest.mark.parametrize("kind", ["TopK", "L1", "JumpReLU"])
def test_known_directions_are_found(kind):
    """24 features in 16 dimensions, one or two at a time: every constraint finds most of them."""
    generator = torch.Generator().manual_seed(0)
    truth = F.normalize(torch.randn(24, 16, generator=generator), dim=1)
    on = torch.rand(8000, 24, generator=generator) < 0.05
    x = (on * (0.5 + torch.rand(8000, 24, generator=generator))) @ truth
    torch.manual_seed(1)  # not the truth's seed: the first guess must not know it
    builds = {"TopK": (TopK, 2), "L1": (L1, 0.4), "JumpReLU": (JumpReLU, 0.1, 0.3, 0.3)}
    build, *settings = builds[kind]
    model = build(16, 24, *settings)
    before = matched_cosines(model.directions().detach(), truth).mean()
    fit(model, x, epochs=12, batch=100, lr=5e-3, weight_decay=0.0, bar=False)
    after = matched_cosines(model.directions().detach(), truth).mean()
    found = sparsity(model, x)
    assert after > 0.8 > before + 0.2 and found["variance, %"] > 80 and found["active"] < 3, (
        after,
        found,
    )
