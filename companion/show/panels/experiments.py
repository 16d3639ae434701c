"""Sliders that do something to an image or to a classifier's activations."""

from collections.abc import Callable

import numpy as np
import torch

from companion.data import tile, to_float
from companion.show.panel import Choice, Panel, Slider
from companion.show.pixels import DECODED, arrow_picture, bars, beside


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
    classifier,
    dictionary,
    scale: float,
    names: dict[int, str],
    images: torch.Tensor,
    most: float = 3.0,
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
        return beside(tile(clean[image][None, None]), bars(logits.numpy())), text

    controls = {
        "feature": Choice("feature", {label: number for number, label in names.items()}, menu=True),
        "value": Slider("held at", 0, most),
        "image": Slider("image", 0, len(images) - 1, 0, step=1),
    }
    return Panel(draw, controls, text="A slider that holds a feature and moves the logits.")
