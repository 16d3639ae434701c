"""What the prose asserts is measured and asserted."""


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
    bound, word = (above, "above") if below is None else (below, "below")
    value = value.item() if hasattr(value, "item") else float(value)  # of a tensor or a number
    holds = value > bound if below is None else value < bound  # NaN keeps no bound
    shown = f"{value:.{digits}g} {unit}".rstrip() if digits else ""
    line = f"{text}: {shown} ({word} {bound:g})".replace(":  (", " (")
    if not holds:
        line = f"{text}: {value:g} is not {word} {bound:g} {unit}".rstrip()
        if when:
            raise ClaimError(f"does not hold: {line}")
    print(f"✓ {line}" if holds else f"not claimed here: {line}")


def claims(
    found: dict, *, below=None, above=None, unit: str = "", digits=2, when: bool = True
) -> None:
    """Many at once with one bound, a line each: {text: value}. All are printed before ClaimError names
    those that do not hold.
    """
    failed = []
    for text, value in found.items():
        try:
            claim(text, value, below=below, above=above, unit=unit, digits=digits, when=when)
        except ClaimError as error:
            failed.append(str(error).removeprefix("does not hold: "))
    if failed:
        raise ClaimError("does not hold: " + "; ".join(failed))
