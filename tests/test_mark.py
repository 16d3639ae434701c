"""A mark moves with what training does, and with nothing else."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
import zoo
from torch import nn

from companion.data import Images, first_items
from companion.metrics import classifier
from companion.models import likelihoods, skeleton
from companion.training import TrainingError, fit_or_load, players, schedule
from companion.training.mark import contents, differences, loss_with, mark_of, other, size_of

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
        self.frozen = nn.Parameter(torch.tensor(0.7), requires_grad=False)
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
        sparse = self.frozen * self.rate * self.shape(z).sum(1).mean()
        held = (z.detach() - y.mean(1, keepdim=True)).square().sum(1).mean()
        return {"loss": recon + self.price * sparse + self.penalty(z) + held, "recon": recon}
'''
STOPPED = "(z.detach() - y.mean(1, keepdim=True))"
CHANGE = {  # edits that change what training does: (from, to, a word of what is said)
    "a number": ("SCALE = 1.5", "SCALE = 3.0", "step 1: loss "),
    "an entry of a list": ("[1.0, 2.0]", "[1.0, 2.1]", "step"),
    "an entry of a dict": ('"recon": 0.7', '"recon": 0.8', "step"),
    "a tensor": ("[0.25]", "[0.5]", "step"),
    "the body of a decorator": ("3.0 * function", "3.1 * function", "step"),
    "the argument of a partial": ("exponent=2)", "exponent=3)", "step"),
    "the function of a partial": ("partial(power", "partial(cosine", "step"),
    "the value in a closure": ("penalty_of(0.5)", "penalty_of(0.6)", "step"),
    "the body of a closure": ("strength * z.square()", "strength * z.abs()", "step"),
    "a lambda": ("y + 0.125", "y + 0.25", "step"),
    "a class attribute, a number": ("rate = 0.5", "rate = 0.6", "step"),
    "a class attribute, a tuple": ("(-0.8, 0.8)", "(-0.8, 0.2)", "step"),
    "a static method": ("z.sigmoid()", "z.tanh()", "step"),
    "a property": ("return 2.0", "return 2.2", "step"),
    "a method of the base class": (".tanh()\nclass", ".sin()\nclass", "step"),
    "a default argument": ("margin=0.1", "margin=0.3", "step"),
    "a number given to the model": ("price=0.3", "price=0.4", "step"),
    "a frozen weight": ("tensor(0.7)", "tensor(0.9)", "step"),
    "the noise": ("noise=0.2", "noise=0.5", "step"),
    "a helper's formula": ("(x - y).square() +", "2 * (x - y).square() +", "step"),
    "a reduction": ("error(x, y).mean()", "error(x, y).sum()", "step"),
    "a layer's width": ("latent_dim=3", "latent_dim=4", "weights 116 → 149"),
    "a term's name": ('"recon": recon}', '"error": recon}', "error None → 8 numbers"),
    "a term more": ('"recon": recon}', '"recon": recon, "held": held}', "held None → 8 numbers"),
    "a term less": (', "recon": recon}', "}", "recon 8 numbers → None"),
    "a stop-gradient moved": (STOPPED, "(z - y.mean(1, keepdim=True).detach())", "step"),
}
NO_CHANGE = {
    "a call over many lines": ("error(x, y).mean()", "error(\n            x,\n            y,\n        ).mean()"),
    "a renamed local": ("sparse", "thin"),
    "a renamed argument": ("latent_dim", "axes"),
    "an annotation": ("def squash(z)", "def squash(z: torch.Tensor) -> torch.Tensor"),
    "a comment": ("class Base", "# the base\nclass Base"),
    "a docstring": ('"""What it is."""', '"""What it was."""'),
    "a formula written otherwise": ("2.0\n", "1.0 + 1.0\n"),
    "a constant that no loss reads": ("UNUSED = 3", "UNUSED = 4"),
}  # fmt: skip
POINTS = torch.rand(200, 16, generator=torch.Generator().manual_seed(0))


def marked(build, data=POINTS, **settings):
    torch.manual_seed(0)
    return mark_of(build(), data, **{"epochs": 2, "batch": 50} | settings)


def of_source(source=SOURCE, **settings):
    exec(source, names := {"__name__": "edited"})
    return marked(names["Model"], **settings)


def of_zoo(kind, data=None, **settings):
    return marked(zoo.KINDS[kind], data or zoo.images(), labels=kind == "classifier", **settings)


@pytest.mark.parametrize("edit", CHANGE)
def test_an_edit_that_changes_what_training_does_moves_the_mark_and_is_said(edit):
    old, new, word = CHANGE[edit]
    assert SOURCE.count(old) == 1
    moved = differences(of_source(), of_source(SOURCE.replace(old, new)))
    assert word in "; ".join(moved) and " → " in moved[0]


def test_edits_that_change_nothing_that_training_does_move_nothing():
    source = SOURCE
    for edit, (old, new) in NO_CHANGE.items():
        assert old in source, edit
        source = source.replace(old, new)
    assert differences(of_source(), of_source(source)) == []


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
        ("vae", zoo.VAE, "warm_up", 0.6),  # over at the end of training in either
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
    before = of_zoo(kind)
    monkeypatch.setattr(owner, attribute, value)
    assert differences(before, of_zoo(kind))


@pytest.mark.parametrize("kind", zoo.KINDS)
def test_other_images_settings_or_seeds_move_the_mark_of_each_kind_and_nothing_else_does(kind):
    before = of_zoo(kind)
    torch.rand(7)
    assert differences(before, of_zoo(kind)) == []
    assert differences(before, of_zoo(kind, zoo.images(seed=1)))
    assert "seed 0 → 1" in differences(before, of_zoo(kind, seed=1))
    assert differences(before, of_zoo(kind, lr=1e-3))[0] == "lr 0.002 → 0.001"
    if kind == "vae":  # the schedule runs from its beginning to its end
        assert before["steps of clock"] == [k / 8 for k in range(8)]


def test_other_data_beyond_the_first_items_move_it():
    """The loss is called on the first sixteen; images and labels after these count by their means."""
    same = zoo.images()
    for part, number in (("train", 1), ("train_labels", 2)):
        beyond = getattr(same, part).clone()
        beyond[100:] //= 2
        (said,) = differences(
            of_zoo("classifier"), of_zoo("classifier", replace(same, **{part: beyond}))
        )
        assert said.startswith(f"mean of part {number} ")
    assert differences(of_source(), of_source(data=POINTS[:199]))[0] == "items 200 → 199"


def test_the_loss_of_weights_is_that_at_the_end_of_the_schedules():
    model = zoo.VAE()
    early = loss_with(model, zoo.images(), False)
    assert model.progress == 0
    model.progress.fill_(1)
    assert loss_with(model, zoo.images(), False) == early


def test_the_mark_leaves_model_and_dice_untouched():
    model = zoo.Codebook()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(5)
    mark_of(model, zoo.images(), epochs=2, batch=50), loss_with(model, zoo.images(), False)
    assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(5)))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.steps = nn.Linear(16, 16), 0

    def loss(self, x):
        return {"loss": (self.net(x) - x).square().sum(1).mean()}


OTHER, DICE = Plain(), numpy.random.default_rng(0)


def counts(self, x):
    self.steps += 1
    return Plain.loss(self, x)


def other_device(self, x):  # what torch says where a tensor of the notebook's lies on a GPU
    raise RuntimeError("Expected all tensors to be on the same device, but found two")


def own_dice(self, x):
    return Plain.loss(self, x + torch.from_numpy(DICE.standard_normal(x.shape)).float())


def steep(self, x):
    return {"loss": (200 * (1 + self.net.weight)).exp().sum() * x.mean()}


def with_graph():
    model = Plain()
    model.extra = model.net.weight * 2  # a tensor with a history
    return model


def by(loss):
    return type("Own", (Plain,), {"loss": loss})


@pytest.mark.parametrize(
    "build, settings, words",
    [
        (by(counts), {}, r"changes \['steps'\], which no checkpoint keeps: register"),
        (by(lambda self, x: OTHER.loss(x)), {}, "reaches no parameter of its own model"),
        (by(other_device), {}, r"no part of its model: register_buffer\(NAME"),
        (with_graph, {}, "Plain cannot be copied .*buffers or parameters"),
        (lambda: nn.Linear(2, 2), {}, r"Linear has no method loss\(x\)"),
        (by(own_dice), {}, "draw noise from torch's default generator"),
        (Plain, {"epoch": 2}, "epoch.*choose among epochs, batch, lr"),
        (Plain, {"retrian": True}, "retrian.*choose among epochs, batch, lr"),
    ],
)
def test_what_no_later_run_could_be_compared_with_is_told_why(build, settings, words, folder):
    with pytest.raises(TrainingError, match=words):
        fit_or_load("t/m", build, POINTS, **{"epochs": 1, "batch": 50, "bar": False} | settings)


def test_a_model_that_diverges_at_the_top_of_the_rate_still_has_a_mark():
    mark = marked(by(steep), lr=1e-6)
    assert "became" in mark["steps of divergence"]
    assert differences(mark, marked(by(steep), lr=1e-6)) == []
    with pytest.raises(TrainingError, match="epochs"):
        mark_of(Plain(), POINTS)


def test_numbers_are_compared_by_their_mean_size_and_those_not_finite_are_like_themselves_only():
    nan, inf = float("nan"), float("inf")
    assert other([nan, 1], [nan, 1], 0.1) == other([inf], [inf], 0.1) == -1
    assert other([1, inf], [1, -inf], 0.1) == other([1, inf], [1, 1], 0.1) == 1
    assert other([1, 1, nan], [1, 1, 1], 0.1) == 2
    assert size_of([1.0, 3.0, inf]) == 2 and size_of([]) == 0
    for moved, words in ((1.0019, []), (1.0021, ["step 1: loss 1 → 1.002"])):
        assert differences({"steps of loss": [1.0, 3.0]}, {"steps of loss": [moved, 3.0]}) == words


def test_a_part_of_the_loss_may_differ_by_four_times_as_much_as_the_loss():
    before = {"steps of loss": [380.0, 310.0], "steps of kl 1": [0.38, 0.3244], "lr": 0.1}
    for kl, words in ((0.325, []), (0.327, ["step 2: kl 1 0.3244 → 0.327"])):
        assert differences(before, before | {"steps of kl 1": [0.38, kl]}) == words
    for moved in ({"steps of loss": [380.0, 310.4]}, {"mean of part 1": [0.1005]}):
        assert differences(
            {"mean of part 1": [0.1]} | before, {"mean of part 1": [0.1]} | before | moved
        )


def test_copies_of_pictures_in_other_sizes_are_one_dataset_and_foreign_pictures_are_not():
    x = torch.rand(50, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    x *= torch.tensor([1.0, 0.8, 0.6]).view(3, 1, 1)  # colours have different means
    old, resampled = contents(x), contents(0.98 * x + 0.01 * x.roll(1, 3))
    assert differences(old, resampled) and not differences(old, resampled, copies=True)
    for foreign in (x.flip(1), 0.9 * x, x[:49]):
        assert differences(old, contents(foreign), copies=True)

    def first(seed, channels=3, kind=torch.uint8):
        dice = torch.Generator().manual_seed(seed)
        x = torch.randint(0, 256, (20, channels, 32, 32), generator=dice).to(kind)
        (few,) = first_items(Images("c", x, torch.zeros(20), x, torch.zeros(20), "", copies=True))
        return few, torch.equal(few, x[: len(few)])

    assert torch.equal(first(0)[0], first(1)[0]) and first(0)[0].shape == (8, 3, 32, 32)
    assert first(0, channels=1)[1] and first(0, kind=torch.float32)[1]  # the reader's own


class NoisyMap(nn.Module):
    """Noise on what a 1×1 kernel makes is drawn in the order in which that lies in memory."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Conv2d(8, 8, 1)

    def loss(self, x):
        h = self.kernel(x)
        return {"loss": ((h + torch.randn_like(h)) * torch.arange(5.0)).square().mean()}


def test_the_layout_in_which_training_leaves_kernels_changes_no_loss():
    model, images = NoisyMap(), torch.rand(40, 8, 5, 5)
    plain, weight = loss_with(model, images, False), model.kernel.weight
    weight.data = weight.data.to(memory_format=torch.channels_last)
    assert loss_with(model, images, False) == plain


IMITATIONS = (
    *({"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": "2"}),
    *({"ATEN_CPU_CAPABILITY": "default"}, {"ONEDNN_MAX_CPU_ISA": "SSE41"}),  # few instructions
)


@pytest.mark.slow
def test_what_was_trained_here_is_loaded_on_other_kinds_of_cpu(folder):
    for name in zoo.KINDS:
        zoo.use(name)
    for imitation in IMITATIONS:
        environment = os.environ | {"COMPANION_TRAINED": str(folder / "trained")} | imitation
        command = [sys.executable, str(Path(zoo.__file__))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.stdout.count(": loaded") == len(zoo.KINDS), done.stdout + done.stderr
