"""How near samples come to data, as the field measures it: in the features of a classifier.

Features (N, D) of images are what `over(classifier.features, images)` returns. A distance means
something beside two others: that of two halves of the data (the floor) and that of a control.
"""

from collections.abc import Callable, Sequence

import torch

from companion.metrics.classifier import perceptual_distance, readable_share
from companion.metrics.reconstruction import decibels, high_energy, over


def frechet_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Squared Fréchet distance of the Gaussians fitted to features a (N, D) and b (M, D).

    ‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½), in squared units of the features (Dowson and Landau
    1982; the Fréchet Inception distance of Heusel et al. 2017 is this in Inception's features).
    ValueError for sets of different features, or too few items for a covariance.
    """
    means, roots, covariances = [], [], []
    for x in checked(a, b):
        mean = x.mean(0)
        covariance = (x - mean).T @ (x - mean) / (len(x) - 1)  # (D, D)
        values, vectors = torch.linalg.eigh(covariance)
        means.append(mean)
        covariances.append(covariance)
        roots.append((vectors * values.clamp(min=0).sqrt()) @ vectors.T)
    # tr (Σ_a Σ_b)^½ is the sum of the singular values of Σ_a^½ Σ_b^½.
    cross = torch.linalg.svdvals(roots[0] @ roots[1]).sum()
    apart = (means[0] - means[1]).square().sum()
    return (apart + covariances[0].trace() + covariances[1].trace() - 2 * cross).clamp(min=0).item()


def density_coverage(
    data: torch.Tensor, samples: torch.Tensor, k: int = 5, batch: int = 1000
) -> tuple[float, float]:
    """(density, coverage) of features of samples (M, D) against those of data (N, D).

    Round each data point lies the ball that reaches its k-th neighbour among the data. Density is the
    mean number of balls that a sample lies in, divided by k: near 1 where samples lie as the data do.
    Coverage is the share of the balls in which some sample lies (Naeem et al. 2020, eq. 4 and 5).
    ValueError for sets of different features, or fewer than k + 1 data points.
    """
    data, samples = checked(data, samples)
    if len(data) <= k:
        raise ValueError(
            f"k={k} neighbours need more than {k} data points, and there are {len(data)}."
        )
    inside, covered = 0, torch.zeros(len(data), dtype=torch.bool)
    for start in range(0, len(data), batch):
        part = data[start : start + batch]
        # A point is its own nearest neighbour, so the k-th other one is number k + 1.
        radius = exact_distances(part, data).kthvalue(k + 1, dim=1).values  # (B,)
        within = exact_distances(part, samples) < radius[:, None]  # (B, M)
        inside += within.sum().item()
        covered[start : start + batch] = within.any(1)
    return inside / (k * len(samples)), covered.double().mean().item()


def sample_scores(features, data: torch.Tensor, samples: torch.Tensor) -> dict[str, float]:
    """Three scores of samples against data, by name; images (N, C, H, W) both.

    features: images -> (N, D), such as a classifier's `features`.
    """
    known, found = over(features, data), over(features, samples)
    density, coverage = density_coverage(known, found)
    distance = frechet_distance(known, found)
    return {"Fréchet distance": distance, "density": density, "coverage": coverage}


SCORES = ("Fréchet distance", "density", "coverage", "read with confidence, %")


def compare_samplers(
    samplers: dict[str, Callable],
    classifier,
    images: torch.Tensor,
    seeds: Sequence[int] = (0, 1, 2),
) -> torch.Tensor:
    """The `SCORES` of each sampler at each seed, against digits: (samplers, seeds, 4).

    samplers: {name: count -> images (count, 1, 28, 28) in [0, 1]}; each gives as many as `images` has.
    """
    found = []
    for draw in samplers.values():
        for seed in seeds:
            torch.manual_seed(seed)
            some = draw(len(images))
            scores = sample_scores(classifier.features, images, some)
            found.append([*scores.values(), readable_share(classifier, some)])
    return torch.tensor(found).view(len(samplers), len(seeds), 4)


def picture_scores(network, pictures: torch.Tensor, copies: torch.Tensor) -> dict[str, float]:
    """How copies of colour pictures look beside them, float (N, 3, H, W) both, in five numbers.

    "PSNR, dB"; "fine detail, %", the copies' energy in waves shorter than four pixels as a share of
    the pictures'; "error in it, %", the energy there of the difference, above 100 where blanks would
    err less; "perceptual distance" and "Fréchet distance" in the activations of `network`.
    """
    pairs = zip(pictures.split(500), copies.split(500), strict=True)
    with torch.no_grad():
        apart = torch.cat([perceptual_distance(network, *pair) for pair in pairs])
    limit = pictures.shape[-1] // 4  # cycles an image, of waves four pixels long
    real, fine, off = (high_energy(x, limit) for x in (pictures, copies, copies - pictures))
    features = [over(network.features, images) for images in (pictures, copies)]
    return {
        "PSNR, dB": decibels(copies, pictures).mean().item(),
        "fine detail, %": 100 * fine / real,
        "error in it, %": 100 * off / real,
        "perceptual distance": apart.mean().item(),
        "Fréchet distance": frechet_distance(*features),
    }


def exact_distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Distances (N, M) without the matrix product that rounds small ones."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def separable(codes: torch.Tensor, samples: torch.Tensor, seed: int = 0) -> float:
    """Held-out accuracy in % of a small network that tells codes (N, M) from samples (N, M).

    50 % where it finds no difference: the samples then lie where encoded images do, and there are no
    holes to find. Half of each set is learned from, the other half asked. ValueError for sets of
    different dimensions or sizes.
    """
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    codes, samples = checked(codes, samples)
    if len(codes) != len(samples):
        raise ValueError(
            f"{len(codes)} codes against {len(samples)} samples: pass as many of each."
        )
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))
    known, asked = order.chunk(2)
    network = MLPClassifier((64, 64), early_stopping=True, random_state=seed)
    network = make_pipeline(StandardScaler(), network)
    network.fit(*both(codes[known], samples[known]))
    return 100 * network.score(*both(codes[asked], samples[asked]))


def both(codes: torch.Tensor, samples: torch.Tensor) -> tuple:
    """Two sets as one, and which each item is from: (2N, M), (2N,)."""
    return torch.cat([codes, samples]).numpy(), [0] * len(codes) + [1] * len(samples)


def checked(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two sets of features in double precision on the CPU, or a ValueError."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"features are {tuple(a.shape)} and {tuple(b.shape)}: pass (N, D) and (M, D) of the same D."
        )
    if min(len(a), len(b)) < 2:
        raise ValueError("a set needs at least two items.")
    return a.detach().cpu().double(), b.detach().cpu().double()
