"""Exercises: a check that names the wrong step, and a solution one click away.

An exercise is a solution and a list of mistakes, each a wrong function with the hint that it gets.
`check` never raises: an unsolved or broken stub does not stop a notebook.
"""

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from companion.exercises.machinery import Exercise, Folded, Verdict, borrowed, judge

EXERCISES: dict[str, Exercise] = {}
PROOFS: dict[str, str] = {}  # where pencil comes first
for _file in sorted(Path(__file__).parent.glob("s31_*.py")):  # a section's exercises are its file
    _section = import_module(f"{__name__}.{_file.stem}")
    EXERCISES |= _section.EXERCISES
    PROOFS |= _section.PROOFS


def check(number: str, attempt: Callable, *own, seed: int = 0) -> Verdict:
    """Print and return the verdict: not attempted yet, a hint that names the wrong step, or correct.

    own: arguments from the notebook, for which a right function's answer is printed too. seed: another
    one makes other inputs of the same kind.
    """
    if number not in EXERCISES:
        print(f"There is no exercise {number}: there are {', '.join(EXERCISES)}.")
        return Verdict(0, "not attempted")
    verdict = judge(EXERCISES[number], attempt, seed)
    if borrowed(attempt):
        verdict = Verdict(0, "not yet", "That calls the package's solution: write your own.")
    words = {"correct": "correct.", "not attempted": "not attempted yet."}
    text = words.get(verdict.verdict, verdict.hint)
    print(f"Exercise {number}: {'not yet. ' * (verdict.verdict == 'not yet')}{text}")
    if own and verdict.points:
        print(f"Here your function returns {attempt(*own)}.")
    return verdict


def solution(number: str) -> Folded:
    """The solution's source, and the proof where one is asked for, folded: click to open it."""
    source = inspect.getsource(EXERCISES[number].solve)
    return Folded(
        f"Solution of {number}", "\n".join([source, *PROOFS.get(number, "").splitlines()])
    )
