import ast
import copy
import inspect
import json
import math
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from companion.exercises import EXERCISES, check, s31_1, s31_2, s31_3, s31_4, s31_5, s31_6, solution

SECTIONS = (s31_1, s31_2, s31_3, s31_4, s31_5, s31_6)
solved = SimpleNamespace(**{name: value for part in SECTIONS for name, value in vars(part).items()})


def kl_to_standard(mean, var):
    return (mean**2 + var - math.log(var) - 1) / 2


WRONG = {
    "31.4.1": {
        "Return one number": lambda s: s.amax(0),
        "factors of one axis": lambda s: solved.gap_of(s.T),
        "best axis alone": lambda s: s.amax(0).mean(),
        "worst axis": lambda s: (s.amax(0) - s.amin(0)).mean(),
        "summed over": lambda s: 5 * solved.gap_of(s),
        "Sort each": lambda s: s.mean(),
    },
    "31.4.2": {
        "one truth value": lambda saved, kl, beta: (saved > beta * kl).float(),
        "forgot the weight": lambda saved, kl, beta: saved > kl,
        "other way round": lambda saved, kl, beta: saved <= beta * kl,
        "not before the reconstruction": lambda saved, kl, beta: beta * saved > kl,
        "is worth it": lambda saved, kl, beta: saved > 2 * beta * kl,
    },
    "31.4.3": {
        "Return one number": lambda c: c.diagonal(),
        "½ is missing": lambda c: c.diagonal().log().sum() - torch.logdet(c),
        "never negative": lambda c: -solved.gaussian_total_correlation(c),
        "own variances": lambda c: -torch.logdet(c) / 2,
        "entropies less": lambda c: c.sum(),
    },
    "31.4.4": {
        "½ is missing": lambda a, b, t: 2 * solved.turned_total_correlation(a, b, t),
        "independent still": lambda a, b, t: solved.turned_total_correlation(a, b + 1, t),
        "angle itself": lambda a, b, t: solved.turned_total_correlation(a, b, t / 2),
        "do not square": lambda a, b, t: solved.turned_total_correlation(a**2, b**2, t),
        "½ log of": lambda a, b, t: 0.0,
    },
    "31.4.5": {
        "nats of each axis": lambda e, n, b: solved.axis_rate(e, n, b).sum(),
        "less than 0": lambda e, n, b: (e / (b * n)).log() / 2,
        "forgot β": lambda e, n, b: solved.axis_rate(e, n, 1.0),
        "other way round": lambda e, n, b: solved.axis_rate(e, n, 1 / b),
        "its root": lambda e, n, b: solved.axis_rate(e, n**0.5, b),
        "½ is missing": lambda e, n, b: 2 * solved.axis_rate(e, n, b),
        "Divide the ELBO's": lambda e, n, b: e / (b * n),
    },
    "31.5.1": {
        "exactly is enough": lambda c, share: min(k for k, v in c.items() if v < share * c[0]),
        "fewest levels": lambda c, share: max(k for k, v in c.items() if v <= share * c[0]),
        "the key, not": lambda c, share: max(v for v in c.values() if v <= share * c[0]),
        "fall short": lambda c, share: solved.levels_needed(c, share) - 1,
        "take the smallest": lambda c, share: 7,
    },
    "31.5.2": {
        "one number": lambda m, v, n, w: torch.zeros(2),
        "merge it with the prior": lambda m, v, n, w: kl_to_standard(m, v),
        "Variances do not add": lambda m, v, n, w: kl_to_standard(2.4, v + w),
        "do not count alike": lambda m, v, n, w: kl_to_standard((m + n) / 2, 0.2),
        "not by variances": lambda m, v, n, w: kl_to_standard((v * m + w * n) / (v + w), 0.2),
        "precision of the product": lambda m, v, n, w: kl_to_standard(2.4, 1 / v + 1 / w),
        "forgot the half": lambda *numbers: 2 * solved.merged_kl(*numbers),
        "from q to p": lambda m, v, n, w: (2.4**2 / 0.2 + 5 - math.log(5) - 1) / 2,
        "Merge by precisions": lambda *numbers: 0.0,
    },
    "31.5.3": {
        "byte has eight": lambda b, c, s: b * c * s**2,
        "side × side": lambda b, c, s: b * c * s / 8,
        "every channel": lambda b, c, s: b * s**2 / 8,
        "no logarithm": lambda b, c, s: b * c * s**2 / 8 / math.log(2),
        "over eight": lambda b, c, s: 0.0,
    },
    "31.5.4": {
        "One number for each": lambda r, kl, o, k: (o - r).mean(),
        "The sign": lambda r, kl, o, k: -solved.level_ratio(r, kl, o, k),
        "pays the KLs of the lower": lambda r, kl, o, k: o - r,
        "they cancel": lambda r, kl, o, k: o - r - kl.sum(0),
        "A KL is a cost": lambda r, kl, o, k: o - r + kl[k:].sum(0),
        "off by one": lambda r, kl, o, k: solved.level_ratio(r, kl, o, k + 1),
        "Write both": lambda r, kl, o, k: r + o,
    },
    "31.6.1": {
        "Round down": lambda bits, side: 2 ** (bits / side**2),
        "bits of one token": lambda bits, side: bits // side**2,
        "Do not round the bits": lambda bits, side: 2 ** (bits // side**2),
        "side × side": lambda bits, side: 2.0 ** (bits / side) // 1,
        "not of e": lambda bits, side: math.floor(math.exp(bits / side**2)),
        "Divide the bits": lambda bits, side: 1.0,
    },
    "31.6.2": {
        "(K, D)": lambda v, t, c: v.mean(0),
        "has no mean": lambda v, t, c: torch.stack([v[t == k].mean(0) for k in range(len(c))]),
        "does not go to zero": lambda v, t, c: solved.means_of_choosers(v, t, 0 * c),
        "are sums": lambda v, t, c: torch.cat([torch.stack([v[t == k].sum(0) for k in range(5)]), c[5:]]),
        "stays where it is": lambda v, t, c: solved.means_of_choosers(v, t, c + 1),
        "For each code": lambda v, t, c: c,
    },
    "31.6.3": {
        "one number": lambda t, k: t.flatten().bincount(minlength=k),
        "add nothing": lambda t, k: (-(q := t.flatten().bincount(minlength=k) / t.numel()) * q.log()).sum().exp(),
        "in nats": lambda t, k: solved.perplexity(t, k).log(),
        "in bits": lambda t, k: solved.perplexity(t, k).log2(),
        "sign": lambda t, k: 1 / solved.perplexity(t, k),
        "that occur": lambda t, k: (t.flatten().bincount(minlength=k) > 0).sum(),
        "exp of the entropy": lambda t, k: torch.tensor(3.0),
    },
    "31.6.4": {
        "shape of z": lambda z, e, u, b: u.sum(),
        "commitment pulls too": lambda z, e, u, b: u,
        "factor 2": lambda z, e, u, b: u + b * (z - e),
        "The sign": lambda z, e, u, b: u - 2 * b * (z - e),
        "forgot β": lambda z, e, u, b: u + 2 * (z - e),
        "holds z fixed": lambda z, e, u, b: u + 2 * (1 + b) * (z - e),
        "What arrives": lambda z, e, u, b: z,
    },
    "31.6.5": {
        "is a square": lambda k, a, b, d: k * (a / b) ** d,
        "upside down": lambda k, a, b, d: k * (a / b) ** (2 / d),
        "in the plane only": lambda k, a, b, d: k * a / b,
        "other way round": lambda k, a, b, d: k * (b / a) ** (d / 2),
        "K cells share": lambda k, a, b, d: 1.0,
    },
    "31.1.1": {
        "Return one factor": lambda: (1.0, 0.01),
        "divided by 10": lambda: 1.0,
        "the error is squared": lambda: 0.1,
        "before the division": lambda: 100.0,
        "in proportion": lambda: 0.5,
    },
    "31.1.2": {
        "Return one number": lambda: [6.5],
        "the best plane": lambda: 3,
        "variance kept": lambda: 9.5,
        "whole": lambda: 1,
        "has length 1": lambda: 6,
        "total variance": lambda: 16,
        "The error is tr C": lambda: 7,
    },
    "31.1.3": {
        "exchanged": lambda a, b, n: torch.stack([torch.linspace(x, y, n) for x, y in zip(a, b, strict=True)]),
        "include both ends": lambda a, b, n: solved.interpolation(a, b, n)[:-1],
        "from b to a": lambda a, b, n: solved.interpolation(b, a, n),
        "first code is not a": lambda a, b, n: solved.interpolation(a, b, n + 1)[1:],
        "last code is not b": lambda a, b, n: solved.interpolation(a, b, n + 1)[:-1],
        "not equal": lambda a, b, n: a + torch.linspace(0, 1, n)[:, None] ** 2 * (b - a),
    },
    "31.1.4": {
        "mean is not": lambda z, n: solved.gaussian_samples(z - z.mean(0), n),
        "multiplied by the covariance": lambda z, n: z.mean(0) + torch.randn(n, 2) @ z.T.cov(),
        "transposed": lambda z, n: z.mean(0) + torch.randn(n, 2) @ torch.linalg.cholesky(z.T.cov()),
        "correlation between": lambda z, n: z.mean(0) + z.std(0) * torch.randn(n, 2),
        "shape": lambda z, n: z.mean(0),
        "covariance of the samples": lambda z, n: z.mean(0) + 3 * torch.randn(n, 2),
    },
    "31.1.5": {
        "reshape alone": lambda x: x.reshape(2, 12, 2, 3),
        "come before the channel": lambda x: torch.nn.functional.pixel_unshuffle(x, 2).unflatten(1, (3, 4)).transpose(1, 2).flatten(1, 2),
        "exchanged": lambda x: torch.nn.functional.pixel_unshuffle(x, 2)[:, [0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11]],
        "The shape is": lambda x: x,
        "wrong order": lambda x: torch.nn.functional.pixel_unshuffle(x, 2).flip(1),
    },
    "31.2.1": {
        "Return one number": lambda: [0.5],
        "variance of the data": lambda: 1.0,
        "noisy points: by what": lambda: 2.0,
        "factor is squared": lambda: 0.25,
        "square it": lambda: 0.5**0.5,
        "infinite noise": lambda: 0.0,
        "has the variance": lambda: 0.8,
    },
    "31.2.2": {
        "Return one number": lambda: [2.5],
        "without a penalty": lambda: 3.0,
        "shared between two": lambda: 2.0,
        "sign of the penalty": lambda: 3.5,
        "not a factor": lambda: 1.5,
        "derivative of": lambda: 0.0,
    },
    "31.2.3": {
        "k of each row": lambda u, k: torch.where(u >= u.topk(k, 1).values[:, -1:], u.relu(), 0.0),
        "k for each item": lambda u, k: u.relu() * (u >= u.flatten().topk(k).values[-1]),
        "absolute value": lambda u, k: u.relu() * (u.abs() >= u.abs().flatten().topk(k * len(u)).values[-1]),
        "keep the values": lambda u, k: solved.keep_largest_of_batch(u, k) > 0,
        "Nothing was left out": lambda u, k: u.relu(),
        "The shape is": lambda u, k: u.flatten().topk(k * len(u)).values,
        "in their places": lambda u, k: solved.keep_largest_of_batch(-u, k),
    },
    "31.2.4": {
        "averaged over the units": lambda a, t: solved.sparsity_penalty(a, t) / a.shape[1],
        "exchanged": lambda a, t: (a.mean(0) * (a.mean(0) / t).log() + (1 - a.mean(0)) * ((1 - a.mean(0)) / (1 - t)).log()).sum(),
        "being off": lambda a, t: (t * (t / a.mean(0)).log()).sum(),
        "over the batch first": lambda a, t: (t * (t / a).log() + (1 - t) * ((1 - t) / (1 - a)).log()).sum(1).mean(),
        "in bits": lambda a, t: solved.sparsity_penalty(a, t) / math.log(2),
        "Return a scalar": lambda a, t: a.mean(0),
        "Sum over units": lambda a, t: a.mean(),
    },
    "31.3.1": {
        "Return one number": lambda: [0.5],
        "is halved": lambda: 1.0,
        "exact at the true posterior only": lambda: 0.0,
        "a positive number": lambda: -0.5,
        "fixed sum": lambda: 0.7,
    },
    "31.3.2": {
        "Return one number": lambda: [-1018.0],
        "there are 784": lambda: solved.distortion_at_best() / 784,
        "add up to half a nat": lambda: solved.distortion_at_best() - 392,
        "not one": lambda: solved.distortion_at_best() + 392,
        "2π of the normal": lambda: 392 * (math.log(0.0044) + 1),
        "The sign": lambda: -solved.distortion_at_best(),
        "the ½ is missing": lambda: 784 * (math.log(2 * math.pi * 0.0044) + 0.5),
        "mean squared error itself": lambda: 100.0,
    },
    "31.3.3": {
        "Return one constant": lambda f, s: f - f.mean(),
        "mean of f": lambda f, s: f.mean(),
        "quadratic in it": lambda f, s: (f * s).mean() / s.mean(),
        "absolute value": lambda f, s: (f * s.abs()).mean() / s.abs().mean(),
        "Divide by": lambda f, s: (f * s**2).mean(),
        "derivative": lambda f, s: torch.tensor(0.0),
    },
    "31.3.4": {
        "(B,)": lambda w: w.sum(),
        "added over the images": lambda w: w.sum(1),
        "its logarithm": lambda w: solved.effective_samples(w).log(),
        "Upside down": lambda w: 1 / solved.effective_samples(w),
        "share of K": lambda w: solved.effective_samples(w) / len(w),
        "exponentials first": lambda w: w.sum(0) ** 2 / (w**2).sum(0),
        "over the sum of the squares": lambda w: w.exp().sum(0),
        "became 0": lambda w: w.exp().sum(0) ** 2 / (w.exp() ** 2).sum(0),
    },
}  # fmt: skip


@pytest.mark.parametrize("number", EXERCISES)
def test_the_solution_is_correct_and_every_wrong_step_named(number, capsys):
    _, solve = EXERCISES[number]
    check(number, solve)
    assert capsys.readouterr().out == f"Exercise {number}: correct.\n"
    for words, wrong in WRONG[number].items():
        check(number, wrong)
        out = capsys.readouterr().out
        assert "not yet." in out and words in out, (words, out)


@pytest.mark.parametrize("number", EXERCISES)
def test_a_stub_is_not_attempted_and_a_broken_one_is_named(number, capsys):
    def not_implemented(*_):
        raise NotImplementedError

    for stub in (lambda *_: None, lambda *_: ..., not_implemented):
        check(number, stub)
        assert capsys.readouterr().out == f"Exercise {number}: not attempted yet.\n"
    check(number, lambda *_: 1 / 0)
    assert "your function raised ZeroDivisionError" in capsys.readouterr().out


@pytest.mark.parametrize("number", EXERCISES)
def test_a_solution_opens_on_a_click(number):
    folded = solution(number)
    assert inspect.getsource(EXERCISES[number][1]) == folded.text
    assert folded._repr_html_().startswith("<details><summary>Solution of 31.")


def test_the_predicted_factors_are_what_a_network_shows():
    """Codes times ten and back: a hundredth of the noise's error."""
    torch.manual_seed(0)
    net, z = torch.nn.Linear(3, 50).double(), torch.randn(2000, 3, dtype=torch.float64)
    noise = 1e-3 * torch.randn_like(z)

    def added(factor):
        return (net((z * factor + noise) / factor) - net(z)).square().mean()

    assert (added(10) / added(1)).item() == pytest.approx(solved.predicted())


def test_the_error_of_the_plane_is_measured():
    x = torch.randn(400_000, 4, generator=torch.Generator().manual_seed(0)).double()
    x *= torch.tensor([3, 2, 2**0.5, 1.0])
    basis = torch.tensor([[0.5**0.5, 0, 0.5**0.5, 0], [0, 1, 0, 0]]).double()
    error = (x - x @ basis.T @ basis).square().sum(1).mean()
    assert error.item() == pytest.approx(solved.error_of_plane(), rel=0.01)


def test_space_to_channels_is_torchs():
    x = torch.rand(2, 3, 8, 6)
    assert torch.equal(solved.space_to_channels(x), torch.nn.functional.pixel_unshuffle(x, 2))


def test_the_rate_of_an_axis_is_where_its_loss_is_least():
    """One pixel, one axis: the β-weighted loss of encoder, posterior variance and decoder, minimised."""
    cases = ((2.0, 0.25, 4.0), (0.9, 0.25, 4.0), (3.0, 0.5, 1.0))  # all three at once
    eigenvalue, noise, beta = torch.tensor(cases).double().T
    start = torch.tensor([0.7, -0.1, 0.8]).double()
    read, log_var, write = (v.repeat(len(cases)).requires_grad_() for v in start)
    optimiser = torch.optim.Adam([read, log_var, write], 0.02)
    for _ in range(2000):
        error = eigenvalue * (1 - write * read) ** 2 + write**2 * log_var.exp()
        kl = (eigenvalue * read**2 + log_var.exp() - 1 - log_var) / 2
        optimiser.zero_grad()
        (error / (2 * noise) + beta * kl).sum().backward()
        optimiser.step()
    for found, (eigenvalue, noise, beta) in zip(kl.tolist(), cases, strict=True):
        wanted = solved.axis_rate(torch.tensor(eigenvalue), noise, beta).item()
        assert found == pytest.approx(wanted, abs=2e-3)


def skeleton_of(node) -> str:
    """An expression with its names, texts and numbers taken out, so that a renamed copy is the same."""
    node = copy.deepcopy(node)
    for part in ast.walk(node):
        for field in ("id", "arg", "value"):
            if isinstance(getattr(part, field, None), (str, int, float)):
                setattr(part, field, "_")
    return ast.dump(node)


def expressions(source: str) -> set[str]:
    """The larger expressions of some code, without names."""
    found = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.expr))
    return {skeleton_of(node) for node in found if sum(1 for _ in ast.walk(node)) >= 15}


