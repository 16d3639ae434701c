"""The exercises of 31.1 Autoencoders: a solution, and a check that names the wrong step."""

import torch

from companion.exercises.machinery import answer, close, seeded


def predicted():
    return 0.01


def check_predicted(attempt):
    value = answer(attempt)
    if value.ndim:
        return "Return one factor."
    if close(value, 1.0):
        return "The decoder sees the noise divided by 10: what does a smaller noise change?"
    if close(value, 0.1):
        return "The noise arrives ten times smaller, and the error is squared."
    if value > 1:
        return "The noise is added before the division by 10: it reaches the decoder smaller."
    if not close(value, predicted()):
        return (
            "To first order the decoder's output moves in proportion to the noise that reaches it."
        )


def error_of_plane():
    return (9 + 4 + 2 + 1) - (9 / 2 + 2 / 2) - 4


def check_error_of_plane(attempt):
    value = answer(attempt)
    if value.ndim:
        return "Return one number."
    for wrong, hint in {
        3: "That is the error of the best plane, v1 and v2: this one is tilted towards v3.",
        9.5: "That is the variance kept: the error is what is left of the total, 16.",
        1: "That keeps v1, v2 and v3 whole: the plane has two directions, one between v1 and v3.",
        6: "The direction has length 1: what is its variance, wᵀCw, with C diagonal?",
        16: "That is the total variance, the error of a code without dimensions.",
    }.items():
        if close(value, float(wrong)):
            return hint
    if not close(value, error_of_plane()):
        return "The error is tr C less wᵀCw of each direction: ½·9 + ½·2 for the first, 4 for v2."


def interpolation(a, b, steps):
    t = torch.linspace(0, 1, steps)[:, None]  # (steps, 1)
    return (1 - t) * a + t * b


def check_interpolation(attempt):
    a, b = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([4.0, 1.0, -2.0])
    value, wanted = answer(attempt, a, b, 5), interpolation(a, b, 5)
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


def gaussian_samples(codes, count):
    factor = torch.linalg.cholesky(codes.T.cov())  # (M, M), factor @ factor.T is the covariance
    return codes.mean(0) + torch.randn(count, codes.shape[1]) @ factor.T


def check_gaussian_samples(attempt):
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
        return "The covariance of the samples is not that of the codes."


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
    "31.1.1": (check_predicted, predicted),
    "31.1.2": (check_error_of_plane, error_of_plane),
    "31.1.3": (check_interpolation, interpolation),
    "31.1.4": (check_gaussian_samples, gaussian_samples),
    "31.1.5": (check_space_to_channels, space_to_channels),
}
