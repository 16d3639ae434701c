"""The exercises of 31.6 Discrete latents: a solution, and a check that names the wrong step."""

import math

import torch

from companion.exercises.machinery import answer, close, seeded


def largest_codebook(bits, side):
    return math.floor(2 ** (bits / side**2) + 1e-9)  # 2 to the bits of one token


def check_largest_codebook(attempt):
    cases = ((441, 7), (300, 8), (200, 7))
    values = [answer(attempt, *case).double().item() for case in cases]

    def all_close(other):
        return all(
            math.isclose(v, other(*case), rel_tol=1e-6, abs_tol=0.01)
            for v, case in zip(values, cases, strict=True)
        )

    if all_close(lambda bits, side: 2 ** (bits / side**2)) and not all_close(largest_codebook):
        return "Round down: a codebook has a whole number of codes."
    if all_close(lambda bits, side: bits // side**2):
        return "Those are the bits of one token: b bits tell 2 to the b codes apart."
    if all_close(lambda bits, side: 2 ** (bits // side**2)):
        return "Do not round the bits of a token: 5 bits and a half are 45 codes."
    if all_close(lambda bits, side: math.floor(2 ** min(bits / side, 1000))):
        return "The grid has side × side tokens."
    if all_close(lambda bits, side: math.floor(math.exp(bits / side**2))):
        return "Bits count in powers of 2, not of e."
    if not all_close(largest_codebook):
        return "Divide the bits among the tokens, and take 2 to that power."


def encoder_gradient(z, e, upstream, beta):
    return upstream + 2 * beta * (z - e)


def check_encoder_gradient(attempt):
    z, e, upstream = torch.randn(3, 5, 4, generator=seeded())
    value, wanted = answer(attempt, z, e, upstream, 0.25), encoder_gradient(z, e, upstream, 0.25)
    if value.shape != wanted.shape:
        return "Return a gradient of the shape of z."
    if close(value, upstream):
        return "That is the straight-through part: the commitment pulls too."
    if close(value, upstream + 0.25 * (z - e)):
        return "The derivative of a square brings a factor 2."
    if close(value, upstream - 0.5 * (z - e)):
        return "The sign: the loss falls where z moves towards e."
    if close(value, upstream + 2 * (z - e)):
        return "You forgot β."
    if close(value, upstream + 2.5 * (z - e)):
        return "The codebook term holds z fixed: no gradient of it reaches the encoder."
    if not close(value, wanted):
        return "What arrives at the output, handed on whole, and the derivative of β‖z - e‖²."


def means_of_choosers(vectors, tokens, codes):
    chosen = torch.nn.functional.one_hot(tokens, len(codes)).to(vectors)  # (N, K)
    counts = chosen.sum(0)[:, None]  # (K, 1)
    return torch.where(counts > 0, chosen.T @ vectors / counts.clamp(min=1), codes)


def check_means_of_choosers(attempt):
    draw = seeded()
    vectors, codes = torch.randn(40, 3, generator=draw), torch.randn(6, 3, generator=draw)
    tokens = torch.randint(5, (40,), generator=draw)  # nobody chooses the last code
    value, wanted = (
        answer(attempt, vectors, tokens, codes),
        means_of_choosers(vectors, tokens, codes),
    )
    if value.shape != wanted.shape:
        return "Return the new codes, (K, D)."
    if not value.isfinite().all():
        return "A code that nobody chose has no mean: let it stay where it is."
    if close(value[-1], torch.zeros(3)):
        return "A code that nobody chose stays where it is; it does not go to zero."
    if close(value[:-1], wanted[:-1] * tokens.bincount(minlength=6)[:-1, None]):
        return "Those are sums: divide by how many chose the code."
    if close(value[:-1], wanted[:-1]) and not close(value[-1], codes[-1]):
        return "A code that nobody chose stays where it is."
    if not close(value, wanted):
        return "For each code, the mean of the vectors whose token is its number."


def perplexity(tokens, size):
    share = torch.bincount(tokens.flatten(), minlength=size).double() / tokens.numel()
    return (-torch.special.xlogy(share, share).sum()).exp()


def check_perplexity(attempt):
    tokens = torch.randint(6, (9, 7, 7), generator=seeded()).clamp(min=2)
    value, wanted = answer(attempt, tokens, 8), perplexity(tokens, 8)
    if value.ndim:
        return "Return one number."
    if not value.isfinite():
        return "0 log 0 counts as 0: codes that never occur add nothing."
    if close(value, wanted.log()):
        return "That is the entropy in nats: take exp of it."
    if close(value, wanted.log2()):
        return "That is the entropy in bits: take 2 to its power."
    if close(value, 1 / wanted):
        return "The sign of the entropy is wrong."
    if close(value, torch.tensor(4.0)):
        return "That counts the codes that occur: weigh them by how often."
    if not close(value, wanted):
        return "exp of the entropy of the frequencies of the codes."


def codes_needed(size, error, wanted, dim):
    return size * (error / wanted) ** (dim / 2)


def check_codes_needed(attempt):
    cases = ((256, 1.0, 0.5, 2), (512, 0.02, 0.005, 16), (64, 3.0, 2.0, 5))
    values = [answer(attempt, *case).double().item() for case in cases]

    def all_close(other):
        return all(abs(v / other(*case) - 1) < 1e-4 for v, case in zip(values, cases, strict=True))

    if all_close(lambda k, a, b, d: k * (a / b) ** d):
        return "An error is a square: halving the distance divides it by four."
    if all_close(lambda k, a, b, d: k * (a / b) ** (2 / d)):
        return "The exponent upside down: more axes need more codes."
    if all_close(lambda k, a, b, d: k * (a / b)):
        return "That is right in the plane only: how do D axes share the codes?"
    if all_close(lambda k, a, b, d: k * (b / a) ** (d / 2)):
        return "The other way round: less error needs more codes."
    whole = [math.ceil(codes_needed(*case) - 1e-9) for case in cases]
    if not all_close(codes_needed) and values != whole:
        return "K cells share a volume, so a cell's side goes as K to -1/D, and the error as its square."


EXERCISES = {
    "31.6.1": (check_largest_codebook, largest_codebook),
    "31.6.2": (check_means_of_choosers, means_of_choosers),
    "31.6.3": (check_perplexity, perplexity),
    "31.6.4": (check_encoder_gradient, encoder_gradient),
    "31.6.5": (check_codes_needed, codes_needed),
}
