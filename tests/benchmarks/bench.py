"""How fast the loop is: `make bench`. Pairs run in turn in one process; medians of their ratios.

Each row times two ways of training the same model for the same number of steps of the same batch,
round by round, one right after the other, so that a machine that slows down slows both. A ratio
above 1 says that the second way, `fit`, is the faster.
"""

import argparse
import contextlib
import importlib.util
import io
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision.transforms import ToTensor

from companion import data
from companion.data.corruption import CORRUPTIONS
from companion.metrics import DigitClassifier, mse
from companion.models import Decoder, Encoder
from companion.sections import s31_2
from companion.show import panels
from companion.show.jupyter import page_of
from companion.show.panel import Slider
from companion.training import fit
from companion.training.hardware import uses_bfloat16
from companion.training.schedule import warmup_cosine


class DenseVAE(nn.Module):
    """The official PyTorch example's model, 784-400-20, binary cross-entropy on grey pixels."""

    def __init__(self, hidden=400):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 40)
        )
        self.decoder = nn.Sequential(nn.Linear(20, hidden), nn.ReLU(), nn.Linear(hidden, 784))

    def loss(self, x):
        mean, log_var = self.encoder(x).chunk(2, -1)
        logits = self.decoder(mean + (log_var / 2).exp() * torch.randn_like(mean))
        recon = (
            F.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="none").sum(1).mean()
        )
        kl = (mean**2 + log_var.exp() - log_var - 1).sum(-1).mean() / 2
        return {"loss": recon + kl, "recon": recon, "kl": kl}


class ConvolutionalAE(nn.Module):
    """The chapter's skeleton with a code of 16."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = Encoder(16), Decoder(16)

    def loss(self, x):
        return {"loss": (self.decoder(self.encoder(x)) - x).square().flatten(1).sum(1).mean()}


class PilDigits(Dataset):
    """What torchvision's MNIST does for each item: array -> PIL image -> tensor."""

    def __init__(self, images):
        self.images, self.transform = images, ToTensor()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.images[index, 0].numpy(), "L")), 0


def official(model: nn.Module, images: torch.Tensor, batch: int, epochs: int = 1) -> None:
    """The loop of the official VAE example: DataLoader, ToTensor, `.item()` at every step."""
    device = images.device
    loader = DataLoader(PilDigits(images.cpu()), batch, shuffle=True, drop_last=True)
    optimiser = torch.optim.Adam(model.to(device).parameters(), 1e-3)
    model.train()
    total = 0.0
    for _ in range(epochs):
        for x, _ in loader:
            x = x.to(device)
            optimiser.zero_grad()
            loss = model.loss(x)["loss"]
            loss.backward()
            total += loss.item()
            optimiser.step()


def plain_loader(model: nn.Module, images: torch.Tensor, batch: int, epochs: int = 1) -> None:
    """NCHW float32 tensors through a DataLoader: no PIL, nothing else done."""
    device = images.device
    loader = DataLoader(
        TensorDataset(data.to_float(images.cpu())), batch, shuffle=True, drop_last=True
    )
    optimiser = torch.optim.Adam(model.to(device).parameters(), 1e-3)
    for _ in range(epochs):
        for (x,) in loader:
            optimiser.zero_grad()
            model.loss(x.to(device))["loss"].backward()
            optimiser.step()


def with_pythae(model: nn.Module, images: torch.Tensor, batch: int, epochs: int = 1) -> None:
    """pythae's BaseTrainer on the same layers (pip install pythae==0.1.2; no dependency of ours)."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class TheirEncoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.net = model.encoder

        def forward(self, x):
            mean, log_var = self.net(x).chunk(2, -1)
            return ModelOutput(embedding=mean, log_covariance=log_var)

    class TheirDecoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.net = model.decoder

        def forward(self, z):
            return ModelOutput(reconstruction=self.net(z).sigmoid().view(-1, 1, 28, 28))

    logging.disable()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        settings = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=epochs,
            per_device_train_batch_size=batch,
            learning_rate=1e-3,
        )
        config = VAEConfig((1, 28, 28), latent_dim=20, reconstruction_loss="bce")
        theirs = VAE(config, TheirEncoder(), TheirDecoder())
        x = data.to_float(images)
        BaseTrainer(theirs, BaseDataset(x, torch.zeros(len(x))), training_config=settings).train()


def bare(model: nn.Module, images: torch.Tensor, batch: int, epochs: int = 1) -> None:
    """The steps of `fit`, written out with nothing around them: its overhead is what it adds."""
    device, steps = images.device, len(images) // batch
    model.to(device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3, betas=(0.9, 0.99), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, partial(warmup_cosine, total=epochs * steps)
    )
    for _ in range(epochs):
        order = torch.randperm(len(images), device=device)[: steps * batch]
        for index in order.view(steps, batch):
            x = data.to_float(images[index]).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=uses_bfloat16("auto", device)):
                loss = model.loss(x)["loss"]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def ours(model: nn.Module, images: torch.Tensor, batch: int, epochs: int = 1) -> None:
    fit(model, images, batch=batch, epochs=epochs, bar=False)


def seconds(run: Callable[[], None]) -> float:
    """Wall-clock seconds, the device's work included."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start


