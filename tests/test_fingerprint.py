"""A checkpoint fits while the code does what it did: edits that change numbers are seen, others not."""

import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
import zoo
from torch import nn

from companion.metrics import classifier
from companion.models import likelihoods
from companion.models import skeleton as networks
from companion.training import TrainingError, fit, fit_or_load
from companion.training.family import fit_family_or_load
from companion.training.fingerprint import apart, behaviour, contents, other_data

SOURCE = '''
import functools
import torch
from torch import nn

SCALE = 1.5
WEIGHTS = [1.0, 2.0]
TABLE = {"recon": 0.7}
SHIFT = torch.tensor([0.25])
UNUSED = 3

def tripled(function):
    @functools.wraps(function)
    def wrapped(*args):
        return 3.0 * function(*args)
    return wrapped

def power(x, exponent):
    return x.abs() ** exponent

def cosine(x, exponent):
    return x.cos() * exponent

def penalty_of(strength):
    def penalty(z):
        return strength * z.square().sum(1).mean()
    return penalty

@tripled
def error(x, y, margin=0.1):
    return ((x - y).square() + margin * (x - y).abs()).sum(1)

class Base(nn.Module):
    rate = 0.5
    bounds = (-0.8, 0.8)

    def encode(self, x):
        return (4 * self.encoder(x)).tanh()

class Model(Base):
    """What it is."""

    def __init__(self, latent_dim=3, price=0.3, noise=0.2):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(16, latent_dim), nn.Linear(latent_dim, 16)
        self.price, self.noise = price, noise
        self.penalty = penalty_of(0.5)
        self.shape = functools.partial(power, exponent=2)
        self.last = lambda y: y + 0.125

    @staticmethod
    def squash(z):
        return z.sigmoid()

    @property
    def gain(self):
        return 2.0

    def loss(self, x):
        z = self.encode(x + self.noise * torch.randn_like(x)).clamp(*self.bounds)
        y = self.last(self.gain * self.decoder(self.squash(z) + SHIFT))
        recon = SCALE * WEIGHTS[1] * TABLE["recon"] * error(x, y).mean() / 8
        sparse = self.rate * self.shape(z).sum(1).mean()
        held = (z.detach() - y.mean(1, keepdim=True)).square().sum(1).mean()
        return {"loss": recon + self.price * sparse + self.penalty(z) + held, "recon": recon}
'''
CHANGE = {  # edits that change what training does: (from, to)
    "a number": ("SCALE = 1.5", "SCALE = 1.6"),
    "an entry of a list": ("[1.0, 2.0]", "[1.0, 2.1]"),
    "an entry of a dict": ('"recon": 0.7', '"recon": 0.8'),
    "a tensor": ("[0.25]", "[0.5]"),
    "the body of a decorator": ("3.0 * function", "3.1 * function"),
    "the argument of a partial": ("exponent=2)", "exponent=3)"),
    "the function of a partial": ("partial(power", "partial(cosine"),
    "the value in a closure": ("penalty_of(0.5)", "penalty_of(0.6)"),
    "the body of a closure": ("strength * z.square()", "strength * z.abs()"),
    "a lambda": ("y + 0.125", "y + 0.25"),
    "a class attribute, a number": ("rate = 0.5", "rate = 0.6"),
    "a class attribute, a tuple": ("(-0.8, 0.8)", "(-0.8, 0.2)"),
    "a static method": ("z.sigmoid()", "z.tanh()"),
    "a property": ("return 2.0", "return 2.2"),
    "a method of the base class": (".tanh()\n\nclass", ".sin()\n\nclass"),
    "a default argument": ("margin=0.1", "margin=0.3"),
    "a number given to the model": ("price=0.3", "price=0.4"),
    "the noise": ("noise=0.2", "noise=0.5"),
    "a helper's formula": ("(x - y).square() +", "2 * (x - y).square() +"),
    "a reduction": ("error(x, y).mean()", "error(x, y).sum()"),
    "a layer's width": ("latent_dim=3", "latent_dim=4"),
    "a term's name": ('"recon": recon}', '"error": recon}'),
    "a term more": ('"recon": recon}', '"recon": recon, "held": held}'),
    "a stop-gradient moved": (
        "z.detach() - y.mean(1, keepdim=True)",
        "z - y.mean(1, keepdim=True).detach()",
    ),
}
NO_CHANGE = {
    "a call broken over lines": ("error(x, y).mean()", "error(\n            x,\n            y,\n        ).mean()"),
    "a renamed local": ("sparse", "thin"),
    "a renamed argument": ("latent_dim", "axes"),
    "an annotation": ("def squash(z)", "def squash(z: torch.Tensor) -> torch.Tensor"),
    "a comment": ("class Base", "# the base\nclass Base"),
    "a docstring": ('"""What it is."""', '"""What it was."""'),
    "a formula written otherwise": ("2.0\n", "1.0 + 1.0\n"),
    "a constant that no loss reads": ("UNUSED = 3", "UNUSED = 4"),
}  # fmt: skip


