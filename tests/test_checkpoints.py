import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from companion import resume
from companion.checkpoints import (
    CheckpointError,
    bare_source,
    differences,
    fingerprint,
    fit_or_load,
    measure_or_load,
)
from companion.data import Images

SCALE = 1.0


class Model(nn.Module):
    def __init__(self, axes=3):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(16, axes), nn.Linear(axes, 16)

    def loss(self, x):
        return {"loss": SCALE * (self.decoder(self.encoder(x)) - x).square().sum(1).mean()}


@pytest.fixture
def points():
    x = torch.rand(200, 16, generator=torch.Generator().manual_seed(0))
    return Images("points", x, torch.zeros(200), x[:10], torch.zeros(10), "made here")


def use(points, model=None, **settings):
    torch.manual_seed(0)
    settings = {"epochs": 2, "batch": 50, "progress": False} | settings
    return fit_or_load("t/model", model or Model(), points, **settings)


def committed(folder, points):
    """A checkpoint as the repository has it, trained here."""
    use(points)
    source = folder / "trained" / "t" / "model.points.safetensors"
    path = folder / "checkpoints" / "t" / source.name
    path.parent.mkdir(parents=True)
    return source.rename(path)


def test_what_was_trained_is_loaded_with_its_history(folder, points, capsys):
    model, history = use(points)
    again, loaded = use(points)
    assert "training on points (no checkpoint)" in capsys.readouterr().out
    assert loaded == history and not again.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])  # to the bit: both are rounded to half


def test_the_committed_checkpoint_is_used_and_never_written(folder, points, capsys):
    path = committed(folder, points)
    before = path.read_bytes()
    use(points)
    assert "t/model: loaded, trained on points in 0 s" in capsys.readouterr().out
    use(points, lr=1e-3)
    assert "training on points (lr 0.002 -> 0.001)" in capsys.readouterr().out
    use(points, lr=1e-3)
    assert "loaded" in capsys.readouterr().out  # the reader's own, of the run before
    assert path.read_bytes() == before


def test_an_edited_loss_trains_anew_and_says_why(folder, points, capsys):
    committed(folder, points)

    class Edited(Model):
        def loss(self, x):
            return {"loss": 2 * (self.decoder(self.encoder(x)) - x).square().sum(1).mean()}

    use(points, Edited())
    assert "code of Edited.loss changed" in capsys.readouterr().out
    use(points, Model(axes=4))
    assert "layers changed" in capsys.readouterr().out


def test_a_constant_that_the_loss_reads_counts(points, monkeypatch):
    old = fingerprint(Model(), points, {})
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 3.0)
    new = fingerprint(Model(), points, {})
    assert differences(old, new) == ["SCALE 1.0 -> 3.0"]


def test_a_global_that_shares_its_name_with_an_attribute_does_not_count(points, monkeypatch):
    old = fingerprint(Model(), points, {})
    monkeypatch.setattr(sys.modules[__name__], "encoder", 3.0, raising=False)
    assert differences(old, fingerprint(Model(), points, {})) == []


def half_of(x):
    return x / 2


def third_of(x):
    return x / 3


def test_a_function_that_a_model_was_given_counts(points):
    first, second = Model(), Model()
    first.corrupt, second.corrupt = half_of, third_of
    changes = differences(fingerprint(first, points, {}), fingerprint(second, points, {}))
    assert changes == ["code of half_of changed", "code of third_of changed"]


def test_other_data_count(points):
    old = fingerprint(Model(), points, {})
    new = fingerprint(Model(), points.train[:150], {})
    assert differences(old, new) == ["data points [(200, 16)] -> tensor [(150, 16)]"]


def test_comments_docstrings_and_layout_do_not_count(tmp_path):
    first = """
def loss(x, y):
    return {"loss": (x - y).sum()}  # why
"""
    second = '''
def loss(x,
         y):
    """What."""

    # and more
    return {"loss":
            (x - y).sum()}
'''
    third = first.replace("-", "+")
    sources = []
    for number, text in enumerate((first, second, third)):
        path = tmp_path / f"m{number}.py"
        path.write_text(text)
        names = {}
        exec(compile(text, str(path), "exec"), names)
        sources.append(bare_source(names["loss"]))
    assert sources[0] == sources[1] != sources[2]


def test_indentation_counts(tmp_path):
    inside = "def f(x):\n    if x:\n        x = 1\n        x = 2\n    return x\n"
    outside = "def f(x):\n    if x:\n        x = 1\n    x = 2\n    return x\n"
    sources = []
    for number, text in enumerate((inside, outside)):
        path = tmp_path / f"m{number}.py"
        path.write_text(text)
        names = {}
        exec(compile(text, str(path), "exec"), names)
        sources.append(bare_source(names["f"]))
    assert sources[0] != sources[1]


def test_a_truncated_checkpoint_is_refused_by_name_and_left_alone(folder, points):
    path = committed(folder, points)
    path.write_bytes(path.read_bytes()[:-40])
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"model.points.safetensors is damaged .*: delete it"):
        use(points)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "metadata",
    [None, {"format": "pt"}, {"companion": "{}"}, {"companion": "{"}, {"companion": "[]"}],
)
def test_a_foreign_checkpoint_is_refused_by_name(folder, points, metadata):
    path = committed(folder, points)
    save_file({"a": torch.zeros(3)}, path, metadata)
    with pytest.raises(
        CheckpointError, match=r"model.points.safetensors is (no checkpoint|damaged)"
    ):
        use(points)


