import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from companion import data
from companion.models import Decoder, Encoder
from companion.training import Player, TrainingError, fit, fit_or_load, loop
from companion.training.checks import training_parts
from companion.training.hardware import uses_bfloat16
from companion.training.players import Turn
from companion.training.schedule import warmup_cosine


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.Linear(4, 784))

    def loss(self, x):
        recon = (self.net(x) - x.flatten(1)).square().sum(1).mean()
        return {"loss": recon, "recon": recon}


def train(model, images, **settings):
    return fit(model, images, **({"epochs": 2, "batch": 50, "bar": False} | settings))


def small(seed=0):
    torch.manual_seed(seed)
    return Small()


def test_the_loss_falls_and_every_term_is_recorded(images):
    history = train(small(), images, epochs=5, lr=0.02)
    assert list(history.terms) == ["loss", "recon"] and len(history.terms["loss"]) == 5
    assert history.terms["loss"][-1] < 0.8 * history.terms["loss"][0]
    assert history.seconds > 0 and history.machine and not history.interrupted


def test_same_seed_same_weights_and_the_callers_dice_are_untouched(images):
    results = []
    for seed in (1, 1, 2):
        model = small()
        torch.manual_seed(7)
        train(model, images, seed=seed)
        results.append(model.net[1].weight.detach().clone())
        assert (
            torch.rand(1).item() == torch.rand(1, generator=torch.Generator().manual_seed(7)).item()
        )
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def by_hand(model, images, steps, lr, betas=(0.9, 0.99), left_out=()):
    """AdamW on all of the data, written out: Loshchilov and Hutter 2019, algorithm 2."""
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in model.parameters()]
    taken = 0
    for step in range(steps):
        if step in left_out:
            continue
        rate, taken = lr * warmup_cosine(step, steps), taken + 1
        grads = torch.autograd.grad(model.loss(images / 255)["loss"], list(model.parameters()))
        for p, g, (first, second) in zip(model.parameters(), grads, moments, strict=True):
            first.mul_(betas[0]).add_(g, alpha=1 - betas[0])
            second.mul_(betas[1]).add_(g.square(), alpha=1 - betas[1])
            upright = [m / (1 - b**taken) for m, b in ((first, betas[0]), (second, betas[1]))]
            p.data -= rate * (upright[0] / (upright[1].sqrt() + 1e-8) + 0.01 * p.data)
    return model


@pytest.mark.parametrize("steps", [1, 12])
def test_training_is_adamw_with_its_two_moments_and_the_schedule(images, steps):
    """A single batch of all the data, so that the order of the items does not matter."""
    model = small()
    train(model, images, epochs=steps, batch=300, lr=0.02, precision="float32")
    wanted = by_hand(small(), images, steps, lr=0.02)
    assert torch.allclose(model.net[2].weight, wanted.net[2].weight, atol=1e-5)


def test_every_image_is_seen_once_an_epoch():
    seen = []

    class Counts(Small):
        def loss(self, x):
            seen.extend((120 * x[:, 0, 0, 0]).round().tolist())
            return super().loss(x)

    images = torch.zeros(120, 1, 28, 28)
    images[:, 0, 0, 0] = torch.arange(120.0) / 120
    train(Counts(), images, batch=40)
    assert sorted(seen[:120]) == sorted(seen[120:]) == list(range(120)) and seen[:120] != seen[120:]


def test_labels_travel_with_their_images():
    class Pairs(Small):
        def loss(self, x, y):
            assert torch.equal((100 * x[:, 0, 0, 0]).round(), y.float())
            return super().loss(x)

    images = torch.zeros(100, 1, 28, 28)
    images[:, 0, 0, 0] = torch.arange(100.0) / 100
    train(Pairs(), (images, torch.arange(100)))


def test_the_schedule_rises_for_a_tenth_then_falls_to_nothing():
    share = [warmup_cosine(step, 100) for step in range(101)]
    assert share[9] == share[10] == 1 and share[0] == 0.1
    assert share[55] == pytest.approx(0.5) and share[100] == pytest.approx(0, abs=1e-12)


