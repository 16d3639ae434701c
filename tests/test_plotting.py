import numpy as np

from companion.show import plotting


def test_names_that_would_hide_each_other_move_apart_and_others_stay():
    places = np.array([[0.0, 0.0], [0.01, 0.0], [3.0, 3.0]])
    room = np.array([0.5, 0.2])
    moved = plotting.apart(places, room)
    distance = np.linalg.norm((moved[0] - moved[1]) / room)
    assert distance > 0.99 and np.array_equal(moved[2], places[2])
    assert np.allclose(moved[:2].mean(0), places[:2].mean(0))