def built(source: str) -> nn.Module:
    names = {"__name__": "edited"}
    exec(source, names)
    torch.manual_seed(0)
    return names["Model"]()


@pytest.fixture(scope="module")
def points():
    return torch.rand(200, 16, generator=torch.Generator().manual_seed(0))


def trained_or_loaded(model, points, capsys, **settings):
    capsys.readouterr()
    fit_or_load("t/edited", model, points, **({"epochs": 2, "batch": 50, "bar": False} | settings))
    return capsys.readouterr().out


@pytest.mark.parametrize("edit", CHANGE)
def test_an_edit_that_changes_what_training_does_trains_anew(edit, folder, points, capsys):
    old, new = CHANGE[edit]
    assert SOURCE.count(old) == 1
    trained_or_loaded(built(SOURCE), points, capsys)
    said = trained_or_loaded(built(SOURCE.replace(old, new)), points, capsys)
    assert "training on tensor (" in said and "no checkpoint" not in said


@pytest.mark.parametrize("edit", NO_CHANGE)
def test_an_edit_that_changes_nothing_loads(edit, folder, points, capsys):
    old, new = NO_CHANGE[edit]
    assert old in SOURCE
    trained_or_loaded(built(SOURCE), points, capsys)
    assert "loaded" in trained_or_loaded(built(SOURCE.replace(old, new)), points, capsys)


def test_other_data_of_the_same_shape_train_anew(folder, points, capsys):
    trained_or_loaded(built(SOURCE), points, capsys)
    beyond = points.clone()
    beyond[100:] = 1 - beyond[100:]  # the items that the loss is called on are the same
    for other, words in ((1 - points, "recon on the same"), (beyond, "other data: their mean")):
        said = trained_or_loaded(built(SOURCE), other, capsys)
        assert "training on tensor" in said and "other data: their mean is off by" in said, words
        (trained := sorted(folder.rglob("*.safetensors"))[0]).unlink()
        trained.with_suffix(".json").unlink()
        trained_or_loaded(built(SOURCE), points, capsys)


def test_what_moved_is_said(folder, points, capsys):
    trained_or_loaded(built(SOURCE), points, capsys)
    said = trained_or_loaded(built(SOURCE), points, capsys, lr=1e-3)
    assert "(lr 0.002 → 0.001)" in said
    trained_or_loaded(built(SOURCE), points, capsys)
    said = trained_or_loaded(built(SOURCE.replace("SCALE = 1.5", "SCALE = 3.0")), points, capsys)
    assert "recon on the same images" in said and "→" in said


def training(kind, capsys, build=None, **settings):
    capsys.readouterr()
    zoo.use(kind, build, **settings)
    return "training on smooth" in capsys.readouterr().out


@pytest.mark.parametrize("kind", zoo.KINDS)
def test_each_kind_of_model_loads_and_sees_other_labels_or_images(kind, folder, capsys):
    assert training(kind, capsys)
    assert not training(kind, capsys)
    assert training(kind, capsys, data=zoo.images(seed=1))


