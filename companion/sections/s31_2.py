"""What notebook 31.2 alone uses: classical restoration, dictionaries and what they are asked, panels."""

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import nn

from companion.data import tile, to_float
from companion.metrics import PCA, RECOVERY, decibels, matched, over
from companion.show.panel import Choice, Panel, Slider
from companion.show.pixels import BAR, FONT
from companion.show.plotting import COLOURS

UNLIKE = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2)  # h, how unlike patches may be
FILTERS = {  # the settings to choose from, a row each, from hardly anything to too much
    "Gaussian blur": (0, 0.3, 0.4, 0.5, 0.6, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6),  # σ in pixels
    "median": (1, 3, 5, 7, 9, 11),  # the side of the window
    "total variation": (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1, 1.5, 2, 3, 4, 6),  # its weight
    # h, the side of a patch, and the noise that is told, in strengths
    "non-local means": tuple(product(UNLIKE, (3, 5, 7), (0, 1))),
    "BM3D": (0, 0.4, 0.6, 0.8, 1, 1.25),  # the noise that is told, in strengths
}


def filtered(images: torch.Tensor, kind: str, strength: float, setting) -> torch.Tensor:
    """Digits (N, 1, 28, 28) through a filter of `FILTERS` at one setting, their noise of one strength.

    A filter gets them all as one page, ten a row, N divisible by ten: two of them look for similar
    patches, and find more. BM3D needs the package `bm3d` unless its setting is 0. SciPy is slow to
    import: on call.
    """
    from scipy.ndimage import gaussian_filter, median_filter
    from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

    ways = {
        "Gaussian blur": gaussian_filter,
        "median": lambda x, side: median_filter(x, int(side)),
        "total variation": denoise_tv_chambolle,
        "non-local means": lambda x, h, patch, told: denoise_nl_means(
            x, int(patch), 6, h, sigma=told * strength
        ),
        "BM3D": lambda x, told: import_module("bm3d").bm3d(x, told * strength) if told else x,
    }
    page = images.double().cpu().view(-1, 10, 28, 28).transpose(1, 2).reshape(-1, 280).numpy()
    page = ways[kind](page, *(setting if isinstance(setting, list) else [setting]))
    page = torch.from_numpy(np.ascontiguousarray(page)).view(-1, 28, 10, 28)
    return page.transpose(1, 2).reshape(images.shape).to(images)


