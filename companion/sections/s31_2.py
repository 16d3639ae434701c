"""What notebook 31.2 alone uses: classical restoration, dictionaries and what they are asked, panels."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import nn

from companion.data import tile, to_float
from companion.metrics import PCA, decibels
from companion.show.panel import Choice, Panel, Slider
from companion.show.pixels import BAR, DECODED, beside
from companion.show.plotting import COLOURS

FILTERS = {  # the settings to choose from
    "Gaussian blur": (0, 0.5, 0.75, 1, 1.5, 2, 3),  # σ in pixels
    "median": (3, 5, 7, 9),  # the side of the window
    "total variation": (0.1, 0.2, 0.4, 0.7, 1, 1.5, 2.5),  # the weight of the variation
    "non-local means": (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5),  # h, how unlike patches may be
}


def functions() -> dict[str, Callable]:
    """What each filter does to one picture (H, W) at one setting. SciPy is slow to import: on call."""
    from scipy.ndimage import gaussian_filter, median_filter
    from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

    return {
        "Gaussian blur": gaussian_filter,
        "median": median_filter,
        "total variation": denoise_tv_chambolle,
        "non-local means": lambda x, h: denoise_nl_means(x, patch_size=5, patch_distance=6, h=h),
    }


def filtered(images: torch.Tensor, kind: str, setting: float) -> torch.Tensor:
    """Grey images (N, 1, H, W), one by one through a filter of `FILTERS` at one setting."""
    restore = functions()[kind]
    pictures = [restore(x, setting) for x in images[:, 0].cpu().double().numpy()]
    return torch.stack([torch.from_numpy(x) for x in pictures])[:, None].to(images)


def tuned(kind: str, noisy: torch.Tensor, clean: torch.Tensor) -> Callable:
    """The filter at the setting that restores these examples (N, 1, H, W) best, by PSNR.

    What it returns is scaled and shifted too, by least squares on the examples, because corruption
    changes the mean and the contrast. The chosen `setting` is an attribute of the function.
    """
    tried = []
    for setting in FILTERS[kind]:
        output = filtered(noisy, kind, setting)
        gain = ((output - output.mean()) * clean).mean() / output.var(correction=0)
        offset = clean.mean() - gain * output.mean()
        quality = decibels(gain * output + offset, clean).mean().item()
        tried.append((quality, setting, gain, offset))
    _, setting, gain, offset = max(tried)

    def restore(images):
        return gain * filtered(images, kind, setting) + offset

    restore.setting = setting
    return restore


def restored(
    corrupt: Callable, clean: torch.Tensor, noisy: torch.Tensor
) -> dict[str, torch.Tensor]:
    """What each of `FILTERS` makes of `noisy`, tuned on `clean` examples that are corrupted alike.

    Images (N, 1, H, W), float.
    """
    examples = corrupt(clean)
    return {kind: tuned(kind, examples, clean)(noisy) for kind in FILTERS}


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

    def denoise(x):
        return (pca.mean + (x.flatten(1) - expected) @ gain).view_as(x).to(x.dtype)

    return denoise


@torch.no_grad()
def nearest_distances(images: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Euclidean distance of each image (B, ...) to the nearest of `known` (N, ...): (B,)."""
    return torch.cdist(to_float(images).flatten(1), to_float(known).flatten(1)).amin(1)


@torch.no_grad()
def sparsity(dictionary: nn.Module, activations: torch.Tensor) -> dict[str, float]:
    """How a dictionary with `encode` and `decode` describes `activations` (N, D), float.

    {"active": features an item, "variance, %": share of the variance explained, "dead, %": share
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
        "dead, %": 100 * (~alive).double().mean().item(),
    }


def matched_cosines(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cosine of each true direction (T, D) with the found one (F, D) matched to it: (T,).

    The matching is one to one and has the largest sum (the Hungarian algorithm of SciPy), so that a
    direction found twice counts once; a true one left without a partner counts 0.
    """
    from scipy.optimize import linear_sum_assignment

    cosines = F.normalize(truth, dim=1) @ F.normalize(found, dim=1).T  # (T, F)
    rows, columns = linear_sum_assignment(cosines.cpu().numpy(), maximize=True)
    matched = torch.zeros(len(truth))
    matched[rows] = cosines.cpu()[rows, columns]
    return matched