def test_a_checkpoint_of_another_shape_is_refused_by_name(folder, points):
    path = committed(folder, points)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file({"encoder.weight": torch.zeros(3, 15)}, path, metadata)
    with pytest.raises(CheckpointError, match=r"model.points.safetensors holds another model"):
        use(points)


def test_retrain_trains_whatever_is_there_and_spares_the_committed(folder, points, capsys):
    path = committed(folder, points)
    before = path.read_bytes()
    use(points, retrain=True)
    assert "training on points (as asked)" in capsys.readouterr().out
    assert path.read_bytes() == before and (folder / "trained" / "t").is_dir()


def test_companion_retrain_writes_the_committed_one(folder, points, monkeypatch):
    path = committed(folder, points)
    before = os.stat(path).st_ino
    monkeypatch.setenv("COMPANION_RETRAIN", "t/mo")
    use(points)
    assert os.stat(path).st_ino != before
    monkeypatch.setenv("COMPANION_RETRAIN", "u")
    use(points, lr=1e-3)
    assert (folder / "trained" / "t" / path.name).exists()


def test_a_cut_off_run_goes_on_also_for_companion_retrain(folder, points, monkeypatch, capsys):
    monkeypatch.setattr(resume, "EVERY", 0)
    monkeypatch.setenv("COMPANION_RETRAIN", "t/mo")

    class Stops(Model):
        left = 10

        def loss(self, x):
            Stops.left -= 1
            if Stops.left == 0:
                raise KeyboardInterrupt
            return super().loss(x)

    use(points, Stops(), epochs=5)  # four steps an epoch: stopped in the third
    use(points, Stops(), epochs=5)
    assert "Going on after epoch 2" in capsys.readouterr().out
    assert [path.name for path in (folder / "trained" / "t").iterdir()] == []
    assert (folder / "checkpoints" / "t" / "model.points.safetensors").exists()
    Stops.left = 10
    use(points, Stops(), epochs=5)
    use(points, Stops(), epochs=5, retrain=True)  # asked for by name: from the start
    assert "Going on" not in capsys.readouterr().out


def test_an_interrupted_run_saves_nothing(folder, points, capsys):
    class Stops(Model):
        def loss(self, x):
            raise KeyboardInterrupt

    use(points, Stops())
    assert "not saved, because it was interrupted" in capsys.readouterr().out
    assert not (folder / "trained").exists()


def test_a_folder_that_cannot_be_written_keeps_the_model_in_memory(folder, points, capsys):
    (folder / "trained").write_text("a file where a folder should be")
    model, history = use(points)
    assert history.terms["loss"] and model.encoder.weight.isfinite().all()
    assert "could not be written" in capsys.readouterr().out


def test_kill_9_in_the_middle_of_a_write_keeps_the_old_checkpoint(tmp_path):
    path = tmp_path / "model.safetensors"
    code = f"""
        import os, signal, torch
        from pathlib import Path
        from safetensors.torch import save_file
        from companion.data import write_atomically
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


def test_checkpoints_are_half_precision_and_carry_their_story(folder, points):
    path = committed(folder, points)
    with safe_open(path, "pt") as file:
        assert file.get_tensor("encoder.weight").dtype == torch.float16
        note = json.loads(file.metadata()["companion"])
    assert note["fingerprint"]["epochs"] == "2" and note["fingerprint"]["lr"] == "0.002"
    assert len(note["history"]["terms"]["loss"]) == 2


FACTOR = 2.0


def doubled(model):
    return FACTOR * model.encoder.weight.detach().sum(1)


def measured(points, model, measure=doubled):
    return measure_or_load("t/sums", model, points, measure)


def test_a_measure_is_kept_while_nothing_it_depends_on_changes(folder, points, capsys):
    model, _ = use(points)
    first = measured(points, model)
    assert "t/sums: measuring on points" in capsys.readouterr().out
    assert torch.equal(measured(points, model), first) and torch.equal(first, doubled(model))
    assert "loaded, measured before" in capsys.readouterr().out


def test_a_measure_of_other_weights_code_or_constants_is_made_anew(
    folder, points, capsys, monkeypatch
):
    model, _ = use(points)
    measured(points, model)
    capsys.readouterr()
    measured(points, model, lambda model: 3 * doubled(model))
    assert "measuring on points" in capsys.readouterr().out
    measured(points, model)
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert torch.equal(measured(points, model), doubled(model))
    assert "FACTOR 2.0 -> 3.0" in capsys.readouterr().out
    model.encoder.weight.data += 1
    assert torch.equal(measured(points, model), doubled(model))
    assert "weights" in capsys.readouterr().out


def test_a_measure_asked_for_by_retrain_is_committed(folder, points, monkeypatch):
    model, _ = use(points)
    monkeypatch.setenv("COMPANION_RETRAIN", "t/sums")
    measured(points, model)
    assert (folder / "checkpoints" / "t" / "sums.points.safetensors").exists()
