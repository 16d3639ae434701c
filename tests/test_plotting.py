from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from companion.show import plotting, skeleton, skeletons


def test_names_that_would_hide_each_other_move_apart_and_others_stay():
    places = np.array([[0.0, 0.0], [0.01, 0.0], [3.0, 3.0]])
    room = np.array([0.5, 0.2])
    moved = plotting.apart(places, room)
    distance = np.linalg.norm((moved[0] - moved[1]) / room)
    assert distance > 0.99 and np.array_equal(moved[2], places[2])
    assert np.allclose(moved[:2].mean(0), places[:2].mean(0))


@pytest.mark.parametrize("section", skeletons.CONSTRAINTS)
def test_each_section_marks_its_constraint_on_the_same_skeleton(section, monkeypatch):
    drawn = []
    monkeypatch.setattr(plt, "show", lambda: drawn.append(plt.gcf()))
    skeleton(section)
    (axis,) = drawn[0].axes
    words = [text.get_text() for text in axis.texts]
    assert {"encoder", "decoder", "image $x$", "reconstruction"} <= set(words)
    marked = [text for text in axis.texts if text.get_color() == skeletons.MARK]
    assert marked and axis.get_title().startswith(section)
    plt.close("all")


def test_a_section_that_the_chapter_does_not_have_is_named():
    with pytest.raises(ValueError, match=r"section 31.9: choose one of 31.1, 31.2"):
        skeletons.draw(None, "31.9")


def test_all_six_are_saved_for_the_readme(tmp_path):
    skeletons.save_all(tmp_path / "six.png")
    assert (tmp_path / "six.png").stat().st_size > 10_000


@pytest.fixture
def figures(monkeypatch):
    """The figures that a call has shown."""
    drawn = []
    monkeypatch.setattr(plt, "show", lambda: drawn.append(plt.gcf()))
    yield drawn
    plt.close("all")


def levels(z):
    """A decoder whose picture is the code in grey levels: (B, 2) -> (B, 1, 1, 2)."""
    return z.view(-1, 1, 1, 2)


def pixels_of(axis):
    return np.asarray(axis.images[0].get_array())


def test_a_grid_of_codes_has_axis_one_rightwards_and_axis_two_upwards(figures):
    across, up = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.2, 0.8])
    plotting.decoded_grid(levels, across, up)
    picture = pixels_of(figures[0].axes[0])
    first = picture[::2, ::3]  # each code's first value, row by row
    assert np.array_equal(first, np.round(255 * np.array([[0, 0.5, 1]] * 2)))
    second = picture[::2, 1::3]
    assert np.array_equal(second[:, 0], np.round(255 * np.array([0.8, 0.2])))
    assert [t.get_text() for t in figures[0].axes[0].get_yticklabels()] == ["0.8", "0.2"]


def test_traversals_move_one_axis_from_minus_to_plus_three_sigma(figures):
    codes = 0.5 + 0.1 * torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    plotting.traversals(lambda z: levels(z) * torch.tensor([1.0, 0.5]), codes, count=2, steps=3)
    upper, lower = figures[0].axes[:2]
    assert upper.get_ylabel().startswith("axis 1 (7") and lower.get_ylabel().startswith("axis 2 (2")
    (mean, spread), row = (codes.mean(0)[0], codes.std(0)[0]), pixels_of(upper)[0, ::3]
    assert row == pytest.approx(255 * np.array([mean - 3 * spread, mean, mean + 3 * spread]), abs=1)
    assert len(set(pixels_of(upper)[0, 1::3])) == 1  # the other axis stays


def test_an_interpolation_has_its_measure_under_each_picture(figures):
    a, b = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.5])
    plotting.interpolation(
        {"path": (levels, a, b)}, lambda x: (100 * x[:, 0, 0, 0]).tolist(), steps=5
    )
    axis = figures[0].axes[0]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["0", "25", "50", "75", "100"]
    assert pixels_of(axis)[0, ::3] == pytest.approx(np.linspace(0, 255, 5), abs=1)


@pytest.mark.parametrize("count", [3, 12, 30])
def test_no_figure_is_wider_than_the_page(figures, count):
    plotting.strip({"a long name of a row": torch.rand(count, 1, 28, 28)}, columns=range(count))
    assert figures[0].get_size_inches()[0] <= plotting.WIDE + 0.01


@pytest.mark.parametrize("count", [7, 14, 40])
def test_labels_below_a_curve_do_not_touch(figures, count):
    x = [f"{k / 7:.2f}" for k in range(count)]
    plotting.curves(x, {"a": list(range(count))}, "noise", "error")
    figures[0].canvas.draw()
    labels = [label for label in figures[0].axes[0].get_xticklabels() if label.get_text()]
    boxes = [label.get_window_extent() for label in labels]
    assert len(labels) >= 7
    assert all(a.x1 + 2 < b.x0 for a, b in pairwise(boxes))


def test_small_multiples_name_each_bar_once_and_its_value(monkeypatch):
    drawn = []
    monkeypatch.setattr(plt, "show", lambda: drawn.append(plt.gcf()))
    plotting.bars({"KL, nats": {"a": 2.04, "b": 0.5}, "error": {"b": 3, "a": 1}}, "found")
    first, second = drawn[0].axes
    assert [text.get_text() for text in first.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in first.texts] == ["2.0", "0.5"]
    assert [text.get_text() for text in second.texts] == ["1.0", "3.0"]  # by name, not by order
    assert first.get_xlabel() == "KL, nats" and first.yaxis_inverted()
    plt.close("all")


def test_each_known_factor_has_a_row_in_which_it_alone_moves(monkeypatch):
    rows = {}
    monkeypatch.setattr(plotting, "strip", lambda found, **_: rows.update(found))
    plotting.known_factors(lambda values: values, {"shape": 3, "x": 32}, steps=4)
    assert rows["shape"].tolist() == [[0, 16], [0, 16], [1, 16], [2, 16]]
    assert rows["x"].tolist() == [[1, 0], [1, 10], [1, 20], [1, 31]]


def test_a_frontier_draws_every_line(monkeypatch):
    drawn = []
    monkeypatch.setattr(plt, "show", lambda: drawn.append(len(plt.gca().lines)))
    plotting.frontier({str(k): ([1, 2], [k, k + 1]) for k in range(7)}, "bits", "error")
    assert drawn == [7]