def tried(
    _, settings: torch.Tensor, kind: str, corrupt: Callable, strengths: Sequence[float],
    clean: torch.Tensor, held_out: torch.Tensor,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """A filter at each setting on examples (N, 1, 28, 28), and at its best on others: PSNR in dB.

    "examples" (S, T, 3) for S settings and T strengths: PSNR, and the gain and the offset that the
    output is given first, by least squares where that helps, since corruption changes the mean and the
    contrast. "held out" (T, K): the PSNR of each of K others at each strength's best setting.
    """
    found, reached = torch.zeros(len(settings), len(strengths), 3), []
    for t, strength in enumerate(strengths):
        noisy, others = (seeded(corrupt, x, strength) for x in (clean, held_out))
        for s, setting in enumerate(settings.tolist()):
            output = filtered(noisy, kind, strength, setting)
            gain = ((output - output.mean()) * clean).mean() / output.var(correction=0)
            scales = (1.0, 0.0), (gain.item(), (clean.mean() - gain * output.mean()).item())
            rows = [(decibels(a * output + b, clean).mean().item(), a, b) for a, b in scales]
            found[s, t] = torch.tensor(max(rows))
        best = found[:, t, 0].argmax()
        _, gain, offset = found[best, t]
        output = filtered(others, kind, strength, settings[best].tolist())
        reached.append(decibels(gain * output + offset, held_out))
    return {"examples": found, "held out": torch.stack(reached)}


def seeded(corrupt: Callable, images: torch.Tensor, strength: float) -> torch.Tensor:
    """Images corrupted with the same noise at every call; the caller's dice stay as they are."""
    with torch.random.fork_rng([images.device] if images.is_cuda else []):
        torch.manual_seed(0)
        return corrupt(images, strength)


@torch.no_grad()
def wiener(pca: PCA, corrupt: Callable, images: torch.Tensor) -> Callable:
    """The best affine denoiser of data with the mean μ and covariance C of `pca` (Wiener 1949).

    x̂ = μ + a C (a² C + V)⁻¹ (x̃ − E x̃), for a corruption x̃ = a x + b + noise that is independent from
    pixel to pixel, with variances V. a, b and V are measured on `corrupt(images)`, (N, ...) -> (N, ...).
    """
    clean = to_float(images)
    noisy, clean = (x.flatten(1).double() for x in (corrupt(clean), clean))
    shift = noisy.mean(0), clean.mean(0)  # (D,) each
    spread = clean.var(0, correction=0)
    a = ((noisy - shift[0]) * (clean - shift[1])).mean(0).sum() / spread.sum()
    noise = (noisy.var(0, correction=0) - a**2 * spread).clamp(min=1e-6)
    basis = pca.components
    covariance = (basis.T * pca.variance.to(basis)) @ basis  # (D, D)
    gain = torch.linalg.solve(a**2 * covariance + noise.diag(), a * covariance)
    expected = shift[0] + a * (pca.mean - shift[1])

    return lambda x: (pca.mean + (x.flatten(1) - expected) @ gain).view_as(x).to(x.dtype)


@torch.no_grad()
def sparsity(dictionary: nn.Module, activations: torch.Tensor) -> dict[str, float]:
    """How a dictionary with `encode` and `decode` describes `activations` (N, D), float.

    {"active": features an item, "variance, %": share of the variance explained, "inactive, %": share
    of the features in % that no item of the whole set activates}. ValueError for an empty set or NaN.
    """
    if not len(activations):
        raise ValueError("there are no activations: pass at least one row.")
    if not activations.isfinite().all():
        raise ValueError("activations hold NaN or infinite values: leave those rows out.")
    active, error, alive = 0, 0.0, False
    for x in activations.split(5000):
        code = dictionary.encode(x)  # (B, F)
        active += (code != 0).sum().item()
        alive = alive | (code != 0).any(0)  # (F,)
        error += (dictionary.decode(code) - x).double().square().sum().item()
    total = (activations - activations.mean(0)).double().square().sum().item()
    return {
        "active": active / len(activations),
        "variance, %": 100 * (1 - error / total) if total else math.nan,
        "inactive, %": 100 * (~alive).double().mean().item(),
    }


@torch.no_grad()
def sizes_compared(
    model: nn.Module, activations: torch.Tensor, labels: torch.Tensor, head: Callable
) -> dict[str, torch.Tensor]:
    """Dictionaries of S growing sizes, two of each: what a larger one adds, and whether two agree.

    model.members: 2 S dictionaries. activations (N, A), head: activations -> logits. Returns (S,) each:
    what `sparsity` and `put_back` measure of the first of two; "twin in another seed, %": of its active
    latents those that the second has too, matched cosine above .9; "near a parent": how many latents
    lie within a cosine of .7 of an active one of the smallest. And "items" (S, 5, 8): for the latent of
    the smallest with most of these in the largest, the five of each size nearest to it in direction,
    and the eight items that excite each most.
    """
    pairs = list(zip(model.members[::2], model.members[1::2], strict=True))
    alive = [(over(one.encode, activations) > 0).any(0) for one, _ in pairs]
    near = [pairs[0][0].directions() @ one.directions().T for one, _ in pairs]  # (F0, F) each
    many = [(n > 0.7)[alive[0]][:, a].sum(1).float() for n, a in zip(near, alive, strict=True)]
    parent = alive[0].nonzero()[many[-1].argmax(), 0]
    rows, items = [], []
    for (one, other), active, close, count in zip(pairs, alive, near, many, strict=True):
        twins = matched(other.directions(), one.directions()[active])[0] > 0.9
        rows.append(sparsity(one, activations) | put_back(one, activations, labels, head))
        rows[-1]["twin in another seed, %"] = 100 * twins.float().mean().item()
        rows[-1]["near a parent"] = count.mean().item()
        closest = close[parent].topk(5).indices
        pre = one.encoder(activations - one.bias)[:, closest]  # (N, 5)
        items.append(pre.topk(8, dim=0).indices.T)
    found = {key: torch.tensor([row[key] for row in rows]) for key in rows[0]}
    return found | {"items": torch.stack(items)}


def named_features(
    activity: torch.Tensor, labels: torch.Tensor, count: int = 100, purity: float = 0.9
) -> dict[int, tuple[int, float]]:
    """Features that stand for a class: {feature: (class, its mean activity on its `count` best items)}.

    activity: (N, F), labels (N,). A feature is named for a class if it is active on its `count` best
    items and the share `purity` of these, or more, belong to the class.
    """
    top = activity.topk(count, dim=0)  # values and places, (count, F) each
    classes = labels.to(activity.device)[top.indices]  # (count, F)
    common = classes.mode(0).values  # (F,)
    pure = ((classes == common).double().mean(0) >= purity) & (top.values[-1] > 0)
    level = top.values.mean(0)
    return {f: (common[f].item(), level[f].item()) for f in pure.nonzero()[:, 0].tolist()}


@torch.no_grad()
def steering(
    directions: torch.Tensor, classes: Sequence[int], head: nn.Linear, means: torch.Tensor
) -> dict[str, float]:
    """What a step along each direction (F, A), named for a class, does to the logits of a linear head.

    "own ÷ random": the rise of its own logit, by the mean size of the change in 1,000 random directions
    of that length; "own rises most, %": the share of directions along which no other logit rises
    as much. The last layer is linear, so neither depends on the item or on the length of the step.
    "cosine": with the class's own of `means` (C, A), on the mean. NaN for no directions.
    """
    classes = torch.tensor(classes, dtype=torch.long, device=directions.device)
    random = torch.randn(1000, directions.shape[1], generator=torch.Generator().manual_seed(0))
    change = F.normalize(directions, dim=1) @ head.weight.T  # (F, C)
    by_chance = F.normalize(random.to(directions), dim=1) @ head.weight.T  # (1000, C)
    own = change.gather(1, classes[:, None])  # (F, 1)
    return {
        "own ÷ random": (own[:, 0] / by_chance.abs().mean(0)[classes]).mean().item(),
        "own rises most, %": 100 * (change.argmax(1) == classes).double().mean().item(),
        "cosine": torch.cosine_similarity(directions, means[classes], dim=1).mean().item(),
    }


def put_back(
    dictionary: nn.Module, activations: torch.Tensor, labels: torch.Tensor, head: Callable
) -> dict[str, float]:
    """What a classifier makes of activations (N, A) that a dictionary describes, put in their place.

    head: activations -> logits. {"accuracy, %", "cross-entropy, nats": its mean}.
    """
    logits = over(lambda x: head(dictionary(x)), activations)  # (N, 10)
    right, loss = logits.argmax(1) == labels, F.cross_entropy(logits, labels)
    return {"accuracy, %": 100 * right.float().mean().item(), "cross-entropy, nats": loss.item()}


def recovery_map(maps: torch.Tensor, kinds: Sequence, ratios: Sequence, active: Sequence) -> Panel:
    """Where features are found: features ÷ dimensions across, features in a sum downwards.

    maps: (A, R, kinds, settings, quantities of `RECOVERY`); of the settings the one with the largest
    mean cosine is shown. A slider over the kinds, a menu of quantities in %.
    """
    best = maps[..., :1].argmax(3, keepdim=True).expand(-1, -1, -1, -1, maps.shape[-1])
    shown, side = maps.gather(3, best)[:, :, :, 0], 56  # (A, R, kinds, quantities), pixels

    def draw(kind, quantity):
        values = shown[:, :, kind, quantity]
        page = Image.new("RGB", (side * (len(ratios) + 1), side * (len(active) + 1)), "white")
        pen = ImageDraw.Draw(page)
        for row, column in np.ndindex(len(active) + 1, len(ratios) + 1):
            x, y, ink = side * column, side * row, "black"
            text = f"{ratios[column - 1]}:1" if column else f"{active[row - 1]} active" * (row > 0)
            if row and column:
                value = values[row - 1, column - 1].item()
                colour = tuple(round(255 - value / 100 * (255 - c)) for c in (0, 70, 140))
                pen.rectangle((x, y, x + side - 3, y + side - 3), colour)
                ink, text = "white" if value > 50 else "black", f"{value:.0f}"
            pen.text((x + side / 2, y + side / 2), text, ink, FONT, anchor="mm")
        return np.array(page), f"{RECOVERY[quantity]}: {values.mean():.0f} on the mean"

    measured = {name: place for place, name in enumerate(RECOVERY) if "%" in name}
    kinds = Choice("constraint", {name: place for place, name in enumerate(kinds)})
    controls = {"kind": kinds, "quantity": Choice("shown", measured, menu=True)}
    text = "Features found: features to dimensions across, features in a sum downwards."
    return Panel(draw, controls, text=text, height=side * (len(active) + 1))


def corruption_sliders(denoisers: dict, corruptions: dict, images: torch.Tensor) -> Panel:
    """A menu of corruptions {name: corrupt(x, strength)}, a strength, and what the denoiser returns.

    Rows: the clean `images` (K, C, H, W), the noisy ones and the denoised. The noise stays while the
    strength moves.
    """
    clean = to_float(images)

    @torch.no_grad()
    def draw(kind, strength):
        noisy = seeded(corruptions[kind], clean, strength)
        denoised = denoisers[kind](noisy)
        level = -10 * (denoised.clamp(0, 1) - clean).square().mean().log10()
        return tile(torch.stack([clean, noisy, denoised])), f"denoised: {level:.1f} dB"

    controls = {
        "kind": Choice("corruption", {name: name for name in corruptions}, menu=True),
        "strength": Slider("strength", 0, 1, 0.4, step=0.1),
    }
    text = "A menu of corruptions, and a slider for their strength."
    return Panel(draw, controls, text=text, rows=("image", "corrupted", "denoised"))


def score_field(
    learned: Callable, exact: Callable, points: torch.Tensor, sigmas: tuple[float, float],
    reach: float = 1.5,
) -> Panel:  # fmt: skip
    """A slider over σ: a denoiser's correction r(x) - x over σ² ∇ log p_σ(x), round points (K, 2).

    learned, exact: (places (P, 2), σ) -> arrows (P, 2), thin on thick. They are drawn where `points`
    with noise of σ are dense, at places of a grid that lie within 2σ of a point.
    """
    across = torch.linspace(-reach, reach, 14, device=points.device)
    grid = torch.cartesian_prod(across, across)  # (196, 2)
    away = torch.cdist(grid, points).amin(1)

    @torch.no_grad()
    def draw(sigma):
        places = grid[away < 2 * sigma + 0.1]
        fields = [field(places, sigma) for field in (exact, learned)]
        cosine = torch.cosine_similarity(*fields, dim=1).mean()
        text = f"exact orange, learned blue: mean cosine {cosine:.3f}"
        return arrow_picture(places, fields, points, reach), text

    step = (sigmas[1] - sigmas[0]) / 24
    controls = {"sigma": Slider("σ", *sigmas, sigmas[0] + 6 * step, step=step)}
    return Panel(draw, controls, text="Exact arrows, the learned ones over them.", height=400)


def feature_clamp(
    classifier, dictionary, scale: float, names: dict[int, str], images: torch.Tensor, most=3.0
) -> Panel:
    """Hold one feature of a dictionary on a classifier's activations and watch the ten logits.

    classifier: `features` (B, C, H, W) -> (B, A) and `head` (B, A) -> (B, 10). dictionary: on activations
    divided by `scale`. names: the features to choose from, {number: label}. The picture shows the
    image, the logits as they are (grey) and with the feature at the slider's value (blue).
    """
    clean, numbers = to_float(images), torch.tensor(list(names), device=images.device)
    with torch.no_grad():
        activations = classifier.features(clean) / scale  # (K, A)
        codes = dictionary.encode(activations)[:, numbers]  # (K, F)
        directions = dictionary.directions()[numbers]  # (F, A)
    rows, columns = (torch.arange(BAR).to(numbers) * side // BAR for side in clean.shape[2:])

    def draw(feature, value, image):
        number = image.to(numbers)[None]
        active, code = (table.index_select(0, number)[0] for table in (activations, codes))
        held = (numbers == feature.to(numbers)).float()  # (F,): 1 at the feature
        change = (held * (value - code)) @ directions
        logits = classifier.head(scale * torch.stack([active, active + change]))  # (2, 10)
        (before, after), (first, last) = logits.argmax(1), logits.softmax(1).amax(1)
        large = clean.index_select(0, number)[0].index_select(1, rows).index_select(2, columns)
        picture = torch.cat([large.expand(3, -1, -1), logit_bars(logits)], 2)
        return picture, before, first, after, last

    controls = {
        "feature": Choice("feature", {label: number for number, label in names.items()}, menu=True),
        "value": Slider("held at", 0, most),
        "image": Slider("image", 0, len(images) - 1, 0, step=1),
    }
    words = "read as {:.0f} ({:.0%}), now as {:.0f} ({:.0%})"
    return Panel(draw, controls, text="Hold a feature, see the logits move.", readout=words)


def logit_bars(logits: torch.Tensor) -> torch.Tensor:
    """Logits before and after (2, 10) as pairs of bars, zero in the middle: (3, BAR, BAR) in [0, 1]."""
    pitch, middle = BAR // 10, BAR // 2
    page, which = Image.new("RGB", (BAR, BAR), "white"), torch.full((BAR,), 20)
    ImageDraw.Draw(page).text((2, 0), "logits", fill="black")
    for digit in range(10):
        ImageDraw.Draw(page).text((digit * pitch + 8, BAR - 12), str(digit), fill="black")
        for row in range(2):
            left = digit * pitch + 3 + row * (pitch // 2 - 2)
            which[left : left + pitch // 2 - 3] = 10 * row + digit  # which bar a column shows
    colours = torch.tensor([[190, 190, 190], [0, 114, 178], [0, 0, 0]]).to(logits)[which // 10]
    paper = torch.tensor(np.array(page)[..., 0]).to(logits)  # (BAR, BAR), black on white
    heights = (logits.flatten() * (middle - 14) / logits.abs().amax().clamp_min(20)).round()
    ends = torch.cat([heights, heights[:1]]).index_select(0, which.to(logits.device))  # (BAR,)
    up = middle - torch.arange(BAR, device=logits.device)[:, None]  # of each row, from zero
    inside = (up <= ends.clamp_min(0)) & (up >= ends.clamp_max(0)) & (which < 20).to(logits.device)
    return torch.where(inside, colours.T[:, None], paper) / 255


def arrow_picture(
    starts: torch.Tensor, fields: Sequence, points: torch.Tensor, reach: float, side: int = 400
) -> np.ndarray:
    """Two fields of arrows (P, 2) from places (P, 2) on white, with points (K, 2): (side, side, 3) uint8.

    The square reaches from -reach to reach on both axes, axis 2 upwards; an arrow ends in a dot. The
    first field is drawn thick, the second thin upon it.
    """
    page = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(page)
    flip = torch.tensor([1.0, -1.0])
    place = lambda x: ((x.cpu() * flip / reach + 1) * (side - 1) / 2).tolist()
    for x, y in place(points):
        pen.ellipse((x - 1, y - 1, x + 1, y + 1), "#999999")
    for field, colour, width in zip(fields, (COLOURS[1], COLOURS[0]), (5, 1), strict=True):
        for start, end in zip(place(starts), place(starts + field), strict=True):
            pen.line((*start, *end), colour, width)
            dot = width / 2 + 1.5
            pen.ellipse((end[0] - dot, end[1] - dot, end[0] + dot, end[1] + dot), colour)
    return np.array(page)