class Bad(Small):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def loss(self, x):
        return self.value(super().loss(x)["loss"])


@pytest.mark.parametrize(
    "value, words",
    [
        (lambda loss: loss, 'must return a dict with the key "loss"'),
        (lambda loss: {"recon": loss}, 'must return a dict with the key "loss"'),
        (lambda loss: {"loss": loss.repeat(3)}, r'term "loss" is torch.Size\(\[3\]\), no scalar'),
        (lambda loss: {"loss": loss, "kl": 0.5}, 'term "kl" is float, no scalar'),
    ],
)
def test_a_loss_of_the_wrong_kind_is_named(images, value, words):
    with pytest.raises(TrainingError, match=words):
        train(Bad(value), images)


def test_terms_that_come_and_go_are_named(images):
    class Fickle(Small):
        steps = 0

        def loss(self, x):
            self.steps += 1
            terms = super().loss(x)
            return terms if self.steps < 3 else {"loss": terms["loss"]}

    with pytest.raises(TrainingError, match=r"the terms \['loss', 'recon'\], later \['loss'\]"):
        train(Fickle(), images)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_data_that_are_not_finite_are_refused_with_the_place(value):
    x = torch.rand(20, 4)
    x[3, 1] = value
    with pytest.raises(TrainingError, match="data is NaN or infinite, first in item 3"):
        training_parts(x, 5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_term_that_stops_being_finite_names_step_term_and_rate(images, value):
    class Bursts(Small):
        steps = 0

        def loss(self, x):
            self.steps += 1
            terms = super().loss(x)
            return terms | {"kl": terms["loss"] * (value if self.steps == 300 else 1)}

    model = Bursts()
    with pytest.raises(
        TrainingError, match=r'"kl" became (nan|inf) at step 300 \(learning rate 0.003\)'
    ):
        train(model, images, epochs=60, lr=3e-3)
    assert model.steps == 300  # six steps an epoch: the epoch ends with the bad step
    assert all(value.isfinite().all() for value in model.parameters())


def test_weights_go_back_to_before_the_epoch_that_failed(images):
    class Breaks(Small):
        steps = 0

        def loss(self, x):
            self.steps += 1
            terms = super().loss(x)
            return terms if self.steps < 8 else {k: v * float("nan") for k, v in terms.items()}

    model = Breaks()
    with pytest.raises(TrainingError, match="at step 8"):
        train(model, images)
    assert model.net[1].weight.isfinite().all()


PIXELS = torch.zeros(100, 1, 28, 28)
UNUSABLE = [
    (PIXELS[:10], {}, "batch=50, but there are 10 items: choose 1 to that"),
    (PIXELS, {"batch": 0}, "batch=0"),
    (PIXELS, {"batch": 64.0}, r"batch=64.0: choose a whole number"),
    (PIXELS, {"batch": True}, "batch=True: choose a whole number"),
    (PIXELS, {"epochs": -1}, "epochs=-1: choose a whole number, 1 or more"),
    (PIXELS, {"epochs": 0}, "epochs=0: choose a whole number, 1 or more"),
    (PIXELS, {"epochs": 1.5}, "epochs=1.5: choose a whole number"),
    (PIXELS, {"lr": 0.0}, "lr=0.0: choose a learning rate above 0"),
    (PIXELS, {"lr": "1e-3"}, "lr='1e-3': choose a number"),
    (PIXELS, {"lr": float("nan")}, "lr=nan: choose a learning rate above 0"),
    (PIXELS, {"labels": True}, "labels=True takes the labels of a dataset"),
    (PIXELS, {"average": 1.0}, "average=1.0: choose 0"),
    (PIXELS, {"skip": 0.5}, "skip=0.5: choose 0"),
    (PIXELS, {"moments": [3]}, "moments= needs watch="),
    (PIXELS, {"moments": [9], "watch": print}, "moment 9 is not within"),
    (PIXELS, {"precision": "half"}, 'precision="half": choose "float32"'),
    (PIXELS.double(), {}, "data is torch.float64: pass uint8"),
    (torch.zeros(100, 1, 32, 32), {}, r"failed on a batch of \(50, 1, 32, 32\) torch.float32"),
    ([1, 2, 3], {}, "data is a list: pass Images or tensors"),
    ((PIXELS, torch.zeros(99)), {}, "100 items but 99 labels"),
    ((PIXELS, torch.zeros(100)), {}, r"loss\(x\) does not take a batch of 2 parts, which data has"),
    (PIXELS.clone().requires_grad_() * 1, {}, r"data carries the graph .*: pass data.detach\(\)"),
    (PIXELS[:0], {}, "data has no items"),
    (torch.cat([torch.zeros(8, 8), torch.full((1, 8), math.inf)]), {}, "infinite, first in item 8"),
]


@pytest.mark.parametrize("data, settings, words", UNUSABLE)
def test_unusable_data_and_settings_are_named_with_the_mend_in_one_sentence(data, settings, words):
    model = small()
    before = model.net[1].weight.clone()
    with pytest.raises(TrainingError, match=words) as caught:
        train(model, data, **settings)
    assert "\n" not in str(caught.value) and torch.equal(model.net[1].weight, before)


@pytest.mark.parametrize("what", ["fit", "fit_or_load"])
def test_numbers_of_numpy_and_of_torch_are_numbers(what, images, folder):
    theirs = {"epochs": np.int64(2), "lr": np.float32(1e-3), "batch": torch.tensor(50)}
    theirs |= {"seed": np.array(3), "weight_decay": torch.tensor(0.0)}
    ours = {"epochs": 2, "lr": float(np.float32(1e-3)), "batch": 50, "seed": 3, "weight_decay": 0.0}
    if what == "fit":
        models = small(), small()
        for model, settings in zip(models, (theirs, ours), strict=True):
            train(model, images, **settings)
    else:  # the note is JSON, and the same for both
        models = [fit_or_load("t/m", Small, images, bar=False, **own)[0] for own in (theirs, ours)]
        assert (
            "seed" in json.loads(next((folder / "trained").rglob("m.*.json")).read_text())["mark"]
        )
    assert torch.equal(models[0].net[1].weight, models[1].net[1].weight)


def test_pixels_out_of_their_range_are_refused_with_it_and_the_mend():
    dice = torch.rand(100, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    colour = dice.expand(-1, 3, -1, -1)
    for wrong, words in (
        ((dice > 0.5).byte(), "data is uint8 from 0 to 1, which is black: .*multiply by 255"),
        (255 * dice, r"pixels from .* to 255: float pixels lie in \[0, 1\], so divide by 255"),
        (2 * dice - 1, r"pixels from -1 to 1: .* or take \(x \+ 1\) / 2"),
        ((255 * colour, torch.arange(100)), "to 255: float pixels"),
        (2 * colour - 1, "from -1 to 1"),
    ):
        with pytest.raises(TrainingError, match=words) as caught:
            training_parts(wrong, 10)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        100 * torch.randn(100, 8),  # codes
        100 * torch.randn(100, 4, 7, 7),  # a grid of codes
        100 * torch.randn(100, 3, 8, 8),  # a grid whose channels look like colours
        100 * torch.randn(100, 64, 28, 28),  # activations
        100 * torch.randn(100, 784),  # pictures as rows, standardised in whatever way
        torch.rand(100, 1, 28, 28) + 0.1 * torch.randn(100, 1, 28, 28),  # noisy pictures
        torch.randint(0, 512, (100, 7, 7)),  # tokens
        torch.zeros(100, 1, 28, 28, dtype=torch.uint8),  # black
        torch.randint(0, 2, (100, 1, 28, 28), dtype=torch.uint8) * 255,
    ],
    ids=lambda x: str(tuple(x.shape)),
)
def test_what_is_no_picture_may_lie_anywhere(data):
    assert training_parts(data, 10)[0] is data


