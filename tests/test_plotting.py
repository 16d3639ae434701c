import math
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from companion.metrics import plane_of
from companion.show import maps, panels, plotting, skeleton, skeletons
from companion.training import History


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


def test_a_grid_of_codes_has_axis_one_rightwards_and_axis_two_upwards():
    across, up = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.2, 0.8])
    grid = plane_of(across, up).view(2, 3, 2)  # as its picture has them, row by row
    assert torch.equal(grid[..., 0], across.expand(2, 3))
    assert torch.equal(grid[..., 1], torch.tensor([[0.8] * 3, [0.2] * 3]))


def test_traversals_move_one_axis_from_minus_to_plus_three_sigma(figures):
    codes = 0.5 + 0.1 * torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    plotting.traversals(lambda z: levels(z) * torch.tensor([1.0, 0.5]), codes, count=2, steps=3)
    upper, lower = figures[0].axes[:2]
    assert upper.get_ylabel().startswith("axis 1 (7") and lower.get_ylabel().startswith("axis 2 (2")
    (mean, spread), row = (codes.mean(0)[0], codes.std(0)[0]), pixels_of(upper)[0, ::3]
    assert row == pytest.approx(255 * np.array([mean - 3 * spread, mean, mean + 3 * spread]), abs=1)
    assert len(set(pixels_of(upper)[0, 1::3])) == 1  # the other axis stays


def test_texts_stand_under_their_pictures(figures):
    plotting.strip({"row": torch.rand(3, 1, 8, 8)}, under={"row": ["", "1 dB", "2 dB"]})
    axis = figures[0].axes[0]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["", "1 dB", "2 dB"]


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


def test_a_history_shows_each_step_and_each_term_in_its_own_panel(figures):
    past = History({"loss": [3.0, 1.0], "kl": [0.1, 0.2]}, 1.0, "here", False)
    past.steps = {"loss": [4.0, 2.0, 1.0, 1.0], "kl": [0.1, 0.1, 0.2, 0.2]}
    plotting.history(past, "nats an image", "it falls")
    left, right = figures[0].axes
    assert (left.get_title(), right.get_title()) == ("loss", "kl")
    steps, epochs = left.lines
    assert steps.get_ydata().tolist() == [4, 2, 1, 1] and steps.get_xdata().tolist() == [1, 2, 3, 4]
    assert epochs.get_ydata().tolist() == [3, 1] and epochs.get_xdata().tolist() == [1.5, 3.5]
    plotting.history(History({"loss": [3.0, 1.0]}, 1.0, "here", False))  # from a file: epochs only
    assert figures[1].axes[0].lines[1].get_xdata().tolist() == [1, 2]


def test_lines_of_several_seeds_are_their_mean_with_their_range(figures):
    plotting.curves((1, 2), {"a": [[1.0, 2.0], [3.0, 6.0]], "b": [0.0, 1.0]}, "x", "y")
    axis = figures[0].axes[0]
    assert axis.lines[0].get_ydata().tolist() == [2, 4]
    heights = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (1, 6)
    assert [text.get_text() for text in axis.texts] == ["a", "b"]


def test_weights_are_blue_below_zero_red_above_and_white_between(figures):
    row = torch.tensor([[-2.0, 0.0, 1.0]]).view(1, 1, 1, 3)
    plotting.strip({"w": torch.cat([row, 10 * row])}, signed=True)
    image = figures[0].axes[0].images[0]
    assert image.get_cmap().name == "RdBu_r"
    levels = np.asarray(image.get_array())[0]
    assert levels[[0, 1, 2]].tolist() == pytest.approx([0, 127.5, 191], abs=1)
    assert levels[3] == pytest.approx(127.5, abs=1)  # the gap is no weight
    assert levels[4:7].tolist() == levels[:3].tolist()  # each on a scale of its own


