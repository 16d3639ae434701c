import pytest

from companion.show import ClaimError, claim, paper_table


def test_a_claim_that_holds_prints_value_and_bound(capsys):
    claim("angle", 0.4213, below=1, unit="degrees")
    claim("share", 61.9, above=60, unit="%")
    claim("rounding", 3e-8, below=1e-5, digits=0)
    assert capsys.readouterr().out.splitlines() == [
        "✓ angle: 0.42 degrees (below 1)",
        "✓ share: 62 % (above 60)",
        "✓ rounding (below 1e-05)",
    ]


@pytest.mark.parametrize(
    "value, bound", [(1.0, {"below": 1}), (59, {"above": 60}), (float("nan"), {"below": 1})]
)
def test_a_claim_that_fails_stops_the_notebook(value, bound):
    with pytest.raises(ClaimError, match="does not hold: x"):
        claim("x", value, **bound)


def test_a_claim_needs_one_bound():
    with pytest.raises(ValueError, match="one bound"):
        claim("x", 1.0)


def test_the_paper_table_is_aligned(capsys):
    paper_table(("PSNR", "test", "26.2", "18"), ("a longer name", "t", "—", "1"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and len({line.index("│") for line in (lines[0], *lines[2:])}) == 1
