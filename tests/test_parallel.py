"""Several processes, unfinished runs and two players: the same loop, the same curve."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from companion.data import DataError
from companion.models import Decoder, Encoder
from companion.training import TrainingError, fit, resume

PRELUDE = """
    import json, os, signal, sys, torch
    from pathlib import Path
    from torch import nn
    from companion.training import fit, resume, TrainingError

    resume.EVERY = 0
    torch.set_num_threads(1)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.steps = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 8)), 0

        def loss(self, x):
            self.steps += 1
            assert len(x) == 100 // int(os.environ.get("WORLD_SIZE", 1))  # each its share
            if os.environ.get("DIES") == os.environ.get("RANK") and self.steps == 31:
                os.kill(os.getpid(), signal.SIGKILL)
            recon = (self.net(x) - x).square().sum(1).mean()
            return {"loss": recon, "recon": recon}

    x = torch.rand(200, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = Model()
    kept = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    settings = dict(epochs=25, batch=100, lr=0.01, precision="float32", bar=False, resume=kept)
    try:
        history = fit(model, x, **settings)
    except TrainingError as error:
        sys.exit(f"one line: {error}")
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(history.terms))
"""


HANGS = 1800  # seconds: by then the processes wait for each other for ever


@pytest.fixture(scope="module")
def launch(tmp_path_factory):
    """Run the script above in `count` processes; the finished process."""
    script = tmp_path_factory.mktemp("script") / "train.py"
    script.write_text(textwrap.dedent(PRELUDE))

    def run(count=1, *arguments, dies=""):
        command = [sys.executable, str(script), *map(str, arguments)]
        if count > 1:
            command[1:1] = [
                "-m",
                "torch.distributed.run",
                f"--nproc-per-node={count}",
                "--standalone",
            ]
        environment = os.environ | {"DIES": dies, "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=HANGS
        )

    return run


@pytest.fixture(scope="module")
def whole(launch):
    """The curve of one process that nothing disturbs."""
    return curve(launch(1))


def curve(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_two_processes_follow_one_for_fifty_steps(launch, whole):
    one, two = whole, curve(launch(2))
    assert len(one["loss"]) == 25  # of two steps each
    for name in one:
        assert one[name] == pytest.approx(two[name], rel=1e-4)
    assert one["loss"][-1] < 0.7 * one["loss"][0]


@pytest.mark.slow
def test_a_dead_process_stops_the_run_and_the_run_goes_on_from_its_file(launch, whole, tmp_path):
    kept = tmp_path / "run.safetensors"
    done = launch(2, kept, dies="1")
    assert done.returncode != 0
    assert "one line: another process of this run has stopped" in done.stderr
    assert kept.exists()
    again = launch(2, kept)
    assert "Going on after epoch 15" in again.stdout
    assert curve(again)["loss"] == pytest.approx(whole["loss"], rel=1e-4)


def test_a_batch_that_does_not_divide_is_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(TrainingError, match="batch=50 does not divide among 3 processes"):
        fit(nn.Linear(2, 2), torch.rand(100, 2), epochs=1, batch=50)


class Noisy(nn.Module):
    """A model whose loss throws dice, so that resuming has to restore them."""

    def __init__(self):
        super().__init__()
        self.net, self.steps, self.stop = nn.Linear(4, 4), 0, None

    def loss(self, x):
        self.steps += 1
        if self.steps == self.stop:
            raise KeyboardInterrupt
        return {"loss": (self.net(x + 0.1 * torch.randn_like(x)) - x).square().sum(1).mean()}


def test_an_interrupted_run_goes_on_along_the_same_curve(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(resume, "EVERY", 0)
    x, settings = torch.rand(100, 4), dict(epochs=8, batch=20, bar=False, precision="float32")

    def model(stop=None):
        torch.manual_seed(0)
        made = Noisy()
        made.stop = stop
        return made

    whole = model()
    wanted = fit(whole, x, **settings)
    kept = tmp_path / "run.safetensors"
    part = fit(model(stop=23), x, resume=kept, **settings)
    assert part.interrupted and len(part.terms["loss"]) == 5
    second = model()
    history = fit(second, x, resume=kept, **settings)
    assert "Going on after epoch 4" in capsys.readouterr().out
    assert history.terms == wanted.terms
    assert torch.equal(second.net.weight, whole.net.weight)


class Convolutional(nn.Module):
    """The skeleton: its weights are channels-last, and so must be the moments that are read back."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder, self.left = Encoder(4), Decoder(4), None

    def loss(self, x):
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return {"loss": (self.decoder(self.encoder(x)) - x).square().flatten(1).sum(1).mean()}


def test_a_convolutional_run_cut_off_half_way_ends_where_the_whole_one_ends(
    tmp_path, monkeypatch, images
):
    monkeypatch.setattr(resume, "EVERY", 0)
    kept, settings = tmp_path / "run.safetensors", dict(epochs=6, batch=100, bar=False)
    settings |= {"average": 0.9, "skip": 5.0}  # their state is kept too

    def model(left=None):
        torch.manual_seed(0)
        made = Convolutional()
        made.left = left
        return made

    whole, cut, second = model(), model(left=11), model()
    wanted = fit(whole, images, **settings)
    assert fit(cut, images, resume=kept, **settings).interrupted  # in the fourth epoch
    assert fit(second, images, resume=kept, **settings).terms == wanted.terms
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_a_damaged_state_is_named_and_a_folder_that_cannot_be_written_is_no_end(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(resume, "EVERY", 0)
    kept, settings = tmp_path / "run.safetensors", dict(epochs=2, batch=20, bar=False)
    kept.write_bytes(b"no state")
    with pytest.raises(DataError, match=r"run.safetensors is damaged .*: delete it to start"):
        fit(Noisy(), torch.rand(100, 4), resume=kept, **settings)
    history = fit(Noisy(), torch.rand(100, 4), resume=kept / "below a file", **settings)
    assert len(history.terms["loss"]) == 2


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
def test_a_recorded_step_is_the_step():
    x = torch.rand(400, 4, device="cuda")
    results = []
    for record in (True, False):
        torch.manual_seed(0)
        model = Noisy()
        if not record:
            model.loss = unrecordable(model.loss)
        fit(model, x, epochs=5, batch=20, precision="float32", bar=False)
        results.append(model.net.weight)
    assert torch.allclose(*results, atol=1e-5)


def unrecordable(loss):
    def reads_back(x):
        terms = loss(x)
        terms["loss"].item()
        return terms

    return reads_back
