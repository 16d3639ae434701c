"""What an exercise is, and how a submission is judged."""

import _thread
import contextlib
import copy
import ctypes
import html
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from numbers import Real
from types import CodeType
from typing import NamedTuple

import numpy as np
import torch

SECONDS = 10  # an attempt that takes longer is stopped


class Exercise(NamedTuple):
    """A solution, inputs to try it on, and the mistakes that are known by what they return."""

    solve: Callable
    cases: (
        Callable  # a generator of random numbers -> tuples of arguments, two generic ones at least
    )
    general: str  # the hint where no mistake is recognised: it asks and does not tell
    mistakes: dict[str, Callable]  # hint -> a wrong function of the same arguments
    form: str = "Return one number."  # the hint where the shape is wrong
    signs: dict[str, Callable] = {}  # noqa: RUF012, hint -> (value, wanted, *arguments) -> bool
    seen: Callable = lambda value, *arguments: value  # what is compared of an answer
    tolerance: float = 1e-4
    equal: Callable | None = None  # (value, wanted) -> bool, where more than one answer is right
    forbidden: tuple[str, ...] = ()  # calls that the text forbids


class Verdict(NamedTuple):
    """points: 0 or 1. verdict: correct, not yet, not attempted, raised or stopped. hint: one sentence."""

    points: int
    verdict: str
    hint: str = ""

    def _ipython_display_(self):
        """Nothing: `check` has printed it."""


class Folded:
    """Text behind a click on a page, plain in a terminal."""

    def __init__(self, title: str, text: str):
        self.title, self.text = title, text

    def _repr_html_(self):
        return (
            f"<details><summary>{self.title}</summary><pre>{html.escape(self.text)}</pre></details>"
        )

    def __repr__(self):
        return f"{self.title}: click to open it in Jupyter, or print(solution(...).text)."


class NotAttempted(Exception):
    """The stub returned nothing."""


class NoNumber(Exception):
    """The answer is of a kind that holds no numbers."""


class Stopped(BaseException):
    """The attempt took longer than it may."""


def judge(exercise: Exercise, attempt: Callable, seed: int = 0) -> Verdict:
    """The verdict on a reader's function, whatever it does.

    The right answers are computed first, and the attempt gets copies of the inputs: it may write into
    them. It counts as right where it is on every case.
    """
    if used := sorted(set(exercise.forbidden) & set(names_in(attempt))):
        return Verdict(0, "not yet", f"Write it without `{used[0]}`.")
    cases = list(exercise.cases(torch.Generator().manual_seed(seed)))
    wanted = answers(exercise, exercise.solve, cases)
    try:
        with contextlib.redirect_stderr(
            sys.stdout
        ):  # graders count what stands in stderr as an error
            given = within(SECONDS, lambda: answers(exercise, attempt, cases))
    except (NotAttempted, NotImplementedError):
        return Verdict(0, "not attempted")
    except Stopped:
        return Verdict(0, "stopped", f"your function took more than {SECONDS} seconds.")
    except NoNumber as error:
        return Verdict(0, "not yet", str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a reader's code may raise, sys.exit among it
        return Verdict(0, "raised", f"your function raised {type(error).__name__}: {error}")
    if agree(exercise, given, wanted):
        return Verdict(1, "correct")
    return Verdict(0, "not yet", hint_for(exercise, given, wanted, cases))


def hint_for(exercise: Exercise, given: list, wanted: list, cases: list) -> str:
    """The hint of the first mistake that returns the same on every case, else the form's, a sign's or the general one."""
    for hint, mistake in exercise.mistakes.items():
        if agree(exercise, given, answers(exercise, mistake, cases)):
            return hint
    for value, right in zip(given, wanted, strict=True):
        if value.shape != right.shape:
            return exercise.form.format(shape=tuple(value.shape), wanted=tuple(right.shape))
    everything = list(zip(given, wanted, cases, strict=True))
    for hint, sign in exercise.signs.items():
        if any(sign(value, right, *case) for value, right, case in everything):
            return hint
    return exercise.general


def answers(exercise: Exercise, function: Callable, cases: list) -> list[torch.Tensor]:
    """What a function returns on copies of the cases, as numbers; the same dice for every function."""
    found = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for case in cases:
            value = as_numbers(function(*copy.deepcopy(case)))
            found.append(as_numbers(exercise.seen(value, *case)))
    return found


def as_numbers(value) -> torch.Tensor:
    """An answer as a float64 tensor on the CPU: tensors of any device, arrays, lists of them, fractions.

    Raises NotAttempted for None and `...`, NoNumber for what holds no numbers.
    """
    if value is None or value is ...:
        raise NotAttempted
    if isinstance(value, int) and abs(value) > 1e300:
        value = math.inf  # Python's whole numbers have no end
    if isinstance(value, Real | Decimal):  # fractions and truth values among them
        value = float(value)
    if isinstance(value, list | tuple):
        if not value:
            raise NoNumber("Your function returned an empty list.")
        value = torch.stack([as_numbers(part) for part in value])
    if isinstance(value, np.ndarray):
        value = value.copy()  # torch takes no view that runs backwards
    try:
        return torch.as_tensor(value).detach().cpu().double()
    except (TypeError, ValueError, RuntimeError):
        kind = type(value).__name__
        raise NoNumber(f"Your function returned a {kind}: numbers are wanted.") from None


def agree(exercise: Exercise, given: list, wanted: list) -> bool:
    equal = exercise.equal or (lambda a, b: close(a, b, exercise.tolerance))
    return all(equal(a, b) for a, b in zip(given, wanted, strict=True))


def close(value: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1e-4) -> bool:
    """Whether two answers are the same; a number may be a tensor of one element."""
    value = value.reshape(()) if wanted.ndim == 0 and value.numel() == 1 else value
    same = {"rtol": tolerance, "atol": tolerance, "equal_nan": True}
    return value.shape == wanted.shape and torch.allclose(value, wanted, **same)


def within(seconds: float, work: Callable):
    """work(), stopped when its time is over, which raises Stopped.

    By the stop button's signal, which also wakes a sleeper; where a process ignores that signal, as one
    that a shell started in the background does, by an exception sent to the thread.
    """
    late, here = threading.Event(), ctypes.c_ulong(threading.get_ident())
    signalled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signalled &= threading.current_thread() is threading.main_thread()
    send = lambda kind: ctypes.pythonapi.PyThreadState_SetAsyncExc(here, kind)

    def stop():
        late.set()
        _thread.interrupt_main() if signalled else send(ctypes.py_object(Stopped))

    clock = threading.Timer(seconds, stop)
    clock.daemon = True
    clock.start()
    try:
        return work()
    except KeyboardInterrupt:
        if late.is_set():
            raise Stopped from None
        raise
    finally:
        clock.cancel()
        if late.is_set() and not signalled:
            send(None)  # where it has not arrived yet


def names_in(attempt: Callable) -> Iterator[str]:
    """The names of globals, attributes and methods that a function's code uses, inner functions too."""
    codes = [getattr(attempt, "__code__", None)]
    while codes:
        if isinstance(code := codes.pop(), CodeType):
            yield from code.co_names
            codes += code.co_consts


def borrowed(attempt: Callable) -> bool:
    """Whether a function is, or calls by its name, something of `companion.exercises`."""
    names, known = set(names_in(attempt)), getattr(attempt, "__globals__", {})
    called = [attempt, *(known[name] for name in names if name in known)]
    homes = [str(getattr(thing, "__module__", "")) for thing in called]
    return any(home.startswith("companion.exercises.s31") for home in homes) or any(
        name == "exercises" or name.startswith("companion.exercises") for name in names
    )
