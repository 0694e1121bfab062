"""What a detector does well and badly on a whole set: by class, its curves, its confusions, its worst images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxcv.metrics.image_boxes import ImageBoxes
from jaxcv.metrics.precision_recall import Curve, average_precision, iou_matrix, precision_recall

IOU = 0.5
"""From which on a detection matches a truth."""
WORST = 12
"""Images shown."""


class DetectedClass(NamedTuple):
    """How one class fares at an IoU of 0.5; None where there is nothing to divide by."""

    name: str
    truths: int
    detections: int
    """With a score of the threshold or more."""
    precision: float | None
    recall: float | None
    average_precision: float | None
    """VOC's, all points, of boxes that are edges."""


class WorstImage(NamedTuple):
    """An image and what became of it at the threshold."""

    index: int
    """Its position in the set."""
    missed: int
    false: int
    boxes: ImageBoxes


@dataclass(frozen=True)
class DetectionOutcomes:
    """A whole set, counted at one score."""

    threshold: float
    """The score at which the harmonic mean of precision and recall, over all classes, is largest."""
    rows: tuple[DetectedClass, ...]
    curves: tuple[Curve, ...]
    """Of each class."""
    target: np.ndarray
    """`[n]` class of each truth, and background, the number of classes, for each false alarm."""
    prediction: np.ndarray
    """`[n]` predicted class of each; background where a truth is missed."""
    worst: tuple[WorstImage, ...]
    """Most mistakes first; images without a mistake are not among them."""


def detection_outcomes(batches: list[list[ImageBoxes]], class_names: Sequence[str]) -> DetectionOutcomes:
    """Count and rank.

    Args:
        batches: what `collect_boxes` gave for each batch.
        class_names: name of each class index.
    """
    images = [image for batch in batches for image in batch]
    curves = tuple(precision_recall(images, label, iou_threshold=IOU) for label in range(len(class_names)))
    threshold = _best_threshold(curves)
    rows = []
    for name, curve in zip(class_names, curves, strict=True):
        above = int((curve.scores >= threshold).sum())
        hits = round(curve.recall[above - 1] * curve.truths) if above and curve.truths else 0
        value = average_precision(curve)
        rows.append(
            DetectedClass(
                name,
                curve.truths,
                above,
                hits / above if above else None,
                hits / curve.truths if curve.truths else None,
                None if np.isnan(value) else value,
            )
        )
    counted, worst = [], []
    for index, image in enumerate(images):
        pairs = _confusions(image, threshold, len(class_names))
        counted += pairs
        missed = sum(t != p and t < len(class_names) for t, p in pairs)
        false = sum(t == len(class_names) for t, _ in pairs)
        if missed + false:
            worst.append(WorstImage(index, missed, false, image))
    worst.sort(key=lambda w: (-w.missed - w.false, w.index))
    target, prediction = np.asarray(counted, np.int64).reshape(-1, 2).T
    return DetectionOutcomes(threshold, tuple(rows), curves, target, prediction, tuple(worst[:WORST]))


def _best_threshold(curves: Sequence[Curve]) -> float:
    """0.5 without a truth or a detection."""
    truths = sum(curve.truths for curve in curves)
    scores = np.concatenate([curve.scores for curve in curves]) if curves else np.zeros(0)
    if not truths or not scores.size:
        return 0.5
    hits = [np.diff(np.nan_to_num(curve.recall) * curve.truths, prepend=0.0) for curve in curves]
    order = np.argsort(-scores, kind="stable")
    right, scores = np.cumsum(np.concatenate(hits)[order]), scores[order]
    f1 = 2 * right / (np.arange(1, len(scores) + 1) + truths)
    last = np.append(scores[1:] != scores[:-1], True)  # of equal scores all are in or none
    return float(scores[np.where(last, f1, -1.0).argmax()])


def _confusions(image: ImageBoxes, threshold: float, background: int) -> list[tuple[int, int]]:
    """(target, prediction) of every truth and false alarm.

    Best score first, each detection takes the free truth that it overlaps most.
    """
    order = np.argsort(-image.scores, kind="stable")
    order = order[image.scores[order] >= threshold]
    overlap = iou_matrix(image.detections[order], image.truths)
    taken, pairs = np.zeros(len(image.truths), bool), []
    for row, label in zip(overlap, image.detected_classes[order], strict=True):
        # Its own class first: a box of another class on the same spot is the smaller match.
        free = np.where(taken, 0.0, row)
        same = np.where(image.truth_classes == label, free, 0.0)
        choice = same if same.size and same.max() >= IOU else free
        best = int(choice.argmax()) if choice.size else -1
        if best >= 0 and choice[best] >= IOU:
            taken[best] = True
            if not image.ignored[best]:
                pairs.append((int(image.truth_classes[best]), int(label)))
        else:
            pairs.append((background, int(label)))
    pairs += [
        (int(label), background)
        for label, was, ignored in zip(image.truth_classes, taken, image.ignored, strict=True)
        if not was and not ignored
    ]
    return pairs