class Remembers(Small):
    """A running mean of its codes, kept with the graph of the step that made it."""

    detach = False

    def __init__(self):
        super().__init__()
        self.register_buffer("past", torch.zeros(4))

    def loss(self, x):
        code = self.net[1](x.flatten(1)).mean(0)
        self.past = 0.9 * self.past + 0.1 * (code.detach() if self.detach else code)
        return {"loss": super().loss(x)["loss"] + self.past.square().sum()}


class Lazy(Small):
    def __init__(self):
        super().__init__()
        self.net[1] = nn.LazyLinear(4)


@pytest.mark.parametrize(
    "build, words",
    [
        (Remembers, "reaches back into the one before: .*detach.. what is stored in a buffer"),
        (Lazy, "Lazy has lazy layers: call it once on a batch before training"),
    ],
)
def test_models_that_torch_refuses_in_its_own_words_get_a_sentence(images, build, words):
    with pytest.raises(TrainingError, match=words) as caught:
        train(build(), images)
    assert "\n" not in str(caught.value)


def test_a_buffer_of_detached_values_and_lazy_layers_called_once_train(images, monkeypatch):
    monkeypatch.setattr(Remembers, "detach", True)
    (lazy := Lazy()).net(torch.zeros(1, 784))
    for model in (Remembers(), lazy):
        assert len(train(model, images).terms["loss"]) == 2


