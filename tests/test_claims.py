import pytest
import torch

from companion.show import ClaimError, claim, claims, paper_table, table


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


def test_claims_are_printed_together_and_all_that_fail_are_named(capsys):
    claims({"gain": (2.34, "> 2 dB"), "ratio": (torch.tensor(0.5), "< 0.9")})
    claims({"three": 3, "four": 4}, "> 2.5")
    printed = ["✓ gain: 2.3 dB (above 2)", "✓ ratio: 0.5 (below 0.9)"]
    printed += ["✓ three: 3 (above 2.5)", "✓ four: 4 (above 2.5)"]
    assert capsys.readouterr().out.splitlines() == printed
    found = {"a": (1.0, "< 1"), "b": (0.0, "< 1 %"), "c": (float("nan"), "> 0 nats")}
    with pytest.raises(ClaimError, match=r"a: 1 is not below 1; c: nan is not above 0 nats"):
        claims(found)
    assert capsys.readouterr().out == "✓ b: 0 % (below 1)\n"


@pytest.mark.parametrize("bound", ["0.9", "<= 3", "above 2", "<"])
def test_a_bound_that_cannot_be_read_is_shown(bound):
    with pytest.raises(ValueError, match=f'the bound "{bound}" is not like'):
        claims({"x": (1.0, bound)})


def test_a_table_prints_few_digits_and_keeps_words():
    rows = {1: {"error": 0.04651, "n": 3}, ("L1", 0.1): {"error": torch.tensor(2.0), "n": None}}
    shown = table(rows=rows, head="latent dimensions", digits={"error": 3})
    assert shown.columns.name == "latent dimensions" and list(shown.index) == [1, "L1 0.1"]
    assert shown["error"].tolist() == ["0.047", "2.000"] and shown["n"].tolist() == ["3", "—"]
    by_column = table({"x": {"a": 1.26}, "y": {"a": 2.0, "b": "none"}}, digits=1)
    assert by_column.loc["a"].tolist() == ["1.3", "2.0"]
    assert by_column.loc["b"].tolist() == ["—", "none"]
    assert "id=" not in shown.to_html()  # two runs give the same HTML


def test_the_paper_table_cuts_no_text_short():
    protocol = "MNIST binarised anew at every epoch from the grey level, K = 5000, " * 3
    shown = paper_table(("-log p", protocol, "86.76", "87.1"))
    assert protocol.strip() in repr(shown) and shown.loc["-log p", "here"] == "87.1"


def test_a_claim_that_is_not_made_here_says_so_and_stops_nothing(capsys):
    claim("error", 3.0, below=2, when=False)
    claim("error", 1.0, below=2, when=False)
    assert capsys.readouterr().out.splitlines() == [
        "not claimed here: error: 3 is not below 2",
        "✓ error: 1 (below 2)",
    ]