def pair(name: str, first: Callable, second: Callable, rounds: int, word: str = "fit") -> None:
    """Time two ways in turn, after one uncounted round; print first ÷ second."""
    first(), second()
    times = [(seconds(first), seconds(second)) for _ in range(rounds)]
    ratios = [a / b for a, b in times]
    mine = statistics.median(b for _, b in times)
    spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
    print(
        f"{name:58} {statistics.median(ratios):6.2f}  {spread:18} {word}: {mine:.2f} s", flush=True
    )


def to_the_same_loss(digits: data.Images, images: torch.Tensor) -> None:
    """What `fit` needs for the test error that the plain loop reaches in five passes, batch 128.

    `fit` takes a rate eight times higher (its schedule bears it), and as many passes as it takes, the fewest that do.
    """

    def trained(loop):
        torch.manual_seed(0)
        model = ConvolutionalAE()
        took = seconds(lambda: loop(model))
        return took, mse(lambda x: model.decoder(model.encoder(x)), digits.test)

    plain, goal = trained(lambda model: plain_loader(model, images, 128, epochs=5))
    for epochs in range(1, 11):
        own = {"batch": 128, "lr": 8e-3, "epochs": epochs, "bar": False}
        took, error = trained(lambda model, own=own: fit(model, images, **own))
        if error <= goal:
            break
    name = "convolutional, 5 passes of DataLoader ÷ fit, same test error"
    print(f"{name:58} {plain / took:6.2f}  ({epochs} passes, {error:.4f} against {goal:.4f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("loop", "panels"), help="panels: and the start")
    parser.add_argument("--images", type=int, default=12_800, help="per timed run")
    options = parser.parse_args()
    digits = data.mnist()
    images = digits.train[: options.images]
    where = (
        torch.cuda.get_device_name() if images.is_cuda else f"{torch.get_num_threads()} CPU threads"
    )
    taken = "bfloat16" if uses_bfloat16("auto", images.device) else "float32"
    print(
        f'{where}, {kind_of_cpu()}, torch {torch.__version__}; "auto" takes {taken}; '
        f"medians over {options.rounds} rounds\n"
    )
    if options.only != "loop":
        time_panels()
        time_start(options.rounds)
    if options.only != "panels":
        time_loop(digits, images, options.rounds)


def kind_of_cpu() -> str:
    """The instructions that decide how fast it multiplies."""
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    if torch.cpu._is_avx512_bf16_supported():
        return "AVX512-BF16"
    return "AVX512" if torch.cpu._is_avx512_supported() else torch.backends.cpu.get_cpu_capability()


def time_panels() -> None:
    """Milliseconds of one move of each kind of panel on the kernel's side, the median of 200."""
    codes = torch.randn(500, 8)
    images = torch.rand(10, 1, 28, 28)
    noisy = {name: nn.Sequential(Encoder(256), Decoder(256)).eval() for name in CORRUPTIONS}
    classifier, dictionary = DigitClassifier().eval(), AllFeatures()
    labels = torch.arange(500) % 10
    shown = {
        "a move of code sliders, 28 px": panels.code_sliders(Decoder(8), codes),
        "a move of code sliders, 64 px": panels.code_sliders(Decoder(8, size=64), codes),
        "a move over the plane, 28 px": panels.latent_plane(Decoder(2), codes[:, :2], labels),
        "a move over the plane, 64 px": panels.latent_plane(
            Decoder(2, size=64), codes[:, :2], labels
        ),
        "another strength of a corruption": s31_2.corruption_sliders(noisy, CORRUPTIONS, images),
        "a move of a held feature": s31_2.feature_clamp(
            classifier, dictionary, 1.0, {0: "zero"}, images
        ),
        "another model of a family": panels.family_slider(
            dict.fromkeys(range(10), next(iter(noisy.values()))), images, "latent_dim"
        ),
        "another frame": panels.frames({k: torch.rand(32, 1, 28, 28) for k in range(10)}, "step"),
    }
    for name, panel in shown.items():
        page_of(panel)  # its widgets follow each move, as on a page
        own = {"a move of a held feature": "value", "another strength of a corruption": "strength"}
        control = own.get(name, next(iter(panel.controls)))
        kind = panel.controls[control]
        if isinstance(kind, Slider):
            values = np.linspace(kind.low, kind.high, 200).tolist()
        else:
            values = list(kind.options.values())
        times = []
        for k in range(200):
            start = time.perf_counter()
            panel.set(**{control: values[k % len(values)]})
            times.append(1000 * (time.perf_counter() - start))
        print(f"{name:58} {statistics.median(times):6.1f}  ms")


class AllFeatures(nn.Module):
    """A dictionary whose features are the 128 activations themselves."""

    def encode(self, x):
        return x.relu()

    def directions(self):
        return torch.eye(128)


START = """
from companion import retrain
names = {"__name__": "__main__", "display": lambda *_: None}
for source in retrain.code_cells(next(retrain.NOTEBOOKS.glob("31.1_*"))):
    exec(compile(source, "cell", "exec"), names)
    if "panels." in source:
        break
"""


def time_start(rounds: int) -> None:
    """From a fresh process to the first slider of 31.1, over a bare import of what it stands on."""

    def python(code):
        return lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

    bare = "import torch, matplotlib.pyplot, ipywidgets"
    pair(
        "start to 31.1's first slider ÷ bare imports", python(START), python(bare), rounds, "import"
    )


class Nothing(nn.Module):
    """One number that learns nothing: what is timed is the loop."""

    def __init__(self):
        super().__init__()
        self.number = nn.Parameter(torch.zeros(()))

    def loss(self, x):
        return {"loss": self.number.square()}


def time_overhead(rounds: int) -> None:
    """What `fit` adds to a bare loop, in microseconds a step, on a model that does nothing."""
    x, steps = torch.rand(4000, 1, 1, 1, device=data.device()), 1000
    added = []
    for _ in range(rounds):
        ours_took = seconds(lambda: ours(Nothing(), x, 4))
        added.append(1e6 * (ours_took - seconds(lambda: bare(Nothing(), x, 4))) / steps)
    print(
        f"{'microseconds a step that fit adds to a bare loop':58} {statistics.median(added):6.0f}"
    )


def compare_losses(images: torch.Tensor) -> None:
    """The final loss of "auto" against float32, three seeds: what a faster multiplication costs."""
    off = []
    for seed in range(3):
        last = {}
        for precision in ("auto", "float32"):
            torch.manual_seed(seed)
            past = fit(
                ConvolutionalAE(),
                images,
                epochs=3,
                batch=128,
                precision=precision,
                seed=seed,
                bar=False,
            )
            last[precision] = past.terms["loss"][-1]
        off.append(100 * (last["auto"] / last["float32"] - 1))
    shown = ", ".join(f"{value:+.2f}" for value in off)
    print(f"{'final loss, auto against float32, three seeds':58} {shown} %")


def time_loop(digits: data.Images, images: torch.Tensor, rounds: int) -> None:
    """`fit` against other loops, its own bare steps, and itself at other sizes."""

    def row(name, other, model, batch=128, our_batch=None):
        first = lambda: other(model(), images, batch)
        second = lambda: ours(model(), images, our_batch or batch)
        pair(name, first, second, rounds)

    row("dense VAE 784-400-20, batch 128: official loop ÷ fit", official, DenseVAE)
    if importlib.util.find_spec("pythae"):
        row("dense VAE, batch 128: pythae's trainer ÷ fit", with_pythae, DenseVAE)
    else:
        print("pythae 0.1.2 is not installed: its row is left out")
    row("dense VAE, batch 128: bare in-memory loop ÷ fit", bare, DenseVAE)
    row("convolutional, batch 128: DataLoader NCHW loop ÷ fit", plain_loader, ConvolutionalAE)
    row("convolutional, batch 128: bare in-memory loop ÷ fit", bare, ConvolutionalAE)
    row(
        "convolutional, 128 in DataLoader ÷ 512 in fit, same images",
        plain_loader,
        ConvolutionalAE,
        our_batch=512,
    )
    to_the_same_loss(digits, images)
    time_overhead(rounds)
    compare_losses(images)

    print("\nimages per second by fit, dense VAE")
    for share in (1, 4, 16):
        some = images[: len(images) * share // 16]
        took = min(seconds(lambda some=some: ours(DenseVAE(), some, 128)) for _ in range(3))
        print(f"  {len(some):6} images: {len(some) / took:8.0f}")
    for hidden in (400, 1600):
        took = min(seconds(lambda h=hidden: ours(DenseVAE(h), images, 128)) for _ in range(3))
        print(f"  hidden width {hidden}: {len(images) / took:8.0f}")
    if images.is_cuda:
        print(f"peak GPU memory: {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB")
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB
        print(f"peak memory of this process: {peak:.0f} MiB")


if __name__ == "__main__":
    main()