def radius(directions: torch.Tensor, side: int) -> float:
    """How far the energy of a direction lies from its centre, root mean square, in pixels: their mean.

    directions: (K, side²), weights of square patches. A stroke is small, a wave over the patch is not.
    """
    energy = directions.square().view(-1, side, side)
    energy = energy / energy.sum((1, 2), keepdim=True)
    steps = torch.arange(float(side), device=energy.device)
    var = 0
    for share in (energy.sum(2), energy.sum(1)):  # (K, side) down and across
        middle = (share * steps).sum(1, keepdim=True)
        var = var + (share * (steps - middle) ** 2).sum(1)
    return var.sqrt().mean().item()


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
    directions: torch.Tensor, classes: Sequence[int], head: nn.Linear, seed: int = 0
) -> dict[str, float]:
    """What a step along each direction (F, A), named for a class, does to the logits of a linear head.

    "own ÷ random": the rise of its own logit, by the mean size of the change in 1,000 random directions
    of that length; "own rises most, %": the share of directions along which no other logit rises
    as much; "others that rise, %": how many of the other logits rise at all. The last layer is linear,
    so none of the three depends on the item or on the length of the step. NaN for no directions.
    """
    classes = torch.tensor(classes, dtype=torch.long, device=directions.device)
    random = torch.randn(1000, directions.shape[1], generator=torch.Generator().manual_seed(seed))
    change, by_chance = (
        F.normalize(rows, dim=1) @ head.weight.T for rows in (directions, random.to(directions))
    )  # (F, C), (1000, C)
    own = change.gather(1, classes[:, None])  # (F, 1)
    others = (change > 0).double().sum(1) - (own[:, 0] > 0).double()
    return {
        "own ÷ random": (own[:, 0] / by_chance.abs().mean(0)[classes]).mean().item(),
        "own rises most, %": 100 * (change.argmax(1) == classes).double().mean().item(),
        "others that rise, %": 100 * others.mean().item() / (change.shape[1] - 1),
    }


def named_and_steered(
    rivals: dict[str, tuple[torch.Tensor, torch.Tensor]], labels: torch.Tensor, head: nn.Linear
) -> tuple[dict, dict]:
    """`named_features` of each rival {name: (activity (N, F), directions (F, A))}, and their `steering`.

    The second has the share of the directions that are named, in %, besides.
    """
    names = {rival: named_features(activity, labels) for rival, (activity, _) in rivals.items()}
    rows = {}
    for rival, (_, directions) in rivals.items():
        features, classes = list(names[rival]), [c for c, _ in names[rival].values()]
        share = {"named, %": 100 * len(features) / len(directions)}
        rows[rival] = share | steering(directions[features], classes, head)
    return names, rows


@torch.no_grad()
def hold_features(
    dictionary: nn.Module, named: dict, best: dict[int, list], activations: torch.Tensor,
    labels: torch.Tensor, head: Callable, means: torch.Tensor, counts: Sequence[int] = (1, 2, 4, 8),
    count: int = 500,
) -> dict[int, dict[str, float]]:  # fmt: skip
    """How many items are read as a class when features named for it are held at their levels.

    named: as `named_features` returns it. best: {class: its features, strongest first}. On `count` of
    the activations (N, A) whose label is another class, the first 1, 2, 4, 8 are held. head: activations
    -> logits. means: (C, A), a direction for each class. Returns {how many: {"named features": share
    in % over all classes, "class mean" and "random directions": the same after steps as long along
    the class's mean, or in a random direction for each item, "length of the step": its mean}}.
    """
    directions, dice, rows = dictionary.directions(), torch.Generator().manual_seed(6), {}
    ways = ("named features", "class mean", "random directions")
    for many in counts:
        shares, lengths = [], []
        for wanted, features in best.items():
            x, some = activations[labels != wanted][:count], features[:many]
            levels = torch.tensor([named[f][1] for f in some]).to(x)
            step = (levels - dictionary.encode(x)[:, some]) @ directions[some]  # (B, A)
            length = step.norm(dim=1, keepdim=True)
            noise = torch.randn(step.shape, generator=dice).to(x)
            others = (length * F.normalize(way, dim=-1) for way in (means[wanted], noise))
            moved = (x + change for change in (step, *others))
            shares.append([(head(y).argmax(1) == wanted).double().mean() for y in moved])
            lengths.append(length.mean())
        found = 100 * torch.tensor(shares).mean(0)
        rows[many] = dict(zip(ways, found.tolist(), strict=True))
        rows[many]["length of the step"] = torch.stack(lengths).mean().item()
    return rows


def corruption_sliders(denoisers: dict, corruptions: dict, images: torch.Tensor) -> Panel:
    """A strength for each corruption {name: corrupt(x, strength)}, and what its denoiser returns.

    Rows: the clean `images` (K, C, H, W), then for each corruption the noisy ones and the denoised.
    """
    clean, kept = to_float(images), {}  # {name: (strength, its two rows)}: a move changes one

    def rows_of(name, strength):
        with torch.random.fork_rng([clean.device] if clean.is_cuda else []):
            torch.manual_seed(0)  # the same noise at every strength: only the slider moves
            corrupted = corruptions[name](clean, strength)
        return corrupted, denoisers[name](corrupted)

    @torch.no_grad()
    def draw(**strengths):
        rows, words = [clean], []
        for name, strength in strengths.items():
            if kept.get(name, (None,))[0] != strength:
                kept[name] = strength, rows_of(name, strength)
            rows += kept[name][1]
            error = (rows[-1].clamp(0, 1) - clean).square().mean()
            words.append(f"{name}: {-10 * error.log10():.1f} dB")
        return tile(torch.stack(rows)), "denoised, " + ", ".join(words)

    controls = {name: Slider(name, 0, 1, 0.4) for name in corruptions}
    text = "A slider for the strength of each corruption."
    names = ["image", *(row for name in corruptions for row in (name, "denoised"))]
    return Panel(draw, controls, text=text, height=2 * DECODED, rows=names)


