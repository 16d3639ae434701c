import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from companion.networks import Decoder, Encoder
from companion.training import TrainingError, fit, training_tensors, warmup_cosine


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.Linear(4, 784))

    def loss(self, x):
        recon = (self.net(x) - x.flatten(1)).square().sum(1).mean()
        return {"loss": recon, "recon": recon}


def train(model, images, **settings):
    return fit(model, images, **({"epochs": 2, "batch": 50, "progress": False} | settings))


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


def test_one_step_is_the_optimiser_step_of_torch(images):
    """A single batch of all the data: the same weights as a step written out by hand."""
    model, by_hand = small(), small()
    train(model, images, epochs=1, batch=300, lr=0.1, precision="float32")
    rate = 0.1 * warmup_cosine(1)(0)
    optimiser = torch.optim.AdamW(by_hand.parameters(), rate, betas=(0.9, 0.99), weight_decay=0.01)
    by_hand.loss(images / 255)["loss"].backward()
    optimiser.step()
    assert torch.allclose(model.net[2].weight, by_hand.net[2].weight, atol=1e-5)


def test_every_image_is_seen_once_an_epoch():
    seen = []

    class Counts(Small):
        def loss(self, x):
            seen.extend(x[:, 0, 0, 0].tolist())
            return super().loss(x)

    images = torch.zeros(120, 1, 28, 28)
    images[:, 0, 0, 0] = torch.arange(120.0)
    train(Counts(), images, batch=40)
    assert sorted(seen[:120]) == sorted(seen[120:]) == list(range(120)) and seen[:120] != seen[120:]


def test_labels_travel_with_their_images():
    class Pairs(Small):
        def loss(self, x, y):
            assert torch.equal(x[:, 0, 0, 0], y.float())
            return super().loss(x)

    images = torch.zeros(100, 1, 28, 28)
    images[:, 0, 0, 0] = torch.arange(100.0)
    train(Pairs(), (images, torch.arange(100)))


def test_the_schedule_rises_for_a_tenth_then_falls_to_nothing():
    share = [warmup_cosine(100)(step) for step in range(101)]
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
        training_tensors(x, 5)


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


@pytest.mark.parametrize(
    "data, settings, words",
    [
        (torch.zeros(10, 1, 28, 28), {}, "batch=50, but there are 10 items: choose 1 to that"),
        (torch.zeros(100, 1, 28, 28), {"batch": 0}, "batch=0"),
        (torch.zeros(100, 1, 28, 28).double(), {}, "data is torch.float64: pass uint8"),
        (torch.zeros(100, 1, 28, 28).long(), {}, "data is torch.int64: pass uint8"),
        (torch.zeros(100, 1, 32, 32), {}, r"failed on a batch of \(50, 1, 32, 32\) torch.float32"),
        ([1, 2, 3], {}, "data is a list: pass Images or tensors"),
        ((torch.zeros(100, 1, 28, 28), torch.zeros(99)), {}, "100 items but 99 labels"),
        (torch.zeros(100, 1, 28, 28), {"precision": "half"}, 'precision="half": choose "float32"'),
    ],
)  # fmt: skip
def test_unusable_data_are_named_with_the_mend(data, settings, words):
    with pytest.raises(TrainingError, match=words):
        train(Small(), data, **settings)


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


def test_a_real_ctrl_c_ends_a_process_in_order():
    code = """
        import os, signal, torch
        from companion.training import fit
        from torch import nn
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
        model = nn.Module()
        model.net, model.n = nn.Linear(4, 4), 0
        def loss(x):
            model.n += 1
            if model.n == 100:
                os.kill(os.getpid(), signal.SIGINT)
            return {"loss": (model.net(x) - x).square().mean()}
        model.loss = loss
        history = fit(model, torch.rand(100, 4), epochs=1000, batch=10, progress=False)
        print(history.interrupted, len(history.terms["loss"]), model.net.weight.isfinite().all().item())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] in ("True 10 True", "True 11 True")


def test_images_and_labels_are_taken_from_a_dataset(images):
    from companion.data import Images

    digits = Images("x", images, torch.arange(300), images[:1], torch.zeros(1), "here")
    assert len(training_tensors(digits, 10)) == 1
    assert len(training_tensors(digits, 10, labels=True)) == 2


def test_importing_the_loop_needs_no_jupyter():
    code = "import sys; sys.modules['ipywidgets'] = None; import companion.checkpoints, companion.retrain"
    subprocess.run([sys.executable, "-c", code], check=True)
