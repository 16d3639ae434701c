"""Exercises: a check that names the wrong step, and a solution one click away.

A check is a function of the reader's function. It returns None where the answer is right, else a
hint in one sentence. `check` never raises: an unsolved or broken stub does not stop a notebook.
"""

import html
import inspect
import math

import torch


def check(number: str, attempt) -> None:
    """Print "not attempted yet", a hint that names the wrong step, or "correct"."""
    examine, _ = EXERCISES[number]
    try:
        hint = examine(attempt)
    except NotAttempted:
        verdict = "not attempted yet."
    except Exception as error:  # whatever a reader's code may raise
        verdict = f"your function raised {type(error).__name__}: {error}"
    else:
        verdict = f"not yet. {hint}" if hint else "correct."
    print(f"Exercise {number}: {verdict}")


def solution(number: str):
    """The solution's source, folded: click to open it."""
    _, solve = EXERCISES[number]
    return Folded(f"Solution of {number}", inspect.getsource(solve))


class Folded:
    """Text behind a click on a page, plain in a terminal."""

    def __init__(self, title: str, text: str):
        self.title, self.text = title, text

    def _repr_html_(self):
        return (
            f"<details><summary>{self.title}</summary><pre>{html.escape(self.text)}</pre></details>"
        )

    def __repr__(self):
        return f"{self.title}: click to open it in Jupyter, or print(solution(...).text)."


class NotAttempted(Exception):
    """The stub returned nothing."""


def answer(attempt, *arguments) -> torch.Tensor:
    """What the reader's function returns, as a tensor; NotAttempted for None or `...`."""
    try:
        value = attempt(*arguments)
    except NotImplementedError:
        raise NotAttempted from None
    if value is None or value is ...:
        raise NotAttempted
    return torch.as_tensor(value)


def close(value: torch.Tensor, wanted, tolerance: float = 1e-4) -> bool:
    wanted = torch.as_tensor(wanted)
    return value.shape == wanted.shape and torch.allclose(
        value.double(), wanted.double(), rtol=tolerance, atol=tolerance
    )


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# 31.1 Autoencoders


def error_per_image(x, copy):
    return (copy - x).square().flatten(1).sum(1).mean()


def check_error_per_image(attempt):
    x, copy = torch.rand(2, 5, 1, 4, 6, generator=seeded())
    value, square = answer(attempt, x, copy), (copy - x).square()
    if value.ndim:
        return f"Return a scalar: yours has shape {tuple(value.shape)}."
    if close(value, square.mean()):
        return "You averaged over the pixels: sum over them, and average over the batch only."
    if close(value, square.sum()):
        return "You summed over the batch as well: divide by the number of images."
    if close(value, (copy - x).abs().flatten(1).sum(1).mean()):
        return "These are absolute errors: square them."
    if close(value, square.flatten(1).sum(1).sqrt().mean()):
        return "You took the root of each image's error: leave it squared."
    if not close(value, error_per_image(x, copy)):
        return "The reductions are not right: square, sum over channels and pixels, average over images."


def share_kept(variance, width):
    return variance[:width].sum() / variance.sum()


def check_share_kept(attempt):
    variance = torch.tensor([9.0, 4.0, 2.0, 1.0])
    value = answer(attempt, variance, 2)
    if close(value, 3 / 16):
        return "That is the share which is lost: take the first components, not the last."
    if close(value, 13.0):
        return "That is the variance kept: divide it by the total."
    if close(value, variance.sqrt()[:2].sum() / variance.sqrt().sum()):
        return "Variances add, standard deviations do not: leave out the root."
    if close(value, 169 / 256):
        return "The eigenvalues are variances already: do not square them."
    if not close(value, share_kept(variance, 2)):
        return "Divide the sum of the first `width` eigenvalues by the sum of all."


def straight_line(a, b, steps):
    t = torch.linspace(0, 1, steps)[:, None]  # (steps, 1)
    return (1 - t) * a + t * b


