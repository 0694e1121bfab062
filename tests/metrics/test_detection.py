from typing import get_args

import numpy as np
import pytest

from jaxcv.errors import UserError
from jaxcv.metrics import coco_average_precision
from jaxcv.metrics.detection import IgnoredRule
from jaxcv.types import Detections

A, B, FAR = [0, 0, 10, 10], [20, 20, 40, 40], [70, 70, 90, 90]


def batch(*images):
    """Each image a list of (box, class) or (box, class, "ignored"), padded to four rows."""
    b = len(images)
    fields = {
        "boxes": np.zeros((b, 4, 4), np.float32),
        "classes": np.zeros((b, 4), np.int32),
        "valid": np.zeros((b, 4), bool),
        "ignored": np.zeros((b, 4), bool),
    }
    for i, image in enumerate(images):
        for j, (box, label, *flag) in enumerate(image):
            fields["boxes"][i, j], fields["classes"][i, j] = box, label
            fields["ignored" if flag else "valid"][i, j] = True
    return fields


def found(*images):
    """Each image a list of (box, class, score), padded to five rows."""
    b = len(images)
    boxes, scores = np.zeros((b, 5, 4), np.float32), np.zeros((b, 5), np.float32)
    classes, valid = np.full((b, 5), -1, np.int32), np.zeros((b, 5), bool)
    for i, image in enumerate(images):
        for j, (box, label, score) in enumerate(image):
            boxes[i, j], classes[i, j], scores[i, j], valid[i, j] = box, label, score, True
    return Detections(boxes, scores, classes, valid)


def values(*pairs, ignored: IgnoredRule = "crowd"):
    metric = coco_average_precision(ignored=ignored)
    return metric.reduce([metric.measure(predictions, truths) for predictions, truths in pairs])


def test_perfect():
    result = values((found([(A, 0, 0.9), (B, 3, 0.8)]), batch([(A, 0), (B, 3)])))
    sizes = {"APsmall", "APmedium", "APlarge"}
    assert set(result) == {"AP", "AP50", "AP75", "AR100", "AP50/0", "AP50/3"} | sizes
    assert np.isnan(result.pop("APmedium")) and np.isnan(result.pop("APlarge"))
    for name, value in result.items():
        assert value == pytest.approx(1.0), name
        assert type(value) is float


