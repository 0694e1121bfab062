import numpy as np
import pytest

from jaxcv.data import from_records
from jaxcv.data.sources.border_weights import border_weights
from jaxcv.errors import UserError


def test_numbers_by_hand():
    """Cells in columns 0 and 3, background between them, one void pixel: two of either class, each of weight 1."""
    mask = np.array([[1, 0, 0, 1, 255]], np.uint8)
    # At both pixels of the background d1 = 1 and d2 = 2.
    between = 1 + 10 * np.exp(-9 / 50)
    np.testing.assert_allclose(border_weights(mask), [[1, between, between, 1, 0]], rtol=1e-6)
    narrow = border_weights(mask, factor=4.0, sigma=1.5, foreground=0)  # one cell: no border
    np.testing.assert_array_equal(narrow, [[1, 1, 1, 1, 0]])


def test_second_nearest_in_any_order_and_balance():
    mask = np.zeros((1, 12), np.uint8)
    mask[0, [0, 5, 11]] = 1
    weights = border_weights(mask, factor=1.0, sigma=2.0)[0]
    classes = np.where(mask[0], 12 / (2 * 3), 12 / (2 * 9))
    sums = [0, 5, 5, 5, 5, 0, 6, 6, 6, 6, 6, 0]  # d1 + d2: the distance between the neighbours
    expected = classes + np.where(mask[0], 0, np.exp(-np.square(sums) / 8))
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert weights @ np.ones(12) - np.exp(-np.square(sums) / 8) @ (1 - mask[0]) == pytest.approx(12, rel=1e-5)


@pytest.mark.parametrize("fill", [0, 1, 255])
def test_masks_of_one_class(fill):
    weights = border_weights(np.full((3, 4), fill, np.uint8))
    assert (weights == (0 if fill == 255 else 1)).all()


def test_they_are_beside_the_masks_of_a_split():
    masks = (np.random.default_rng(0).uniform(size=(3, 8, 8)) < 0.3).astype(np.uint8)
    records = [{"image": np.zeros((8, 8, 3), np.uint8), "mask": mask} for mask in masks]
    split = from_records(records, records, image_size=8, class_names=("none", "cell"), convert=dict)[0]
    weighted = split.with_border_weights(5.0)
    with pytest.raises(UserError, match="factor -1 and sigma 5: expected both above 0"):
        split.with_border_weights(-1.0)
    three = from_records(records, records, image_size=8, class_names=("none", "cell", "dirt"), convert=dict)[0]
    with pytest.raises(UserError, match="expected two classes, background and cells, found 3"):
        three.with_border_weights(5.0)
    assert split.with_border_weights(5.0) is weighted and weighted.batches(3).spec["pixel_weights"].shape == (3, 8, 8)
    expected = np.stack([border_weights(mask, factor=5.0) for mask in masks])
    np.testing.assert_array_equal(weighted.batches(3).batch(0)["pixel_weights"], expected)
    np.testing.assert_array_equal(weighted.batches(3).resident()["pixel_weights"], expected)
