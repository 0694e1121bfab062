"""Which examples a preview shows."""

import numpy as np
import pytest

from jaxcv.train.worst import Worst


def fed(losses, classes, *, count, rows=3, **how):
    """The numbers of the examples that are left, of batches of so many rows."""
    worst = Worst(count, **how)
    for first in range(0, len(losses), rows):
        part = slice(first, first + rows)
        image = np.arange(len(losses))[part].reshape(-1, 1, 1, 1)
        worst.add({"image": image, "label": np.asarray(classes)[part]}, image * 10, np.asarray(losses, float)[part])
    found = worst.examples()
    if not found:
        return []
    ((batch, predictions),) = found
    assert np.array_equal(batch["image"] * 10, predictions)
    return batch["image"].ravel().tolist()


def test_the_worst_of_each_class_comes_first():
    losses = [1, 9, 8, 7, 2, 3, 0, 5]
    classes = [0, 0, 0, 0, 1, 1, 2, 2]
    assert fed(losses, classes, count=3) == [1, 7, 5], "one of each class"
    assert fed(losses, classes, count=2) == [1, 7], "the worst classes"
    assert fed(losses, classes, count=5) == [1, 2, 7, 5, 4], "room for two of each"
    assert fed(losses, [0] * 8, count=3) == [1, 2, 3]
    assert fed(losses, classes, count=8) == [1, 2, 3, 7, 5, 4, 6]


def test_the_same_whatever_the_batches():
    rng = np.random.default_rng(0)
    losses, classes = rng.random(40), rng.integers(0, 6, 40)
    expected = fed(losses, classes, count=8, rows=40)
    assert all(fed(losses, classes, count=8, rows=rows) == expected for rows in (1, 3, 7, 39))


def test_what_is_not_finite_is_the_worst_and_nothing_is_nothing():
    assert fed([1, np.nan, 3], [0, 0, 0], count=1) == [1]
    assert fed([], [], count=4) == [] and fed([1.0], [0], count=0) == []


def test_pages_of_an_animation_show_the_first_ones():
    assert fed([1, 9, 8, 7, 2], [0, 0, 1, 1, 2], count=4, by_loss=False) == [0, 1, 2, 3]


@pytest.mark.parametrize("valid", [[[True, True], [False, True]], [[False, False]] * 2])
def test_of_boxes_the_first_valid_one_has_the_class(valid):
    worst = Worst(2)
    batch = {"image": np.zeros((2, 1, 1, 1)), "classes": np.array([[3, 4], [3, 3]]), "valid": np.array(valid)}
    worst.add(batch, np.zeros(2), np.array([1.0, 2.0]))
    assert len(worst.examples()[0][0]["image"]) == 2
