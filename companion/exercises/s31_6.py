"""The exercises of 31.6 Discrete latents: solutions, and mistakes with their hints."""

import math

import torch

from companion.exercises.machinery import Exercise, close


def largest_codebook(bits, side):
    return math.floor(2 ** (bits / side**2) + 1e-9)  # 2 to the bits of one token


def encoder_gradient(z, e, upstream, beta):
    return upstream + 2 * beta * (z - e)


def gradients(draw):
    return [(*torch.randn(3, 5, 4, generator=draw), beta) for beta in (0.25, 1.5)]


def means_of_choosers(vectors, tokens, codes):
    chosen = torch.nn.functional.one_hot(tokens, len(codes)).to(vectors)  # (N, K)
    counts = chosen.sum(0)[:, None]  # (K, 1)
    return torch.where(counts > 0, chosen.T @ vectors / counts.clamp(min=1), codes)


def choosers(draw):
    """Vectors, tokens and codes; one code of each case is chosen by nobody, once in the midst."""
    cases = []
    for nobody in (5, 2):
        tokens = torch.randint(5, (40,), generator=draw)
        tokens = tokens + (tokens >= nobody)
        vectors, codes = torch.randn(40, 3, generator=draw), torch.randn(6, 3, generator=draw)
        cases.append((vectors, tokens, codes))
    return cases


def perplexity(tokens, size):
    share = torch.bincount(tokens.flatten(), minlength=size).double() / tokens.numel()
    return (-torch.special.xlogy(share, share).sum()).exp()


def grids(draw):
    """Tokens of which codes 0 and 1, and the last two, never occur."""
    return [
        (torch.randint(6, shape, generator=draw).clamp(min=2), size)
        for shape, size in (((9, 7, 7), 8), ((60,), 9))
    ]


def codes_needed(size, error, wanted, dim):
    return size * (error / wanted) ** (dim / 2)


def near_or_whole(value, wanted):
    """Within .01 % of the number, or one of the two whole numbers beside it."""
    return value.numel() == 1 and any(
        close(value, near) for near in (wanted, wanted.floor(), wanted.ceil())
    )


def frequencies(tokens, size):
    return tokens.flatten().bincount(minlength=size).double() / tokens.numel()


PROOFS = {
    "31.6.4": """The straight-through estimator hands `upstream` to z as it is. Of the two terms that pull,
the first sees sg[z]; the commitment β|z - sg[e]|² has the gradient 2β(z - e).
To check: -.1 + 2 · .25 · (1 - .4) = .2.""",
    "31.6.5": """K cells share a volume of D axes: a cell's side goes as K^(-1/D), its squared error as
K^(-2/D). To divide the error by f takes f^(D/2) times the codes: 2⁸ = 256 times to halve it
on 16 axes.""",
}

GOALS = (
    "write a quantiser, and say what reaches the encoder through it",
    "say how a codebook dies, and keep it alive",
    "compare codes by bits that count, with a prior and with entropy, beside PCA",
    "explain what an adversary adds to a picture, and what it costs in error",
)
RUBRIC = (  # of the open question, a point each
    "Sharp is not true: the adversary's picture errs more than the blurred one, by section 9's table.",
    "Counts: a few hundred bits cannot hold the details that are shown; the decoder supplies them.",
    "Says where they come from: the training pictures; an unusual picture is drawn as a usual one.",
    "Names what would have to be stored or shown: a lossless file, a residual, a map of the error.",
)

