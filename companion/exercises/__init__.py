"""Exercises: a check that names the wrong step, and a solution one click away.

A check is a function of the reader's function. It returns None where the answer is right, else a
hint in one sentence. `check` never raises: an unsolved or broken stub does not stop a notebook.
"""

import inspect
from importlib import import_module
from pathlib import Path

from companion.exercises.machinery import Folded, NotAttempted

EXERCISES = {}
for _file in sorted(Path(__file__).parent.glob("s31_*.py")):  # a section's exercises are its file
    EXERCISES |= import_module(f"{__name__}.{_file.stem}").EXERCISES


def check(number: str, attempt) -> None:
    """Print "not attempted yet", a hint that names the wrong step, or "correct"."""
    examine, _ = EXERCISES[number]
    try:
        hint = examine(attempt)
    except NotAttempted:
        verdict = "not attempted yet."
    except Exception as error:  # whatever a reader's code may raise
        verdict = f"your function raised {type(error).__name__}: {error}"
    else:
        verdict = f"not yet. {hint}" if hint else "correct."
    print(f"Exercise {number}: {verdict}")


def solution(number: str):
    """The solution's source, folded: click to open it."""
    _, solve = EXERCISES[number]
    return Folded(f"Solution of {number}", inspect.getsource(solve))
