"""What notebook 31.5 alone uses: a likelihood of colour pixels, bits-back coding, pictures of levels."""

import copy
import importlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import default_collate

from companion import metrics
from companion.data import Images, tile, to_float
from companion.models.likelihoods import log_bin_mass
from companion.show.panel import Choice, Panel, Slider
from companion.show.pixels import bar_chart
from companion.show.plotting import COLOURS, WIDE
from companion.show.tables import table

GRID = 256  # bits-back coding rounds a code to multiples of 1/256
REACH = 16  # and takes none beyond ±16


def logistic_mixture_nll(x: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Colour pixels by a mixture of discretised logistics, as `mixture_parts` reads it.

    x (B, 3, H, W) holds 0, 1/255, …, 1; numbers (B, 10 K, H, W) for K components. Green's mean moves
    with red, blue's with red and green (Salimans et al. 2017, PixelCNN++, section 2.2).
    """
    if x.shape[1] != 3 or numbers.shape[1] % 10 or x.shape[2:] != numbers.shape[2:]:
        raise ValueError(
            f"images {tuple(x.shape)} and output {tuple(numbers.shape)}: a mixture of K components "
            "is over (B, 3, H, W) and needs (B, 10 K, H, W)."
        )
    logits, means, log_scales, slopes = mixture_parts(numbers)
    red, green, blue = x[:, :, None].unbind(1)  # (B, 1, H, W)
    means = shifted(means, slopes, red, green)
    log_mass = log_bin_mass(torch.stack([red, green, blue], 1), means, log_scales).sum(1)
    return -(log_mass + logits.log_softmax(1)).logsumexp(1).flatten(1).sum(1)


def mixture_mean(numbers: torch.Tensor) -> torch.Tensor:
    """The mean colours of the mixture, blue's and green's at the means before: (B, 3, H, W) in [0, 1]."""
    logits, means, _, slopes = mixture_parts(numbers)
    red = green = torch.full_like(means[:, 0], 0.5)  # (B, K, H, W)
    for _ in range(3):  # red, then green with red, then blue with both
        mean = (shifted(means, slopes, red, green) * logits.softmax(1)[:, None]).sum(2).clamp(0, 1)
        red, green = mean[:, :1].expand_as(red), mean[:, 1:2].expand_as(red)
    return mean


def mixture_parts(numbers: torch.Tensor) -> tuple:
    """(B, 10 K, H, W) as logits (B, K, H, W), means, log scales and slopes (B, 3, K, H, W) each.

    Numbers near 0 are means near mid-grey and wide scales; scales have a floor of e^-7 / 2.
    """
    logits, means, log_scales, slopes = (
        numbers.float().unflatten(1, (10, -1)).split([1, 3, 3, 3], 1)
    )
    return logits[:, 0], (means + 1) / 2, log_scales.clamp(min=-7) - math.log(2), slopes.tanh()


def shifted(means, slopes, red, green) -> torch.Tensor:
    """The means of the three colours given the first two; distances are from mid-grey."""
    red, green = red - 0.5, green - 0.5
    of_blue = means[:, 2] + slopes[:, 1] * red + slopes[:, 2] * green
    return torch.stack([means[:, 0], means[:, 1] + slopes[:, 0] * red, of_blue], 1)


def together(runs: Iterable[dict]) -> dict[str, torch.Tensor]:
    """What several runs measured, {quantity: (...)} each, as one: {quantity: (runs, ...)}."""
    return default_collate(list(runs))


def each(values: Iterable, places: int = 0) -> str:
    """Numbers as one cell of a table, "37.5, 38.6": a run beside the other."""
    return ", ".join(f"{float(value):.{places}f}" for value in values)


def library(name: str):
    """An optional library; where it is not installed None, and a line that says how it is."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"{name} is not installed: `make library` installs it.")


def check_levels(depth: int, given: Sequence, temperatures: Sequence[float]) -> None:
    """ValueError where codes are given or temperatures set that a hierarchy of this depth cannot take."""
    if len(given) > depth or len(temperatures) != depth:
        many = f"{len(given)} levels given, {len(temperatures)} temperatures"
        raise ValueError(f"{many}: there are {depth} levels.")
    if min(temperatures) < 0:
        low = min(temperatures)
        raise ValueError(f"temperature {low}: choose 0, which takes the mean, or above.")


@torch.no_grad()
def use_of_levels(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Means of ten draws: nats and active units of each level, (levels,) from the top, and the bound, ().

    A unit is active where its KL is above .01 nats, its mean over the images (B, C, H, W).
    """
    torch.manual_seed(0)
    draws = [model.infer(images) for _ in range(10)]
    passes = zip(*(levels for levels, _ in draws), strict=True)  # level by level
    kl = [sum(model.gap(*draw).mean(0) for draw in level) / 10 for level in passes]
    nats = torch.stack([level.sum() for level in kl])
    recon = sum(model.nll(images, output).mean() for _, output in draws) / 10
    units = torch.stack([(level > 0.01).sum() for level in kl])
    return {"nats": nats, "units": units, "bound": recon + nats.sum()}


@torch.no_grad()
def costs(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Mean nats an image of each level's KL and of the pixels, whose sum is the bound: (levels + 1,)."""
    torch.manual_seed(0)
    recon, kl = zip(*(model.terms(to_float(part)) for part in images.split(250)), strict=True)
    return torch.cat([torch.cat(kl, 1), torch.cat(recon)[None]]).mean(1)


def gradient_norm(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The length of the loss's gradient for one batch (B, C, H, W) and fixed dice, in nats: ()."""
    torch.manual_seed(0)
    with torch.enable_grad():
        loss = model.loss(to_float(images))["loss"]
        found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return torch.stack([g.norm() for g in found if g is not None]).norm()


def table_of_levels(films: dict[str, dict]):
    """{run: {"nats": (seeds, T, levels), "bound": (seeds, T)}} as a table of the last moments."""
    rows = {}
    for name, film in films.items():
        ends = film["nats"][:, -1]  # (seeds, levels)
        # + 0: a sampled KL of −2e-5 reads 0.00, not −0.00
        rows[name] = {f"level {k}": v for k, v in enumerate(ends.mean(0).round(decimals=2) + 0, 1)}
        rows[name]["levels alive"] = each((ends > 0.1).sum(1))
        rows[name]["bound, nats"] = each(film["bound"][:, -1], 1)
    return table(rows=rows, head="nats, means of the seeds")


@torch.no_grad()
def knowledge(model, generate: Callable, classifier, images, labels) -> dict[str, dict]:
    """What redraws share with images (B, 1, H, W) whose first levels they keep: {quantity: {fixed: value}}.

    Their class as the classifier reads it, the squared change from the reconstruction by all codes, and
    the share of it in waves above 6.5 cycles across the image. One redraw each.
    """
    torch.manual_seed(0)
    codes = [z for _, _, z in model.infer(images)[0]]
    whole = generate(model, len(images), given=codes).sigmoid()
    found = {"same digit, %": {}, "squared change": {}, "of it fine, %": {}}
    for fixed in range(model.depth):
        drawn = generate(model, len(images), given=codes[:fixed]).sigmoid()
        same, change = classifier(drawn).argmax(1) == labels, drawn - whole
        moved, fine = change.square().mean(), metrics.high_energy(change, 6.5)
        values = 100 * same.float().mean(), moved, 100 * fine / moved
        for column, value in zip(found.values(), values, strict=True):
            column[fixed] = value
    return found


@torch.no_grad()
def other_digits(logits: Callable, classifier, levels: int) -> dict[int, torch.Tensor]:
    """{level: % of samples that are read as another digit once its temperature is 0, the others at 1}.

    logits: temperatures, one a level -> the decoder's output (N, 1, H, W), whose noise is the same each
    time. Only samples that are read with confidence above .9 before and after are counted.
    """

    def read(warm):
        torch.manual_seed(3)
        return classifier(logits(warm).sigmoid()).softmax(1).max(1)

    (sure, before), changes = read([1.0] * levels), {}
    for level in range(levels):
        still, after = read([float(level != k) for k in range(levels)])
        surely = (sure > 0.9) & (still > 0.9)
        changes[level + 1] = 100 * (before != after)[surely].float().mean()
    return changes


@torch.no_grad()
def evidence(model, generate: Callable, ratio: Callable, images: torch.Tensor, first: int = 4):
    """The bound (B,) and the ratio of levels (B,) of images (B, 1, H, W), means of ten draws, in nats.

    ratio: exercise 31.5.4's `level_ratio`; `first`: the levels that are inferred in both bounds.
    """
    torch.manual_seed(0)
    found = torch.zeros(2, len(images))
    for _ in range(10):
        levels, output = model.infer(images)
        recon = model.nll(images, output)
        kl = torch.stack([model.gap(*level).flatten(1).sum(1) for level in levels])
        above = generate(model, len(images), given=[z for *_, z in levels[:first]])
        less = ratio(recon, kl, model.nll(images, above), first)
        found += torch.stack([recon + kl.sum(0), less]).cpu() / 10
    return found


def fixed_levels(redraw: Callable, image: torch.Tensor, levels: int) -> Panel:
    """The first levels of an image's codes fixed, the others redrawn: one pass of the decoder a move.

    redraw: how many are fixed -> images (K, C, H, W) in [0, 1]. image: (C, H, W), shown before them.
    The button draws other noise; the sliders keep it, so that a move changes nothing but the levels.
    """
    first = to_float(image).cpu()

    @torch.no_grad()
    def draw(fixed, noise):
        with torch.random.fork_rng():
            torch.manual_seed(noise)
            drawn = redraw(fixed).float().cpu()
        text = f"a pixel varies by {drawn.std(0).mean():.3f}"
        return tile(torch.cat([first[None], drawn])[None]), text

    text = "A slider over the number of levels that are fixed: the image, then redraws of the rest."
    controls = {
        "fixed": Slider("levels fixed", 0, levels, levels // 2, step=1),
        "noise": Slider("noise", 0, 7, step=1, hidden=True),
    }
    return Panel(draw, controls, {"other noise": [{"noise": k % 8} for k in range(1, 9)]}, text)


def level_temperatures(generate: Callable, levels: int) -> Panel:
    """Samples at a temperature for one level, the others at a common one: one pass a move.

    generate: a temperature for each level, from the top -> images (K, C, H, W) in [0, 1]. The noise is
    the same at every move; temperature 0 is a level's mean.
    """

    @torch.no_grad()
    def draw(level, own, rest):
        warm = [own if number == level else rest for number in range(1, levels + 1)]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            drawn = generate(warm).float().cpu()
        return tile(drawn[None]), f"a pixel varies by {drawn.std(0).mean():.3f}"

    controls = {
        "level": Slider("level", 1, levels, 1, step=1),
        "own": Slider("its temperature", 0, 2, 1, step=0.25),
        "rest": Slider("the others'", 0, 2, 1, step=0.25),
    }
    coarse = {name: replace(controls[name], high=1.5, step=0.5) for name in ("own", "rest")}
    return Panel(draw, controls, text="A level, its temperature, the others'.", coarse=coarse)


def level_films(films: dict[str, torch.Tensor], epochs: int, title: str) -> None:
    """Small multiples {run: nats (seeds, T, levels)}: each level over training, with the seeds' range."""
    figure, axes = plt.subplots(
        2, -(-len(films) // 2), figsize=(WIDE, 4.6), sharex=True, sharey=True
    )
    for axis, (name, film) in zip(axes.flat, films.items(), strict=True):
        when = np.linspace(0, epochs, film.shape[1])
        for level, colour in zip(range(film.shape[2]), COLOURS, strict=False):
            seeds = film[..., level].numpy()
            axis.plot(when, seeds.mean(0), color=colour, label=f"level {level + 1}")
            axis.fill_between(when, seeds.min(0), seeds.max(0), color=colour, alpha=0.25, lw=0)
        axis.set(title=name, ylim=(0, 16))
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
    figure.supylabel("nats", fontsize="medium")
    lines = axes[0, 0].get_legend_handles_labels()
    figure.legend(*lines, ncols=len(lines[0]), handlelength=1, loc="outside lower center")
    figure.suptitle(title)
    plt.show()


def film_of_levels(films: dict[str, torch.Tensor]) -> Panel:
    """A choice of run and a slider over training: the nats of each level, {run: (T, levels)}."""
    top = max(film.max().item() for film in films.values())

    def draw(run, part):
        now = films[run][round(part * (len(films[run]) - 1) / 100)]
        words = f"{run}: {now.sum():.1f} nats in all, scale to {top:.0f}"  # a narrow page cuts the slider's own
        return bar_chart(now.tolist(), top), words

    controls = {
        "run": Choice("run", {name: name for name in films}),
        "part": Slider("training, %", 0, 100, 100, step=5),
    }
    return Panel(
        draw, controls, text="A choice of run, and a slider over training: each level's nats."
    )


def ranges(found: dict[str, torch.Tensor], label: str, title: str) -> None:
    """{name: (seeds,)}: each name's mean as a dot, its seeds' range as a bar, the first name's shaded."""
    _, axis = plt.subplots(figsize=(6.5, 0.8 + 0.34 * len(found)))
    first = next(iter(found.values()))
    axis.axvspan(first.min(), first.max(), color="#999999", alpha=0.25, lw=0)
    for row, (values, colour) in enumerate(zip(found.values(), COLOURS * 2, strict=False)):
        axis.plot([values.min(), values.max()], [row, row], color=colour, lw=3, alpha=0.6)
        axis.plot(values, [row] * len(values), "o", color=colour, markersize=4)
    axis.set(xlabel=label, title=title)
    axis.set_yticks(range(len(found)), list(found))
    axis.invert_yaxis()
    plt.show()


def sample_scores_at(temperatures: Sequence[float], drawn: Callable, classifier) -> Callable:
    """A measure: (model, images) -> Fréchet distance, density and coverage of as many samples: (T, 3).

    drawn: (model, how many, temperature) -> images, from the same dice at each temperature.
    """

    @torch.no_grad()
    def measure(model, images):
        own = copy.deepcopy(classifier).to(images.device)
        scores, found = metrics.scorer(own.features, images), []
        for heat in temperatures:
            torch.manual_seed(0)
            samples = torch.cat([drawn(model, len(part), heat) for part in images.split(500)])
            found.append(list(scores(samples).values()))
        return torch.tensor(found)

    return measure


def codec_bits(_, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Bits per pixel value of lossless codecs: a file for each image, and one for all (N, C, H, W)."""
    kinds = {"PNG": {"optimize": True}, "WebP": {"lossless": True, "method": 6}}
    bits = {kind: metrics.codec(images, kind, **how)[0] for kind, how in kinds.items()}
    side = int(len(images) ** 0.5)
    rows = images[: side**2].unflatten(0, (side, side))  # (side, side, C, H, W)
    sheet = rows.permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2)  # (C, side · H, side · W)
    bits["WebP, one file for all"] = (
        metrics.codec(sheet[None], "WebP", **kinds["WebP"])[0] / side**2
    )
    return {kind: torch.tensor(each / images[0].numel()) for kind, each in bits.items()}


def jpeg_xl_bits(_, images: torch.Tensor) -> torch.Tensor:
    """Bits per pixel value of lossless JPEG XL; ImportError without pillow-jxl-plugin."""
    import pillow_jxl  # noqa: F401, Pillow learns the format

    return torch.tensor(metrics.codec(images, "JXL", lossless=True)[0] / images[0].numel())


def framed(digits: Images) -> Images:
    """The same digits, of any side, with a black pixel added on each side and the plain name, "mnist"."""
    parts = {part: F.pad(getattr(digits, part), (1, 1, 1, 1)) for part in ("train", "test")}
    return replace(digits, name=digits.name.split("-")[0], **parts)


def gaussian_of(normal: tuple) -> tuple:
    """(mean, log variance) as the coder takes a Gaussian of whole numbers: a model, means, deviations."""
    from constriction import stream

    mean, log_var = (part.double().flatten().numpy() for part in normal)
    return (
        stream.model.QuantizedGaussian(-REACH * GRID, REACH * GRID),
        mean * GRID,
        np.exp(log_var / 2) * GRID,
    )


def pop(coder, normal: tuple) -> torch.Tensor:
    """A code off an ANS coder's stack, by a Gaussian (mean, log variance): like its mean (B, M, ...)."""
    whole = coder.decode(*gaussian_of(normal))
    return torch.from_numpy(whole.astype(np.float32)).view_as(normal[0]) / GRID


def push(coder, normal: tuple, z: torch.Tensor) -> None:
    """A code onto an ANS coder's stack, by a Gaussian (mean, log variance)."""
    coder.encode_reverse((z * GRID).flatten().numpy().astype(np.int32), *gaussian_of(normal))


def chances(logits: torch.Tensor) -> tuple:
    """Logits of black and white pixels as the coder takes them: a model, and probabilities."""
    from constriction import stream

    return stream.model.Bernoulli(perfect=False), logits.double().sigmoid().clamp(
        1e-6, 1 - 1e-6
    ).flatten().numpy()


def pop_pixels(coder, logits: torch.Tensor) -> torch.Tensor:
    """Black and white pixels off an ANS coder's stack: like the logits, 0.0 or 1.0."""
    return torch.from_numpy(coder.decode(*chances(logits)).astype(np.float32)).view_as(logits)


def push_pixels(coder, image: torch.Tensor, logits: torch.Tensor) -> None:
    """Black and white pixels onto an ANS coder's stack."""
    coder.encode_reverse(image.flatten().numpy().astype(np.int32), *chances(logits))
