"""Metrics of detectors: predictions are `Detections`, batches have `boxes`, `classes`, `valid`, perhaps `ignored`."""

import contextlib
import io
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from jaxcv.errors import UserError
from jaxcv.metrics.detection_report import detection_report
from jaxcv.metrics.image_boxes import ImageBoxes, collect_boxes
from jaxcv.metrics.metric import Metric

_NAMES = ("AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge", "AR100")
IgnoredRule = Literal["crowd", "difficult"]
"""What an ignored box stands for: COCO's crowd, many objects; or VOC's difficult, one object that need not be found."""
_AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}


def coco_average_precision(pick: str = "AP", *, ignored: IgnoredRule = "crowd") -> Metric:
    """Average precision as COCO defines it, computed by pycocotools, in [0, 1].

    AP averages over the IoU thresholds 0.50, 0.55 .. 0.95, AP50 and AP75 take one; each averages over the classes that
    have a truth in the set, and within a class over 101 recalls. At most 100 detections an image count. APsmall,
    APmedium and APlarge take the truths below, between and above the areas of 32² and 96² pixels of the network's
    input, in which boxes are here (COCO's own: of the original picture).

    A detection without a truth of its own counts neither way where an `ignored` box of its class accounts for it; any
    number of detections may have the same one. How much of it must overlap depends on what such boxes are in the set:

    - `crowd`, COCO's `iscrowd`: a box around many objects. The intersection divided by the area of the *detection* must
      reach the IoU threshold: a small detection anywhere inside counts neither way.
    - `difficult`, VOC's: one object. The *IoU* must reach the threshold: a small detection inside is a false alarm.

    A batch does not say which of the two it holds. Sets opened by `jaxcv.data` do: `ignored=test.ignored`.

    Args:
        pick: `AP`, `AP50`, `AP75`, `APsmall`, `APmedium`, `APlarge`, `AR100` (mean of the largest recalls, with 100
            detections an image), or `AP50/<class index>`.
        ignored: `crowd` or `difficult`.

    Returns:
        A metric of `Detections` and `boxes`, `classes`, `valid` (and `ignored`, if there). No detection at all is 0.0;
        a set without a truth is NaN (pycocotools: -1), as is `AP50/<class>` of a class without one.

    Raises:
        UserError: If `pick` or `ignored` is none of these.
    """
    if ignored not in get_args(IgnoredRule):
        raise UserError(f"ignored={ignored!r}: expected 'crowd' (COCO) or 'difficult' (VOC)")
    if pick not in _NAMES and not (pick.startswith("AP50/") and pick.removeprefix("AP50/").isdecimal()):
        raise UserError(f"no average precision named {pick!r}: one of {', '.join(_NAMES)}, AP50/<class index>")
    return Metric(collect_boxes, _CocoAveragePrecision(ignored), pick, report=detection_report)


@dataclass(frozen=True)
class _CocoAveragePrecision:
    ignored: IgnoredRule

    def __call__(self, batches: list[list[ImageBoxes]]) -> dict[str, float]:
        return evaluate_boxes(batches, ignored=self.ignored)


class _DifficultEval(COCOeval):
    """COCO's evaluation, where boxes to be ignored overlap a detection by their IoU, as a truth does.

    An annotation's own `ignore` would not do: pycocotools overwrites it with `iscrowd`.
    """

    def computeIoU(self, imgId: Any, catId: Any) -> Any:  # noqa: N802, N803 (pycocotools' names)
        """Overlaps of an image's detections and truths of a class."""
        every: Any = self._gts  # pyright: ignore[reportAttributeAccessIssue]: set by `evaluate`, unknown to its types
        truths = every[imgId, catId]
        flags = [truth["iscrowd"] for truth in truths]
        for truth in truths:
            truth["iscrowd"] = 0
        try:
            return super().computeIoU(imgId, catId)
        finally:
            for truth, flag in zip(truths, flags, strict=True):
                truth["iscrowd"] = flag


def evaluate_boxes(batches: list[list[ImageBoxes]], *, ignored: IgnoredRule = "crowd") -> dict[str, float]:
    """COCO's evaluation of a whole set.

    Args:
        batches: What `collect_boxes` gave for each batch.
        ignored: See `coco_average_precision`.

    Returns:
        `AP`, `AP50`, `AP75`, `APsmall`, `APmedium`, `APlarge`, `AR100`, and `AP50/<class index>` of every class met.
    """
    images = [image for batch in batches for image in batch]
    truths, detections = [], []
    for number, image in enumerate(images):
        for box, label, aside in zip(image.truths, image.truth_classes, image.ignored, strict=True):
            truths.append(_annotation(len(truths), number, box, label) | {"iscrowd": int(aside)})
        for box, label, score in zip(image.detections, image.detected_classes, image.scores, strict=True):
            detections.append(_annotation(len(detections), number, box, label) | {"iscrowd": 0, "score": float(score)})
    labels = sorted({a["category_id"] for a in truths} | {a["category_id"] for a in detections})
    if not truths:
        return dict.fromkeys([*_NAMES, *(f"AP50/{label}" for label in labels)], float("nan"))

    with contextlib.redirect_stdout(io.StringIO()):
        evaluate = COCOeval if ignored == "crowd" else _DifficultEval
        evaluation = evaluate(_coco(len(images), labels, truths), _coco(len(images), labels, detections), "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [list(r) for r in _AREAS.values()], [*_AREAS]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    by_area = evaluation.eval["precision"][..., 0]  # threshold, recall, class, area
    precision = by_area[..., 0]
    recall = evaluation.eval["recall"][..., 0, 0]  # threshold, class
    values = {
        "AP": _mean(precision),
        "AP50": _mean(precision[0]),
        "AP75": _mean(precision[5]),
        **{f"AP{name}": _mean(by_area[..., i]) for i, name in enumerate(_AREAS) if i},
        "AR100": _mean(recall),
    }
    return values | {f"AP50/{label}": _mean(precision[0, :, i]) for i, label in enumerate(labels)}


def _annotation(index: int, image: int, box: np.ndarray, label: int | np.integer) -> dict:
    x1, y1, x2, y2 = (float(v) for v in box)
    # pycocotools takes annotation 0 for "no match": count from 1.
    return {
        "id": index + 1,
        "image_id": image,
        "category_id": int(label),
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
    }


def _coco(images: int, labels: list[int], annotations: list[dict]) -> COCO:
    coco = COCO()
    dataset: dict[str, Any] = {
        "images": [{"id": i} for i in range(images)],
        "categories": [{"id": label} for label in labels],
        "annotations": annotations,
    }
    coco.dataset = dataset  # pyright: ignore[reportAttributeAccessIssue]
    coco.createIndex()
    return coco


def _mean(values: np.ndarray) -> float:
    """Mean of what is defined: pycocotools writes -1 for a class without a truth."""
    values = values[values > -1]
    return float(values.mean()) if values.size else float("nan")
