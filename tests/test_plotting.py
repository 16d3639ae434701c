import matplotlib.pyplot as plt
import numpy as np
import pytest

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
