"""Precision and recall of a detector's class over a set, matched as the PASCAL VOC challenges do."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxcv.metrics.image_boxes import ImageBoxes


class Curve(NamedTuple):
    """Precision and recall of one class as detections are taken in, best score first."""

    recall: np.ndarray
    """`[n]`, rising."""
    precision: np.ndarray
    """`[n]`."""
    scores: np.ndarray
    """`[n]`, falling."""
    truths: int


def precision_recall(
    images: Sequence[ImageBoxes], label: int, *, iou_threshold: float = 0.5, inclusive: bool = False
) -> Curve:
    """The curve of one class.

    Args:
        images: Of the whole set.
        label: The class.
        iou_threshold: From which on a detection is right.
        inclusive: See `voc_average_precision`.
    """
    scores, right, counted, truths = [], [], [], 0
    for image in images:
        mine, detected = image.truth_classes == label, image.detected_classes == label
        boxes, ignored = image.truths[mine], image.ignored[mine]
        truths += int((~ignored).sum())
        order = np.argsort(-image.scores[detected], kind="stable")
        overlap = iou_matrix(image.detections[detected][order], boxes, inclusive=inclusive)
        taken = np.zeros(len(boxes), bool)
        for row, score in zip(overlap, image.scores[detected][order], strict=True):
            best = int(row.argmax()) if len(row) else -1
            hit = best >= 0 and row[best] >= iou_threshold
            scores.append(score)
            counted.append(not (hit and ignored[best]))
            right.append(hit and not ignored[best] and not taken[best])
            if hit:
                taken[best] = True
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    kept = order[np.asarray(counted, bool)[order]] if len(order) else order
    hits = np.cumsum(np.asarray(right, np.float64)[kept])
    recall = hits / truths if truths else np.full(len(hits), np.nan)
    return Curve(recall, hits / np.arange(1, len(hits) + 1), np.asarray(scores, np.float64)[kept], truths)


def average_precision(curve: Curve, *, points: str = "all") -> float:
    """The area under a curve whose precision is made to fall, or its mean at eleven recalls; NaN without a truth."""
    if not curve.truths:
        return float("nan")
    if points == "11":
        reached = [curve.precision[curve.recall >= r - 1e-9] for r in np.linspace(0, 1, 11)]
        return float(np.mean([part.max() if part.size else 0.0 for part in reached]))
    falling = np.maximum.accumulate(curve.precision[::-1])[::-1]
    return float((np.diff(curve.recall, prepend=0.0) * falling).sum())


def iou_matrix(a: np.ndarray, b: np.ndarray, *, inclusive: bool = False) -> np.ndarray:
    """IoU of every box of `a` `[n, 4]` with every one of `b` `[m, 4]`, in double precision; 0 where both are empty."""
    last = np.array([0, 0, 1, 1]) * int(inclusive)  # the far edge of a last pixel is one further
    a, b = np.asarray(a, np.float64)[:, None] + last, np.asarray(b, np.float64)[None] + last
    sizes = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0)
    both = sizes.prod(-1)
    either = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)
