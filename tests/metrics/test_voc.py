from typing import Literal

import numpy as np
import pytest
from detection_boxes import boxes_of
from PIL import Image

from jaxcv.data import detection_data
from jaxcv.errors import UserError
from jaxcv.metrics import voc_average_precision
from jaxcv.metrics.precision_recall import iou_matrix, precision_recall
from jaxcv.types import Detections

A, B, FAR = [0, 0, 10, 10], [20, 20, 40, 40], [70, 70, 90, 90]
EDGES = ("xmin", "ymin", "xmax", "ymax")
FAR_OUT = [200, 200, 230, 230]


def value(images, pick=None, *, points: Literal["all", "11"] = "all", inclusive=False, iou_threshold=0.5):
    metric = voc_average_precision(pick, points=points, inclusive=inclusive, iou_threshold=iou_threshold)
    return metric.reduce([images])[metric.pick]


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
    with pytest.raises(UserError, match="'AP50' at iou_threshold=0.3: AP30 or AP30/<class index>"):
        voc_average_precision("AP50", iou_threshold=0.3)
    for wrong in (0.0, 1.5, -1.0, float("nan")):
        with pytest.raises(UserError, match="expected more than 0 and at most 1"):
            voc_average_precision(iou_threshold=wrong)


def test_a_box_of_pixels_is_one_wider():
    """3x3 pixels, of which 3x2 are covered: 6 / 9; as edges 2 / 4."""
    wide, flat, pixel = [4, 4, 6, 6], [4, 4, 6, 5], [7, 7, 7, 7]
    found = iou_matrix(np.asarray([wide, flat]), np.asarray([flat, pixel, [6, 6, 9, 9]]), inclusive=True)
    np.testing.assert_allclose(found, [[6 / 9, 0, 1 / 24], [1, 0, 0]])
    np.testing.assert_allclose(iou_matrix(np.asarray([wide]), np.asarray([flat, pixel])), [[0.5, 0]])
    image = [boxes_of([(wide, 0)], [(flat, 0, 0.9)])]
    assert value(image, inclusive=True, iou_threshold=0.6) == 1.0 and value(image, iou_threshold=0.6) == 0.0
    assert value(image, inclusive=True, iou_threshold=0.67) == 0.0 and value(image) == 1.0
    assert value(image, "AP60/0", inclusive=True, iou_threshold=0.6) == 1.0


def batch_of(images):
    """What a metric is given of one batch: predictions, and truths."""
    m, n = (max(1, *(len(part) for part in parts)) for parts in zip(*images, strict=True))
    batch = {"boxes": np.zeros((len(images), m, 4), np.float32), "classes": np.zeros((len(images), m), np.int32)}
    batch |= {name: np.zeros((len(images), m), bool) for name in ("valid", "ignored")}
    found = Detections(
        np.zeros((len(images), n, 4), np.float32),
        np.zeros((len(images), n), np.float32),
        np.full((len(images), n), -1, np.int32),
        np.zeros((len(images), n), bool),
    )
    for i, (truths, detections) in enumerate(images):
        for j, (box, label, *flag) in enumerate(truths):
            batch["boxes"][i, j], batch["classes"][i, j] = box, label
            batch["ignored" if flag else "valid"][i, j] = True
        for j, (box, label, score) in enumerate(detections):
            found.boxes[i, j], found.classes[i, j], found.scores[i, j], found.valid[i, j] = box, label, score, True
    return found, batch


def test_a_box_of_one_pixel_is_a_truth():
    pixel = [7, 7, 7, 7]
    found, batch = batch_of([([(pixel, 0)], [(pixel, 0, 0.9)])])
    metric = voc_average_precision()
    assert metric.reduce([metric.measure(found, batch)])["AP50"] == 1.0
    edges = voc_average_precision(inclusive=False)
    assert np.isnan(edges.reduce([edges.measure(found, batch)])["AP50"])
    # Inverted and infinite truths are none either way.
    batch["boxes"][0, 0] = [8, 7, 7, 7]
    assert np.isnan(metric.reduce([metric.measure(found, batch)])["AP50"])
    batch["boxes"][0, 0] = [np.inf, 7, np.inf, 7]
    assert np.isnan(metric.reduce([metric.measure(found, batch)])["AP50"])


def test_the_published_example(real_data):
    """Seven images, 15 truths, 24 detections, threshold 0.3: published as 24.57 % (all points) and 26.84 % (eleven)."""
    folder, images = real_data("eval_voc_ap_sample"), []
    for file in sorted((folder / "groundtruths").iterdir()):
        lines = [line.split()[1:] for line in file.read_text().splitlines()]
        truths = [tuple(map(float, line)) for line in lines]
        lines = [line.split()[1:] for line in (folder / "detections" / file.name).read_text().splitlines()]
        detections = [tuple(map(float, line)) for line in lines]
        images.append(
            (
                [([x, y, x + w, y + h], 0) for x, y, w, h in truths],
                [([x, y, x + w, y + h], 0, score) for score, x, y, w, h in detections],
            )
        )
    assert (sum(len(t) for t, _ in images), sum(len(d) for _, d in images)) == (15, 24)
    cases: list[tuple[Literal["all", "11"], float, float]] = [("all", 0.2457, 0.2254), ("11", 0.2684, 0.2684)]
    for points, wanted, edges in cases:
        for inclusive, figure in ((True, wanted), (False, edges)):
            metric = voc_average_precision(points=points, inclusive=inclusive, iou_threshold=0.3)
            parts = [metric.measure(*batch_of(images[i : i + 3])) for i in range(0, 7, 3)]
            assert round(metric.reduce(parts)[metric.pick], 4) == figure
    metric = voc_average_precision(iou_threshold=0.3)
    assert metric.pick == "AP30" and round(metric.reduce([metric.measure(*batch_of(images))])["AP30"], 4) == 0.2457