def test_bfloat16_multiplies_low_and_keeps_the_weights_high(images):
    model = nn.Module()
    model.net, kinds = nn.Sequential(nn.Flatten(), nn.Linear(784, 1)), []

    def loss(x):
        output = model.net(x)
        kinds.append(output.dtype)
        return {"loss": output.float().square().mean()}

    model.loss = loss
    train(model, images, precision="bfloat16", epochs=1)
    train(model, images, precision="float32", epochs=1)
    assert (kinds[0], kinds[-1]) == (torch.bfloat16, torch.float32)
    assert model.net[1].weight.dtype == torch.float32


def test_convolutions_run_channels_last(images):
    model = nn.Module()
    model.encoder, model.decoder, layouts = Encoder(2), Decoder(2), []

    def loss(x):
        hidden = model.encoder[0](x)
        layouts.append(hidden.is_contiguous(memory_format=torch.channels_last))
        return {"loss": (model.decoder(model.encoder(x)) - x).square().flatten(1).sum(1).mean()}

    model.loss = loss
    train(model, images, epochs=1)
    assert all(layouts)


def test_an_interrupt_keeps_history_and_model(images, capsys):
    class Stops(Small):
        steps = 0

        def loss(self, x):
            self.steps += 1
            if self.steps == 16:
                raise KeyboardInterrupt
            return super().loss(x)

    model = Stops()
    history = train(model, images, epochs=50)
    assert history.interrupted and len(history.terms["loss"]) == 3  # two epochs and a part
    assert not model.training and model.net[1].weight.isfinite().all()
    assert "Stopped after step 15 of 300" in capsys.readouterr().out


def test_a_real_ctrl_c_ends_a_run_in_order():
    class Stops(Small):
        steps = 0

        def loss(self, x):
            self.steps += 1
            if self.steps == 100:
                os.kill(os.getpid(), signal.SIGINT)
            return super().loss(x)

    model, x = Stops(), torch.randint(0, 256, (100, 1, 28, 28), dtype=torch.uint8)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    try:
        history = fit(model, x, epochs=1000, batch=10, bar=False)
    except KeyboardInterrupt:
        pytest.fail("Ctrl-C has left the loop")
    finally:
        signal.signal(signal.SIGINT, before)
    assert history.interrupted and len(history.terms["loss"]) in (10, 11)
    assert model.net[1].weight.isfinite().all()


def test_images_and_labels_are_taken_from_a_dataset(images):
    from companion.data import Images

    digits = Images("x", images, torch.arange(300), images[:1], torch.zeros(1), "here")
    assert len(training_parts(digits, 10)) == 1
    assert len(training_parts(digits, 10, labels=True)) == 2