@pytest.mark.parametrize(
    "kind, owner, attribute, value",
    [
        ("warm", zoo.Warm, "warm_up", 0.4),  # both are over at the end of training
        ("codebook", zoo.Codebook, "decay", 0.95),  # in no term: only the codebook moves otherwise
        ("codebook", zoo.Codebook, "commitment", 0.5),
        ("vae", networks.nn, "SiLU", nn.ReLU),  # companion's own skeleton
        (
            "classifier",
            classifier,
            "Dropout",
            lambda _: networks.Dropout(0.7),
        ),  # at rest but in training
        ("vae", zoo, "gaussian_kl", lambda *x: 1.1 * likelihoods.gaussian_kl(*x)),
        ("vae", zoo, "bernoulli_nll", lambda *x: 1.1 * likelihoods.bernoulli_nll(*x)),
        ("rivals", zoo.F, "relu", lambda x: 1.1 * x.clamp(min=0)),  # the critic's alone
    ],
)
def test_an_edit_of_schedule_codebook_skeleton_likelihood_or_critic(
    kind, owner, attribute, value, folder, capsys, monkeypatch
):
    assert training(kind, capsys)
    monkeypatch.setattr(owner, attribute, value)
    assert training(kind, capsys)


def test_a_loaded_model_stands_at_the_end_of_its_schedule(folder):
    assert zoo.use("warm").progress == zoo.use("warm").progress == 1  # trained, then loaded


def test_a_family_trains_only_the_member_that_is_new(folder, capsys):
    def family(*betas):
        torch.manual_seed(0)
        models = {f"zoo/beta-{beta}": zoo.VAE(beta) for beta in betas}
        fit_family_or_load(models, zoo.images(), epochs=1, batch=50, bar=False)
        return capsys.readouterr().out

    assert family(1.0, 4.0).count("to be trained") == 2
    said = family(1.0, 2.0, 4.0)
    assert said.count("to be trained") == 1 and "zoo/beta-2.0: to be trained" in said
    assert "loaded, trained on smooth: zoo/beta-1.0, zoo/beta-4.0" in said
    torch.manual_seed(0)
    models = {"zoo/beta-4.0": zoo.VAE(5.0)}  # a constant that no file holds
    fit_family_or_load(models, zoo.images(), epochs=1, batch=50, bar=False)
    assert "zoo/beta-4.0: to be trained on smooth (" in capsys.readouterr().out


IMITATIONS = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "no vector instructions in torch": {"ATEN_CPU_CAPABILITY": "default"},
    "few in oneDNN": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", IMITATIONS)
def test_what_was_trained_here_is_loaded_on_other_kinds_of_cpu(kind, folder, capsys):
    for name in zoo.KINDS:
        zoo.use(name)
    environment = {"COMPANION_TRAINED": str(folder / "trained")} | IMITATIONS[kind]
    script = Path(zoo.__file__)
    done = subprocess.run(
        [sys.executable, str(script)], env=os.environ | environment, capture_output=True, text=True
    )
    assert done.stdout.count(": loaded") == len(zoo.KINDS), done.stdout + done.stderr


