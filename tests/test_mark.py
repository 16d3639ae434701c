"""A mark moves with what training does, and with nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
import zoo
from torch import nn

from companion.data import Images, first_items
from companion.metrics import classifier
from companion.models import likelihoods, skeleton
from companion.training import TrainingError, players, schedule
from companion.training.mark import contents, differences, loss_with, mark_of, other

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


@pytest.fixture(scope="module")
def points():
    return torch.rand(200, 16, generator=torch.Generator().manual_seed(0))


def built(source: str) -> nn.Module:
    names = {"__name__": "edited"}
    exec(source, names)
    torch.manual_seed(0)
    return names["Model"]()


def marked(model, data, **settings):
    return mark_of(model, data, **{"epochs": 2, "batch": 50} | settings)


def moved(edit, source, points):
    """What the mark says of an edit of `SOURCE`."""
    old, new = edit
    assert old in source
    before = marked(built(source), points)
    return differences(before, marked(built(source.replace(old, new)), points))


@pytest.mark.parametrize("edit", CHANGE)
def test_an_edit_that_changes_what_training_does_moves_the_mark(edit, points):
    assert SOURCE.count(CHANGE[edit][0]) == 1
    assert moved(CHANGE[edit], SOURCE, points)


@pytest.mark.parametrize("edit", NO_CHANGE)
def test_an_edit_that_changes_nothing_does_not(edit, points):
    assert moved(NO_CHANGE[edit], SOURCE, points) == []


def zoo_mark(kind, **settings):
    torch.manual_seed(0)
    return marked(zoo.KINDS[kind](), zoo.images(), labels=kind == "classifier", **settings)


def sgd(parameters, gradients, *_, lr, **__):
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter -= lr * gradient


@pytest.mark.parametrize(
    "kind, owner, attribute, value",
    [
        ("vae", players, "adamw", sgd),
        ("vae", schedule, "warmup_cosine", lambda step, total: 1.0),
        ("vae", schedule, "warmup_cosine", lambda step, total: (1 + step) / total),
        ("rivals", zoo, "Player", lambda *x, betas, **own: players.Player(*x, betas=(0.6, 0.9), **own)),
        ("rivals", zoo, "Player", lambda *x, steps, **own: players.Player(*x, steps=1, **own)),
        ("warm", zoo.Warm, "warm_up", 0.6),  # over at the end of training in either
        ("codebook", zoo.Codebook, "decay", 0.95),  # in no term: only the codebook moves otherwise
        ("codebook", zoo.Codebook, "commitment", 0.5),
        ("vae", skeleton.nn, "SiLU", nn.ReLU),  # companion's own skeleton
        ("classifier", classifier, "Dropout", lambda _: skeleton.Dropout(0.7)),  # in training alone
        ("vae", zoo, "gaussian_kl", lambda *x: 1.01 * likelihoods.gaussian_kl(*x)),
        ("vae", zoo, "bernoulli_nll", lambda *x: 1.01 * likelihoods.bernoulli_nll(*x)),
        ("rivals", zoo.F, "relu", lambda x: 1.1 * x.clamp(min=0)),  # the critic's alone
    ],
)  # fmt: skip
def test_an_edit_of_optimiser_schedule_player_codebook_skeleton_or_likelihood(
    kind, owner, attribute, value, monkeypatch
):
    before = zoo_mark(kind)
    assert differences(before, zoo_mark(kind)) == []
    monkeypatch.setattr(owner, attribute, value)
    assert differences(before, zoo_mark(kind))


def test_a_weight_on_the_kl_of_1_and_of_1_01(points):
    torch.manual_seed(0)
    one, more = (marked(zoo.VAE(beta), zoo.images()) for beta in (1.0, 1.0))
    assert differences(one, marked(zoo.VAE(1.01), zoo.images()))
    assert more["weights"] == one["weights"]


@pytest.mark.parametrize("kind", zoo.KINDS)
def test_other_images_labels_or_seeds_move_the_mark_of_each_kind(kind):
    before = zoo_mark(kind)
    torch.manual_seed(0)
    model, labels = zoo.KINDS[kind](), kind == "classifier"
    others = zoo.images(seed=1)
    assert differences(before, marked(model, others, labels=labels))
    assert "seed 0 → 1" in differences(before, zoo_mark(kind, seed=1))


def test_what_moved_is_said(points):
    before = marked(built(SOURCE), points)
    assert differences(before, marked(built(SOURCE), points, lr=1e-3))[0] == "lr 0.002 → 0.001"
    (said, *_) = moved(("SCALE = 1.5", "SCALE = 3.0"), SOURCE, points)
    assert said.startswith("step 1: loss ") and " → " in said
    said = differences(before, marked(built(SOURCE.replace("dim=3", "dim=4")), points))
    assert "weights 115 → 148" in said
    said = differences(
        before, marked(built(SOURCE.replace('"recon": recon}', '"error": recon}')), points)
    )
    assert "error None → 8 numbers" in said and "recon 8 numbers → None" in said


def test_other_data_of_the_same_shape_move_it(points):
    beyond = points.clone()
    beyond[100:] = 1 - beyond[100:]  # the items that the loss is called on are the same
    before = marked(built(SOURCE), points)
    (said,) = differences(before, marked(built(SOURCE), beyond))
    assert said.startswith("mean of part 1 ")
    assert differences(before, marked(built(SOURCE), points[:199]))[0] == "items 200 → 199"


def test_the_mark_runs_the_schedule_from_its_beginning_to_its_end():
    class Clocked(zoo.Warm):
        def loss(self, x):
            return super().loss(x) | {"clock": self.progress}

    torch.manual_seed(0)
    assert marked(Clocked(), zoo.images())["steps of clock"] == [k / 8 for k in range(8)]


def test_the_mark_leaves_model_and_dice_untouched():
    model = zoo.Codebook()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    marked(model, zoo.images())
    loss_with(model, zoo.images(), False)
    assert torch.rand(1) == expected
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_a_model_that_diverges_at_the_top_of_the_rate_still_has_a_mark(points):
    class Steep(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(16))

        def loss(self, x):
            return {"loss": (200 * self.w).exp().sum() * x.mean()}

    mark = marked(Steep(), points, lr=1e-6)
    assert "became" in mark["steps of divergence"]
    assert differences(mark, marked(Steep(), points, lr=1e-6)) == []


def test_the_frozen_weights_of_a_model_are_in_its_mark(points):
    class Frozen(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.net = nn.Linear(16, 16)
            self.scale = nn.Parameter(torch.tensor(scale), requires_grad=False)

        def loss(self, x):
            return {"loss": self.scale * (self.net(x) - x).square().sum(1).mean()}

    torch.manual_seed(0)
    first = Frozen(1.0)
    torch.manual_seed(0)
    assert differences(marked(first, points), marked(Frozen(2.0), points))


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.steps = nn.Linear(16, 16), 0

    def loss(self, x):
        return {"loss": (self.net(x) - x).square().sum(1).mean()}


class Counts(Plain):
    def loss(self, x):
        self.steps += 1
        return super().loss(x)


OTHER = Plain()


class Elsewhere(Plain):
    def loss(self, x):
        return OTHER.loss(x)


class OtherDevice(Plain):
    def loss(self, x):  # what torch says where a tensor of the notebook's lies on a GPU
        raise RuntimeError("Expected all tensors to be on the same device, but found two")


class WithGraph(Plain):
    def __init__(self):
        super().__init__()
        self.extra = self.net.weight * 2  # a tensor with a history


@pytest.mark.parametrize(
    "model, words",
    [
        (Counts, r"changes \['steps'\], which no checkpoint keeps: register"),
        (Elsewhere, "reaches no parameter of its own model"),
        (OtherDevice, r"no part of its model: register_buffer\(NAME"),
        (WithGraph, "WithGraph cannot be copied .*buffers or parameters"),
        (lambda: nn.Linear(2, 2), r"Linear has no method loss\(x\)"),
    ],
)
def test_a_model_that_no_later_run_could_be_compared_with_is_told_why(model, words, points):
    with pytest.raises(TrainingError, match=words):
        marked(model(), points)


@pytest.mark.parametrize("setting", ["epoch", "retrian"])
def test_a_setting_that_fit_does_not_have_is_named(setting, points):
    with pytest.raises(TrainingError, match=f"{setting}.*choose among epochs, batch, lr"):
        marked(Plain(), points, **{setting: 2})
    with pytest.raises(TrainingError, match="epochs"):
        mark_of(Plain(), points)


def test_numbers_that_are_not_finite_are_like_themselves_only():
    nan, inf = float("nan"), float("inf")
    assert other([nan, 1], [nan, 1], 0.1) == other([inf], [inf], 0.1) == -1
    assert other([1, inf], [1, -inf], 0.1) == other([1, inf], [1, 1], 0.1) == 1
    assert other([1, 1, nan], [1, 1, 1], 0.1) == 2
    assert other([1.0, 3.0], [1.0019, 3.0], 1e-3) == -1 and other([1, 3], [1.0021, 3], 1e-3) == 0
    assert other([0.0, 0.0], [0.0, 1e-9], 1e-3) == 1


def test_a_resampled_copy_of_pictures_is_the_same_dataset_and_a_permuted_one_is_not():
    x = torch.rand(50, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    x *= torch.tensor([1.0, 0.8, 0.6]).view(3, 1, 1)  # colours have different means
    old, resampled = contents(x), contents(0.98 * x + 0.01 * x.roll(1, 3))
    assert differences(old, resampled) and not differences(old, resampled, copies=True)
    for foreign in (x.flip(1), 0.9 * x, x[:49]):
        assert differences(old, contents(foreign), copies=True)


def test_the_first_pictures_of_a_dataset_in_copies_are_the_same_for_each_copy():
    def copy(seed, channels=3, kind=torch.uint8):
        dice = torch.Generator().manual_seed(seed)
        x = torch.randint(0, 256, (20, channels, 32, 32), generator=dice).to(kind)
        return Images("copied", x, torch.zeros(20), x, torch.zeros(20), "here", copies=True)

    first = lambda data: first_items(data)[0]
    assert torch.equal(first(copy(0)), first(copy(1))) and first(copy(0)).shape == (8, 3, 32, 32)
    for kind in ({"channels": 1}, {"kind": torch.float32}):  # the reader's own, under the same name
        assert torch.equal(
            first(copy(0, **kind)), copy(0, **kind).train[: len(first(copy(0, **kind)))]
        )


class NoisyMap(nn.Module):
    """Noise on a map that a 1×1 kernel makes: it is drawn in the order in which the map lies in memory."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(8, 8, 1)

    def loss(self, x):
        h = self.convolution(x)
        return {"loss": ((h + torch.randn_like(h)) * torch.arange(5.0)).square().mean()}


