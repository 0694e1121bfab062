"""Average precision as the PASCAL VOC challenges define it: predictions are `Detections`, batches have boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from jaxcv.errors import UserError
from jaxcv.metrics.image_boxes import ImageBoxes, collect_boxes, collect_pixel_boxes
from jaxcv.metrics.metric import Metric
from jaxcv.metrics.precision_recall import average_precision, precision_recall
from jaxcv.types import Scalar


def voc_average_precision(
    pick: str | None = None,
    *,
    points: Literal["all", "11"] = "all",
    inclusive: bool = True,
    iou_threshold: Scalar = 0.5,
) -> Metric:
    """Average precision as the PASCAL VOC challenges define it, in [0, 1], averaged over the classes that have a truth.

    Per class, best score first: a detection is right if the truth it overlaps most (of its class and image) does so by
    `iou_threshold` or more and was not taken before; if that truth is to be ignored (VOC's difficult), the detection
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