def score_field(
    learned: Callable, exact: Callable, points: torch.Tensor, sigmas: tuple[float, float],
    reach: float = 1.5,
) -> Panel:  # fmt: skip
    """A slider over σ: a denoiser's correction r(x) - x beside σ² ∇ log p_σ(x), round points (K, 2).

    learned, exact: (places (P, 2), σ) -> arrows (P, 2). They are drawn where `points` with noise of σ
    are dense, at places of a grid that lie within 2σ of a point.
    """
    across = torch.linspace(-reach, reach, 22, device=points.device)
    grid = torch.cartesian_prod(across, across)  # (484, 2)
    away = torch.cdist(grid, points).amin(1)

    @torch.no_grad()
    def draw(sigma):
        places = grid[away < 2 * sigma + 0.1]
        fields = [field(places, sigma) for field in (learned, exact)]
        cosine = torch.cosine_similarity(*fields, dim=1).mean()
        pictures = [arrow_picture(places, field, points, reach) for field in fields]
        return np.concatenate(pictures, 1), f"left learned, right exact: mean cosine {cosine:.3f}"

    controls = {"sigma": Slider("σ", *sigmas, (sigmas[0] * sigmas[1]) ** 0.5)}
    text = "A slider over the noise: the learned and the exact field of arrows."
    return Panel(draw, controls, text=text, height=300)


def feature_clamp(
    classifier, dictionary, scale: float, names: dict[int, str], images: torch.Tensor, most=3.0
) -> Panel:
    """Hold one feature of a dictionary on a classifier's activations and watch the ten logits.

    classifier: `features` (B, C, H, W) -> (B, A) and `head` (B, A) -> (B, 10). dictionary: on activations
    divided by `scale`. names: the features to choose from, {number: label}. The picture shows the
    image, the logits as they are (grey) and with the feature at the slider's value (blue).
    """
    clean = to_float(images)
    with torch.no_grad():
        activations = classifier.features(clean) / scale  # (K, A)
        codes = dictionary.encode(activations)  # (K, F)
        directions = dictionary.directions()  # (F, A)

    @torch.no_grad()
    def draw(feature, value, image):
        change = (value - codes[image, feature]) * directions[feature]
        rows = torch.stack([activations[image], activations[image] + change])
        logits = classifier.head(scale * rows).cpu()  # (2, 10)
        chances = logits.softmax(1).amax(1)
        before, after = logits.argmax(1).tolist()
        text = f"read as {before} ({chances[0]:.0%}), now as {after} ({chances[1]:.0%})"
        return beside(tile(clean[image][None, None]), logit_bars(logits.numpy())), text

    controls = {
        "feature": Choice("feature", {label: number for number, label in names.items()}, menu=True),
        "value": Slider("held at", 0, most),
        "image": Slider("image", 0, len(images) - 1, 0, step=1),
    }
    return Panel(draw, controls, text="A slider that holds a feature and moves the logits.")


def logit_bars(logits: np.ndarray) -> np.ndarray:
    """Logits before and after (2, 10) as pairs of bars, zero in the middle: (BAR, BAR, 3) uint8."""
    pitch = BAR // 10
    page = Image.new("RGB", (BAR, BAR), "white")
    ImageDraw.Draw(page).text((2, 0), "logits", fill="black")
    for digit in range(10):
        ImageDraw.Draw(page).text((digit * pitch + 8, BAR - 12), str(digit), fill="black")
    picture = np.array(page)
    unit = (BAR // 2 - 14) / max(20.0, np.abs(logits).max())
    for digit in range(10):
        for row, colour in enumerate(((190, 190, 190), (0, 114, 178))):
            end = BAR // 2 - round(float(logits[row, digit]) * unit)
            top, bottom = sorted((end, BAR // 2))
            left = digit * pitch + 3 + row * (pitch // 2 - 2)
            picture[top : bottom + 1, left : left + pitch // 2 - 3] = colour
    return picture


def arrow_picture(
    starts: torch.Tensor, steps: torch.Tensor, points: torch.Tensor, reach: float, side: int = 300
) -> np.ndarray:
    """Arrows (P, 2) from places (P, 2) on white, with points (K, 2) as dots: (side, side, 3) uint8.

    The square reaches from -reach to reach on both axes, axis 2 upwards; an arrow ends in a dot.
    """
    page = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(page)
    flip = torch.tensor([1.0, -1.0])
    place = lambda x: ((x.cpu() * flip / reach + 1) * (side - 1) / 2).tolist()
    for x, y in place(points):
        pen.ellipse((x - 2, y - 2, x + 2, y + 2), COLOURS[1])
    for start, end in zip(place(starts), place(starts + steps), strict=True):
        pen.line((*start, *end), COLOURS[0])
        pen.ellipse((end[0] - 2, end[1] - 2, end[0] + 2, end[1] + 2), COLOURS[0])
    return np.array(page)
