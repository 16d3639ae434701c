"""The exercises of 31.1 Autoencoders: solutions, and mistakes with their hints."""

import torch

from companion.exercises.machinery import Exercise, close


def predicted():
    return 0.01


def error_of_plane():
    return (9 + 4 + 2 + 1) - (9 / 2 + 2 / 2) - 4


def interpolation(a, b, steps):
    t = torch.linspace(0, 1, steps)[:, None]  # (steps, 1)
    return (1 - t) * a + t * b


def pairs(draw):
    return [(*torch.randn(2, size, generator=draw), steps) for size, steps in ((3, 5), (4, 8))]


def gaussian_samples(codes, count):
    factor = torch.linalg.cholesky(codes.T.cov())  # (M, M), factor @ factor.T is the covariance
    return codes.mean(0) + torch.randn(count, codes.shape[1]) @ factor.T


def correlated(draw):
    """Codes with a mean and a correlation, two numbers and three to a code."""
    cases = []
    for size, count in ((2, 12_000), (3, 15_000)):
        mixing = torch.tril(torch.rand(size, size, generator=draw) + 0.5)
        mean = 1 + torch.rand(size, generator=draw)
        codes = torch.randn(400, size, generator=draw) @ mixing.T + mean
        cases.append((codes, count))
    return cases


def statistics(samples, codes, count):
    """Of samples (count, M): mean, covariance, fourth moment along the axes, and the share that differs.

    The fourth moment is that of numbers of mean 0 and variance 1: 3 if Gaussian, 1.8 if uniform.
    """
    if samples.shape != (count, codes.shape[1]):
        return samples
    far = samples - samples.mean(0)
    fourth = (far / far.std(0)).pow(4).mean(0, keepdim=True)
    own = torch.full_like(fourth, len(samples.unique(dim=0)) / count)
    return torch.cat([samples.mean(0, keepdim=True), samples.T.cov(), fourth / 3, own])


def with_noise(factor):
    """A wrong sampler: the codes' mean, and N(0, I) times factor(covariance)."""
    return lambda z, n: z.mean(0) + torch.randn(n, z.shape[1]) @ factor(z.T.cov())


