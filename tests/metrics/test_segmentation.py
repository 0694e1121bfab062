import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from jaxcv import metrics
from jaxcv.data import segmentation_data
from jaxcv.errors import UserError
from jaxcv.metrics.segmentation import rand_score
from jaxcv.types import Masks, Picture, Table


def masks(label):
    return Masks(np.asarray(label, np.uint8), np.ones(np.shape(label), np.float32))


def value(pick, *pairs):
    metric = metrics.segmentation(pick)
    batches = [metric.measure(masks([p]), {"mask": np.asarray([t], np.uint8)}) for t, p in pairs]
    return metric.reduce(batches)[pick]


TARGET, PREDICTION = [[0, 0, 1, 255], [2, 2, 1, 1]], [[0, 1, 1, 0], [2, 2, 2, 1]]


def test_numbers_by_hand():
    """Class 0: 1 of 2; class 1: 2 of 4 in the union; class 2: 2 of 3; the void pixel counts nowhere."""
    assert value("mIoU", (TARGET, PREDICTION)) == pytest.approx((1 / 2 + 2 / 4 + 2 / 3) / 3)
    assert value("pixel_accuracy", (TARGET, PREDICTION)) == pytest.approx(5 / 7)
    assert value("mean_accuracy", (TARGET, PREDICTION)) == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)
    assert value("dice", (TARGET, PREDICTION)) == pytest.approx((2 / 3 + 4 / 6 + 4 / 5) / 3)


def test_void_pixels_change_no_metric():
    other = [[0, 1, 1, 2], [2, 2, 2, 1]]
    for name in ("mIoU", "pixel_accuracy", "mean_accuracy", "dice"):
        assert value(name, (TARGET, PREDICTION)) == value(name, (TARGET, other))
        assert np.isnan(value(name, ([[255, 255]], [[0, 1]]))) and np.isnan(value(name))


def test_a_class_that_nobody_shows_has_no_iou_but_a_false_one_has():
    assert value("mIoU", ([[0, 3]], [[0, 3]])) == 1
    assert value("mIoU", ([[0, 3]], [[0, 1]])) == pytest.approx(1 / 3)
    assert value("mean_accuracy", ([[0, 3]], [[0, 1]])) == pytest.approx(1 / 2)


def test_the_set_is_one_big_picture_as_scikit_learn_counts_it():
    random = np.random.default_rng(0)
    target, prediction = random.integers(0, 5, (2, 3, 6, 7))
    expected = jaccard_score(target.ravel(), prediction.ravel(), average="macro")
    assert value("mIoU", *zip(target, prediction, strict=True)) == pytest.approx(expected)


def test_an_unknown_metric_is_refused():
    with pytest.raises(UserError, match="no metric of pixels named 'iou'"):
        metrics.segmentation("iou")


def test_the_report_has_a_row_a_class_and_the_confusion():
    metric = metrics.segmentation()
    batches = [metric.measure(masks([PREDICTION]), {"mask": np.asarray([TARGET], np.uint8)})]
    assert metric.report is not None
    table, picture = metric.report(batches, segmentation_data("digits")[1].batches(1))
    assert isinstance(table, Table) and isinstance(picture, Picture)
    assert table.rows[0][:3] == ("background", 2, 0.5) and table.rows[10] == ("9", 0, None, None, None, None)
    assert picture.name == "confusion"


CELLS = np.array([[1, 1, 0, 1, 1]] * 4)


def test_regions_that_are_right_have_rand_one_and_merged_ones_less():
    assert rand_score(CELLS, CELLS) == 1
    # Two cells of 8 pixels as one: sum p_ij^2 = 2 (1/2)^2, prediction 1, target 1/2.
    assert rand_score(CELLS, np.ones_like(CELLS)) == pytest.approx(2 * 0.5 / (1 + 0.5))
    split = CELLS.copy()
    split[:, 3] = 0  # half of the second cell is taken for border: fractions 1/2, 1/4, 1/4 of 1/2, 1/2
    assert rand_score(CELLS, split) == pytest.approx(2 * 0.375 / (0.375 + 0.5))
    assert rand_score(np.zeros_like(CELLS), CELLS) is None


def test_rand_is_the_mean_over_images_with_foreground():
    metric = metrics.rand()
    batch = {"mask": np.stack([CELLS, CELLS, 0 * CELLS]).astype(np.uint8)}
    measured = metric.measure(masks([CELLS, np.ones_like(CELLS), CELLS]), batch)
    assert metric.reduce([measured])["rand"] == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(metric.reduce([[]])["rand"])
