"""The exercises of 31.5 Hierarchical VAEs: solutions, and mistakes with their hints."""

import math

import torch

from companion.exercises.machinery import Exercise


def levels_needed(changes, share):
    return min(fixed for fixed, change in changes.items() if change <= share * changes[0])


def changes_of_levels(draw):
    """Squared changes that do not fall at every level, with shares that fall on one and between two."""
    cases = []
    for share, steps in (
        (0.92, (1, 0.875, 0.9375, 0.5, 0.125, 0.0625)),
        (0.5, (1, 1.125, 0.75, 0.5, 0.625, 0.25, 0.125)),
        (0.0625, (1, 0.9375, 0.0625, 0.03125)),
    ):
        whole = 16 + 8 * torch.rand(1, generator=draw).item()
        cases.append(({fixed: step * whole for fixed, step in enumerate(steps)}, share))
    return cases


def merged_kl(mean_up, var_up, mean_down, var_down):
    var = 1 / (1 / var_up + 1 / var_down)
    mean = var * (mean_up / var_up + mean_down / var_down)
    return ((mean - mean_down) ** 2 / var_down + var / var_down - math.log(var / var_down) - 1) / 2


def kl(mean, var, mean_down, var_down):
    """KL(N(mean, var) ‖ N(mean_down, var_down)) in nats."""
    return ((mean - mean_down) ** 2 / var_down + var / var_down - math.log(var / var_down) - 1) / 2


def product(m, v, n, w):
    """Mean and variance of the merged Gaussian."""
    var = 1 / (1 / v + 1 / w)
    return var * (m / v + n / w), var


def bytes_of(bits_per_dim, channels, side):
    return bits_per_dim * channels * side**2 / 8


def level_ratio(recon, kl, recon_from_prior, first):
    full = -recon - kl.sum(0)
    upper = -recon_from_prior - kl[:first].sum(0)
    return full - upper


def terms_of_levels(draw):
    cases = []
    for levels, first in ((8, 4), (5, 2)):
        recon, other = 50 + 10 * torch.randn(2, 6, generator=draw)
        cases.append((recon, 5 + torch.rand(levels, 6, generator=draw), other, first))
    return cases


PROOFS = {
    "31.5.2": """The exponents are -(z - μ↑)²/2v↑ and -(z - μ↓)²/2v↓. In their sum z² has the factor
-½(1/v↑ + 1/v↓) and z the factor μ↑/v↑ + μ↓/v↓; complete the square, and it is -(z - μ)²/2v
plus a constant, with v and μ of section 3. The KL to the prior is
½ [v/v↓ + (μ - μ↓)²/v↓ - 1 - log(v/v↓)], and μ - μ↓ = (v/v↑)(μ↑ - μ↓). Where v↑ grows without
bound, v tends to v↓, μ to μ↓, and the KL to 0. N(3, ¼) on N(0, 1): v = .2, μ = 2.4, 3.28 nats.""",
}

GOALS = (
    "draw the two passes of a hierarchy, and write the prior and the posterior of a level",
    "measure which levels are used, and say what revives one",
    "test a cause, such as depth, with everything else equal",
    "count an image in bits a dimension, and write it into a file of that length",
)
RUBRIC = (  # of the open question, a point each
    "The shallow model with as many weights, and the deep one with few: equal size.",
    "The same steps, rate, averaging and warm-up for both.",
    "Several seeds, and a gain beyond their range.",
    "The KL of each level: levels that hold nothing cannot have gained the nat.",
)