def test_tokens_reach_the_model_as_whole_numbers():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(10, 10)

        def loss(self, x):
            assert x.dtype == torch.int64
            return {"loss": nn.functional.cross_entropy(self.table(x).flatten(0, 1), x.flatten())}

    tokens = torch.arange(600).view(200, 3) % 10
    past = train(Words(), tokens, epochs=20, lr=0.1).terms["loss"]
    assert past[-1] < 0.3 * past[0]


def test_items_that_are_made_by_index_train_as_those_that_are_held(images):
    black_and_white = 255 * (images > 127).byte()
    held, by_index = small(), small()
    train(held, black_and_white)
    rendered = data.Indexed("x", 300, lambda i: black_and_white[i], torch.device("cpu"))
    train(by_index, rendered)
    assert torch.equal(held.net[1].weight, by_index.net[1].weight)


def test_what_no_index_can_make_is_named():
    doubles = data.Indexed("x", 300, lambda i: i.double(), torch.device("cpu"))
    with pytest.raises(TrainingError, match=r"data is torch.float64: pass uint8 pixels"):
        train(small(), doubles)


def test_progress_is_set_before_each_step_and_ends_at_one(images):
    class Clocked(Small):
        def __init__(self):
            super().__init__()
            self.register_buffer("progress", torch.zeros(()), persistent=False)
            self.inner = nn.Module()
            self.inner.register_buffer("progress", torch.zeros(()), persistent=False)
            self.seen = []

        def loss(self, x):
            assert self.progress == self.inner.progress
            self.seen.append(self.progress.item())
            return super().loss(x)

    model = Clocked()
    train(model, images)  # twelve steps
    assert model.seen == pytest.approx([step / 12 for step in range(12)]) and model.progress == 1


def test_moments_are_handed_over_in_order_and_training_does_not_feel_it(images):
    seen = {}

    def watch(step, model):
        torch.rand(7)
        seen[step] = model.net[1].weight.clone(), model.training

    plain, watched = small(), small()
    train(plain, images)
    train(watched, images, moments=(0, 1, 6, 12), watch=watch)
    assert list(seen) == [0, 1, 6, 12] and not any(training for _, training in seen.values())
    assert torch.equal(seen[0][0], small().net[1].weight)
    assert torch.equal(seen[12][0], watched.net[1].weight)
    assert torch.equal(plain.net[1].weight, watched.net[1].weight)


def test_the_average_of_the_weights_is_what_the_model_ends_with(images):
    weights = []
    model = small()
    train(
        model, images, epochs=3, average=0.8, moments=range(19),
        watch=lambda _, m: weights.append(m.net[1].weight.clone()),
    )  # fmt: skip
    average = weights[0]
    for weight in weights[1:]:
        average = 0.8 * average + 0.2 * weight
    assert torch.allclose(model.net[1].weight, average, atol=1e-6)
    assert not torch.allclose(model.net[1].weight, weights[-1], atol=1e-4)


class Jolted(Small):
    """One step in `every` has a gradient a hundred times too long, or none that is finite."""

    def __init__(self, jolt, every=40):
        super().__init__()
        self.jolt, self.every, self.steps = jolt, every, 0

    def loss(self, x):
        self.steps += 1
        terms = super().loss(x)
        jolted = self.steps % self.every == 0
        return {name: term * (self.jolt if jolted else 1) for name, term in terms.items()}


@pytest.mark.parametrize("jolt", [100.0, float("nan"), float("inf")])
def test_steps_with_too_long_or_no_gradient_are_left_out_and_counted(images, jolt):
    model = Jolted(jolt, every=120)
    seen = {}
    history = train(
        model, images, epochs=60, skip=5.0, average=0.9, moments=(118, 119, 120, 121),
        watch=lambda step, m: seen.update({step: m.net[1].weight.clone()}),
    )  # fmt: skip
    assert sum(history.terms["skipped"]) * 6 == pytest.approx(3)  # of 360 steps, 6 an epoch
    assert torch.equal(seen[119], seen[120]) and not torch.equal(seen[118], seen[119])
    assert not torch.equal(seen[120], seen[121])
    assert all(torch.tensor(past).isfinite().all() for past in history.terms.values())
    assert model.net[1].weight.isfinite().all()