def test_the_layout_in_which_training_leaves_kernels_changes_no_loss():
    torch.manual_seed(0)
    model, images = NoisyMap(), torch.rand(40, 8, 5, 5)
    plain = loss_with(model, images, False)
    model.convolution.weight.data = model.convolution.weight.data.to(
        memory_format=torch.channels_last
    )
    assert loss_with(model, images, False) == plain


IMITATIONS = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "no vector instructions in torch": {"ATEN_CPU_CAPABILITY": "default"},
    "few in oneDNN": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
}


@pytest.mark.slow
def test_what_was_trained_here_is_loaded_on_other_kinds_of_cpu(folder):
    for name in zoo.KINDS:
        zoo.use(name)
    for imitation in IMITATIONS.values():
        environment = os.environ | {"COMPANION_TRAINED": str(folder / "trained")} | imitation
        command = [sys.executable, str(Path(zoo.__file__))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.stdout.count(": loaded") == len(zoo.KINDS), done.stdout + done.stderr


def test_a_loss_with_dice_of_its_own_is_told_to_use_torchs(folder, points):
    dice = numpy.random.default_rng(0)

    class Own(Plain):
        def loss(self, x):
            noise = torch.from_numpy(dice.standard_normal(x.shape)).float()
            return {"loss": (self.net(x + noise) - x).square().sum(1).mean()}

    with pytest.raises(TrainingError, match="draw noise from torch's default generator"):
        zoo.fit_or_load("t/own", Own, points, epochs=1, batch=50, bar=False)
