import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from companion.data import Images
from companion.training import (
    CheckpointError,
    TrainingError,
    fit,
    fit_and_measure,
    fit_or_load,
    forget,
    gpu_tier,
    measure_or_load,
    notes,
    resume,
)

ROOT = Path(__file__).resolve().parent.parent


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


def use(points, model=None, name="t/model", **settings):
    torch.manual_seed(0)
    settings = {"epochs": 2, "batch": 50, "bar": False} | settings
    return fit_or_load(name, model or Model(), points, **settings)


def yours(folder):
    return folder / "trained" / "t" / "model.points.safetensors"


@pytest.fixture
def committed(folder, points, capsys):
    """A checkpoint as the repository has it, trained here: the path of its weights."""
    use(points)
    path = folder / "checkpoints" / "t" / "model.points.safetensors"
    path.parent.mkdir(parents=True)
    yours(folder).with_suffix(".json").rename(path.with_suffix(".json"))
    capsys.readouterr()
    return yours(folder).rename(path)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_was_trained_is_loaded_with_its_history(folder, points, capsys):
    model, history = use(points)
    again, loaded = use(points)
    assert "training on points (no checkpoint)" in capsys.readouterr().out
    assert loaded.terms["loss"] == pytest.approx(history.terms["loss"], rel=1e-5)
    assert loaded.seconds == history.seconds and not again.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])  # to the bit: both are rounded to half


def test_the_committed_checkpoint_is_used_and_never_written(committed, folder, points, capsys):
    before = files(folder)
    use(points)
    assert re.search(r"t/model: loaded, trained on points in \d+ s on", capsys.readouterr().out)
    assert files(folder) == before
    use(points, lr=1e-3)
    assert "training on points (lr 0.002 → 0.001)" in capsys.readouterr().out
    use(points, lr=1e-3)
    assert "loaded" in capsys.readouterr().out  # the reader's own, of the run before
    assert {path: now for path, now in files(folder).items() if path in before} == before


def test_yours_goes_before_the_committed_one(committed, folder, points):
    use(points, retrain=True)
    state = notes.read_tensors(yours(folder))
    state["decoder.bias"] += 0.0001  # a reader's run on another machine: as good, not the same
    notes.write(state, notes.read_note(yours(folder)), yours(folder))
    model, _ = use(points)
    assert torch.equal(model.decoder.bias, state["decoder.bias"].float())
    forget("t/")
    model, _ = use(points)
    assert torch.equal(model.decoder.bias, notes.read_tensors(committed)["decoder.bias"].float())


def test_forget_deletes_yours_under_a_name_and_nothing_else(committed, folder, points):
    use(points, retrain=True)
    use(points, name="t/other")
    assert forget("t/mo") == ["t/model.points.json", "t/model.points.safetensors"]
    assert committed.exists() and (folder / "trained" / "t" / "other.points.safetensors").exists()
    assert forget("t/mo") == []


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"epoch": 2}, "fit has no setting epoch: choose among epochs, batch, lr"),
        ({"retrian": True}, "fit has no setting retrian"),
    ],
)
def test_a_setting_that_fit_does_not_have_is_named_also_where_a_checkpoint_would_load(
    settings, words, committed, points
):
    with pytest.raises(TrainingError, match=words):
        use(points, **settings)
    with pytest.raises(TrainingError, match="epochs= is missing"):
        fit_or_load("t/model", Model(), points)


def test_a_model_of_other_layers_trains_anew_and_says_which(committed, points, capsys):
    use(points, Model(latent_dim=4))
    assert "(encoder.weight (3, 16) → (4, 16)" in capsys.readouterr().out

    class Deeper(Model):
        def __init__(self):
            super().__init__()
            self.more = nn.Linear(3, 3)

    use(points, Deeper())
    assert "more.weight is new" in capsys.readouterr().out