def test_a_step_left_out_moves_no_average(images):
    torch.manual_seed(0)
    model, weights = Jolted(float("nan"), every=7), []
    train(
        model, images, epochs=2, average=0.8, moments=range(13),
        watch=lambda _, m: weights.append(m.net[1].weight.clone()),
    )  # fmt: skip
    average = weights[0]
    for step, weight in enumerate(weights[1:], 1):
        average = average if step == 7 else 0.8 * average + 0.2 * weight
    assert torch.allclose(model.net[1].weight, average, atol=1e-7)


def test_more_than_one_step_in_a_hundred_left_out_ends_the_run(images):
    model = Jolted(float("nan"), every=30)
    words = r"6 of 18\d steps were skipped, because their gradients .* learning rate 0.002"
    with pytest.raises(TrainingError, match=words):
        train(model, images, epochs=100, skip=5.0)
    assert model.net[1].weight.isfinite().all()


def test_a_step_left_out_moves_neither_weights_nor_moments(images):
    """The schedule goes on: the steps after it have the rates that they would have had."""
    torch.manual_seed(0)
    model = Jolted(float("nan"), every=5)
    train(model, images, epochs=8, batch=300, lr=0.02, skip=5.0, precision="float32")
    wanted = by_hand(small(), images, 8, lr=0.02, left_out=(4,))
    assert torch.allclose(model.net[2].weight, wanted.net[2].weight, atol=1e-5)


@pytest.mark.parametrize("amx, avx512_bf16", [(True, True), (False, True), (False, False)])
def test_auto_takes_bfloat16_where_the_cpu_has_instructions_for_it(amx, avx512_bf16, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    assert uses_bfloat16("auto", torch.device("cpu")) is (amx or avx512_bf16)
    assert uses_bfloat16("auto", torch.device("cuda")) is True
    assert uses_bfloat16("float32", torch.device("cuda")) is False


@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.5, 0.9)])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_a_turns_steps_are_those_of_torchs_fused_adamw_bit_for_bit(betas, decay):
    mine, theirs = small(), small()
    turn = Turn("loss", Player(list(mine.parameters()), betas=betas), 0.02, decay, 0.0, 5.0)
    optimiser = torch.optim.AdamW(
        theirs.parameters(), 0.02, betas, 1e-8, weight_decay=decay, fused=True
    )
    for step, share in enumerate((0.5, 1.0, 0.7, 0.7, 0.1)):
        x = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(step))
        before, state = small(), [value.clone() for value in turn.state()[:-1]]
        before.load_state_dict(mine.state_dict())
        turn.set_rate(share)
        if step == 3:  # a gradient that is not finite: nothing moves, and nothing is counted
            turn.move(math.nan * mine.loss(x)["loss"])
            for one, other in zip(mine.parameters(), before.parameters(), strict=True):
                assert torch.equal(one, other)
            assert all(map(torch.equal, turn.state()[:-1], state))
            continue
        turn.move(mine.loss(x)["loss"])
        optimiser.param_groups[0]["lr"] = share * 0.02
        optimiser.zero_grad()
        theirs.loss(x)["loss"].backward()
        optimiser.step()
        for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(one, other)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def players(self):
        return {
            "loss": self.a.parameters(),
            "b_loss": Player(self.b.parameters(), lr=0.05, betas=(0.5, 0.9), steps=3),
        }

    def loss(self, x):
        return {"loss": (self.a(x) - x).square().sum(1).mean()}

    def b_loss(self, x):
        return {"loss": (self.b(x) + x).square().sum(1).mean()}