def of_the_challenge(images, threshold=0.5):
    """Average precision of one class by the challenge's rules, of integers as VOC's files have them."""
    ranked = sorted(((score, i, box) for i, (_, found) in enumerate(images) for box, _, score in found), reverse=True)
    taken, right = set(), []
    for _, i, (x1, y1, x2, y2) in ranked:
        best, which = -1.0, -1
        for j, ((u1, v1, u2, v2), *_) in enumerate(images[i][0]):
            wide, high = min(x2, u2) - max(x1, u1) + 1, min(y2, v2) - max(y1, v1) + 1
            if wide > 0 and high > 0:
                area = (x2 - x1 + 1) * (y2 - y1 + 1) + (u2 - u1 + 1) * (v2 - v1 + 1) - wide * high
                if wide * high / area > best:
                    best, which = wide * high / area, j
        if best < threshold:
            right.append(0)
        elif len(images[i][0][which]) == 2:
            right.append(int((i, which) not in taken))
            taken.add((i, which))
    hits, total = np.cumsum(right), sum(len(t) == 2 for truths, _ in images for t in truths)
    recall, precision = hits / total, hits / np.arange(1, len(right) + 1)
    return sum(precision[recall >= r].max() for r in np.unique(recall[recall > 0])) / total


def test_equals_the_challenge_on_what_its_files_say(tmp_path):
    """From annotation files to the value: random integers, small boxes, a third of the objects difficult."""
    random, side, images = np.random.default_rng(3), 64, []
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / part).mkdir(parents=True)
    for i in range(8):
        truths, found, objects = [], [], ""
        for _ in range(5):
            x, y, w, h = random.integers([1, 1, 2, 2], [50, 50, 12, 12]).tolist()
            difficult = random.random() < 1 / 3
            truths.append(([x, y, x + w, y + h], 0, *["ignored"] * difficult))
            corners = "".join(f"<{k}>{v}</{k}>" for k, v in zip(EDGES, truths[-1][0], strict=True))
            objects += (
                f"<object><name>cell</name><difficult>{int(difficult)}</difficult><bndbox>{corners}</bndbox></object>"
            )
            for _ in range(int(random.integers(0, 3))):
                moved = (np.asarray(truths[-1][0]) + random.integers(-1, 2, 4)).tolist()
                found.append((moved, 0, float(np.float32(random.random()))))
        images.append((truths, found))
        size = f"<size><width>{side}</width><height>{side}</height></size>"
        (tmp_path / "Annotations" / f"{i}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
        Image.new("RGB", (side, side)).save(tmp_path / "JPEGImages" / f"{i}.png")
    (tmp_path / "ImageSets/Main/trainval.txt").write_text("0\n")
    (tmp_path / "ImageSets/Main/test.txt").write_text("".join(f"{i}\n" for i in range(1, 8)))
    images = images[1:]
    found, pixels = batch_of(images)
    wanted = of_the_challenge(images)
    assert 0.3 < wanted < 0.9
    inclusive = voc_average_precision()
    assert inclusive.reduce([inclusive.measure(found, pixels)])["AP50"] == pytest.approx(wanted, abs=1e-12)
    # The reader's boxes are edges: the detection of pixels 4 to 6 has the edges 3 and 6.
    batch = detection_data(f"voc:{tmp_path}", image_size=side, classes=("cell",))[1].batches(7).batch(0)
    assert batch["ignored"].any() and batch["boxes"].shape == (7, 5, 4)
    found = found._replace(boxes=found.boxes - np.asarray([1, 1, 0, 0], np.float32))
    edges = voc_average_precision(inclusive=False)
    assert edges.reduce([edges.measure(found, batch)])["AP50"] == pytest.approx(wanted, abs=1e-12)
    assert inclusive.reduce([inclusive.measure(found, batch)])["AP50"] != pytest.approx(wanted, abs=1e-4)


def test_difficult_boxes_absorb_what_overlaps_them_and_any_number():
    large, inside = [0, 0, 100, 100], [10, 10, 20, 20]
    truths = [(FAR_OUT, 0), (large, 0, "ignored")]
    assert value([boxes_of(truths, [(inside, 0, 0.95), (FAR_OUT, 0, 0.9)])], inclusive=True) == 0.5
    assert value([boxes_of(truths, [(large, 0, 0.95), (large, 0, 0.94), (FAR_OUT, 0, 0.9)])], inclusive=True) == 1.0


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
