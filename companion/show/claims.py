"""What the prose asserts is measured and asserted."""


class ClaimError(AssertionError):
    """A claim does not hold."""


def claim(text: str, value: float, *, below=None, above=None, unit: str = "", digits=2) -> None:
    """Print the measured value beside its bound; ClaimError where it does not keep it.

    digits: how many are printed; 0 for a value of the size of rounding errors, which no two
    machines share.
    """
    if (below is None) == (above is None):
        raise ValueError("claim: give one bound, below= or above=.")
    bound, word = (above, "above") if below is None else (below, "below")
    shown = f"{float(value):.{digits}g} {unit}".rstrip() if digits else ""
    line = f"{text}: {shown} ({word} {bound:g})".replace(":  (", " (")
    holds = value > bound if below is None else value < bound  # NaN keeps no bound
    if not holds:
        raise ClaimError(f"does not hold: {text}: {float(value):g} is not {word} {bound:g} {unit}")
    print(f"✓ {line}")


def paper_table(*rows: tuple[str, str, str, str]) -> None:
    """Print rows of (quantity, protocol, the paper's figure, ours) in aligned columns."""
    table = [("quantity", "protocol", "paper", "here"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    for number, row in enumerate(table):
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        print(" │ ".join(cells).rstrip())
        if number == 0:
            print("─┼─".join("─" * width for width in widths))
