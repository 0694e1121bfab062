"""Average precision as the PASCAL VOC challenges define it: predictions are `Detections`, batches have boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from jaxcv.errors import UserError
from jaxcv.metrics.detection import ImageBoxes, collect_boxes, collect_pixel_boxes
from jaxcv.metrics.metric import Metric
from jaxcv.types import Scalar


class Curve(NamedTuple):
    """Precision and recall of one class as detections are taken in, best score first."""

    recall: np.ndarray
    """`[n]`, rising."""
    precision: np.ndarray
    """`[n]`."""
    scores: np.ndarray
    """`[n]`, falling."""
    truths: int


def voc_average_precision(
    pick: str | None = None,
    *,
    points: Literal["all", "11"] = "all",
    inclusive: bool = True,
    iou_threshold: Scalar = 0.5,
) -> Metric:
    """Average precision as the PASCAL VOC challenges define it, in [0, 1], averaged over the classes that have a truth.

    Per class, best score first: a detection is right if the truth it overlaps most (of its class and image) does so by
    `iou_threshold` or more and was not found before; if that truth is to be ignored (VOC's difficult), the detection
    counts neither way; else it is a false alarm. This differs from COCO, where a second detection may take the next
    best truth. Precision at a recall is the largest at that recall or beyond. Every detection counts, not the best 100.

    Args:
        pick: `AP50` (with the threshold in percent), or `AP50/<class index>`; None: the former.
        points: `all`: the area under the curve, as from 2010 on; `11`: the mean at recalls 0, 0.1 .. 1, as before.
        inclusive: True: a box names its first and its last pixel, as in VOC's files, and is x2 - x1 + 1 wide: what the
            challenges' code computes of such boxes. False: a box is its edges, x2 - x1 wide, as are all that
            `jaxcv.data` reads, VOC's included: pixels 48 to 240 are read as edges 47 and 240, which hold the added
            pixel already. On those, this gives the challenges' result.
        iou_threshold: In (0, 1].

    Returns:
        A metric of `Detections` and `boxes`, `classes`, `valid` (and `ignored`, if there). No detection at all is 0.0;
        a set or class without a truth is NaN.

    Raises:
        UserError: If `pick`, `points` or the threshold is none of these.

    References:
        Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, 2010, section 4.2; its development kits.
    """
    if not 0 < iou_threshold <= 1:
        raise UserError(f"iou_threshold={iou_threshold}: expected more than 0 and at most 1")
    if points not in ("all", "11"):
        raise UserError(f"points={points!r}: expected 'all' or '11'")
    name = f"AP{100 * iou_threshold:g}"
    pick = name if pick is None else pick
    if pick != name and not (pick.startswith(f"{name}/") and pick.removeprefix(f"{name}/").isdecimal()):
        at = "" if iou_threshold == 0.5 else f" at iou_threshold={iou_threshold:g}"
        raise UserError(f"no average precision of VOC's named {pick!r}{at}: {name} or {name}/<class index>")
    collect = collect_pixel_boxes if inclusive else collect_boxes
    return Metric(collect, _VocAveragePrecision(name, points, inclusive, float(iou_threshold)), pick)


@dataclass(frozen=True)
class _VocAveragePrecision:
    name: str
    points: str
    inclusive: bool
    iou_threshold: float

    def __call__(self, batches: list[list[ImageBoxes]]) -> dict[str, float]:
        images = [image for batch in batches for image in batch]
        values = {}
        for label in labels_of(images):
            curve = precision_recall(images, label, iou_threshold=self.iou_threshold, inclusive=self.inclusive)
            values[f"{self.name}/{label}"] = average_precision(curve, points=self.points)
        defined = [value for value in values.values() if not np.isnan(value)]
        return {self.name: float(np.mean(defined)) if defined else float("nan"), **values}


def labels_of(images: Sequence[ImageBoxes]) -> list[int]:
    """Every class that has a truth or a detection."""
    both = [part for image in images for part in (image.truth_classes, image.detected_classes)]
    return np.unique(np.concatenate(both)).tolist() if both else []


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
        mine, found = image.truth_classes == label, image.detected_classes == label
        boxes, ignored = image.truths[mine], image.ignored[mine]
        truths += int((~ignored).sum())
        order = np.argsort(-image.scores[found], kind="stable")
        overlap = iou_matrix(image.detections[found][order], boxes, inclusive=inclusive)
        taken = np.zeros(len(boxes), bool)
        for row, score in zip(overlap, image.scores[found][order], strict=True):
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
    sides = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0)
    both = sides.prod(-1)
    either = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)
