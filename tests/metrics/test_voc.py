from typing import Literal

import numpy as np
import pytest
from detection_boxes import boxes_of

from jaxcv.metrics import voc_average_precision
from jaxcv.metrics.detection import ImageBoxes
from jaxcv.metrics.detection_report import detection_report
from jaxcv.metrics.voc import iou_matrix, precision_recall
from jaxcv.types import UserError

A, B, FAR = [0, 0, 10, 10], [20, 20, 40, 40], [70, 70, 90, 90]


def value(images, pick="AP50", *, points: Literal["all", "11"] = "all"):
    metric = voc_average_precision(pick, points=points)
    return metric.reduce([images])[pick]


# 24 detections on 15 truths, in the order of their scores; the example is the one that explanations of the metric work
# through: https://github.com/rafaelpadilla/Object-Detection-Metrics, "An illustrated example".
SCORES = [95, 95, 91, 88, 84, 80, 78, 74, 71, 70, 67, 62, 54, 48, 45, 45, 44, 44, 43, 38, 35, 23, 18, 14]
RIGHT = [1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]


def worked_example():
    """One truth an image, and a detection on it or beside it; eight images more whose truth nobody finds."""
    images = []
    for score, right in zip(SCORES, RIGHT, strict=True):
        images.append(boxes_of([(A, 0)] * right, [(A if right else FAR, 0, score / 100)]))
    return images + [boxes_of([(A, 0)], [])] * (15 - sum(RIGHT))


def test_worked_example():
    area = (1 + 2 / 3 + 4 * 3 / 7 + 7 / 23) / 15  # published as 24.56 %
    assert value(worked_example()) == pytest.approx(area, abs=1e-9) and int(1e4 * area) == 2456
    mean = (1 + 2 / 3 + 3 * 3 / 7) / 11  # published as 26.84 %
    assert value(worked_example(), points="11") == pytest.approx(mean, abs=1e-9) and round(mean, 4) == 0.2684
    curve = precision_recall(worked_example(), 0)
    np.testing.assert_allclose(curve.precision[[0, 1, 2, 9, 13, 22]], [1, 0.5, 2 / 3, 0.3, 3 / 7, 7 / 23])
    np.testing.assert_allclose(curve.recall[-1], 7 / 15)


def test_rules():
    # An IoU of exactly one half is right; a second detection of a truth is a false alarm, even if another is near.
    assert value([boxes_of([(A, 0)], [([0, 0, 10, 5], 0, 0.9)])]) == 1.0
    near = [0, 0, 10, 9]
    twice = boxes_of([(A, 0), ([0, 0, 10, 6], 0)], [(near, 0, 0.9), (near, 0, 0.8), (FAR, 0, 0.7)])
    assert value([twice]) == pytest.approx(0.5)
    # A box to be ignored counts neither way, and as no truth.
    assert value([boxes_of([(A, 0), (B, 0, "ignored")], [(B, 0, 0.9), (B, 0, 0.8), (A, 0, 0.7)])]) == 1.0
    assert value([boxes_of([(A, 0), (B, 1)], [(A, 0, 0.9)])]) == pytest.approx(0.5)
    assert value([boxes_of([(A, 0), (B, 1)], [(A, 0, 0.9)])], "AP50/1") == 0.0
    assert np.isnan(value([boxes_of([], [(A, 0, 0.9)])])) and np.isnan(value([]))
    assert value([boxes_of([(A, 0)], [])]) == 0.0
    for wrong in ("AP", "AP50/x"):
        with pytest.raises(UserError, match="AP50 or AP50/<class index>"):
            voc_average_precision(wrong)


def test_the_area_is_that_of_the_definition():
    """Against a sum over every recall reached, of random curves."""
    random = np.random.default_rng(0)
    for _ in range(20):
        right = random.random(30) < 0.5
        images = [
            boxes_of([(A, 0)] * int(r), [(A if r else FAR, 0, score)])
            for r, score in zip(right, random.permutation(30) / 30, strict=True)
        ] + [boxes_of([(A, 0)], [])] * 3
        curve = precision_recall(images, 0)
        area = sum(curve.precision[curve.recall >= r].max() for r in np.unique(curve.recall[curve.recall > 0]))
        assert value(images) == pytest.approx(area / curve.truths)


def test_iou():
    found = iou_matrix(np.asarray([A, [5, 5, 5, 5]]), np.asarray([[0, 0, 5, 10], [5, 5, 5, 5], FAR]))
    np.testing.assert_allclose(found, [[0.5, 0, 0], [0, 0, 0]])


NAMES = ("cat", "dog", "cow")


def case():
    """Right, wrong class, missed, false alarm, doubtful: see the assertions."""
    return [
        boxes_of([(A, 0), (B, 1)], [(A, 0, 0.9), (B, 0, 0.8), (FAR, 1, 0.1)]),
        boxes_of([(A, 1), (FAR, 1, "ignored")], [(A, 1, 0.95), (FAR, 1, 0.9)]),
        boxes_of([(A, 0), (B, 0)], [(FAR, 1, 0.85)]),
        boxes_of([], []),
    ]


def test_report_by_hand():
    report = detection_report([case()[:2], case()[2:]], NAMES)
    # Sorted scores: 0.95 right, 0.9 right, 0.85 wrong, 0.8 wrong, 0.1 wrong, of five truths: best F1 at two of two.
    assert report.threshold == pytest.approx(0.9)
    cat, dog, cow = report.rows
    assert (cat.name, cat.truths, cat.detections, cat.precision, cat.recall) == ("cat", 3, 1, 1.0, pytest.approx(1 / 3))
    assert (dog.truths, dog.detections, dog.recall) == (2, 1, 0.5)
    assert cow == ("cow", 0, 0, None, None, None)
    assert cat.average_precision == pytest.approx(1 / 3)
    # Missed at that threshold: a dog in the first image, two cats in the third.
    pairs = sorted(zip(report.truth.tolist(), report.found.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 3), (0, 3), (1, 1), (1, 3)]
    assert [(w.index, w.missed, w.false) for w in report.worst] == [(2, 2, 0), (0, 1, 0)]


def test_confusions_of_all_kinds():
    images = [boxes_of([(A, 0), (B, 1)], [(A, 0, 0.9), (B, 0, 0.9), (FAR, 2, 0.9)])] * 3
    report = detection_report([images], NAMES)
    pairs = sorted(set(zip(report.truth.tolist(), report.found.tolist(), strict=True)))
    assert pairs == [(0, 0), (1, 0), (3, 2)] and len(report.truth) == 9
    assert [w.missed + w.false for w in report.worst] == [2, 2, 2]


def test_report_of_nothing():
    for images in ([], [boxes_of([], [])], [boxes_of([(A, 0)], [])], [boxes_of([], [(A, 0, 0.5)])]):
        report = detection_report([images] if images else [], NAMES)
        assert report.threshold == 0.5 and len(report.rows) == 3
    assert isinstance(images[0], ImageBoxes)