EXERCISES = {
    "31.6.1": Exercise(
        largest_codebook,
        lambda draw: [(441, 7), (300, 8), (200, 7), (120, 4)],
        "How many bits has one token, and how many codes do so many bits tell apart?",
        {
            "Round down: a codebook has a whole number of codes.": lambda bits, side: (
                2 ** (bits / side**2)
            ),
            "Round down: the next code would need more bits than there are.": lambda bits, side: (
                math.ceil(2 ** (bits / side**2))
            ),
            "Those are the bits of one token: b bits tell 2 to the b codes apart.": lambda bits, side: (
                bits // side**2
            ),
            "Do not round the bits of a token: 5 bits and a half are 45 codes.": lambda bits, side: (
                2 ** (bits // side**2)
            ),
            "The grid has side × side tokens.": lambda bits, side: math.floor(2 ** (bits / side)),
            "Bits count in powers of 2, not of e.": lambda bits, side: math.floor(
                math.exp(bits / side**2)
            ),
        },
    ),
    "31.6.2": Exercise(
        means_of_choosers,
        choosers,
        "Which vectors does a code's new place depend on, and what if there are none?",
        {
            "A code that nobody chose has no mean: let it stay where it is.": lambda v, t, c: (
                torch.stack([v[t == k].mean(0) for k in range(len(c))])
            ),
            "A code that nobody chose stays where it is; it does not go to zero.": lambda v, t, c: (
                means_of_choosers(v, t, 0 * c)
            ),
            "Those are sums: divide by how many chose the code.": lambda v, t, c: torch.stack(
                [v[t == k].sum(0) if (t == k).any() else c[k] for k in range(len(c))]
            ),
            "Those are sums, and a code that nobody chose stays where it is.": lambda v, t, c: (
                torch.zeros_like(c).index_add(0, t, v)
            ),
            "Divide by how many chose the code, not by the number of vectors.": lambda v, t, c: (
                torch.stack(
                    [v[t == k].sum(0) / len(v) if (t == k).any() else c[k] for k in range(len(c))]
                )
            ),
            "The old codes count only where nobody chose: the new ones are the means alone.": lambda v, t, c: (
                (means_of_choosers(v, t, c) + c) / 2
            ),
        },
        "Return the new codes, (K, D).",
        {
            "A code that nobody chose stays where it is.": lambda value, wanted, v, t, c: (
                close(value[t.unique()], wanted[t.unique()]) and not close(value, wanted)
            )
        },
    ),
    "31.6.3": Exercise(
        perplexity,
        grids,
        "What is the entropy of the frequencies, and what number of equally frequent codes has it?",
        {
            "0 log 0 counts as 0: codes that never occur add nothing.": lambda t, k: (
                (-frequencies(t, k) * frequencies(t, k).log()).sum().exp()
            ),
            "That is the entropy in nats: take exp of it.": lambda t, k: perplexity(t, k).log(),
            "That is the entropy in bits: take 2 to its power.": lambda t, k: perplexity(
                t, k
            ).log2(),
            "The sign of the entropy is wrong.": lambda t, k: 1 / perplexity(t, k),
            "That counts the codes that occur: weigh them by how often.": lambda t, k: (
                t.unique().numel()
            ),
            "exp goes with nats, 2 to a power with bits: here they are mixed.": lambda t, k: (
                perplexity(t, k).log2().exp()
            ),
            "exp goes with nats, and 2 to a power with bits.": lambda t, k: (
                2 ** perplexity(t, k).log()
            ),
        },
    ),
    "31.6.4": Exercise(
        encoder_gradient,
        gradients,
        "Which two ways lead from the loss to z, and what comes back along each?",
        {
            "That is the straight-through part: the commitment pulls too.": lambda z, e, u, b: u,
            "That is the commitment's part: what arrives at the output is handed on too.": lambda z, e, u, b: (
                2 * b * (z - e)
            ),
            "The derivative of a square brings a factor 2.": lambda z, e, u, b: u + b * (z - e),
            "The sign: the loss falls where z moves towards e.": lambda z, e, u, b: (
                u - 2 * b * (z - e)
            ),
            "You forgot β.": lambda z, e, u, b: u + 2 * (z - e),
            "The codebook term holds z fixed: no gradient of it reaches the encoder.": lambda z, e, u, b: (
                u + 2 * (1 + b) * (z - e)
            ),
        },
        "Return a gradient of the shape of z.",
    ),
    "31.6.5": Exercise(
        codes_needed,
        lambda draw: [(256, 1.0, 0.5, 2), (512, 0.02, 0.005, 16), (64, 3.0, 2.0, 5)],
        "K cells share a volume: how does a cell's side go with K, and its error with the side?",
        {
            "An error is a square: halving the distance divides it by four.": lambda k, a, b, d: (
                k * (a / b) ** d
            ),
            "The exponent upside down: more axes need more codes.": lambda k, a, b, d: (
                k * (a / b) ** (2 / d)
            ),
            "That is right in the plane only: how do D axes share the codes?": lambda k, a, b, d: (
                k * (a / b)
            ),
            "The other way round: less error needs more codes.": lambda k, a, b, d: (
                k * (b / a) ** (d / 2)
            ),
            "That is how many times more: multiply by the codes that there are.": lambda k, a, b, d: (
                (a / b) ** (d / 2)
            ),
        },
        equal=near_or_whole,
    ),
}
