import ast
import copy
import inspect
import json
import signal
import sys
import textwrap
import warnings
from pathlib import Path
from types import SimpleNamespace

import mutants
import pytest
import torch
from submissions import RIGHT, WRONG, exits, loops

from companion import exercises
from companion.exercises import EXERCISES, check, judge, machinery, solution

SECTIONS = [getattr(exercises, f"s31_{section}") for section in range(1, 7)]
solved = SimpleNamespace(**{name: value for part in SECTIONS for name, value in vars(part).items()})


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    """On a busy machine a first import may take longer than an attempt may."""
    monkeypatch.setattr(machinery, "SECONDS", 600)


@pytest.mark.parametrize("number", EXERCISES)
def test_every_wrong_answer_gets_its_hint_and_every_right_one_is_called_correct(number):
    exercise = EXERCISES[number]
    assert len(WRONG[number]) >= 4 and len(RIGHT[number]) >= 3
    for words, wrong in WRONG[number].items():
        points, verdict, hint = judge(exercise, wrong)
        assert (points, verdict) == (0, "not yet")
        assert hint == exercise.general if words == "?" else words in hint, (words, hint)
    for right in (exercise.solve, *RIGHT[number]):
        assert judge(exercise, right) == (1, "correct", "")


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("number", EXERCISES)
def test_a_mistake_gets_its_own_hint_with_any_constants(number, seed):
    exercise = EXERCISES[number]
    exercise = exercise._replace(forbidden=())
    assert judge(exercise, exercise.solve, seed).points == 1
    for hint, mistake in exercise.mistakes.items():
        assert judge(exercise, mistake, seed).hint == hint


# Right answers in other words: (s, k·s) is (k, s), codes have no order, the sign of noise tells nothing.
EQUIVALENT = {
    "31.1.4": ["sign: def gaussian"],
    "31.4.2": ["1 and 2 exchanged"],
    "31.4.4": ["0 and 1 exchanged"],
    "31.4.5": ["1 and 2 exchanged"],
    "31.5.2": ["0 and 2 exchanged"],
    "31.5.3": ["0 and 1 exchanged"],
    "31.6.2": ["without clamp", "constant"],
    "31.6.3": ["argument 0 perturbed", "argument 1 ignored", "argument 1 perturbed"],
}


@pytest.mark.slow
@pytest.mark.parametrize("number", EXERCISES)
def test_wrong_versions_made_by_machine_are_refused(number):
    exercise = EXERCISES[number]
    cases = list(exercise.cases(torch.Generator().manual_seed(0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = [*mutants.of_arguments(exercise.solve, cases), *mutants.of_code(exercise.solve)]
        passed = [what for what, mutant in made if judge(exercise, mutant).points]
    assert len(made) >= 3
    for what in passed:
        assert any(what.startswith(known) for known in EQUIVALENT.get(number, ())), what


@pytest.mark.parametrize("number", EXERCISES)
def test_every_argument_varies_between_the_cases(number):
    cases = list(EXERCISES[number].cases(torch.Generator().manual_seed(0)))
    assert len(cases) >= 2 or cases == [()]
    for values in zip(*cases, strict=True):
        assert len({str(value) for value in values}) > 1


@pytest.mark.parametrize("number", EXERCISES)
def test_a_general_hint_asks_and_a_hint_is_one_line(number):
    exercise = EXERCISES[number]
    assert exercise.general.endswith("?")
    hints = [*exercise.mistakes, *exercise.signs, exercise.form, exercise.general]
    assert all("\n" not in hint and len(hint) < 130 for hint in hints)


@pytest.mark.parametrize("number", EXERCISES)
def test_a_stub_is_not_attempted_and_a_broken_one_is_named(number, capsys):
    def not_implemented(*_):
        raise NotImplementedError

    for stub in (lambda *_: None, lambda *_: ..., not_implemented):
        assert check(number, stub) == (0, "not attempted", "")
        assert capsys.readouterr().out == f"Exercise {number}: not attempted yet.\n"
    assert check(number, lambda *_: 1 / 0).verdict == "raised"
    assert "your function raised ZeroDivisionError" in capsys.readouterr().out
    assert check(number, exits).hint == "your function raised SystemExit: 0"
    assert check(number, 5).verdict == "raised" and check(number, lambda: [[]]).points == 0
    assert check(number, lambda *given: EXERCISES[number].solve(*given))._ipython_display_() is None


@pytest.mark.parametrize("heeded", [True, False])  # a background process ignores the stop button
def test_an_attempt_that_takes_too_long_is_stopped(heeded, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler if heeded else signal.SIG_IGN)
    try:
        stops_a_loop(monkeypatch, capsys)
    finally:
        signal.signal(signal.SIGINT, before)


def stops_a_loop(monkeypatch, capsys):
    monkeypatch.setattr(machinery, "SECONDS", 0.2)
    assert check("31.5.3", loops).verdict == "stopped"
    assert "took more than 0.2 seconds" in capsys.readouterr().out
    assert check("31.5.3", lambda *_: 1).verdict == "not yet"


def test_the_stop_button_still_stops():
    def stopped(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check("31.5.3", stopped)


def test_the_packages_own_solution_is_no_answer():
    def imports(*given):
        from companion.exercises.s31_5 import bytes_of

        return bytes_of(*given)

    for borrowed in (solved.bytes_of, imports, lambda *given: exercises.s31_5.bytes_of(*given)):
        assert "write your own" in check("31.5.3", borrowed).hint
    assert check("31.5.3", lambda b, c, side: b * c * side * side / 8).points == 1


def test_what_an_attempt_writes_to_stderr_goes_to_stdout(capsys):
    def warns(b, c, side):
        print("a word", file=sys.stderr)
        return b * c * side**2 / 8

    assert check("31.5.3", warns).points == 1
    assert capsys.readouterr().err == ""


def test_an_unknown_exercise_is_a_sentence(capsys):
    assert check("31.1.9", lambda: 1).points == 0
    assert "There is no exercise 31.1.9: there are 31.1.1, " in capsys.readouterr().out


def test_what_holds_no_numbers_is_said(capsys):
    for nothing in ("6.5", {1: 2}, [], [["a"]], object()):
        assert check("31.5.3", lambda *_, nothing=nothing: nothing).verdict == "not yet"
        assert "numbers are wanted" in (out := capsys.readouterr().out) or "empty list" in out


def test_a_right_function_is_shown_on_the_notebooks_own_numbers(capsys):
    check("31.5.3", lambda *given: solved.bytes_of(*given), 8, 3, 10)
    assert capsys.readouterr().out.endswith("Here your function returns 300.0.\n")
    check("31.5.3", lambda *_: 1, 8, 3, 10)
    assert "Here" not in capsys.readouterr().out


@pytest.mark.parametrize("number", EXERCISES)
def test_a_solution_opens_on_a_click(number):
    folded = solution(number)
    source, proof = inspect.getsource(EXERCISES[number].solve), exercises.PROOFS.get(number, "")
    assert folded.text.startswith(source) and folded.text.endswith(proof)
    assert len(folded.text) == len(source) + len(proof) + bool(proof)
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
    for number, exercise in EXERCISES.items():
        if number.startswith(section):
            tree = ast.parse(textwrap.dedent(inspect.getsource(exercise.solve)))
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