def test_by_hand():
    """Hit, miss, hit: precision 1 up to recall 1/2, then 2/3, read at 101 recalls."""
    result = values((found([(A, 0, 0.9), (FAR, 0, 0.8), (B, 0, 0.7)]), batch([(A, 0), (B, 0)])))
    assert result["AP50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    # IoU 0.6 with the truth passes 0.50, 0.55 and 0.60 of the ten thresholds.
    loose = values((found([([0, 0, 10, 6], 0, 0.9)]), batch([(A, 0)])))
    assert (loose["AP"], loose["AP50"], loose["AP75"]) == pytest.approx((0.3, 1.0, 0.0))
    assert loose["AR100"] == pytest.approx(0.3)


def test_the_second_box_on_one_truth_is_a_false_alarm():
    twice = values((found([(A, 0, 0.9), (A, 0, 0.8), (B, 0, 0.7)]), batch([(A, 0), (B, 0)])))
    assert twice["AP50"] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_classes_are_averaged_and_classes_without_truth_left_out():
    result = values((found([(A, 0, 0.9), (FAR, 7, 0.9)]), batch([(A, 0), (B, 1)])))
    assert result["AP50/0"] == pytest.approx(1.0) and result["AP50/1"] == 0.0 and np.isnan(result["AP50/7"])
    assert result["AP50"] == pytest.approx(0.5)


def test_no_detections_are_zero_and_no_truths_nothing():
    assert values((found([], []), batch([(A, 0)], [(B, 1)])))["AP50"] == 0.0
    assert np.isnan(values((found([(A, 0, 0.9)]), batch([])))["AP50"])
    assert np.isnan(values()["AP"])


def test_ignored_boxes_count_neither_way():
    truths = batch([(A, 0), (B, 0, "ignored")])
    assert values((found([(B, 0, 0.95), (A, 0, 0.9)]), truths))["AP50"] == pytest.approx(1.0)
    assert values((found([(FAR, 0, 0.95), (A, 0, 0.9)]), truths))["AP50"] == pytest.approx(0.5)
    # Without being seen they cost no recall.
    assert values((found([(A, 0, 0.9)]), truths))["AR100"] == pytest.approx(1.0)


LARGE, INSIDE, ELSEWHERE = [0, 0, 100, 100], [10, 10, 20, 20], [200, 200, 230, 230]


def test_a_difficult_box_absorbs_what_overlaps_it_by_the_threshold():
    """A truth found at 0.9, and at 0.95 something small within a large box to be ignored."""
    truths = batch([(ELSEWHERE, 0), (LARGE, 0, "ignored")])
    small = found([(INSIDE, 0, 0.95), (ELSEWHERE, 0, 0.9)])
    assert values((small, truths), ignored="difficult")["AP50"] == pytest.approx(0.5)
    assert values((small, truths), ignored="crowd")["AP50"] == values((small, truths))["AP50"] == pytest.approx(1.0)
    # An IoU of 0.6 counts neither way at 0.5 to 0.6, and is a false alarm at the other seven thresholds; ten of any
    # class other than the box's are false alarms.
    partly = found([([0, 0, 100, 60], 0, 0.95), (ELSEWHERE, 0, 0.9)])
    result = values((partly, truths), ignored="difficult")
    assert (result["AP50"], result["AP"], result["AP75"]) == pytest.approx((1.0, (3 + 7 * 0.5) / 10, 0.5))
    other = batch([(ELSEWHERE, 0), (LARGE, 1, "ignored")])
    whole = found([(LARGE, 0, 0.95), (ELSEWHERE, 0, 0.9)])
    assert values((whole, other), ignored="difficult")["AP50"] == pytest.approx(0.5)
    # Any number of detections; a truth beside it goes first.
    many = found([(LARGE, 0, 0.99), (LARGE, 0, 0.98), ([0, 0, 100, 90], 0, 0.97), (ELSEWHERE, 0, 0.9)])
    assert values((many, truths), ignored="difficult")["AP50"] == pytest.approx(1.0)
    both = batch([([0, 0, 100, 80], 0), (LARGE, 0, "ignored")])
    assert values((found([(LARGE, 0, 0.9)]), both), ignored="difficult")["AR100"] > 0
    # Nothing but difficult boxes: nothing to be found.
    assert np.isnan(values((found([(LARGE, 0, 0.9)]), batch([(LARGE, 0, "ignored")])), ignored="difficult")["AP50"])


def test_difficult_boxes_of_every_size_and_without_detections():
    truths = batch([(LARGE, 0, "ignored"), (A, 0)], [], [(B, 1, "ignored")])
    result = values((found([(A, 0, 0.9)], [(A, 0, 0.1)], []), truths), ignored="difficult")
    assert (result["AP50"], result["APsmall"]) == pytest.approx((1.0, 1.0)) and np.isnan(result["APlarge"])


def test_both_rules_agree_where_nothing_is_ignored():
    random = np.random.default_rng(1)
    boxes = random.uniform(0, 50, (8, 2)).repeat(2, 0).reshape(8, 4) + [0, 0, 20, 20]
    truths = batch(*[[(box, 0)] for box in boxes])
    guesses = found(*[[(box + random.normal(0, 2, 4), 0, random.random())] for box in boxes])
    results = [values((guesses, truths), ignored=rule) for rule in get_args(IgnoredRule)]
    assert repr(results[0]) == repr(results[1]) and 0 < results[0]["AP"] < 1


def test_the_rule_is_part_of_what_is_computed():
    crowd, difficult = coco_average_precision(), coco_average_precision(ignored="difficult")
    assert crowd.reduce != difficult.reduce and crowd.reduce == coco_average_precision(ignored="crowd").reduce


def test_degenerate_truths_are_left_out():
    truths = batch([(A, 0), ([5, 5, 5, 5], 0), ([np.nan, 0, 1, 1], 0)])
    assert values((found([(A, 0, 0.9)]), truths))["AP50"] == pytest.approx(1.0)


def test_the_batches_do_not_matter():
    random = np.random.default_rng(0)
    images, guesses = [], []
    for _ in range(12):
        boxes = random.uniform(0, 50, (3, 2)).repeat(2, 0).reshape(3, 4) + [0, 0, 20, 20]
        images.append([(box, int(random.integers(2))) for box in boxes])
        guesses.append([(b + random.normal(0, 2, 4), label, random.random()) for b, label in images[-1]])
    whole = values((found(*guesses), batch(*images)))
    parts = values(*((found(*guesses[i : i + 5]), batch(*images[i : i + 5])) for i in range(0, 12, 5)))
    assert repr(whole) == repr(parts) and 0.1 < whole["AP"] < 0.9


def test_nothing_is_printed(capsys):
    values((found([(A, 0, 0.9)]), batch([(A, 0)])))
    assert capsys.readouterr().out == ""


def test_one_evaluation_serves_all_names():
    a, b = coco_average_precision("AP50"), coco_average_precision("AP75")
    assert (a.measure, a.reduce) == (b.measure, b.reduce) and a != b and b.pick == "AP75"
    assert coco_average_precision("AP50/3").pick == "AP50/3"
    for wrong in ("mAP", "AP50/", "AP50/cat"):
        with pytest.raises(UserError, match="one of AP, AP50, AP75, APsmall, APmedium, APlarge, AR100"):
            coco_average_precision(wrong)


def test_equals_pycocotools_on_random_detections():
    """Its own evaluation at its own settings, of boxes that overlap truths well, badly and not at all."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    random = np.random.default_rng(4)
    images, guesses, truths, detections = [], [], [], []
    for image in range(40):
        count = int(random.integers(0, 5))
        corners = random.uniform(0, 300, (count, 2))
        boxes = np.concatenate([corners, corners + random.uniform(8, 160, (count, 2))], 1).astype(np.float32)
        labels, crowd = random.integers(0, 3, count), random.random(count) < 0.1
        images.append([(b, int(k), *(["ignored"] * int(c))) for b, k, c in zip(boxes, labels, crowd, strict=True)])
        found_boxes = np.concatenate([boxes + random.normal(0, 8, boxes.shape), boxes[:1] + 3]).astype(np.float32)
        found_boxes[:, 2:] = np.maximum(found_boxes[:, 2:], found_boxes[:, :2] + 1)
        found_labels = np.where(random.random(len(found_boxes)) < 0.8, [*labels, *labels[:1]], 1)
        scores = random.random(len(found_boxes)).round(2).astype(np.float32)
        guesses.append(list(zip(found_boxes, found_labels.tolist(), scores.tolist(), strict=True)))
        for box, label, c in zip(boxes.astype(float), labels, crowd, strict=True):
            x, y, w, h = box[0], box[1], box[2] - box[0], box[3] - box[1]
            entry = {"image_id": image, "category_id": int(label), "bbox": [x, y, w, h], "area": w * h}
            truths.append(entry | {"id": len(truths) + 1, "iscrowd": int(c)})
        for box, label, score in zip(found_boxes.astype(float), found_labels, scores, strict=True):
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            detections.append({"image_id": image, "category_id": int(label), "bbox": bbox, "score": float(score)})
    ours = values((found(*guesses), batch(*images)))
    coco = COCO()
    listed = {"images": [{"id": i} for i in range(40)], "categories": [{"id": i} for i in range(3)]}
    coco.dataset = {**listed, "annotations": truths}  # pyright: ignore[reportAttributeAccessIssue]
    coco.createIndex()
    loaded = coco.loadRes(detections)  # pyright: ignore[reportArgumentType]
    theirs = COCOeval(coco, loaded, "bbox")
    theirs.evaluate()
    theirs.accumulate()
    theirs.summarize()
    names = {"AP": 0, "AP50": 1, "AP75": 2, "APsmall": 3, "APmedium": 4, "APlarge": 5, "AR100": 8}
    for name, place in names.items():
        assert ours[name] == pytest.approx(theirs.stats[place], abs=1e-9), name
        assert 0.01 < ours[name] < 0.95
