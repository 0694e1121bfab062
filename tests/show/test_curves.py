"""Curves of a run and of a detector."""

import numpy as np
import pytest

from jaxcv.show import draw_f1, draw_learning_curves, draw_precision_recall
from jaxcv.show.learning_curves import _scale
from jaxcv.show.precision_recall import _highest

STEPS = [0, 50, 100]


def test_panels_beside_each_other():
    picture = draw_learning_curves(
        {"loss": {"train": (STEPS, [10.0, 1.0, 0.1])}, "test": {"AP": (STEPS, [0.1, 0.5, 0.6])}}
    )
    assert picture is not None and picture.size == (920, 360)
    pixels = np.asarray(picture)
    assert (pixels == (67, 99, 216)).all(-1)[:, :460].any() and (pixels == (67, 99, 216)).all(-1)[:, 460:].any()
    again = draw_learning_curves(
        {"loss": {"train": (STEPS, [10.0, 1.0, 0.1])}, "test": {"AP": (STEPS, [0.1, 0.5, 0.6])}}
    )
    assert again is not None and again.tobytes() == picture.tobytes()


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0], [-3.0, 4.0], [1e-30, 1e30], [float("inf"), 1.0]])
def test_any_values(values):
    assert draw_learning_curves({"a": {"b": (list(range(len(values))), values)}}) is not None


def test_nothing_to_draw():
    assert draw_learning_curves({"a": {"b": ([], []), "c": ([1], [float("nan")])}}) is None


def test_ends_and_ticks_by_hand():
    assert _scale(np.array([0.02, 0.58]), False) == (0.0, pytest.approx(0.6), pytest.approx([0, 0.2, 0.4, 0.6]))
    assert _scale(np.array([0.03, 40.0]), True) == (-2, 2, pytest.approx([0.01, 0.1, 1, 10, 100]))


def test_the_highest_precision_from_a_recall_on():
    recall, precision = np.array([0.25, 0.25, 0.5]), np.array([1.0, 0.5, 2 / 3])
    assert _highest(recall, precision, np.array([0, 0.25, 0.3, 0.5, 0.6])).tolist() == pytest.approx(
        [1, 1, 2 / 3, 2 / 3, 0]
    )


def test_the_mean_curve_and_f1_are_of_classes_with_targets():
    none = (np.zeros(0), np.zeros(0), np.zeros(0), 0)
    curve = (np.array([0.5, 1.0]), np.array([0.5, 0.5]), np.array([0.9, 0.4]), 2)
    assert draw_f1(["a"], [none], threshold=0.5) is None
    assert draw_f1(["a", "b"], [curve, none], threshold=0.4) is not None
    one, two = (draw_precision_recall(list("ab")[:n], [curve] * n, [1.0] * n, threshold=0.4) for n in (1, 2))
    assert one is not None and two is not None
    black = [(np.asarray(picture)[100:500, 100:700] == 0).all(-1).sum() for picture in (one, two)]
    assert black[1] > black[0] + 500, "the mean"