def space_to_channels(x):
    b, c, h, w = x.shape
    blocks = x.reshape(b, c, h // 2, 2, w // 2, 2)  # row, row in block, column, column in block
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(b, 4 * c, h // 2, w // 2)


def ordered(*axes):
    """A wrong order of the same blocks."""

    def wrong(x):
        b, c, h, w = x.shape
        blocks = x.reshape(b, c, h // 2, 2, w // 2, 2)
        return blocks.permute(*axes).reshape(b, 4 * c, h // 2, w // 2)

    return wrong


PROOFS = {
    "31.1.2": """The code keeps the numbers wᵢᵀx, and the best reconstruction from them is x̂ = Σ wᵢ wᵢᵀx.
The wᵢ are orthonormal, so |x - x̂|² = |x|² - Σ (wᵢᵀx)². The means over x are
E|x|² = tr C and E(wᵀx)² = wᵀCw. The tilted direction keeps (9 + 2)/2 = 5.5, v₂ keeps 4:
16 - 9.5 = 6.5.""",
}

GOALS = (
    "write an encoder, a decoder and their loss, and name the loss's unit",
    "compare a bottleneck with PCA of the same size, and prove what PCA leaves",
    "say what the error, a probe, samples and interpolations each tell of a code",
    "explain what a shortcut that moves space into channels saves a deep network from learning",
)
RUBRIC = (  # of the open question, a point each
    "Size: reads the error at 32 dimensions beside PCA's, and says that numbers are not bits.",
    "Anonymity: the decoder returns the picture, and a classifier still reads it: what identifies is kept.",
    "Against both: what is unlike the training set comes back as something else (section 6).",
    "Names a measurement that is missing, such as telling two scans of one patient by their codes, "
    "with a baseline.",
)

EXERCISES = {
    "31.1.1": Exercise(
        predicted,
        lambda draw: [()],
        "How much noise reaches the decoder, and how does its squared error go with the noise?",
        {
            "The decoder sees the noise divided by 10: what does a smaller noise change?": lambda: (
                1.0
            ),
            "The noise arrives ten times smaller, and the error is squared.": lambda: 0.1,
            "The noise is added before the division by 10: it reaches the decoder smaller.": lambda: (
                100.0
            ),
            "Noise that is ten times smaller cannot cost more.": lambda: 10.0,
        },
        "Return one factor.",
    ),
    "31.1.2": Exercise(
        error_of_plane,
        lambda draw: [()],
        "How much of the total variance, 16, does each of the two directions keep?",
        {
            "That is the error of the best plane, v1 and v2: this one is tilted towards v3.": lambda: (
                3
            ),
            "That is the variance kept: the error is what is left of the total, 16.": lambda: 9.5,
            "That keeps v1, v2 and v3 whole: the plane has two directions, one between v1 and v3.": lambda: (
                1
            ),
            "The direction has length 1: what is its variance, wᵀCw, with C diagonal?": lambda: 6,
            "That is the total variance, the error of a code without dimensions.": lambda: 16,
        },
    ),
    "31.1.3": Exercise(
        interpolation,
        pairs,
        "Is each code as far from the next as the others are?",
        {
            "Rows and columns are exchanged: one code a row, shape (steps, M).": lambda a, b, n: (
                interpolation(a, b, n).T
            ),
            "The line runs from b to a: start at a.": lambda a, b, n: interpolation(b, a, n),
        },
        "The shape is {shape}, not (steps, M) = {wanted}: include both ends.",
        {
            "The first code is not a.": lambda value, wanted, *_: not close(value[0], wanted[0]),
            "The last code is not b: the steps divide the way into steps - 1 parts.": (
                lambda value, wanted, *_: not close(value[-1], wanted[-1])
            ),
        },
        forbidden=("metrics", "interpolate"),
    ),
    "31.1.4": Exercise(
        gaussian_samples,
        correlated,
        "Have the samples the codes' mean and covariance, and are they Gaussian, each drawn anew?",
        {
            "You multiplied by the covariance: multiply by a factor L of it, L Lᵀ = covariance.": with_noise(
                lambda c: c
            ),
            "The Cholesky factor is transposed: for rows of noise, noise @ L.T.": with_noise(
                torch.linalg.cholesky
            ),
            "Each axis alone is right, but the correlation between them is lost.": with_noise(
                lambda c: c.diagonal().sqrt().diag()
            ),
            "The variances stand where the standard deviations belong, and the correlation is lost.": with_noise(
                lambda c: c.diagonal().diag()
            ),
            "The mean is not that of the codes: add it.": lambda z, n: gaussian_samples(
                z - z.mean(0), n
            ),
            "These are the codes again: draw new ones from the Gaussian.": lambda z, n: z[
                torch.randint(len(z), (n,))
            ],
            "The noise is uniform: it must be Gaussian.": lambda z, n: (
                z.mean(0)
                + (12**0.5 * (torch.rand(n, z.shape[1]) - 0.5)) @ torch.linalg.cholesky(z.T.cov()).T
            ),
        },
        "The shape is {shape}, not (count, M).",
        seen=statistics,
        tolerance=0.06,
        forbidden=("metrics",),
    ),
    "31.1.5": Exercise(
        space_to_channels,
        lambda draw: [
            (torch.rand(2, 3, 4, 6, generator=draw),),
            (torch.rand(1, 2, 8, 2, generator=draw),),
        ],
        "In which order do the channel, the row and the column within a block follow each other?",
        {
            "A reshape alone keeps the order of memory: split the sides into blocks and permute.": lambda x: (
                x.reshape(space_to_channels(x).shape)
            ),
            "The four places of a block come before the channel: keep a channel's four together.": ordered(
                0, 3, 5, 1, 2, 4
            ),
            "Within a block, go along the row first: rows and columns are exchanged.": ordered(
                0, 1, 5, 3, 2, 4
            ),
            "Both: a channel's four come together, and within a block the row is run along first.": ordered(
                0, 5, 3, 1, 2, 4
            ),
        },
        "The shape is {shape}, not {wanted}.",
        forbidden=("pixel_unshuffle", "PixelUnshuffle"),
    ),
}
