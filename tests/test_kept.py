"""What is kept is used while it fits, refused by name where it is damaged, and never lost in silence."""

import json
import os
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from companion.data import Images
from companion.training import (
    CheckpointError,
    TrainingError,
    fit,
    fit_each,
    fit_or_load,
    forget,
    gpu_tier,
    kept,
    measure_or_load,
)  # fmt: skip
from companion.training.mark import loss_with

ROOT = Path(__file__).resolve().parent.parent
SHORT = {"epochs": 2, "batch": 50, "bar": False}


class Model(nn.Module):
    scale = 1.0

    def __init__(self, latent_dim=3):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(16, latent_dim), nn.Linear(latent_dim, 16)

    def loss(self, x):
        return {"loss": self.scale * (self.decoder(self.encoder(x)) - x).square().sum(1).mean()}


class Doubled(Model):
    scale = 2.0


@pytest.fixture
def points():
    x = torch.rand(200, 16, generator=torch.Generator().manual_seed(0))
    return Images("points", x, torch.zeros(200), x[:10], torch.zeros(10), "made here")


def use(points, build=Model, name="t/model", **settings):
    return fit_or_load(name, build, points, **(SHORT | settings))


def total(model, x):
    return model.encoder(x).detach().sum(0)


def measured(points, model=Model, measure=total, items=None, name="t/total", **settings):
    settings = settings if isinstance(model, nn.Module) else SHORT | settings
    return measure_or_load(name, measure, model, points, items, few=5, **settings)


@pytest.fixture
def committed(folder, points, monkeypatch, capsys):
    """Weights and numbers as the repository has them: the path of the weights' note."""
    monkeypatch.setenv("COMPANION_RETRAIN", "t/")
    use(points), measured(points)
    monkeypatch.delenv("COMPANION_RETRAIN")
    capsys.readouterr()
    return folder / "checkpoints" / "t" / "model.points.json"


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_was_trained_is_loaded_to_the_bit_with_its_history(folder, points, capsys):
    model, history = use(points)
    again, loaded = use(points)
    said = capsys.readouterr().out
    assert "training on points (nothing is kept)" in said and "loaded, trained on points in" in said
    assert loaded.terms["loss"] == pytest.approx(history.terms["loss"], rel=1e-5)
    assert len(history.steps["loss"]) == 8 and loaded.steps == {} and not again.training
    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))
    note = json.loads((folder / "trained" / "t" / "model.points.json").read_text())
    assert note["mark"]["epochs"] == 2 and len(note["mark"]["steps of loss"]) == 8
    with pytest.raises(TrainingError, match="pass what builds the Model"):
        use(points, model)


def test_the_committed_are_used_and_never_written_and_yours_go_before_them(
    committed, folder, points, capsys
):
    before, said = files(folder), lambda: capsys.readouterr().out
    use(points), measured(points)
    assert files(folder) == before and "loaded" in said()
    use(points, lr=1e-3)
    assert "training on points (lr 0.002 → 0.001" in said()
    use(points, lr=1e-3)
    assert "loaded" in said()  # the reader's own, of the run before
    use(points, retrain=True)
    assert "training on points (as asked)" in said()
    measured(points, items=points.train)
    assert files(folder).items() >= before.items()
    assert forget("t/m") == ["t/model.points.json", "t/model.points.safetensors"]
    assert forget("t/") == ["t/total"] and files(folder) == before


def rewritten(note, **new):
    note.write_text(json.dumps(json.loads(note.read_text()) | new))


def flipped_bit(note):
    content = bytearray((weights := note.with_suffix(".safetensors")).read_bytes())
    content[-20] ^= 1
    weights.write_bytes(content)