def test_a_player_has_a_rate_betas_and_steps_of_its_own():
    torch.manual_seed(0)
    model = Pair()
    torch.manual_seed(0)
    other, x = Pair(), torch.rand(40, 4, generator=torch.Generator().manual_seed(1))
    history = train(model, x, epochs=4, batch=40, lr=0.01, precision="float32")
    assert list(history.terms) == ["loss", "b_loss"]
    for part, top, betas, steps, loss in (
        (other.a, 0.01, (0.9, 0.99), 1, other.loss),
        (other.b, 0.05, (0.5, 0.9), 3, other.b_loss),
    ):
        optimiser = torch.optim.AdamW(part.parameters(), betas=betas, weight_decay=0.01)
        for batch in range(4):
            optimiser.param_groups[0]["lr"] = top * warmup_cosine(batch, 4)
            for _ in range(steps):
                optimiser.zero_grad()
                loss(x)["loss"].backward()
                optimiser.step()
    assert torch.allclose(model.a.weight, other.a.weight, atol=1e-6)
    assert torch.allclose(model.b.weight, other.b.weight, atol=1e-6)


class Adversarial(nn.Module):
    """A generator that moves one number towards where a critic sees the data."""

    def __init__(self):
        super().__init__()
        self.place, self.critic = nn.Parameter(torch.zeros(1)), nn.Linear(1, 1)

    def players(self):
        return {"loss": [self.place], "critic_loss": self.critic.parameters()}

    def loss(self, x):
        return {"loss": -self.critic(self.place.expand(len(x), 1)).mean()}

    def critic_loss(self, x):
        real, fake = (
            self.critic(x).mean(),
            self.critic(self.place.detach().expand(len(x), 1)).mean(),
        )
        size = self.critic.weight.square().sum()  # keeps the critic's slope finite
        return {"loss": fake - real + size, "real": real}


def test_two_players_move_their_own_parameters_only():
    model, x = (
        Adversarial(),
        2 + 0.1 * torch.randn(200, 1, generator=torch.Generator().manual_seed(0)),
    )
    history = fit(
        model,
        x,
        epochs=150,
        batch=50,
        lr=0.02,
        weight_decay=0.0,
        bar=False,
        precision="float32",
    )
    assert list(history.terms) == ["loss", "critic_loss", "real"]
    assert model.place.item() == pytest.approx(2, abs=0.3)  # the generator found the data


def test_one_step_of_each_player_by_hand():
    model, by_hand = Adversarial(), Adversarial()
    by_hand.load_state_dict(model.state_dict())
    x = torch.rand(20, 1)
    fit(model, x, epochs=1, batch=20, lr=0.1, bar=False, precision="float32")
    for name, parameters in by_hand.players().items():
        optimiser = torch.optim.AdamW(parameters, 0.1, betas=(0.9, 0.99), weight_decay=0.01)
        optimiser.zero_grad()
        getattr(by_hand, name)(x)["loss"].backward()
        optimiser.step()
    assert torch.allclose(model.place, by_hand.place, atol=1e-6)
    assert torch.allclose(model.critic.weight, by_hand.critic.weight, atol=1e-6)


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda m: m.requires_grad_(False), "all parameters that loss trains are frozen"),
        (lambda m: setattr(m, "net", nn.Flatten()), "Small has no parameters to train by loss"),
        (lambda m: setattr(m, "loss", None), r"Small has no method loss\(x\): write it"),
        (
            lambda m: setattr(m, "loss", lambda x: {"loss": x.mean()}),
            "the loss depends on no parameter that can learn",
        ),
    ],
)
def test_a_model_that_cannot_learn_is_named(images, spoil, words):
    model = small()
    spoil(model)
    with pytest.raises(TrainingError, match=words):
        train(model, images)


def test_the_loop_is_one_file_that_is_read_in_one_go():
    text = (Path(loop.__file__)).read_text().splitlines()
    assert len(text) <= 120 and sum(len(line) > 100 for line in text) == 0


@pytest.mark.slow
def test_the_package_needs_no_jupyter_and_leaves_torchs_compiler_and_torchvision_alone():
    """A script and a page without a kernel have no widgets; the others take seconds of every start."""
    code = (
        "import sys; sys.modules['anywidget'] = None; import companion.retrain; "
        "from companion import data, metrics, training; from companion.show import panels, plotting; "
        "print([name for name in ('torchvision', 'torch._dynamo') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
