"""The exercises of 31.5 Hierarchical VAEs: a solution, and a check that names the wrong step."""

import math

import torch

from companion.exercises.machinery import answer, close, seeded


def levels_needed(changes, share):
    return min(fixed for fixed, change in changes.items() if change <= share * changes[0])


def check_levels_needed(attempt):
    changes = {0: 20.0, 1: 18.0, 2: 19.0, 3: 10.0, 4: 2.0, 5: 1.0}
    values = [answer(attempt, changes, share).item() for share in (0.92, 0.7, 0.1)]
    if values == [1, 3, 5]:
        return "A level that reaches the share exactly is enough."
    if values == [5, 5, 5]:
        return "The fewest levels, not the most."
    if values == [18, 10, 2]:
        return "Return the number of levels, the key, not the change."
    if values == [0, 2, 3]:
        return "Count no levels that fall short: return the key of the first that does not."
    if values != [1, 3, 4]:
        return "Among the keys whose change is at most `share` of that of key 0, take the smallest."


def merged_kl(mean_up, var_up, mean_down, var_down):
    var = 1 / (1 / var_up + 1 / var_down)
    mean = var * (mean_up / var_up + mean_down / var_down)
    return ((mean - mean_down) ** 2 / var_down + var / var_down - math.log(var / var_down) - 1) / 2


def check_merged_kl(attempt):
    value = answer(attempt, 3.0, 0.25, 0.0, 1.0).double()
    if value.shape != ():
        return "Return one number, the KL in nats."
    near = lambda other: math.isclose(value.item(), other, rel_tol=1e-3)
    kl = lambda mean, var: (mean**2 + var - math.log(var) - 1) / 2
    if near(kl(3.0, 0.25)):
        return "That is the KL of what the image says: merge it with the prior first."
    if near(kl(2.4, 1.25)):
        return "Variances do not add: precisions 1/v do, for a product has exponents that add."
    if near(kl(1.5, 0.2)):
        return "The means do not count alike: each is weighted by its precision."
    if near(kl(0.6, 0.2)):
        return "The surer Gaussian counts more: weight by precisions, not by variances."
    if near(kl(2.4, 5.0)):
        return "5 is the precision of the product: the variance is one over it."
    if near(2 * kl(2.4, 0.2)):
        return "You forgot the half."
    if near((2.4**2 / 0.2 + 1 / 0.2 - math.log(1 / 0.2) - 1) / 2):
        return "The KL runs from q to p: divide by the prior's variance."
    if not near(merged_kl(3.0, 0.25, 0.0, 1.0)):
        return "Merge by precisions, then put mean and variance into the KL of section 1."


def level_ratio(recon, kl, recon_from_prior, first):
    full = -recon - kl.sum(0)
    upper = -recon_from_prior - kl[:first].sum(0)
    return full - upper


def check_level_ratio(attempt):
    generator = seeded()
    recon, other = 50 + 10 * torch.randn(2, 6, generator=generator)
    kl = 5 + torch.rand(8, 6, generator=generator)
    value = answer(attempt, recon, kl, other, 4)
    if value.shape != (6,):
        return "One number for each image: sum the KLs over the levels, the first axis."
    if close(value, -level_ratio(recon, kl, other, 4)):
        return "The sign: the full bound less the one with lower levels from the prior."
    if close(value, other - recon):
        return "The full bound also pays the KLs of the lower levels."
    if close(value, other - recon - kl.sum(0)):
        return "The upper bound pays the KLs of its first levels: they cancel."
    if close(value, other - recon + kl[4:].sum(0)):
        return "A KL is a cost: the bound falls with it."
    if close(value, other - recon - kl[5:].sum(0)) or close(value, other - recon - kl[3:].sum(0)):
        return "Which levels are left out is off by one: the first `first` keep their codes."
    if not close(value, level_ratio(recon, kl, other, 4)):
        return "Write both bounds, -recon less the KLs that each pays, and subtract."


def bytes_of(bits_per_dim, channels, side):
    return bits_per_dim * channels * side**2 / 8


def check_bytes_of(attempt):
    value = answer(attempt, 4.5, 3, 32).double().item()
    near = lambda other: math.isclose(value, other, rel_tol=1e-3)
    if near(4.5 * 3072):
        return "Those are bits: a byte has eight."
    if near(4.5 * 3 * 32 / 8):
        return "A picture has side × side places."
    if near(4.5 * 1024 / 8):
        return "Dimensions are pixel values: each place has one for every channel."
    if near(4.5 * 3072 / 8 / math.log(2)) or near(4.5 * 3072 / 8 * math.log(2)):
        return "Bits are bits already: no logarithm of 2 is left to take."
    if not near(1728):
        return "Bits a dimension, times the dimensions, over eight."


EXERCISES = {
    "31.5.1": (check_levels_needed, levels_needed),
    "31.5.2": (check_merged_kl, merged_kl),
    "31.5.3": (check_bytes_of, bytes_of),
    "31.5.4": (check_level_ratio, level_ratio),
}
