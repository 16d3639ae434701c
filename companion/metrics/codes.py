"""A Gaussian over codes, what moving a code does, and the straight line between two."""

from collections.abc import Callable

import torch
import torch.nn.functional as F


class Gaussian:
    """N(mean, covariance) over codes: the prior that samples and readouts come from."""

    def __init__(self, mean: torch.Tensor, covariance: torch.Tensor):
        self.mean, self.factor = mean, torch.linalg.cholesky(covariance.double()).to(mean)

    @classmethod
    def fitted(cls, codes: torch.Tensor) -> "Gaussian":
        """The Gaussian with the mean and covariance of `codes` (N, M). ValueError where there is none."""
        if len(codes) < 2 or not (codes.std(0) > 0).any():
            raise ValueError("no Gaussian fits these codes: give two codes or more that differ.")
        covariance = codes.double().T.cov().reshape(codes.shape[1], -1)
        floor = 1e-6 * covariance.diagonal().mean()  # an axis that never moves has no factor
        return cls(codes.mean(0), covariance + floor * torch.eye(len(covariance)).to(covariance))

    @classmethod
    def standard(cls, latent_dim: int, device=None) -> "Gaussian":
        return cls(torch.zeros(latent_dim, device=device), torch.eye(latent_dim, device=device))

    def sample(self, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """`count` codes (count, M)."""
        noise = torch.randn(count, len(self.mean), generator=generator).to(self.mean)
        return self.mean + noise @ self.factor.T

    def rarer(self, code: torch.Tensor) -> torch.Tensor:
        """Share of the prior's samples, in %, that are less likely than `code` (M,): χ² tail, ()."""
        away = (code - self.mean)[:, None]
        whitened = torch.linalg.solve_triangular(self.factor, away, upper=False)
        half = torch.tensor(len(self.mean) / 2).to(code)
        return 100 * torch.special.gammaincc(half, whitened.square().sum() / 2)


def effects(decoder: Callable, codes: torch.Tensor) -> torch.Tensor:
    """How much each axis moves the picture: mean squared pixel change over ±1 σ, as shares: (M,)."""
    middle, spread = codes.mean(0), codes.std(0)
    with torch.no_grad():
        up, down = decoder(middle + spread.diag()), decoder(middle - spread.diag())
    change = (up - down).square().flatten(1).mean(1)
    return change / change.sum().clamp_min(1e-12)


def interpolate(a: torch.Tensor, b: torch.Tensor, steps: int = 9) -> torch.Tensor:
    """Codes on the straight line from `a` to `b`, both included: (..., M) twice -> (steps, ..., M)."""
    shares = torch.linspace(0, 1, steps, device=a.device).view(-1, *[1] * a.ndim)
    return torch.lerp(a, b, shares)


def pairs_by_class(labels: torch.Tensor, count: int, seed: int = 0) -> dict[str, tuple]:
    """Pairs of items of one class and of two, `count` of each or fewer: {kind: (first, second)}."""
    by_class = labels.argsort(stable=True)
    neighbour = torch.empty_like(by_class).scatter_(0, by_class, by_class.roll(1))
    anybody = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    found = {}
    for kind, partner in {"one class": neighbour, "two classes": anybody.to(labels.device)}.items():
        alike = labels == labels[partner]
        first = (alike if kind == "one class" else ~alike).nonzero()[:count, 0]
        found[kind] = first, partner[first]
    return found


def traversal(axis: int, middle: torch.Tensor, spread: float = 1.0, steps: int = 9) -> torch.Tensor:
    """Codes (steps, M) that move one axis from -3 to 3 `spread`s round `middle` (M,), the others not."""
    codes = middle.repeat(steps, 1)
    codes[:, axis] += spread * torch.linspace(-3, 3, steps, device=middle.device)
    return codes


def plane_of(across: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Codes (U·A, 2) of a grid over a plane, as a picture has them: row by row, axis 2 falling."""
    return torch.cartesian_prod(up.flip(0), across).flip(1)


def matched(found: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each true direction (T, D) with the found one (F, D) matched to it: cosine (T,) and place (T,).

    The matching is one to one and has the largest sum (the Hungarian algorithm of SciPy), so that a
    direction found twice counts once; a true one left without a partner has cosine 0 and place -1.
    """
    from scipy.optimize import linear_sum_assignment

    cosines = F.normalize(truth, dim=1) @ F.normalize(found, dim=1).T  # (T, F)
    rows, columns = linear_sum_assignment(cosines.cpu().numpy(), maximize=True)
    matches, places = torch.zeros(len(truth)), torch.full((len(truth),), -1)
    matches[rows], places[rows] = cosines.cpu()[rows, columns], torch.from_numpy(columns)
    return matches, places


RECOVERY = ("mean cosine", "found, %", "precision, %", "recall, %", "strength, %")


@torch.no_grad()
def recovery(
    dictionary, x: torch.Tensor, strength: torch.Tensor, truth: torch.Tensor
) -> dict[str, float]:
    """How well a dictionary finds true features: the quantities of `RECOVERY`.

    x: sums (N, D) = strength (N, T) @ truth (T, D). A direction is found where its partner's cosine is
    above .9. A hit is a latent active while the found feature that it is matched to is present: precision
    is hits ÷ all active latents, recall hits ÷ all features present, strength the mean activity of hits
    ÷ the mean strength of their features.
    """
    cosines, places = matched(dictionary.directions(), truth)
    kept = cosines > 0.9
    code, wanted = dictionary.encode(x), strength[:, kept.to(x.device)]
    mine = code[:, places[kept].to(x.device)]  # (N, found)
    hits = (mine > 0) & (wanted > 0)
    shares = hits.sum() / torch.stack([(code > 0).sum(), (strength > 0).sum()])
    size = mine[hits].sum() / wanted[hits].sum()
    found = [cosines.mean(), *(100 * part for part in (kept.float().mean(), *shares, size))]
    return dict(
        zip(RECOVERY, torch.stack([x.cpu() for x in found]).nan_to_num(0).tolist(), strict=True)
    )
