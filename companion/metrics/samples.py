"""How near samples come to data, as the field measures it: in the features of a classifier.

Features (N, D) of images are what `over(classifier.features, images)` returns. A distance means
something beside two others: that of training images, by the same protocol, and that of a control.
"""

from collections.abc import Callable

import torch

from companion.metrics.reconstruction import over


def frechet_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Squared Fréchet distance of the Gaussians fitted to features a (N, D) and b (M, D).

    ‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½), in squared units of the features (Dowson and Landau
    1982; the Fréchet Inception distance of Heusel et al. 2017 is this in Inception's features).
    ValueError for sets of different features, or too few items for a covariance.
    """
    means, roots, covariances = [], [], []
    for x in features_of(a, b):
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
    data, samples = features_of(data, samples)
    return shares_of_balls(data, radii(data, k), samples, k, batch)


def radii(data: torch.Tensor, k: int, batch: int = 1000) -> torch.Tensor:
    """The distance from each data point (N, D) to the k-th nearest other one: (N,)."""
    if len(data) <= k:
        raise ValueError(
            f"k={k} neighbours need more than {k} data points, and there are {len(data)}."
        )
    # A point is its own nearest neighbour, so the k-th other one is number k + 1.
    parts = [
        distances(part, data).topk(k + 1, largest=False).values[:, k] for part in data.split(batch)
    ]
    return torch.cat(parts)


def shares_of_balls(data, radius, samples, k: int = 5, batch: int = 1000) -> tuple[float, float]:
    """(density, coverage) of samples (M, D) in balls of these radii (N,) round the data (N, D)."""
    inside, covered = 0, []
    for part, reach in zip(data.split(batch), radius.split(batch), strict=True):
        within = distances(part, samples) < reach[:, None]  # (B, M)
        inside += within.sum().item()
        covered.append(within.any(1))
    return inside / (k * len(samples)), torch.cat(covered).double().mean().item()


def scorer(features: Callable, data: torch.Tensor, k: int = 5) -> Callable:
    """Images (M, C, H, W) -> their three scores against `data` (N, C, H, W), whose balls are found once.

    features: images -> (N, D), such as a classifier's `features`.
    """
    known = over(features, data)
    exact, _ = features_of(known, known)
    radius = radii(exact, k)

    def scores(samples: torch.Tensor) -> dict[str, float]:
        found = over(features, samples.to(data.device))
        density, coverage = shares_of_balls(exact, radius, features_of(known, found)[1], k)
        distance = frechet_distance(known, found)
        return {"Fréchet distance": distance, "density": density, "coverage": coverage}

    return scores


def sample_scores(features, data: torch.Tensor, samples: torch.Tensor) -> dict[str, float]:
    """Three scores of samples against data, by name, as `scorer` gives them; images (N, C, H, W) both."""
    return scorer(features, data)(samples)


def beside_digits(classifier, digits) -> tuple[Callable, dict[str, dict[str, float]]]:
    """A `scorer` against all test digits, and the reference: what as many training digits score.

    The halves of MNIST's test set are no reference for each other: other people wrote them, and they
    lie ten times as far apart (a Fréchet distance of 103; training digits against all of it 9).
    """
    scores = scorer(classifier.features, digits.test)
    return scores, {"training digits": scores(digits.train[: len(digits.test)])}


SOURCES = ("diagonal Gaussian", "full Gaussian", "encoded images")


def distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Distances (N, M) by a matrix product, four times as fast; in double precision it rounds little."""
    return torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist")


def separable(codes: torch.Tensor, samples: torch.Tensor, seed: int = 0) -> float:
    """Held-out accuracy in % of a small network that tells codes (N, M) from samples (N, M).

    50 % where it finds no difference: the samples then lie where encoded images do, and there are no
    holes to find. Half of each set is learned from, the other half asked. ValueError for sets of
    different dimensions or sizes.
    """
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    codes, samples = features_of(codes, samples)
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


def features_of(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two sets of features in double precision on the CPU, or a ValueError."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"features are {tuple(a.shape)} and {tuple(b.shape)}: pass (N, D) and (M, D) of the same D."
        )
    if min(len(a), len(b)) < 2:
        raise ValueError("a set needs at least two items.")
    return a.detach().cpu().double(), b.detach().cpu().double()