def test_a_map_encloses_its_middle_and_decodes_what_lies_there(figures):
    codes = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    labels, spread = torch.arange(2000) % 10, 0.1 * torch.ones(2000, 2)
    asked = []

    def decode(z):
        asked.append(z)
        return z.new_zeros(len(z), 1, 2, 2)

    maps.latent_map(codes, labels, decode, "title", prior=True, spread=spread, kept=0.5, side=4)
    whole, middle, plane = figures[0].axes
    low, high = codes.quantile(0.25, 0), codes.quantile(0.75, 0)
    assert middle.get_xlim() == pytest.approx((low[0].item(), high[0].item()))
    ends = [low[0].item(), high[0].item(), low[1].item(), high[1].item()]
    assert list(plane.images[0].get_extent()) == pytest.approx(ends)
    assert asked[0][0].tolist() == pytest.approx([low[0].item(), high[1].item()])  # top left
    kinds = [type(patch).__name__ for patch in whole.patches]
    assert kinds == ["Rectangle", "Circle", "Circle"]
    ellipses = [patch for patch in middle.patches if type(patch).__name__ == "Ellipse"]
    assert len(ellipses) == 80 and ellipses[0].width == pytest.approx(0.2)


def test_strays_of_a_class_get_no_name_on_a_map(figures):
    codes, labels = (
        torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)),
        torch.zeros(1000),
    )
    labels[:5], labels[500:] = 1, 2
    maps.latent_map(codes, labels.long(), lambda z: z.new_zeros(len(z), 1, 2, 2))
    assert sorted(text.get_text() for text in figures[0].axes[0].texts) == ["0", "2"]


def test_a_film_becomes_a_map_and_a_plane_for_each_moment(figures):
    codes = torch.randn(3, 50, 2, generator=torch.Generator().manual_seed(0))
    planes = torch.linspace(0, 1, 3).view(3, 1, 1, 1, 1).expand(3, 9, 1, 4, 4)
    pictures = maps.film((0, 5, 10), codes, planes, torch.arange(50) % 10)
    assert list(pictures) == [0, 5, 10]
    for (dots, plane), grey in zip(pictures.values(), (0, 128, 255), strict=True):
        assert dots.shape == plane.shape == (12, 12, 3) and (plane == grey).all()
        assert (dots != 255).any()
    maps.moments(pictures, (0, 10), "it forms")
    assert [axis.get_title() for axis in figures[0].axes[:2]] == ["step 0", "step 10"]
    panel = panels.latent_film(pictures)
    assert panel.values == {"step": 10}  # it opens at the end
    panel.set(step=0)
    assert panel.picture.shape == (12, 32, 3) and (panel.picture[:, 20:] == 0).all()


def test_a_posterior_is_shaded_under_the_gaussians_that_stand_for_it(figures):
    def log_joint(z):
        return -((z - torch.tensor([1.0, 0.0])) ** 2).sum(1) / (2 * 0.25)

    ellipses = {
        "a": torch.tensor([[0.0, 0.0], [0.0, 0.0]]),
        "b": torch.tensor([[1.0, 0.0], [-1.4, -1.4]]),
    }
    maps.posterior(log_joint, ellipses, torch.zeros(1, 4, 4), "title")
    axis = figures[0].axes[0]
    shade = np.asarray(axis.images[0].get_array())
    left, right, low, high = axis.images[0].get_extent()
    row, column = np.unravel_index(shade.argmax(), shade.shape)
    assert left + (column + 0.5) * (right - left) / 80 == pytest.approx(1.0, abs=0.1)
    assert high - (row + 0.5) * (high - low) / 80 == pytest.approx(0.0, abs=0.1)
    assert [patch.width for patch in axis.patches] == pytest.approx([4.0, 4 * math.exp(-0.7)])


def test_columns_start_at_one(figures):
    plotting.columns([3.0, 1.0], "axis", "nats", "title")
    bars = figures[0].axes[0].patches
    assert [bar.get_height() for bar in bars] == [3, 1]
    assert [bar.get_x() + bar.get_width() / 2 for bar in bars] == pytest.approx([1, 2])