def check_straight_line(attempt):
    a, b = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([4.0, 1.0, -2.0])
    value, wanted = answer(attempt, a, b, 5), straight_line(a, b, 5)
    if value.shape == wanted.T.shape:
        return "Rows and columns are exchanged: one code a row, shape (steps, M)."
    if value.shape != wanted.shape:
        return f"The shape is {tuple(value.shape)}, not (steps, M) = (5, 3): include both ends."
    if close(value, wanted.flip(0)):
        return "The line runs from b to a: start at a."
    if not close(value[0], a):
        return "The first code is not a."
    if not close(value[-1], b):
        return "The last code is not b: the steps divide the way into steps - 1 parts."
    if not close(value, wanted):
        return "The ends are right, the distances between are not equal."


def gaussian_draws(codes, count):
    factor = torch.linalg.cholesky(codes.T.cov())  # (M, M), factor @ factor.T is the covariance
    return codes.mean(0) + torch.randn(count, codes.shape[1]) @ factor.T


def check_gaussian_draws(attempt):
    mixing = torch.tensor([[2.0, 0.0], [1.5, 0.5]])
    codes = torch.randn(4000, 2, generator=seeded()) @ mixing.T + torch.tensor([3.0, -1.0])
    value, wanted = answer(attempt, codes, 20_000), codes.T.cov()
    if value.shape != (20_000, 2):
        return f"The shape is {tuple(value.shape)}, not (count, M) = (20000, 2)."
    if (value.mean(0) - codes.mean(0)).abs().max() > 0.15:
        return "The mean is not that of the codes: add it."
    got = value.T.cov()
    if close(got, wanted @ wanted, 0.1):
        return "You multiplied by the covariance: multiply by a factor L of it, L Lᵀ = covariance."
    factor = torch.linalg.cholesky(wanted)
    if close(got, factor.T @ factor, 0.1):
        return "The Cholesky factor is transposed: for rows of noise, noise @ L.T."
    if close(got.diagonal(), wanted.diagonal(), 0.1) and abs(got[0, 1]) < 0.3:
        return "Each axis alone is right, but the correlation between them is lost."
    if not close(got, wanted, 0.1):
        return "The covariance of the draws is not that of the codes."


def largest_angle(a, b):
    (q_a, _), (q_b, _) = torch.linalg.qr(a), torch.linalg.qr(b)
    cosines = torch.linalg.svdvals(q_a.T @ q_b).clamp(max=1)
    return cosines.min().acos() * 180 / math.pi


def check_largest_angle(attempt):
    turn = math.radians(25)
    a = torch.eye(5, dtype=torch.float64)[:, :2]
    b = torch.zeros(5, 2, dtype=torch.float64)
    b[0, 0], b[1, 1], b[2, 1] = 1, math.cos(turn), math.sin(turn)
    b = b @ torch.tensor(
        [[2.0, 1.0], [0.5, 3.0]], dtype=torch.float64
    )  # the same plane, other columns
    value = answer(attempt, a, b)
    if value.ndim:
        return "Return one number: the largest of the angles."
    if close(value, turn, 1e-3):
        return "That is in radians: multiply by 180 / π."
    if abs(value) < 1e-3:
        return "That is the smallest angle: the largest has the smallest cosine."
    if close(value, 65.0, 1e-3):
        return "That is the complement: the singular values are cosines, not sines."
    if not close(value, 25.0, 1e-3):
        return (
            "Make each set of columns orthonormal first (QR), then take singular values of Qaᵀ Qb."
        )


