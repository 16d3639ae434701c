"""The exercises of 31.5 Hierarchical VAEs: a solution, and a check that names the wrong step."""

import math

import torch

from companion.exercises.machinery import answer, close, seeded


def levels_needed(same, wanted):
    return min(fixed for fixed, percent in same.items() if percent >= wanted)


def check_levels_needed(attempt):
    same = {0: 10.0, 1: 12.0, 2: 11.0, 3: 40.0, 4: 80.0, 5: 95.0}
    values = [int(answer(attempt, same, wanted)) for wanted in (11.5, 30.0, 80.0)]
    if values == [1, 3, 5]:
        return "A level that reaches `wanted` exactly is enough."
    if values == [5, 5, 5]:
        return "The fewest levels, not the most."
    if values == [12, 40, 80]:
        return "Return the number of levels, the key, not the per cent."
    if values == [1, 2, 2]:
        return "Count no levels that fall short: return the key of the first that does not."
    if values != [1, 3, 4]:
        return "Among the keys whose per cent is at least `wanted`, take the smallest."


def product_of_gaussians(mean_a, var_a, mean_b, var_b):
    var = 1 / (1 / var_a + 1 / var_b)
    return var * (mean_a / var_a + mean_b / var_b), var


def check_product_of_gaussians(attempt):
    value = answer(attempt, 0.0, 1.0, 3.0, 0.25).double()
    if value.shape != (2,):
        return "Return two numbers: a mean and a variance."
    mean, var = value.tolist()
    if math.isclose(var, 1.25, rel_tol=1e-3):
        return "Variances do not add: precisions 1/v do, for a product has exponents that add."
    if math.isclose(var, 5.0, rel_tol=1e-3):
        return "5 is the precision: the variance is one over it."
    if math.isclose(var, 0.2**0.5, rel_tol=1e-3):
        return "That is the standard deviation."
    if not math.isclose(var, 0.2, rel_tol=1e-3):
        return "Collect the coefficients of z² in both exponents: they are the precisions, over -2."
    if math.isclose(mean, 1.5, rel_tol=1e-3):
        return "The means do not count alike: each is weighted by its precision."
    if math.isclose(mean, 0.6, rel_tol=1e-3):
        return "The surer Gaussian counts more: weight by precisions, not by variances."
    if math.isclose(mean, 12.0, rel_tol=1e-3):
        return "Divide the weighted sum by the sum of the precisions."
    if not math.isclose(mean, 2.4, rel_tol=1e-3):
        return "Complete the square: the mean is where the derivative of the exponent is zero."


def residual_kl(delta_mean, delta_log_var, log_var_prior):
    change = delta_mean**2 * (-log_var_prior).exp() + delta_log_var.exp() - delta_log_var - 1
    return change.sum(-1) / 2


def check_residual_kl(attempt):
    mean, log_var, prior = torch.randn(3, 4, 5, generator=seeded())
    value, wanted = answer(attempt, mean, log_var, prior), residual_kl(mean, log_var, prior)
    each = mean**2 * (-prior).exp() + log_var.exp() - log_var - 1
    if close(value, each / 2):
        return "Sum over the units, the last axis: (B, M) -> (B,)."
    if close(value, each.sum(-1)):
        return "You forgot the half."
    if close(value, (mean**2 + log_var.exp() - log_var - 1).sum(-1) / 2):
        return "The shift of the mean counts in units of the prior's standard deviation."
    if close(value, (mean**2 / prior.exp() ** 2 + log_var.exp() - log_var - 1).sum(-1) / 2):
        return "log_var_prior is a log variance: its exp is already the square."
    if close(value, (each + prior).sum(-1) / 2) or close(value, (each - prior).sum(-1) / 2):
        return (
            "The prior's variance cancels in the ratio of the variances: only the change is left."
        )
    if not close(value, wanted):
        return "Δμ²/σ_p² + Δσ² - log Δσ² - 1 for each unit, halved and summed."


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
    near = lambda other: math.isclose(value, other, rel_tol=1e-3)  # noqa: E731
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
    "31.5.2": (check_product_of_gaussians, product_of_gaussians),
    "31.5.3": (check_residual_kl, residual_kl),
    "31.5.4": (check_bytes_of, bytes_of),
    "31.5.5": (check_level_ratio, level_ratio),
}