EXERCISES = {
    "31.5.1": Exercise(
        levels_needed,
        changes_of_levels,
        "Which keys have a change of at most `share` of that of key 0, and which of them is asked?",
        {
            "A level that reaches the share exactly is enough.": lambda c, share: min(
                [k for k, v in c.items() if v < share * c[0]], default=-1
            ),
            "The fewest levels, not the most.": lambda c, share: max(
                k for k, v in c.items() if v <= share * c[0]
            ),
            "Return the number of levels, the key, not the change.": lambda c, share: max(
                v for v in c.values() if v <= share * c[0]
            ),
            "Count no levels that fall short: return the key of the first that does not.": lambda c, share: (
                levels_needed(c, share) - 1
            ),
            "The change is compared with a share of the change at 0 levels.": lambda c, share: min(
                [k for k, v in c.items() if v <= share], default=-1
            ),
        },
    ),
    "31.5.2": Exercise(
        merged_kl,
        lambda draw: [
            tuple(v.item() for v in (a, b.exp(), c, d.exp()))
            for a, b, c, d in torch.randn(4, 4, generator=draw, dtype=torch.float64)
        ],
        "What are the variance and the mean of the product, and what does section 1 say of their KL?",
        {
            "That is the KL of what the image says: merge it with the prior first.": kl,
            "Variances do not add: precisions 1/v do, for a product has exponents that add.": lambda m, v, n, w: (
                kl(product(m, v, n, w)[0], v + w, n, w)
            ),
            "The means do not count alike: each is weighted by its precision.": lambda m, v, n, w: (
                kl((m + n) / 2, product(m, v, n, w)[1], n, w)
            ),
            "The surer Gaussian counts more: weight by precisions, not by variances.": lambda m, v, n, w: (
                kl((v * m + w * n) / (v + w), product(m, v, n, w)[1], n, w)
            ),
            "1/v + 1/w is the precision of the product: the variance is one over it.": lambda m, v, n, w: (
                kl(product(m, v, n, w)[0], 1 / v + 1 / w, n, w)
            ),
            "You forgot the half.": lambda *numbers: 2 * merged_kl(*numbers),
            "The KL runs from q to p: divide by the prior's variance.": lambda m, v, n, w: kl(
                n, w, *product(m, v, n, w)
            ),
            "The prior is N(mean_down, var_down), not N(0, 1).": lambda m, v, n, w: kl(
                *product(m, v, n, w), 0.0, 1.0
            ),
        },
    ),
    "31.5.3": Exercise(
        bytes_of,
        lambda draw: [(4.5, 3, 32), (2.0, 1, 28), (3.2, 4, 17)],
        "How many dimensions has a picture, and how many bits a byte?",
        {
            "Those are bits: a byte has eight.": lambda b, c, s: b * c * s**2,
            "A picture has side × side places.": lambda b, c, s: b * c * s / 8,
            "Dimensions are pixel values: each place has one for every channel.": lambda b, c, s: (
                b * s**2 / 8
            ),
            "Bits are bits already: no logarithm of 2 is left to take.": lambda b, c, s: (
                b * c * s**2 / 8 / math.log(2)
            ),
            "The numbers are bits, and no logarithm of 2 is left to take.": lambda b, c, s: (
                b * c * s**2 / 8 * math.log(2)
            ),
        },
        equal=lambda value, wanted: (
            value.numel() == 1 and (value - wanted).abs() < 1
        ),  # whole bytes
    ),
    "31.5.4": Exercise(
        level_ratio,
        terms_of_levels,
        "Which terms does each of the two bounds hold, and which of them cancel?",
        {
            "The sign: the full bound less the one with lower levels from the prior.": lambda r, kl, o, k: (
                -level_ratio(r, kl, o, k)
            ),
            "The full bound also pays the KLs of the lower levels.": lambda r, kl, o, k: o - r,
            "The upper bound pays the KLs of its first levels: they cancel.": lambda r, kl, o, k: (
                o - r - kl.sum(0)
            ),
            "A KL is a cost: the bound falls with it.": lambda r, kl, o, k: o - r + kl[k:].sum(0),
            "Which levels are left out is off by one: the first `first` keep their codes.": lambda r, kl, o, k: (
                level_ratio(r, kl, o, k + 1)
            ),
            "Which levels are left out is off by one: as many as `first` keep their codes.": lambda r, kl, o, k: (
                level_ratio(r, kl, o, k - 1)
            ),
            "The lower levels are left out, those after the first `first`, not the upper ones.": lambda r, kl, o, k: (
                o - r - kl[:k].sum(0)
            ),
        },
        "One number for each image: sum the KLs over the levels, the first axis.",
    ),
}
