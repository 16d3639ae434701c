"""Several processes, and runs that were cut off: the same loop, the same curve."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from companion.models import Decoder, Encoder
from companion.training import TrainingError, fit, kept

PRELUDE = """
    import json, os, signal, sys, torch
    from pathlib import Path
    from torch import nn
    from companion.training import TrainingError, fit, kept

    kept.EVERY = 0
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
    state = kept.Unfinished(Path(sys.argv[1]), {}) if len(sys.argv) > 1 else None
    settings = dict(epochs=25, batch=100, lr=0.01, precision="float32", bar=False, resume=state)
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
    state = tmp_path / "run.unfinished.pt"
    done = launch(2, state, dies="1")
    assert done.returncode != 0
    assert "one line: another process of this run has stopped" in done.stderr
    assert state.exists()
    again = launch(2, state)
    assert "Going on after epoch 15" in again.stdout
    assert curve(again)["loss"] == pytest.approx(whole["loss"], rel=1e-4)


def test_a_batch_that_does_not_divide_is_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(TrainingError, match="batch=50 does not divide among 3 processes"):
        fit(nn.Linear(2, 2), torch.rand(100, 2), epochs=1, batch=50)


class Noisy(nn.Module):
    """The skeleton, with noise on what it sees.

    Its weights are channels-last, and so must be the moments that are read back; its noise is thrown by
    dice that going on has to restore.
    """

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder, self.left = Encoder(4, width=4), Decoder(4, width=4), None

    def loss(self, x):
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        seen = x + 0.1 * torch.randn_like(x)
        return {"loss": (self.decoder(self.encoder(seen)) - x).square().flatten(1).sum(1).mean()}


def test_a_run_cut_off_half_way_ends_where_the_whole_one_ends(
    tmp_path, monkeypatch, images, capsys
):
    monkeypatch.setattr(kept, "EVERY", 0)
    settings = {"epochs": 6, "batch": 100, "bar": False, "average": 0.9, "skip": 5.0}

    def run(left=None, **more):
        torch.manual_seed(0)
        model = Noisy()
        model.left = left
        return model, fit(model, images, **settings, **more)

    state = lambda: kept.Unfinished(tmp_path / "run.unfinished.pt", {"lr": 2e-3})
    whole, wanted = run()
    _, part = run(left=11, resume=state())  # in the fourth epoch
    assert part.interrupted and len(part.terms["loss"]) == 4
    second, history = run(resume=state())
    assert "Going on after epoch 3" in capsys.readouterr().out
    assert history.terms == wanted.terms
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
def test_a_recorded_step_is_the_step():
    x = torch.rand(400, 1, 28, 28, device="cuda")
    results = []
    for record in (True, False):
        torch.manual_seed(0)
        model = Noisy()
        if not record:
            model.loss = unrecordable(model.loss)
        fit(model, x, epochs=5, batch=20, precision="float32", bar=False)
        results.append(model.decoder[0].weight)
    assert torch.allclose(*results, atol=1e-5)


def unrecordable(loss):
    def reads_back(x):
        terms = loss(x)
        terms["loss"].item()
        return terms

    return reads_back