@pytest.mark.parametrize("section", ["31.1", "31.2", "31.3", "31.4", "31.5", "31.6"])
def test_no_cell_above_an_exercise_holds_what_its_solution_returns(section):
    path = next((Path(__file__).parent.parent / "notebooks").glob(f"{section}_*.ipynb"))
    cells = [
        "".join(c["source"])
        for c in json.loads(path.read_text())["cells"]
        if c["cell_type"] == "code"
    ]
    shown = set().union(*map(expressions, cells))
    for number, (_, answer) in EXERCISES.items():
        if number.startswith(section):
            tree = ast.parse(textwrap.dedent(inspect.getsource(answer)))
            returned = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)]
            large = [node for node in returned if sum(1 for _ in ast.walk(node)) >= 15]
            assert not [ast.unparse(node) for node in large if skeleton_of(node) in shown], number


def test_the_variance_of_what_a_denoiser_returns_is_measured():
    x = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    noisy = x + torch.randn(100_000, generator=torch.Generator().manual_seed(1))
    best = noisy * (noisy * x).mean() / noisy.square().mean()  # least squares
    assert best.var().item() == pytest.approx(solved.variance_of_denoised(), abs=0.02)


def test_the_best_activity_is_found_by_looking():
    z = torch.linspace(0, 5, 5001)
    loss = (3 - z) ** 2 + z
    assert z[loss.argmin()].item() == pytest.approx(solved.best_activity(), abs=2e-3)
