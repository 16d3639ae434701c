"""The exercises of 31.1 Autoencoders: a solution, and a check that names the wrong step."""

import math

import torch

from companion.exercises.machinery import answer, close, seeded


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


EXERCISES = {
    "31.1.1": (check_error_per_image, error_per_image),
    "31.1.2": (check_share_kept, share_kept),
    "31.1.3": (check_straight_line, straight_line),
    "31.1.4": (check_gaussian_draws, gaussian_draws),
    "31.1.5": (check_largest_angle, largest_angle),
    "31.1.6": (check_space_to_channels, space_to_channels),
}
