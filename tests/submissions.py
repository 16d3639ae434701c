"""What students hand in: wrong answers with words of the hint that each must get, and right ones written unusually.

"?" stands for the general hint of an exercise.
"""

import math
import sys
from decimal import Decimal
from fractions import Fraction

import numpy as np
import torch

from companion.exercises import EXERCISES

sol = {number: exercise.solve for number, exercise in EXERCISES.items()}


def merged(m, v, n, w):
    """Mean and variance of two Gaussians' product."""
    precision = 1 / v + 1 / w
    return (m / v + n / w) / precision, 1 / precision


def kl_of(mean, var, mean_p, var_p):
    return 0.5 * ((mean - mean_p) ** 2 / var_p + var / var_p - 1 - math.log(var / var_p))


WRONG = {
    "31.1.1": {
        "divided by 10": lambda: 1.0,
        "the error is squared": lambda: Fraction(1, 10),
        "before the division": lambda: torch.tensor([100.0]),
        "cannot cost more": lambda: 10,
        "?": lambda: 0.5,
        "Return one factor": lambda: (1.0, 0.01),
    },
    "31.1.2": {
        "the best plane": lambda: 3,
        "variance kept": lambda: 9.5,
        "whole": lambda: Decimal(1),
        "has length 1": lambda: 6,
        "total variance": lambda: 16,
        "?": lambda: 7,
        "Return one number": lambda: [5.5, 4],
        "numbers are wanted": lambda: "6.5",
    },
    "31.1.3": {
        "exchanged": lambda a, b, n: torch.stack([torch.linspace(x, y, n) for x, y in zip(a, b, strict=True)]),
        "include both ends": lambda a, b, n: [a + k / n * (b - a) for k in range(1, n)],
        "from b to a": lambda a, b, n: sol["31.1.3"](b, a, n),
        "first code is not a": lambda a, b, n: [a + k / n * (b - a) for k in range(1, n + 1)],
        "last code is not b": lambda a, b, n: [a + k / n * (b - a) for k in range(n)],
        "?": lambda a, b, n: a + torch.linspace(0, 1, n)[:, None] ** 2 * (b - a),
        "without `interpolate`": lambda a, b, n: metrics.interpolate(a, b, n),  # noqa: F821
        "(steps, M)": lambda a, b, n: sol["31.1.3"](a, b, 5 + n),
    },
    "31.1.4": {
        "mean is not": lambda z, n: sol["31.1.4"](z - z.mean(0), n),
        "multiplied by the covariance": lambda z, n: z.mean(0) + torch.randn(n, z.shape[1]) @ z.T.cov(),
        "transposed": lambda z, n: z.mean(0) + torch.randn(n, z.shape[1]) @ torch.linalg.cholesky(z.T.cov()),
        "correlation between": lambda z, n: z.mean(0) + z.std(0) * torch.randn(n, z.shape[1]),
        "shape": lambda z, n: z.mean(0),
        "?": lambda z, n: z.mean(0) + 3 * torch.randn(n, z.shape[1]),
        "noise is uniform": lambda z, n: z.mean(0) + 3**0.5 * (2 * torch.rand(n, z.shape[1]) - 1) @ torch.linalg.cholesky(z.T.cov()).T,
        "codes again": lambda z, n: z[torch.randint(len(z), (n,))],
    },
    "31.1.5": {
        "reshape alone": lambda x: x.reshape(len(x), -1, x.shape[2] // 2, x.shape[3] // 2),
        "come before the channel": lambda x: torch.cat([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1),
        "rows and columns are exchanged": lambda x: torch.stack([x[:, :, i::2, j::2] for j in (0, 1) for i in (0, 1)], 2).flatten(1, 2),
        "The shape is": lambda x: x,
        "?": lambda x: sol["31.1.5"](x).flip(1),
        "without `pixel_unshuffle`": lambda x: torch.nn.functional.pixel_unshuffle(x, 2),
    },
    "31.2.1": {
        "variance of the data": lambda: 1.0,
        "noisy points: by what": lambda: 2.0,
        "factor is squared": lambda: Fraction(1, 4),
        "square it": lambda: math.sqrt(0.5),
        "infinite noise": lambda: 0,
        "?": lambda: 0.8,
        "Return one number": lambda: [0.5, 0.5],
    },
    "31.2.2": {
        "without a penalty": lambda: 3.0,
        "shared between two": lambda: 2,
        "sign of the penalty": lambda: 3.5,
        "not a factor": lambda: 1.5,
        "?": lambda: 0.0,
        "Return one number": lambda: torch.ones(2),
    },
    "31.2.3": {
        "k of each row": lambda u, k: torch.where(u >= u.topk(k, 1).values[:, -1:], u.relu(), 0.0),
        "k for each item": lambda u, k: u.relu() * (u >= u.flatten().topk(k).values[-1]),
        "absolute value": lambda u, k: u.relu() * (u.abs() >= u.abs().flatten().topk(k * len(u)).values[-1]),
        "keep the values": lambda u, k: sol["31.2.3"](u, k) > 0,
        "Nothing was left out": lambda u, k: u.relu(),
        "a code is not negative": lambda u, k: u * (u >= u.flatten().topk(k * len(u)).values[-1]),
        "The shape is": lambda u, k: u.flatten().topk(k * len(u)).values,
        "?": lambda u, k: sol["31.2.3"](-u, k),
    },
    "31.2.4": {
        "averaged over the units": lambda a, t: sol["31.2.4"](a, t) / a.shape[1],
        "exchanged": lambda a, t: ((m := a.mean(0)) * (m / t).log() + (1 - m) * ((1 - m) / (1 - t)).log()).sum(),
        "being off": lambda a, t: (t * (t / a.mean(0)).log()).sum(),
        "over the batch first": lambda a, t: (t * (t / a).log() + (1 - t) * ((1 - t) / (1 - a)).log()).sum(1).mean(),
        "in bits": lambda a, t: sol["31.2.4"](a, t) / math.log(2),
        "first axis": lambda a, t: sol["31.2.4"](a.T, t),
        "Return a scalar": lambda a, t: a.mean(0),
        "?": lambda a, t: a.mean(),
    },
    "31.3.1": {
        "is halved": lambda: 1,
        "exact at the true posterior only": lambda: 0.0,
        "a positive number": lambda: -0.5,
        "as wide": lambda: 0.25,
        "?": lambda: 0.7,
        "Return one number": lambda: [0.5, 0.5],
    },
    "31.3.2": {
        "there are 784": lambda: sol["31.3.2"]() / 784,
        "add up to half a nat": lambda: sol["31.3.2"]() - 392,
        "not one": lambda: sol["31.3.2"]() + 392,
        "2π of the normal": lambda: 392 * (math.log(0.0044) + 1),
        "The sign": lambda: -sol["31.3.2"](),
        "the ½ is missing": lambda: 784 * (math.log(2 * math.pi * 0.0044) + 0.5),
        "?": lambda: 100.0,
    },
    "31.3.3": {
        "Return one constant": lambda f, s: f - f.mean(),
        "mean of f": lambda f, s: f.mean(),
        "quadratic in it": lambda f, s: (f * s).mean() / s.mean(),
        "absolute value": lambda f, s: (f * s.abs()).mean() / s.abs().mean(),
        "Divide by": lambda f, s: (f * s**2).mean(),
        "?": lambda f, s: 0.0,
    },
    "31.3.4": {
        "(B,)": lambda w: w.sum(),
        "first dimension": lambda w: sol["31.3.4"](w.T),
        "its logarithm": lambda w: sol["31.3.4"](w).log(),
        "Upside down": lambda w: 1 / sol["31.3.4"](w),
        "share of K": lambda w: sol["31.3.4"](w) / len(w),
        "exponentials first": lambda w: w.sum(0) ** 2 / (w**2).sum(0),
        "became 0": lambda w: w.exp().sum(0) ** 2 / (w.exp() ** 2).sum(0),
        "each image has its own": lambda w: (v := (w - w.max()).exp()).sum(0) ** 2 / (v * v).sum(0),
        "largest out first": lambda w: (v := (w - w.min()).exp()).sum(0) ** 2 / (v * v).sum(0),
        "?": lambda w: sol["31.3.4"](w) + 1,
    },
    "31.4.1": {
        "factors of one axis": lambda s: sol["31.4.1"](s.T),
        "best axis alone": lambda s: s.amax(0).mean(),
        "worst axis": lambda s: (s.amax(0) - s.amin(0)).mean(),
        "summed over": lambda s: sum(abs(a[0] - a[1]) for a in s.topk(2, 0).values.T),
        "Return one number": lambda s: s.amax(0),
        "?": lambda s: (s[0] - s[1]).mean(),
    },
    "31.4.2": {
        "forgot the weight": lambda saved, kl, beta: saved > kl,
        "other way round": lambda saved, kl, beta: saved <= beta * kl,
        "not before the reconstruction": lambda saved, kl, beta: beta * saved > kl,
        "not how much": lambda saved, kl, beta: saved - beta * kl,
        "one truth value": lambda saved, kl, beta: saved.sum() > beta * kl.sum(),
        "?": lambda saved, kl, beta: saved > 2 * beta * kl,
    },
    "31.4.3": {
        "½ is missing": lambda c: c.diagonal().log().sum() - torch.logdet(c),
        "never negative": lambda c: -sol["31.4.3"](c),
        "own variances": lambda c: -torch.logdet(c) / 2,
        "in bits": lambda c: sol["31.4.3"](c) / math.log(2),
        "Return one number": lambda c: c.diagonal(),
        "?": lambda c: c.sum(),
    },
    "31.4.4": {
        "½ is missing": lambda a, b, t: 2 * sol["31.4.4"](a, b, t),
        "independent still": lambda a, b, t: sol["31.4.4"](a, b + 1, t),
        "angle itself": lambda a, b, t: sol["31.4.4"](a, b, t / 2),
        "do not square": lambda a, b, t: sol["31.4.4"](a**2, b**2, t),
        "?": lambda a, b, t: 0.0,
    },
    "31.4.5": {
        "nats of each axis": lambda e, n, b: sol["31.4.5"](e, n, b).sum(),
        "less than 0": lambda e, n, b: (e / (b * n)).log() / 2,
        "forgot β": lambda e, n, b: sol["31.4.5"](e, n, 1.0),
        "other way round": lambda e, n, b: sol["31.4.5"](e, n, 1 / b),
        "its root": lambda e, n, b: sol["31.4.5"](e, n**0.5, b),
        "not square it": lambda e, n, b: sol["31.4.5"](e, n**2, b),
        "½ is missing": lambda e, n, b: 2 * sol["31.4.5"](e, n, b),
        "is not squared": lambda e, n, b: sol["31.4.5"](e, n, b * b),
        "?": lambda e, n, b: e / (b * n),
    },
    "31.5.1": {
        "exactly is enough": lambda c, s: next((k for k in sorted(c) if c[k] < s * c[0]), -1),
        "fewest levels": lambda c, s: max(k for k, v in c.items() if v <= s * c[0]),
        "the key, not": lambda c, s: max(v for v in c.values() if v <= s * c[0]),
        "fall short": lambda c, s: sol["31.5.1"](c, s) - 1,
        "at 0 levels": lambda c, s: next((k for k in sorted(c) if c[k] <= s), -1),
        "?": lambda c, s: 7,
    },
    "31.5.2": {
        "one number": lambda m, v, n, w: torch.zeros(2),
        "merge it with the prior": lambda m, v, n, w: kl_of(m, v, n, w),
        "Variances do not add": lambda m, v, n, w: kl_of(merged(m, v, n, w)[0], v + w, n, w),
        "do not count alike": lambda m, v, n, w: kl_of((m + n) / 2, merged(m, v, n, w)[1], n, w),
        "not by variances": lambda m, v, n, w: kl_of((v * m + w * n) / (v + w), merged(m, v, n, w)[1], n, w),
        "precision of the product": lambda m, v, n, w: kl_of(merged(m, v, n, w)[0], 1 / v + 1 / w, n, w),
        "forgot the half": lambda *numbers: 2 * sol["31.5.2"](*numbers),
        "from q to p": lambda m, v, n, w: kl_of(n, w, *merged(m, v, n, w)),
        "not N(0, 1)": lambda m, v, n, w: kl_of(*merged(m, v, n, w), 0, 1),
        "?": lambda *numbers: 0.0,
    },
    "31.5.3": {
        "byte has eight": lambda b, c, s: b * c * s**2,
        "side × side": lambda b, c, s: b * c * s / 8,
        "every channel": lambda b, c, s: b * s**2 / 8,
        "no logarithm": lambda b, c, s: b * c * s**2 / 8 / math.log(2),
        "?": lambda b, c, s: 0.0,
    },
    "31.5.4": {
        "One number for each": lambda r, kl, o, k: (o - r).mean(),
        "The sign": lambda r, kl, o, k: r - o + kl[k:].sum(0),
        "pays the KLs of the lower": lambda r, kl, o, k: o - r,
        "they cancel": lambda r, kl, o, k: o - r - kl.sum(0),
        "A KL is a cost": lambda r, kl, o, k: o - r + kl[k:].sum(0),
        "off by one": lambda r, kl, o, k: o - r - kl[k + 1 :].sum(0),
        "not the upper ones": lambda r, kl, o, k: o - r - kl[:k].sum(0),
        "?": lambda r, kl, o, k: r + o,
    },
    "31.6.1": {
        "Round down": lambda bits, side: 2 ** (bits / side**2),
        "bits of one token": lambda bits, side: bits // side**2,
        "Do not round the bits": lambda bits, side: 2 ** (bits // side**2),
        "side × side": lambda bits, side: int(2 ** (bits / side)),
        "not of e": lambda bits, side: math.floor(math.exp(bits / side**2)),
        "more bits than there are": lambda bits, side: math.ceil(2 ** (bits / side**2)),
        "?": lambda bits, side: 1.0,
    },
    "31.6.2": {
        "(K, D)": lambda v, t, c: v.mean(0),
        "has no mean": lambda v, t, c: torch.stack([v[t == k].mean(0) for k in range(len(c))]),
        "does not go to zero": lambda v, t, c: sol["31.6.2"](v, t, 0 * c),
        "are sums": lambda v, t, c: torch.stack([v[t == k].sum(0) if (t == k).any() else c[k] for k in range(6)]),
        "and a code that nobody chose": lambda v, t, c: torch.zeros_like(c).index_add(0, t, v),
        "stays where it is": lambda v, t, c: sol["31.6.2"](v, t, c + 1),
        "number of vectors": lambda v, t, c: torch.stack([v[t == k].sum(0) / len(v) if (t == k).any() else c[k] for k in range(6)]),
        "?": lambda v, t, c: c,
    },
    "31.6.3": {
        "one number": lambda t, k: t.flatten().bincount(minlength=k),
        "add nothing": lambda t, k: (-(q := t.flatten().bincount(minlength=k) / t.numel()) * q.log()).sum().exp(),
        "in nats": lambda t, k: sol["31.6.3"](t, k).log(),
        "in bits": lambda t, k: sol["31.6.3"](t, k).log2(),
        "sign": lambda t, k: 1 / sol["31.6.3"](t, k),
        "that occur": lambda t, k: (t.flatten().bincount(minlength=k) > 0).sum(),
        "mixed": lambda t, k: sol["31.6.3"](t, k).log2().exp(),
        "?": lambda t, k: 3.0,
    },
    "31.6.4": {
        "shape of z": lambda z, e, u, b: u.sum(),
        "commitment pulls too": lambda z, e, u, b: u,
        "commitment's part": lambda z, e, u, b: 2 * b * (z - e),
        "factor 2": lambda z, e, u, b: u + b * (z - e),
        "The sign": lambda z, e, u, b: u - 2 * b * (z - e),
        "forgot β": lambda z, e, u, b: u + 2 * (z - e),
        "holds z fixed": lambda z, e, u, b: u + 2 * (1 + b) * (z - e),
        "?": lambda z, e, u, b: z,
    },
    "31.6.5": {
        "is a square": lambda k, a, b, d: k * (a / b) ** d,
        "upside down": lambda k, a, b, d: k * (a / b) ** (2 / d),
        "in the plane only": lambda k, a, b, d: k * a / b,
        "other way round": lambda k, a, b, d: k * (b / a) ** (d / 2),
        "how many times more": lambda k, a, b, d: (a / b) ** (d / 2),
        "?": lambda k, a, b, d: 1.0,
    },
}  # fmt: skip


def in_place_line(a, b, steps):
    b -= a
    codes = torch.arange(steps)[:, None] * b / (steps - 1)
    codes += a
    return codes


def in_place_samples(codes, count):
    mean = codes.mean(0)
    codes -= mean
    codes.div_((len(codes) - 1) ** 0.5)
    u, s, _ = torch.linalg.svd(codes.T @ codes)
    return mean + torch.randn(count, len(mean)) @ (u * s.sqrt()).T


def in_place_topk(pre, k):
    kept = pre.flatten().topk(k * len(pre)).indices
    out = torch.zeros(pre.numel())
    out[kept] = pre.flatten()[kept]
    pre.zero_()
    return out.clamp_(min=0).view(pre.shape)


def penalty_by_hand(activity, target):
    total = 0
    for unit in activity.T:
        rate = sum(unit.tolist()) / len(unit)
        total += target * math.log(target / rate) + (1 - target) * math.log(
            (1 - target) / (1 - rate)
        )
    return Fraction(total)


def in_place_baseline(f, s):
    s *= s
    f *= s
    return f.sum() / s.sum()


def in_place_weights(w):
    w -= w.amax(0)
    w.exp_()
    w /= w.sum(0)
    return 1 / (w**2).sum(0)


def turned_matrix(a, b, angle):
    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    ).double()
    c = turn @ torch.tensor([a, b]).double().diag() @ turn.T
    return (c.diagonal().log().sum() - c.logdet()) / 2


def in_place_means(v, t, c):
    for k in t.unique():
        c[k] = v[t == k].mean(0)
    v.zero_()
    return c


def by_autograd(z, e, u, b):
    z.requires_grad_()
    passed = z + (e - z).detach()
    (passed * u).sum().add(b * (z - e).square().sum()).backward()
    return z.grad


RIGHT = {
    "31.1.1": [lambda: Fraction(1, 100), lambda: Decimal("0.01"), lambda: [0.01], lambda: torch.tensor([[1e-2]])],
    "31.1.2": [lambda: Fraction(13, 2), lambda: np.float32(6.5), lambda: torch.tensor([6.5]), lambda: Decimal("6.5")],
    "31.1.3": [
        in_place_line,
        lambda a, b, n: [a + k / (n - 1) * (b - a) for k in range(n)],
        lambda a, b, n: np.linspace(a.numpy(), b.numpy(), n),
        lambda a, b, n: [[(1 - k / (n - 1)) * float(x) + k / (n - 1) * float(y) for x, y in zip(a, b, strict=True)] for k in range(n)],
    ],
    "31.1.4": [
        in_place_samples,
        lambda z, n: np.random.default_rng(0).multivariate_normal(z.mean(0).numpy(), np.cov(z.numpy().T), n),
        lambda z, n: torch.distributions.MultivariateNormal(z.mean(0), z.T.cov()).sample((n,)),
        lambda z, n: z.mean(0) + torch.randn(n, len(z)) @ (z - z.mean(0)) / (len(z) - 1) ** 0.5,
    ],
    "31.1.5": [
        lambda x: torch.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 2).flatten(1, 2),
        lambda x: x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 1, 4, 5, 2, 3).flatten(1, 3),
        lambda x: x.numpy().reshape(len(x), x.shape[1], x.shape[2] // 2, 2, -1, 2).transpose(0, 1, 3, 5, 2, 4).reshape(len(x), -1, x.shape[2] // 2, x.shape[3] // 2),
    ],
    "31.2.1": [lambda: Fraction(1, 2), lambda: 0.503, lambda: np.array(0.5), lambda: Decimal("0.5")],
    "31.2.2": [lambda: Fraction(5, 2), lambda: 3 - Decimal(1) / 2, lambda: [2.5], lambda: torch.tensor(2.5)],
    "31.2.3": [
        in_place_topk,
        lambda u, k: torch.where(u >= u.flatten().sort(descending=True).values[k * len(u) - 1], u, 0).relu(),
        lambda u, k: [[max(float(x), 0) if x >= sorted(u.flatten().tolist())[-k * len(u)] else 0 for x in row] for row in u],
        lambda u, k: np.where(u.numpy() >= np.sort(u.numpy(), None)[-k * len(u)], np.maximum(u.numpy(), 0), 0),
    ],
    "31.2.4": [
        penalty_by_hand,
        lambda a, t: torch.distributions.kl_divergence(torch.distributions.Bernoulli(t * torch.ones(a.shape[1])), torch.distributions.Bernoulli(a.mean(0))).sum(),
        lambda a, t: (t * np.log(t / (m := a.numpy().mean(0))) + (1 - t) * np.log((1 - t) / (1 - m))).sum(),
    ],
    "31.3.1": [lambda: Fraction(1, 2), lambda: [0.5], lambda: np.float64(0.5), lambda: torch.tensor(0.5, requires_grad=True)],
    "31.3.2": [
        lambda: 784 * (math.log(2 * math.pi * 0.0044) / 2 + 0.5),
        lambda: -torch.distributions.Normal(0.0, 0.0044**0.5).log_prob(torch.tensor(0.0044**0.5)) * 784,
        lambda: round(392 * (math.log(2 * math.pi * 0.0044) + 1)),
    ],
    "31.3.3": [
        in_place_baseline,
        lambda f, s: np.average(f.numpy(), weights=s.numpy() ** 2),
        lambda f, s: sum(float(a) * float(b) ** 2 for a, b in zip(f, s, strict=True)) / float((s**2).sum()),
    ],
    "31.3.4": [
        in_place_weights,
        lambda w: 1 / w.softmax(0).square().sum(0),
        lambda w: [1 / (column.softmax(0) ** 2).sum() for column in w.T],
        lambda w: np.exp(2 * np.logaddexp.reduce(w.double().numpy()) - np.logaddexp.reduce(2 * w.double().numpy())),
    ],
    "31.4.1": [
        lambda s: (s.topk(2, 0).values * torch.tensor([[1.0], [-1.0]])).sum(0).mean(),
        lambda s: np.mean([np.sort(column)[-1] - np.sort(column)[-2] for column in s.numpy().T]),
        lambda s: sum(a - b for a, b in (sorted(column.tolist())[:-3:-1] for column in s.T)) / s.shape[1],
    ],
    "31.4.2": [
        lambda saved, kl, beta: (saved > beta * kl).long(),
        lambda saved, kl, beta: [a.item() > beta * b.item() for a, b in zip(saved, kl, strict=True)],
        lambda saved, kl, beta: saved.numpy() > beta * kl.numpy(),
        lambda saved, kl, beta: kl.mul_(-beta).add_(saved) > 0,
    ],
    "31.4.3": [
        lambda c: -torch.log(torch.linalg.det(c / (d := c.diagonal().sqrt()) / d[:, None])) / 2,
        lambda c: (np.log(np.diag(c)).sum() - np.linalg.slogdet(c)[1]) / 2,
        lambda c: sum(math.log(c[i, i]) for i in range(len(c))) / 2 - torch.linalg.cholesky(c).diagonal().log().sum(),
    ],
    "31.4.4": [
        turned_matrix,
        lambda a, b, t: math.log(((c := math.cos(t) ** 2) * a + (1 - c) * b) * ((1 - c) * a + c * b) / (a * b)) / 2,
        lambda a, b, t: [0.5 * np.log1p((a - b) ** 2 * np.sin(2 * t) ** 2 / (4 * a * b))],
    ],
    "31.4.5": [
        lambda e, n, b: torch.where(e > b * n, (e / (b * n)).log() / 2, 0.0),
        lambda e, n, b: [max(0, math.log(v / (b * n)) / 2) for v in e.tolist()],
        lambda e, n, b: e.div_(n * b).log_().div_(2).relu_(),
        lambda e, n, b: np.maximum(np.log(e.numpy() / n / b), 0) / 2,
    ],
    "31.5.1": [
        lambda c, s: min([k for k, v in c.items() if not v > s * c[0]]),
        lambda c, s: float(next(k for k, v in c.items() if v / c[0] <= s)),
        lambda c, s: torch.tensor([c[k] <= s * c[0] for k in sorted(c)]).int().argmax(),
    ],
    "31.5.2": [
        lambda m, v, n, w: kl_of(*merged(m, v, n, w), n, w),
        lambda m, v, n, w: torch.distributions.kl_divergence(*(torch.distributions.Normal(torch.tensor(a).double(), torch.tensor(b).double().sqrt()) for a, b in (merged(m, v, n, w), (n, w)))),
        lambda m, v, n, w: np.array([kl_of(*merged(m, v, n, w), n, w)]),
    ],
    "31.5.3": [
        lambda b, c, s: math.ceil(b * c * s * s / 8),
        lambda b, c, s: Fraction(b) * c * s * s / 8,
        lambda b, c, s: sum(b / 8 for _ in range(c * s * s)),
    ],
    "31.5.4": [
        lambda r, kl, o, k: [b - a - sum(part[k:]) for a, b, part in zip(r, o, kl.T, strict=True)],
        lambda r, kl, o, k: (-(r + kl.sum(0)) + (o + kl[:k].sum(0))).numpy(),
        lambda r, kl, o, k: o.sub_(r).sub_(kl[k:].sum(0)),
    ],
    "31.6.1": [
        lambda bits, side: int(2 ** (bits / side**2) + 1e-6),
        lambda bits, side: max(k for k in range(1, 5000) if k ** (side**2) <= 2**bits),
        lambda bits, side: Fraction(int(torch.tensor(bits / side**2).double().exp2() + 1e-6)),
    ],
    "31.6.2": [
        in_place_means,
        lambda v, t, c: [v[t == k].mean(0) if (t == k).any() else c[k] for k in range(len(c))],
        lambda v, t, c: c.index_copy(0, t.unique(), torch.stack([v[t == k].mean(0) for k in t.unique()])),
        lambda v, t, c: np.stack([v.numpy()[t.numpy() == k].mean(0) if k in t.tolist() else row for k, row in enumerate(c.numpy())]),
    ],
    "31.6.3": [
        lambda t, k: 2 ** -sum((p := (t == c).float().mean()) * p.log2() for c in t.unique()),
        lambda t, k: torch.distributions.Categorical(t.flatten().bincount(minlength=k).float()).entropy().exp(),
        lambda t, k: np.exp(-sum(p * np.log(p) for p in np.unique(t, return_counts=True)[1] / t.numel())),
    ],
    "31.6.4": [
        by_autograd,
        lambda z, e, u, b: z.sub_(e).mul_(2 * b).add_(u),
        lambda z, e, u, b: [[p + 2 * b * (x - y) for x, y, p in zip(*rows, strict=True)] for rows in zip(z, e, u, strict=True)],
    ],
    "31.6.5": [
        lambda k, a, b, d: math.ceil(k * (a / b) ** (d / 2)),
        lambda k, a, b, d: round(k * math.sqrt(a / b) ** d),
        lambda k, a, b, d: Decimal(k) * (Decimal(a) / Decimal(b)) ** (Decimal(d) / 2),
    ],
}  # fmt: skip


def loops(*_):
    while True:
        pass


def exits(*_):
    sys.exit(0)