DAMAGES = {  # what can have happened to a pair of files
    "one bit": flipped_bit,
    "truncated": lambda note: os.truncate(note.with_suffix(".safetensors"), 300),
    "no note": lambda note: note.unlink(),
    "half a note": lambda note: note.write_text(note.read_text()[:-20]),
    "a foreign note": lambda note: note.write_text('{"format": "pt"}'),
    "a list": lambda note: note.write_text("[]"),
    "the note of another file": lambda note: rewritten(note, sha256="0" * 64),
    "other weights": lambda note: rewritten(note, loss=1.0),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_pair_is_refused_by_name_until_the_reader_says_so(
    damage, committed, folder, points, capsys
):
    DAMAGES[damage](committed)
    before = files(folder)
    with pytest.raises(CheckpointError, match=r"model.points.*git checkout -- .*model.points") as e:
        use(points)
    assert "\n" not in str(e.value) and files(folder) == before
    assert "training" not in capsys.readouterr().out
    use(points, retrain=True), use(points)
    assert "loaded" in capsys.readouterr().out  # yours; the committed pair is as it was
    assert files(folder).items() >= before.items()


def test_damaged_numbers_are_refused_too(committed, points):
    (numbers := committed.with_name("numbers.points.json")).write_text("{")
    with pytest.raises(CheckpointError, match=r"numbers.points.json is missing or damaged .*git"):
        measured(points)
    numbers.unlink()
    assert len(measured(points)) == 3


def test_accept_writes_notes_and_no_weight(committed, points, monkeypatch, capsys):
    weights = committed.with_suffix(".safetensors").read_bytes()
    monkeypatch.setenv("COMPANION_ACCEPT", "t/")
    use(points, Doubled, lr=1e-3), measured(points, Doubled)
    said = capsys.readouterr().out
    assert "t/model: accepted, lr 0.002 → 0.001; step 1: loss" in said
    assert "t/total: accepted, step 1: loss" in said and "training" not in said
    with pytest.raises(CheckpointError, match="of another model"):
        use(points, partial(Model, 4), name="t/model")
    use(points, Doubled, lr=1e-3)
    monkeypatch.delenv("COMPANION_ACCEPT")
    capsys.readouterr()
    use(points, Doubled, lr=1e-3), measured(points, Doubled)
    assert "training" not in capsys.readouterr().out
    assert committed.with_suffix(".safetensors").read_bytes() == weights


class Stops(Model):
    """Ctrl-C in the middle of training, where `left` steps are done."""

    left = 0

    def loss(self, x):
        if torch.is_grad_enabled() and len(x) == 50:  # a step of training, not of the mark
            Stops.left -= 1
            if Stops.left == 0:
                raise KeyboardInterrupt
        return super().loss(x)


class StopsDoubled(Stops):
    scale = 2.0


def test_a_cut_off_run_goes_on_where_its_mark_is_the_same(folder, points, monkeypatch, capsys):
    monkeypatch.setattr(kept, "EVERY", 0)

    def stopped_then(build=Stops, **settings):
        forget("t/")
        Stops.left = 10
        use(points, Stops, epochs=5)  # four steps an epoch: stopped in the third
        assert "not saved, because it was interrupted" in capsys.readouterr().out
        model, _ = use(points, build, **{"epochs": 5} | settings)
        assert len(list((folder / "trained" / "t").iterdir())) == 2  # no state is left
        return "Going on after epoch 2" in capsys.readouterr().out, model

    whole, _ = use(points, Stops, epochs=5)
    went_on, model = stopped_then()
    assert went_on and torch.equal(model.encoder.weight, whole.encoder.weight)
    for change in ({"build": StopsDoubled}, {"lr": 1e-3}, {"retrain": True}):
        assert not stopped_then(**change)[0]
    (folder / "trained" / "t" / "model.points.unfinished.pt").write_bytes(b"no archive")
    with pytest.raises(CheckpointError, match=r"unfinished.pt is damaged .*delete it"):
        use(points, epochs=3)


def test_a_folder_that_cannot_be_written_costs_a_sentence(folder, points, capsys):
    (folder / "trained").write_text("a file where a folder should be")
    model, history = use(points)
    assert history.terms["loss"] and model.encoder.weight.isfinite().all()
    assert len(measured(points)) == 3
    assert capsys.readouterr().out.count("could not be written") == 2


@pytest.mark.slow
@pytest.mark.parametrize("room", [2_000, 9_000], ids=["for nothing", "for the weights"])
def test_a_disk_that_fills_costs_a_sentence_and_no_model(room, tmp_path):
    """A limit on the size of files stands for the full disk: the same error reaches the writers."""
    code = f"""
        import resource, signal, torch
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        from companion.training import fit_or_load, kept
        from torch import nn
        kept.EVERY = 0
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = nn.Linear(50, 50)
            def loss(self, x):
                return {{"loss": (self.net(x) - x).square().sum(1).mean()}}
        resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
        model, history = fit_or_load("t/m", Model, torch.rand(100, 50), epochs=5, batch=20, bar=False)
        print(len(history.terms["loss"]), model.net.weight.isfinite().all().item())
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    environment = os.environ | {"COMPANION_TRAINED": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1:] == ["5 True"], done.stderr
    assert done.stdout.count("a run cut off starts anew") == 1
    assert done.stdout.count("the result is only in memory") == (room < 5_000)
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == ([] if room < 5_000 else ["m.tensor.json", "m.tensor.safetensors"])


class Tied(Model):
    def __init__(self):
        super().__init__(16)
        self.decoder.weight = self.encoder.weight
        self.norm = self.again = nn.BatchNorm1d(16)
        self.register_buffer("seen", torch.zeros(4, 4))
        self.register_buffer("row", self.seen[0])

    def loss(self, x):
        return super().loss(self.again(x) + self.row.sum())


def test_tensors_that_share_their_memory_are_kept(folder, points, monkeypatch, capsys):
    monkeypatch.setattr(kept, "EVERY", 0)
    model, again = (use(points, Tied)[0] for _ in range(2))
    said = capsys.readouterr().out
    assert "loaded" in said and "could not" not in said
    assert again.decoder.weight is again.encoder.weight
    assert torch.equal(again.encoder.weight, model.encoder.weight)


class Counter(Model):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.tensor(65_530.0))
        self.tiny = nn.Parameter(torch.tensor(2e-8))

    def loss(self, x):
        self.count += 1
        return super().loss(x + 0 * self.tiny)


class Orthogonal(Model):
    """A decoder that undoes the encoder exactly: any rounding multiplies the loss."""

    def __init__(self):
        super().__init__(16)
        nn.utils.parametrizations.orthogonal(self.encoder)
        self.decoder.weight.data = self.encoder.weight.detach().T.contiguous()
        self.encoder.bias.data.zero_(), self.decoder.bias.data.zero_()


def test_what_half_precision_would_lose_is_kept_whole(folder, points):
    model, again = (use(points, Counter)[0] for _ in range(2))
    assert again.count == model.count > 65_504 and again.count.isfinite() and again.tiny > 0
    assert kept.halved(torch.rand(9)).dtype == torch.float16
    for value in (torch.tensor([1e5]), torch.tensor([2e-8]), torch.tensor(7)):
        assert kept.halved(value).dtype == value.dtype
    model, again = (use(points, Orthogonal, "t/turn", lr=1e-7)[0] for _ in range(2))
    assert loss_with(model, points, False) == loss_with(again, points, False) < 1e-9


@pytest.mark.parametrize("trained", [True, False], ids=["of weights", "of a training"])
def test_numbers_are_kept_while_nothing_they_depend_on_changes(trained, folder, points, capsys):
    model = use(points)[0] if trained else Model
    first = measured(points, model)
    measured(points, model, name="t/other"), capsys.readouterr()  # in the same file
    assert torch.equal(measured(points, model), first)
    assert "on points (" not in capsys.readouterr().out
    assert torch.allclose(first, total(use(points)[0], points.test), atol=1e-2)
    numbers = folder / "trained" / "t" / "numbers.points.json"
    before, others = numbers.read_bytes(), torch.cat([points.test[:5], points.train[:5]])
    changes = [{"measure": lambda model, x: 1.05 * total(model, x)}, {"items": others}]
    more = [{"model": Doubled}, {"lr": 1e-3}, {"seed": 1}, {"moments": (0, 8)}]
    for change in changes + ([] if trained else more):
        numbers.write_bytes(before), capsys.readouterr()
        found = measured(points, **{"model": model} | change)
        said = capsys.readouterr().out
        assert "on points (" in said and "nothing is kept" not in said, change
    assert trained or (found.shape == (2, 3) and torch.equal(found[1], first))
    if trained:
        model.encoder.weight.data += 1
        assert torch.equal(measured(points, model), total(model, points.test))
        assert "weights" in capsys.readouterr().out


def test_a_measure_may_return_a_dict_and_take_several_items_and_throw_dice(folder, points, capsys):
    def both(model, x, y):
        return {"numbers": total(model, x) / 3, "pixels": (255 * y).byte(), "noise": torch.randn(2)}

    model, _ = use(points)
    first, again = (measured(points, model, both, (points.train, points.test)) for _ in "12")
    assert capsys.readouterr().out.count("measuring") == 1
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert again["pixels"].dtype == torch.uint8 and again["numbers"].dtype == torch.float32


def test_numbers_of_an_interrupted_training_are_not_kept(folder, points, capsys):
    def stop(step, model):
        raise KeyboardInterrupt

    measured(points, moments=(3,), watch=stop)
    assert "not kept, because training was interrupted" in capsys.readouterr().out
    assert not list((folder / "trained").rglob("numbers*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU trains it")
def test_the_gpu_tier_is_loaded_where_it_was_committed_and_never_trained_on_a_cpu(
    folder, points, committed, capsys
):
    large = lambda **more: gpu_tier("t/model", Model, points, **SHORT | more)
    assert large() is None
    words = "t/model-gpu: left out, for it is trained on a GPU only (nothing is kept)"
    assert words in capsys.readouterr().out
    for path in (committed, committed.with_suffix(".safetensors")):
        path.rename(path.with_name(f"model-gpu.points{path.suffix}"))
    assert torch.equal(large().encoder.weight, use(points)[0].encoder.weight)
    assert large(epochs=3) is None and "epochs 2 → 3" in capsys.readouterr().out


def test_each_of_several_is_the_model_that_it_would_be_alone(folder, points):
    found = fit_each("t/model {}", Model, [2, 3], points, seed=3, **SHORT)
    torch.manual_seed(3)
    fit(alone := Model(2), points, seed=3, **SHORT)
    assert torch.allclose(found[2].encoder.weight, alone.encoder.weight, rtol=1e-3)
    fit_each("t/{}", lambda key: Model(), ["salt and pepper"], points, **SHORT)
    assert (folder / "trained" / "t" / "salt-and-pepper.points.json").exists()


def test_every_committed_file_is_sound():
    weights = sorted((ROOT / "data" / "checkpoints").rglob("*.safetensors"))
    notes = set((ROOT / "data" / "checkpoints").rglob("*.json"))
    numbers = {path for path in notes if path.name.startswith("numbers.")}
    assert len(weights) > 100 and {path.with_suffix(".json") for path in weights} == notes - numbers
    for path in weights:
        note = kept.read(path.with_suffix(".json"))
        assert note["sha256"] == kept.sha256(path.read_bytes()).hexdigest()
        assert {"mark", "loss", "history"} <= note.keys()
    for path in numbers:
        entries = {k: v for k, v in kept.read(path).items() if k != "format"}
        assert all({"mark", "result"} <= entry.keys() for entry in entries.values())