def test_a_constant_in_a_buffer_that_is_not_kept_stays_as_built(committed, points, capsys):
    class Centred(Model):
        def __init__(self, mean):
            super().__init__()
            self.register_buffer("mean", torch.full((16,), mean), persistent=False)

        def loss(self, x):
            return super().loss(x - self.mean)

    use(points, Centred(0.0))
    assert "loaded" in capsys.readouterr().out
    model, _ = use(points, Centred(0.5))
    assert "training" in capsys.readouterr().out and model.mean[0] == 0.5


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_one_flipped_bit_is_refused_by_name(place, folder, points):
    path = folder / "trained" / "t" / "wide.points.safetensors"
    use(points, Model(latent_dim=200), name="t/wide")
    content = bytearray(path.read_bytes())
    assert len(content) > 10_000
    at = {"first": 512, "middle": len(content) // 2, "last": len(content) - 512}[place]
    content[at] ^= 1
    path.write_bytes(content)
    before = files(folder)
    with pytest.raises(
        CheckpointError, match=r"wide.points.safetensors is not the file .*--forget"
    ):
        use(points, Model(latent_dim=200), name="t/wide")
    assert files(folder) == before


def damaged_pairs():
    """What can have happened to a pair of files: {name: function of the weights' path}."""

    def truncated(path):
        path.write_bytes(path.read_bytes()[:-40])

    def without_note(path):
        path.with_suffix(".json").unlink()

    def cut_note(path):
        path.with_suffix(".json").write_text(path.with_suffix(".json").read_text()[:-20])

    def foreign_note(path):
        path.with_suffix(".json").write_text('{"format": "pt"}')

    def list_for_a_note(path):
        path.with_suffix(".json").write_text("[]")

    def note_of_another_file(path):
        note = json.loads(path.with_suffix(".json").read_text()) | {"sha256": "0" * 64}
        path.with_suffix(".json").write_text(json.dumps(note))

    return truncated, without_note, cut_note, foreign_note, list_for_a_note, note_of_another_file


@pytest.mark.parametrize("damage", damaged_pairs(), ids=lambda damage: damage.__name__)
def test_a_pair_that_does_not_agree_is_refused_until_the_reader_says_so(
    damage, committed, folder, points, capsys
):
    damage(committed)
    before = files(folder)
    with pytest.raises(CheckpointError, match=r"model.points.*git checkout -- .*model.points") as e:
        use(points)
    assert len(str(e.value).splitlines()) == 1
    assert files(folder) == before and "training" not in capsys.readouterr().out
    use(points, retrain=True)
    use(points)
    assert "loaded" in capsys.readouterr().out  # yours; the committed pair is as it was
    assert {path: now for path, now in files(folder).items() if path in before} == before


def test_a_crash_between_the_two_files_costs_a_sentence(folder, points, monkeypatch):
    use(points)

    def killed(note, path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(notes, "write_note", killed)
        notes.write({"a": torch.ones(3)}, {}, yours(folder))
    with pytest.raises(CheckpointError, match=r"cut off between two writes: retrain=True"):
        use(points)
    use(points, retrain=True)
    use(points)


def test_retrain_trains_whatever_is_there_and_spares_the_committed(
    committed, folder, points, capsys
):
    before = committed.read_bytes()
    use(points, retrain=True)
    assert "training on points (as asked)" in capsys.readouterr().out
    assert committed.read_bytes() == before and yours(folder).exists()


def test_companion_retrain_writes_the_committed_one(committed, folder, points, monkeypatch):
    before = os.stat(committed).st_ino
    monkeypatch.setenv("COMPANION_RETRAIN", "t/mo")
    use(points)
    assert os.stat(committed).st_ino != before
    monkeypatch.setenv("COMPANION_RETRAIN", "u")
    use(points, lr=1e-3)
    assert yours(folder).exists()


def test_accept_writes_the_note_and_no_weight(committed, folder, points, monkeypatch, capsys):
    weights = committed.read_bytes()
    monkeypatch.setenv("COMPANION_ACCEPT", "t/mo")
    use(points)
    assert "t/model: accepted, nothing has moved" in capsys.readouterr().out
    use(points, Doubled(), lr=1e-3)
    said = capsys.readouterr().out
    assert "accepted, lr 0.002 → 0.001; loss on the same images" in said and "loaded" in said
    monkeypatch.delenv("COMPANION_ACCEPT")
    use(points, Doubled(), lr=1e-3)
    assert "loaded" in capsys.readouterr().out and committed.read_bytes() == weights
    monkeypatch.setenv("COMPANION_ACCEPT", "t/mo")
    with pytest.raises(CheckpointError, match=r"holds another model .*train it anew"):
        use(points, Model(latent_dim=4))


class Stops(Model):
    """Ctrl-C in the middle of training, where `left` steps are done."""

    left = 0

    def loss(self, x):
        if torch.is_grad_enabled() and len(x) == 50:  # a step of training, not a look at 32 items
            Stops.left -= 1
            if Stops.left == 0:
                raise KeyboardInterrupt
        return super().loss(x)


def test_a_cut_off_run_goes_on_also_for_companion_retrain(folder, points, monkeypatch, capsys):
    monkeypatch.setattr(resume, "EVERY", 0)
    monkeypatch.setenv("COMPANION_RETRAIN", "t/mo")
    Stops.left = 10
    use(points, Stops(), epochs=5)  # four steps an epoch: stopped in the third
    assert "not saved, because it was interrupted" in capsys.readouterr().out
    use(points, Stops(), epochs=5)
    assert "Going on after epoch 2" in capsys.readouterr().out
    assert not list((folder / "trained" / "t").iterdir())
    assert (folder / "checkpoints" / "t" / "model.points.safetensors").exists()
    Stops.left = 10
    use(points, Stops(), epochs=5)
    use(points, Stops(), epochs=5, retrain=True)  # asked for by name: from the start
    assert "Going on" not in capsys.readouterr().out


def test_an_unfinished_run_of_other_code_or_settings_is_not_gone_on_with(
    folder, points, monkeypatch, capsys
):
    monkeypatch.setattr(resume, "EVERY", 0)

    class Other(Stops):
        scale = 2.0

    for model, settings in ((Other, {}), (Stops, {"lr": 1e-3})):
        Stops.left = 10
        use(points, Stops(), epochs=5)
        use(points, model(), epochs=5, **settings)
        assert "Going on" not in capsys.readouterr().out
        forget("t/")


def test_a_folder_that_cannot_be_written_keeps_the_model_in_memory(folder, points, capsys):
    (folder / "trained").write_text("a file where a folder should be")
    model, history = use(points)
    assert history.terms["loss"] and model.encoder.weight.isfinite().all()
    assert "could not be written" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("room", [2_000, 12_000], ids=["for nothing", "for the state"])
def test_a_disk_that_fills_costs_a_sentence_and_no_model(room, tmp_path):
    """A limit on the size of files stands for the full disk: the same error reaches the writers."""
    code = f"""
        import resource, signal, torch
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        from companion.training import fit_or_load, resume
        from torch import nn
        resume.EVERY = 0
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.net = nn.Linear(50, 50)
            def loss(self, x):
                return {{"loss": (self.net(x) - x).square().sum(1).mean()}}
        resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
        model, history = fit_or_load("t/m", Model(), torch.rand(100, 50), epochs=5, batch=20, bar=False)
        print(len(history.terms["loss"]), model.net.weight.isfinite().all().item())
    """
    environment = os.environ | {"COMPANION_TRAINED": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment
    )  # fmt: skip
    assert done.stdout.splitlines()[-1:] == ["5 True"], done.stderr
    assert done.stdout.count("if this run stops, it starts anew") == 1
    assert done.stdout.count("the result is only in memory") == (room < 5_000)
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert not [name for name in left if name.startswith(".partial") or "unfinished" in name]


def test_the_writers_of_weights_fail_with_an_error_of_their_own(
    folder, points, monkeypatch, capsys
):
    """safetensors raises SafetensorError, no OSError, on a full disk."""

    def full(*_):
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr(notes, "save_file", full)
    monkeypatch.setattr(resume, "save_file", full)
    monkeypatch.setattr(resume, "EVERY", 0)
    _, history = use(points)
    assert len(history.terms["loss"]) == 2
    said = capsys.readouterr().out
    assert said.count("No space left on device") == 2


def test_kill_9_in_the_middle_of_a_write_keeps_the_old_checkpoint(tmp_path):
    path = tmp_path / "model.safetensors"
    code = f"""
        import os, signal, torch
        from pathlib import Path
        from safetensors.torch import save_file
        from companion.data.files import write_atomically
        write_atomically(Path({str(path)!r}), lambda t: save_file({{"a": torch.ones(3)}}, t))
        def dies(temporary):
            open(temporary, "wb").write(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        write_atomically(Path({str(path)!r}), dies)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    with safe_open(path, "pt") as file:
        assert file.get_tensor("a").tolist() == [1, 1, 1]


def test_checkpoints_are_half_precision_and_their_note_tells_their_story(committed):
    assert notes.read_tensors(committed)["encoder.weight"].dtype == torch.float16
    text = committed.with_suffix(".json").read_text()
    note = json.loads(text)
    assert note["settings"]["epochs"] == 2 and note["settings"]["lr"] == 0.002
    assert note["data"]["items"] == 200 and len(note["history"]["terms"]["loss"]) == 2
    assert "encoder.weight" in note["behaviour"]["loss"]["1"]["gradients"]
    assert len(text.splitlines()) < 60  # a list of numbers is one line of a diff


def test_weights_go_where_the_environment_says(tmp_path):
    code = "from companion.training import notes; print(notes.TRAINED)"
    environment = os.environ | {"COMPANION_TRAINED": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.stdout.decode().strip() == str(tmp_path)


COMMITTED = sorted((ROOT / "data" / "checkpoints").rglob("*.safetensors"))


def test_every_committed_file_has_a_note_that_agrees_with_it():
    assert len(COMMITTED) > 100
    for path in COMMITTED:
        note = notes.read_note(path)  # sha256 and all
        assert {"behaviour", "settings", "data", "history"} <= note.keys() or "spot" in note
    alone = {p.with_suffix("") for p in (ROOT / "data" / "checkpoints").rglob("*.json")}
    assert alone == {path.with_suffix("") for path in COMMITTED}


def doubled(model, x):
    return 2 * model.encoder(x).detach().sum(1)


def measured(points, model, measure=doubled, items=None):
    return measure_or_load("t/sums", model, points, measure, items)


def test_a_measure_is_kept_while_nothing_it_depends_on_changes(folder, points, capsys):
    model, _ = use(points)
    first = measured(points, model)
    assert "t/sums: measuring on points" in capsys.readouterr().out
    assert torch.equal(measured(points, model), first)
    assert torch.equal(first, doubled(model, points.test))
    assert "loaded, measured before" in capsys.readouterr().out


def test_a_measure_of_other_weights_code_or_items_is_made_anew(folder, points, capsys):
    model, _ = use(points)
    measured(points, model)
    capsys.readouterr()
    measured(points, model, lambda model, x: 1.5 * doubled(model, x))
    assert "measuring on points" in capsys.readouterr().out
    assert torch.equal(measured(points, model), doubled(model, points.test))
    assert "mean of the first items" in capsys.readouterr().out
    measured(points, model, items=points.train)
    assert "other items" in capsys.readouterr().out
    measured(points, model)
    model.encoder.weight.data += 1
    assert torch.equal(measured(points, model), doubled(model, points.test))
    assert "other weights" in capsys.readouterr().out


def test_a_noisy_measure_is_known_by_its_spot(folder, points, capsys):
    def noisy(model, x):
        return doubled(model, x) + torch.randn(len(x))

    model, _ = use(points)
    torch.manual_seed(1)
    kept = measured(points, model, noisy)
    torch.manual_seed(2)
    assert torch.equal(measured(points, model, noisy), kept)
    assert "loaded" in capsys.readouterr().out


def test_a_measure_asked_for_by_retrain_is_committed_and_by_accept_is_only_noted(
    folder, points, monkeypatch, capsys
):
    model, _ = use(points)
    monkeypatch.setenv("COMPANION_RETRAIN", "t/sums")
    measured(points, model)
    path = folder / "checkpoints" / "t" / "sums.points.safetensors"
    content = path.read_bytes()
    monkeypatch.delenv("COMPANION_RETRAIN")
    monkeypatch.setenv("COMPANION_ACCEPT", "t/sums")
    measured(points, model, lambda model, x: 3 * doubled(model, x))
    monkeypatch.delenv("COMPANION_ACCEPT")
    measured(points, model, lambda model, x: 3 * doubled(model, x))
    assert "measuring" not in capsys.readouterr().out.split("t/sums: accepted")[1]
    assert path.read_bytes() == content


def test_a_small_file_system_is_what_the_limit_imitates(tmp_path):
    """The limit on file sizes above raises what a full file system raises, where one can be mounted."""
    room = tmp_path / "small"
    room.mkdir()
    mount = shutil.which("mount")
    if (
        os.geteuid()
        or not mount
        or subprocess.run(
            [mount, "-t", "tmpfs", "-o", "size=8k", "tmpfs", room], capture_output=True
        ).returncode
    ):
        pytest.skip("no right to mount a file system")
    try:
        with pytest.raises((OSError, SafetensorError)):
            notes.write_atomically(
                room / "a", lambda name: notes.save_file({"a": torch.ones(10_000)}, name)
            )
        notes.write({"a": torch.ones(10_000)}, {}, room / "b.safetensors")
        assert not list(room.iterdir())
    finally:
        subprocess.run(["umount", room], check=True)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] < 0  # the limit was its own process's


def total_of(model, x):
    return model.encoder(x).detach().sum(0)


def in_place_of_weights(points, model=None, measure=total_of, items=None, **settings):
    torch.manual_seed(0)
    settings = {"epochs": 2, "batch": 50, "bar": False} | settings
    return fit_and_measure("t/sweep", model or Model(), points, measure, items, **settings)


def test_numbers_are_kept_in_place_of_a_model(folder, points, capsys):
    first = in_place_of_weights(points)
    assert "t/sweep: training on points (no file)" in capsys.readouterr().out
    trained, _ = use(points)
    assert torch.allclose(first, total_of(trained, points.test), atol=1e-2)
    capsys.readouterr()
    assert torch.equal(in_place_of_weights(points), first)
    assert not capsys.readouterr().out
    files = [path.name for path in (folder / "trained" / "t").glob("sweep*.safetensors")]
    assert files == ["sweep.points.safetensors"]
    assert not [n for n in files if "unfinished" in n]


@pytest.mark.parametrize(
    "change",
    [
        lambda points: in_place_of_weights(points, Doubled()),
        lambda points: in_place_of_weights(points, Model(latent_dim=4)),
        lambda points: in_place_of_weights(points, epochs=3),
        lambda points: in_place_of_weights(points, measure=lambda m, x: 1.1 * total_of(m, x)),
        lambda points: in_place_of_weights(points, items=points.train),
        lambda points: in_place_of_weights(points.first(100)),
    ],
)
def test_what_the_numbers_depend_on_makes_them_anew(folder, points, capsys, change):
    in_place_of_weights(points)
    capsys.readouterr()
    change(points)
    assert "t/sweep: training on points" in capsys.readouterr().out


def test_numbers_of_an_interrupted_training_are_not_kept(folder, points, capsys):
    def stop(step, model):
        raise KeyboardInterrupt

    found = in_place_of_weights(points, moments=(3,), watch=stop)
    assert found.shape == (3,)
    assert "not kept, because training was interrupted" in capsys.readouterr().out
    assert not list((folder / "trained").rglob("sweep*"))


def large(points, **settings):
    torch.manual_seed(0)
    return gpu_tier(
        "t/model", Model(), points, **{"epochs": 2, "batch": 50, "bar": False} | settings
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU trains it")
def test_the_gpu_tier_is_loaded_where_it_was_committed_and_never_trained_on_a_cpu(
    folder, points, committed, capsys, monkeypatch
):
    assert large(points) is None
    assert (
        "t/model-gpu: left out, for it is trained on a GPU only (no checkpoint)"
        in capsys.readouterr().out
    )
    monkeypatch.setenv("COMPANION_ACCEPT", "t/")
    assert large(points) is None  # nothing committed to accept
    monkeypatch.delenv("COMPANION_ACCEPT")
    for suffix in (".json", ".safetensors"):
        path = committed.with_suffix(suffix)
        path.rename(path.with_name(f"model-gpu.points{suffix}"))
    found = large(points)
    assert torch.equal(found.encoder.weight, use(points)[0].encoder.weight)
    capsys.readouterr()
    assert large(points, epochs=3) is None and "epochs 2 → 3" in capsys.readouterr().out


def test_each_step_is_in_the_history_of_a_run_and_in_no_file(folder, points):
    torch.manual_seed(0)
    history = fit(Model(), points, epochs=2, batch=50, bar=False)
    steps = torch.tensor(history.steps["loss"])
    assert len(steps) == 8
    assert steps.view(2, 4).mean(1).tolist() == pytest.approx(history.terms["loss"])
    use(points)
    assert "steps" not in json.loads(yours(folder).with_suffix(".json").read_text())["history"]
    assert use(points)[1].steps == {}