def space_to_channels(x):
    b, c, h, w = x.shape
    blocks = x.reshape(b, c, h // 2, 2, w // 2, 2)  # row, row in block, column, column in block
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(b, 4 * c, h // 2, w // 2)


def check_space_to_channels(attempt):
    x = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    value, wanted = answer(attempt, x), space_to_channels(x)
    if value.shape != wanted.shape:
        return f"The shape is {tuple(value.shape)}, not {tuple(wanted.shape)}."
    if close(value, x.reshape(wanted.shape)):
        return "A reshape alone keeps the order of memory: split the sides into blocks and permute."
    other = x.reshape(2, 3, 2, 2, 3, 2).permute(0, 3, 5, 1, 2, 4).reshape(wanted.shape)
    if close(value, other):
        return "The four places of a block come before the channel: keep a channel's four together."
    swapped = x.reshape(2, 3, 2, 2, 3, 2).permute(0, 1, 5, 3, 2, 4).reshape(wanted.shape)
    if close(value, swapped):
        return "Within a block, go along the row first: rows and columns are exchanged."
    if not close(value, wanted):
        return "The values are in the wrong order: after the permute, (B, C, 2, 2, H/2, W/2)."


# 31.2 Denoising and sparse autoencoders


def mask(x, strength, dice):
    return x * (dice >= strength)


def check_mask(attempt):
    x, dice = torch.rand(2, 3, 1, 4, 5, generator=seeded()) * 0.9 + 0.05
    value, wanted = answer(attempt, x, 0.3, dice), mask(x, 0.3, dice)
    if value.shape != x.shape:
        return f"The shape is {tuple(value.shape)}, not that of x, {tuple(x.shape)}."
    if close(value, x * (dice < 0.3)):
        return (
            "You kept the pixels that should go: keep those whose dice are not below the strength."
        )
    if close(value, x * (dice >= 0.3) / 0.7):
        return "You scaled the rest as dropout does: leave it as it is."
    if close(value, (dice >= 0.3).float()):
        return "You returned the mask: multiply x by it."
    if close(value, x * (dice.flatten(1)[:, 0] >= 0.3).view(-1, 1, 1, 1)):
        return "You masked whole images: each pixel has its own dice."
    if not close(value, wanted):
        return "Set a pixel to 0 where its dice are below the strength, and leave the others."


def score_of(denoised, x, sigma):
    return (denoised - x) / sigma**2


def check_score_of(attempt):
    denoised, x = torch.randn(2, 6, 2, generator=seeded())
    value, step = answer(attempt, denoised, x, 0.5), denoised - x
    if close(value, -step / 0.25):
        return "The sign is wrong: the score points from the noisy point to the denoised one."
    if close(value, step):
        return "That is σ² times the score: divide by σ²."
    if close(value, step / 0.5):
        return "You divided by σ: divide by its square."
    if close(value, step * 0.25):
        return "You multiplied by σ²: divide by it."
    if not close(value, score_of(denoised, x, 0.5)):
        return "Solve r(x) - x = σ² ∇ log p(x) for the gradient."


def best_guess(x, centres, sigma):
    squares = (x[:, None] - centres).square().sum(-1)  # (B, K)
    return (-squares / (2 * sigma**2)).softmax(1) @ centres  # (B, D)


def check_best_guess(attempt):
    x = torch.randn(6, 2, generator=seeded())
    centres = torch.tensor([[0.0, 0.5], [1.0, -0.5], [-1.0, 0.2]])
    value, squares = answer(attempt, x, centres, 0.7), (x[:, None] - centres).square().sum(-1)
    if value.shape != x.shape:
        return f"The shape is {tuple(value.shape)}, not that of x, {tuple(x.shape)}."
    if close(value, centres[squares.argmin(1)]):
        return "That is the nearest centre: average over all, each by its posterior share."
    if close(value, centres.mean(0).expand_as(x)):
        return "All centres count the same: near ones are likelier, by exp(-distance² / 2σ²)."
    if close(value, (-squares / (2 * 0.7)).softmax(1) @ centres):
        return "You divided by 2σ: the exponent is -distance² / (2σ²)."
    if close(value, (-squares / 0.7**2).softmax(1) @ centres):
        return "The factor ½ in the exponent is missing."
    if close(value, (-squares.sqrt() / (2 * 0.7**2)).softmax(1) @ centres):
        return "You took distances: the exponent holds their squares."
    if close(value, (squares / (2 * 0.7**2)).softmax(1) @ centres):
        return "The sign of the exponent is wrong: far centres must be unlikely."
    if not close(value, best_guess(x, centres, 0.7)):
        return "Weigh the centres by softmax(-distance² / 2σ²) over the centres, and add them up."


def keep_largest(pre, k):
    top = pre.topk(k, dim=1)  # (B, k)
    return torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())


def check_keep_largest(attempt):
    pre = torch.randn(5, 8, generator=seeded()) + 0.5
    pre[0] = -pre[0].abs() - 0.1  # a row without a positive value
    pre[1, :3] = torch.tensor([-9.0, -8.0, -7.0])
    value, wanted = answer(attempt, pre, 3), keep_largest(pre, 3)
    if value.shape != pre.shape:
        return f"The shape is {tuple(value.shape)}, not {tuple(pre.shape)}: zeros stay in place."
    if close(
        value, torch.zeros_like(pre).scatter(1, pre.topk(3, 1).indices, pre.topk(3, 1).values)
    ):
        return "Negative values are kept: a feature is active or zero, so apply relu too."
    size = pre.abs().topk(3, 1).indices
    for kept in (pre, pre.relu(), pre.abs()):
        if close(value, torch.zeros_like(pre).scatter(1, size, kept.gather(1, size))):
            return "You chose by absolute value: choose the largest values."
    if close(value, pre.relu()):
        return "Nothing was left out: only k of a row may stay."
    all_at_once = pre.flatten().topk(15).values.min()
    if close(value, pre.relu() * (pre >= all_at_once)):
        return "You chose over the whole batch: each row keeps k of its own."
    if close(value, (wanted > 0).to(pre)):
        return "You returned the mask: keep the values."
    if not close(value, wanted):
        return "Keep the k largest of each row, in their places, where they are positive."


def sparsity_price(activity, target):
    mean = activity.mean(0)  # (F,) how often each unit is active
    on = target * (target / mean).log()
    off = (1 - target) * ((1 - target) / (1 - mean)).log()
    return (on + off).sum()


def check_sparsity_price(attempt):
    activity = torch.rand(40, 5, generator=seeded()) * 0.6 + 0.05
    value, wanted = answer(attempt, activity, 0.1), sparsity_price(activity, 0.1)
    mean, target = activity.mean(0), 0.1
    if value.ndim:
        return f"Return a scalar, the sum over the units: yours has shape {tuple(value.shape)}."
    if close(value, wanted / 5):
        return "You averaged over the units: sum over them."
    swapped = mean * (mean / target).log() + (1 - mean) * ((1 - mean) / (1 - target)).log()
    if close(value, swapped.sum()):
        return "The two distributions are exchanged: it is KL(target ‖ mean activity)."
    if close(value, (target * (target / mean).log()).sum()):
        return "The term for the unit being off is missing: (1 - target) log of (1 - target)/(1 - mean)."
    if close(value, sum(sparsity_price(row[None], target) for row in activity) / len(activity)):
        return "Take the mean of each unit over the batch first, then the divergence."
    if close(value, wanted / math.log(2)):
        return "That is in bits: use the natural logarithm."
    if not close(value, wanted):
        return "Sum over units of target·log(target/mean) + (1-target)·log((1-target)/(1-mean))."


def mean_max_cosine(found, truth):
    from scipy.optimize import linear_sum_assignment

    unit = [rows / rows.norm(dim=1, keepdim=True) for rows in (truth, found)]
    cosines = unit[0] @ unit[1].T  # (T, F)
    rows, columns = linear_sum_assignment(cosines, maximize=True)
    return cosines[rows, columns].mean()


def matching(gains):
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(gains.numpy(), maximize=True)


def check_mean_max_cosine(attempt):
    truth = torch.tensor([[1.0, 0, 0], [0, 2.0, 0], [0, 0, 1.0]])
    found = torch.tensor([[3.0, 0.3, 0], [1.0, 0, 0.1], [0, 1.0, 1.0], [-0.4, 0, -2.0]])
    value, wanted = answer(attempt, found, truth), mean_max_cosine(found, truth)
    cosines = torch.nn.functional.cosine_similarity(truth[:, None], found, dim=-1)
    if value.ndim:
        return "Return one number, the mean over the true directions."
    if close(value, cosines.amax(1).mean()):
        return "One found direction is counted for two true ones: match them one to one."
    if close(value, cosines.amax(0).mean()):
        return "You took the best true one of each found one: ask for each true one, one to one."
    if close(value, mean_max_cosine(found.abs(), truth)):
        return "You dropped the signs: a direction and its opposite are not the same."
    products = truth @ found.T
    if close(value, products[matching(products)].mean()):
        return "These are inner products: divide by both lengths."
    if close(value, cosines[matching(-cosines)].mean()):
        return "The matching has the smallest sum: ask for the largest."
    if not close(value, wanted):
        return "Cosines (T, F), a one-to-one matching with the largest sum, the mean over matches."


# 31.3 Variational autoencoders


def drawn_code(mean, log_var, noise):
    return mean + (log_var / 2).exp() * noise


def check_drawn_code(attempt):
    mean, log_var, noise = torch.randn(3, 5, 4, generator=seeded())
    value = answer(attempt, mean, log_var, noise)
    if value.shape != mean.shape:
        return f"The shape is {tuple(value.shape)}, not that of the mean, {tuple(mean.shape)}."
    if close(value, mean + log_var.exp() * noise):
        return (
            "You scaled the noise by the variance: σ is the exponential of half the log variance."
        )
    if close(value, mean + log_var * noise):
        return (
            "You scaled the noise by the log variance itself: take the exponential of half of it."
        )
    if close(value, mean + noise):
        return "The noise keeps its unit size: scale it by σ."
    if close(value, mean):
        return "That is the mean: nothing is drawn."
    if close(value, mean + (log_var / 2).exp() * noise.abs()):
        return "You dropped the sign of the noise."
    if not close(value, drawn_code(mean, log_var, noise)):
        return "z = μ + σ ε, with σ the exponential of half the log variance."


def price(mean, log_var):
    return (mean**2 + log_var.exp() - log_var - 1).sum(1) / 2


def check_price(attempt):
    mean, log_var = torch.randn(2, 5, 4, generator=seeded())
    value, wanted = answer(attempt, mean, log_var), price(mean, log_var)
    if value.ndim == 0:
        return "Return the price of each image, (B,): yours is one number."
    if value.shape != wanted.shape:
        return f"The shape is {tuple(value.shape)}, not {tuple(wanted.shape)}: sum over the axes."
    if close(value, wanted / 4):
        return "You averaged over the axes: their nats add up."
    if close(value, 2 * wanted):
        return "The factor ½ is missing."
    if close(value, -wanted):
        return "The sign is wrong: a divergence is never negative."
    if close(value, (mean**2 + (2 * log_var).exp() - 2 * log_var - 1).sum(1) / 2):
        return "You took the second argument for log σ: it is the log of the variance."
    if close(value, (mean**2 + log_var.exp() - log_var).sum(1) / 2):
        return "The -1 is missing: at the prior itself the price must be zero."
    if close(value, wanted / math.log(2)):
        return "That is in bits: use natural logarithms."
    if not close(value, wanted):
        return "Half the sum over axes of μ² + σ² - log σ² - 1."


def bits_per_dimension(nats, shape):
    return nats / (math.prod(shape) * math.log(2))


def check_bits_per_dimension(attempt):
    nats, shape = torch.tensor([1000.0, 2500.0]), (3, 8, 5)
    value, wanted = answer(attempt, nats, shape), bits_per_dimension(nats, shape)
    if value.shape != nats.shape:
        return f"The shape is {tuple(value.shape)}, not {tuple(nats.shape)}: one number an image."
    if close(value, nats / 120):
        return "That is nats per dimension: a bit is log 2 nats."
    if close(value, wanted * 3):
        return "The channels count too: a dimension is one value of one channel."
    if close(value, nats / math.log(2)):
        return "That is bits for the whole image: divide by the number of its values."
    if close(value, nats * math.log(2) / 120):
        return "You multiplied by log 2: there are more bits than nats, so divide by it."
    if close(value, -wanted):
        return "The sign is wrong: nats of -log p stay positive."
    if not close(value, wanted):
        return "Divide the nats by log 2 and by C·H·W."


def score_gradient(values, noise, sigma):
    return (values * noise / sigma).mean()


def check_score_gradient(attempt):
    values, noise = torch.randn(2, 50, generator=seeded()) + 0.5
    value, wanted = answer(attempt, values, noise, 0.4), score_gradient(values, noise, 0.4)
    if value.ndim:
        return f"Return the mean over the draws, a scalar: yours has shape {tuple(value.shape)}."
    if close(value, 50 * wanted):
        return "You summed over the draws: take their mean."
    if close(value, wanted / 0.4):
        return "You divided by σ²: (z - μ)/σ² is ε/σ, because z - μ = σε."
    if close(value, wanted * 0.4):
        return "Divide by σ: (z - μ)/σ² with z - μ = σε."
    if close(value, wanted * 0.4**2):
        return "You multiplied by σ: (z - μ)/σ² is ε/σ."
    if close(value, -wanted):
        return "The sign is wrong: log q grows where μ moves towards z."
    if close(value, values.mean() * (noise / 0.4).mean()):
        return "You multiplied two means: multiply draw by draw, then take the mean."
    if not close(value, wanted):
        return "The mean over draws of f(z) ∇ log q(z), and ∇ log q(z) with respect to μ is ε/σ."


def tighter_bound(log_weights):
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def check_tighter_bound(attempt):
    small = torch.randn(6, 3, generator=seeded())
    value, wanted = answer(attempt, small), tighter_bound(small)
    if value.ndim != 1:
        return f"Return one number for each image, (B,): yours has shape {tuple(value.shape)}."
    if close(value, small.mean(0)):
        return "That is the mean of the logs, the ELBO: take the log of the mean."
    if close(value, small.logsumexp(0)):
        return "You took the log of the sum: subtract log K."
    if value.shape != (3,):
        return "You averaged over the images: the draws are the first dimension."
    if close(value, small.amax(0)):
        return "You kept the largest weight only: average all of them."
    if close(value, wanted / math.log(2)):
        return "That is in bits: use the natural logarithm."
    if not close(value, wanted):
        return "The log of the mean of the weights over the draws."
    if not close(answer(attempt, small - 2000), wanted - 2000):
        return (
            "Weights of e^-2000 became 0: use torch.logsumexp, which takes the largest out first."
        )


EXERCISES = {
    "31.1.1": (check_error_per_image, error_per_image),
    "31.1.2": (check_share_kept, share_kept),
    "31.1.3": (check_straight_line, straight_line),
    "31.1.4": (check_gaussian_draws, gaussian_draws),
    "31.1.5": (check_largest_angle, largest_angle),
    "31.1.6": (check_space_to_channels, space_to_channels),
    "31.2.1": (check_mask, mask),
    "31.2.2": (check_score_of, score_of),
    "31.2.3": (check_keep_largest, keep_largest),
    "31.2.4": (check_sparsity_price, sparsity_price),
    "31.2.5": (check_best_guess, best_guess),
    "31.2.6": (check_mean_max_cosine, mean_max_cosine),
    "31.3.1": (check_drawn_code, drawn_code),
    "31.3.2": (check_price, price),
    "31.3.3": (check_bits_per_dimension, bits_per_dimension),
    "31.3.4": (check_score_gradient, score_gradient),
    "31.3.5": (check_tighter_bound, tighter_bound),
}
