"""What the prose asserts is measured and asserted."""

import operator
import re

SIGNS = {"<": (operator.lt, "below"), ">": (operator.gt, "above")}


class ClaimError(AssertionError):
    """A claim does not hold."""


def claim(
    text: str, value: float, *, below=None, above=None, unit: str = "", digits=2, when: bool = True
) -> None:
    """Print the measured value beside its bound; ClaimError where it does not keep it.

    digits: how many are printed; 0 for a value of the size of rounding errors, which no two
    machines share. when: False where the claim is not made, such as on stand-ins whose models were
    hardly trained; then the line says whether it would hold.
    """
    if (below is None) == (above is None):
        raise ValueError("claim: give one bound, below= or above=.")
    sign, bound = (">", above) if below is None else ("<", below)
    line, holds = judged(text, value, sign, bound, unit, digits)
    if when and not holds:
        raise ClaimError(f"does not hold: {line}")
    print(f"✓ {line}" if holds else f"not claimed here: {line}")


def claims(found: dict, bound: str = "", digits: int = 2) -> None:
    """Many at once, a line each: {text: (value, "< 0.9 dB")}, or {text: value} with one bound for all.

    All are printed before ClaimError names those that do not hold.
    """
    failed = []
    for text, value in found.items():
        value, wanted = value if isinstance(value, tuple) else (value, bound)
        parts = re.fullmatch(r"([<>]) *([-+.\de]+) *(.*)", wanted)
        if not parts:
            raise ValueError(f'claims: the bound "{wanted}" is not like "< 0.9" or "> 2 dB".')
        sign, number, unit = parts.groups()
        line, holds = judged(text, value, sign, float(number), unit, digits)
        if holds:
            print(f"✓ {line}")
        else:
            failed.append(line)
    if failed:
        raise ClaimError("does not hold: " + "; ".join(failed))


def judged(text, value, sign: str, bound: float, unit: str, digits: int) -> tuple[str, bool]:
    """The line of one claim, and whether it holds; NaN keeps no bound."""
    value = value.item() if hasattr(value, "item") else float(value)  # of a tensor or a number
    holds, word = SIGNS[sign]
    if not holds(value, bound):
        return f"{text}: {value:g} is not {word} {bound:g} {unit}".rstrip(), False
    shown = f"{value:.{digits}g} {unit}".rstrip() if digits else ""
    return f"{text}: {shown} ({word} {bound:g})".replace(":  (", " ("), True
