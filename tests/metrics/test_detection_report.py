"""What a detector does well and badly, and how that is shown."""

from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
from detection_boxes import boxes_of

from jaxcv.metrics.detection_outcomes import detection_outcomes
from jaxcv.metrics.detection_report import detection_report
from jaxcv.types import Batches, Picture, Table

A, B, FAR, FAR_OUT = [0, 0, 10, 10], [20, 20, 40, 40], [70, 70, 90, 90], [0, 200, 9, 209]
NAMES = ("cat", "dog", "cow")


def case():
    """Right, wrong class, missed, false alarm, doubtful: see the assertions."""
    return [
        boxes_of([(A, 0), (B, 1)], [(A, 0, 0.9), (B, 0, 0.8), (FAR, 1, 0.1)]),
        boxes_of([(A, 1), (FAR, 1, "ignored")], [(A, 1, 0.95), (FAR, 1, 0.9)]),
        boxes_of([(A, 0), (B, 0)], [(FAR, 1, 0.85)]),
        boxes_of([], []),
    ]


def test_outcomes_by_hand():
    outcomes = detection_outcomes([case()[:2], case()[2:]], NAMES)
    # Sorted scores: 0.95 right, 0.9 right, 0.85 wrong, 0.8 wrong, 0.1 wrong, of five truths: best F1 at two of two.
    assert outcomes.threshold == pytest.approx(0.9)
    cat, dog, cow = outcomes.rows
    assert (cat.name, cat.truths, cat.detections, cat.precision, cat.recall) == ("cat", 3, 1, 1.0, pytest.approx(1 / 3))
    assert (dog.truths, dog.detections, dog.recall) == (2, 1, 0.5)
    assert cow == ("cow", 0, 0, None, None, None)
    assert cat.average_precision == pytest.approx(1 / 3)
    # Missed at that threshold: a dog in the first image, two cats in the third.
    pairs = sorted(zip(outcomes.target.tolist(), outcomes.prediction.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 3), (0, 3), (1, 1), (1, 3)]
    assert [(w.index, w.missed, w.false) for w in outcomes.worst] == [(2, 2, 0), (0, 1, 0)]


def test_confusions_of_all_kinds():
    images = [boxes_of([(A, 0), (B, 1)], [(A, 0, 0.9), (B, 0, 0.9), (FAR, 2, 0.9)])] * 3
    outcomes = detection_outcomes([images], NAMES)
    pairs = sorted(set(zip(outcomes.target.tolist(), outcomes.prediction.tolist(), strict=True)))
    assert pairs == [(0, 0), (1, 0), (3, 2)] and len(outcomes.target) == 9
    assert [w.missed + w.false for w in outcomes.worst] == [2, 2, 2]


def test_outcomes_of_nothing():
    for images in ([], [boxes_of([], [])], [boxes_of([(A, 0)], [])], [boxes_of([], [(A, 0, 0.5)])]):
        outcomes = detection_outcomes([images] if images else [], NAMES)
        assert outcomes.threshold == 0.5 and len(outcomes.rows) == 3


def data(names=NAMES):
    """Four images in batches of two, each lighter than the one before."""
    data = MagicMock(spec=Batches, class_names=names)
    data.spec = {"image": SimpleNamespace(shape=(2, 96, 96, 3))}
    pixels = np.repeat(np.arange(0, 160, 40).astype(np.uint8), 96 * 96 * 3).reshape(4, 96, 96, 3)
    data.batch.side_effect = lambda index: {"image": pixels[2 * index :][:2]}
    return data


def test_the_report_shows_classes_curves_confusions_and_the_worst_images():
    table, *pictures = detection_report([case()[:2], case()[2:]], data())
    assert isinstance(table, Table) and table.name == "per_class" and "at score 0.900, IoU 0.5" in table.title
    assert [row[0] for row in table.rows] == list(NAMES) and len(table.columns) == len(table.rows[0])
    assert [picture.name for picture in pictures] == ["precision_recall", "f1_by_score", "confusion", "worst"]
    worst = pictures[3]
    assert isinstance(worst, Picture)
    # Pairs of 288 by 288: image 2, with a grey of 80, then image 0, which is black.
    assert [worst.image.getpixel((x, 150)) for x in (6 + 200, 6 + 294 + 200, 600 + 200)] == [(80,) * 3] * 2 + [(0,) * 3]


def test_the_report_of_a_set_without_boxes_is_its_table():
    assert [item.name for item in detection_report([[boxes_of([], [])]], data())] == ["per_class"]


def test_of_many_classes_the_worst_are_shown():
    truths = [([40 * i, 0, 40 * i + 10, 10], i) for i in range(20)]
    image = boxes_of(truths, [(box if i % 2 else FAR_OUT, i, 0.9) for box, i in truths])
    file, shown, *_ = detection_report([[image]], data([f"c{i}" for i in range(21)]))
    assert isinstance(file, Table) and isinstance(shown, Table)
    assert (file.title, len(file.rows), shown.name) == ("", 21, "")
    assert shown.title.startswith("the 10 of 21 classes with the lowest AP at score 0.9")
    assert [row[0] for row in shown.rows] == [f"c{i}" for i in range(0, 20, 2)]