def test_a_frozen_parameter_must_be_as_built(folder, points, capsys):
    """A file's value would hide the edit, and training cannot have made it."""

    class Frozen(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.net = nn.Linear(16, 16)
            self.scale = nn.Parameter(torch.tensor(scale), requires_grad=False)

        def loss(self, x):
            return {"loss": self.scale * (self.net(x) - x).square().sum(1).mean()}

    trained_or_loaded(Frozen(1.0), points, capsys)
    assert "loaded" in trained_or_loaded(Frozen(1.0), points, capsys)
    assert "scale, which is frozen" in trained_or_loaded(Frozen(2.0), points, capsys)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.steps = nn.Linear(16, 16), 0

    def loss(self, x):
        return {"loss": (self.net(x) - x).square().sum(1).mean()}


def test_a_loss_that_counts_its_own_steps_is_told_what_to_register(folder, points):
    class Counts(Plain):
        def loss(self, x):
            self.steps += 1
            return super().loss(x)

    with pytest.raises(TrainingError, match=r"changes steps, which no checkpoint keeps: register"):
        fit_or_load("t/counts", Counts(), points, epochs=1, batch=50, bar=False)


def test_a_loss_that_reads_another_model_is_told_to_read_self(folder, points):
    other = Plain()

    class Elsewhere(Plain):
        def loss(self, x):
            return other.loss(x)

    with pytest.raises(TrainingError, match="reaches no parameter of its own model"):
        fit_or_load("t/elsewhere", Elsewhere(), points, epochs=1, batch=50, bar=False)


def test_a_loss_with_dice_of_its_own_is_told_to_use_torchs(folder, points):
    dice = numpy.random.default_rng(0)

    class Own(Plain):
        def loss(self, x):
            noise = torch.from_numpy(dice.standard_normal(x.shape)).float()
            return {"loss": (self.net(x + noise) - x).square().sum(1).mean()}

    with pytest.raises(TrainingError, match="draw noise from torch's default generator"):
        fit_or_load("t/own", Own(), points, epochs=1, batch=50, bar=False)


def test_a_tensor_left_on_another_device_is_told_to_be_a_buffer(folder, points):
    class Elsewhere(Plain):
        def loss(self, x):  # what torch says where a tensor of the notebook's lies on a GPU
            raise RuntimeError("Expected all tensors to be on the same device, but found two")

    with pytest.raises(TrainingError, match=r"no part of its model: register_buffer\(NAME"):
        fit_or_load("t/elsewhere", Elsewhere(), points, epochs=1, batch=50, bar=False)


def test_a_model_that_cannot_be_copied_is_told_why(folder, points):
    model = Plain()
    model.extra = model.net.weight * 2  # a tensor with a history
    with pytest.raises(TrainingError, match=r"Plain cannot be copied .*buffers or parameters"):
        fit_or_load("t/extra", model, points, epochs=1, batch=50, bar=False)


def test_the_mark_leaves_model_and_dice_untouched(points):
    model = zoo.Codebook()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    behaviour(model, zoo.images())
    assert torch.rand(1) == expected
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_numbers_that_are_not_finite_are_like_themselves_only():
    nan, inf = float("nan"), float("inf")
    assert not apart(nan, nan, 0.1, 1) and not apart(inf, inf, 0.1, 1)
    assert apart(inf, -inf, 0.1, 1) and apart(inf, 1, 0.1, 1) and apart(1, nan, 0.1, 1)
    assert not apart(1, 1.0009, 1e-3, 0) and apart(1, 1.0011, 1e-3, 0)
    assert not apart(1e-9, 2e-9, 1e-3, 1e-3) and apart(1e-9, 2e-9, 1e-3, 0)


def test_a_resampled_copy_of_pictures_is_the_same_dataset_and_a_permuted_one_is_not():
    x = torch.rand(50, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    x *= torch.tensor([1.0, 0.8, 0.6]).view(3, 1, 1)  # colours have different means
    old = contents(x)
    resampled, permuted = contents(0.99 * x + 0.01 * x.roll(1, 3)), contents(x.flip(1))
    assert not other_data(old, resampled, resampled=True)
    assert other_data(old, permuted, resampled=True) and other_data(old, permuted, resampled=False)
    assert other_data(old, contents(x[:49]), resampled=True) == ["items 50 → 49"]
    assert other_data(old, contents(0.9 * x), resampled=True)


def test_fit_itself_asks_for_no_mark(points):
    """A model that no checkpoint could know still trains."""
    model = Plain()
    model.loss = lambda x: {"loss": (model.net(x) - x).square().mean()}
    assert len(fit(model, points, epochs=2, batch=50, bar=False).terms["loss"]) == 2


class NoisyMap(nn.Module):
    """Noise on a map that a 1×1 kernel makes: it is drawn in the order in which the map lies in memory."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(8, 8, 1)

    def loss(self, x):
        h = self.convolution(x)
        return {"loss": ((h + torch.randn_like(h)) * torch.arange(5.0)).square().mean()}


def test_the_layout_in_which_training_leaves_kernels_changes_no_fingerprint(folder, capsys):
    images = torch.rand(40, 8, 5, 5)
    for _ in range(2):
        fit_or_load("noisy-map", NoisyMap(), images, epochs=1, batch=20, bar=False)
    assert "loaded" in capsys.readouterr().out.splitlines()[1]
