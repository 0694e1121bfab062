"""Metrics of localization: predictions are `Localization`, batches have `boxes`, `classes`, `valid`."""

from typing import NamedTuple

import numpy as np

from jaxcv.errors import UserError
from jaxcv.metrics.metric import Metric
from jaxcv.ops import largest_box, paired_box_iou
from jaxcv.types import Batch, Localization

_NAMES = ("correct", "object", "class", "IoU")


class LocalizationOutcomes(NamedTuple):
    """How right the predictions for a batch are, each `[b]`."""

    present: np.ndarray
    """Whether there is an object: the target."""
    said: np.ndarray
    """Whether p_c > 0.5."""
    right_class: np.ndarray
    """Whether the most probable class is the object's."""
    iou: np.ndarray
    """Of the predicted box with the object's."""


def localization(pick: str = "correct") -> Metric:
    """How well the one object of an image, its largest, is predicted, in [0, 1].

    - `object`: fraction of the images where p_c > 0.5 exactly if there is an object.
    - `class`: fraction of the images with an object whose most probable class is right, whatever p_c says.
    - `IoU`: mean IoU of the box over the images with an object, whatever p_c says.
    - `correct`: fraction of the images predicted right as a whole: no object where there is none; else an object of the
      right class with an IoU of at least 0.5 (ImageNet's localization task, with p_c).

    Args:
        pick: One of these.

    Returns:
        A metric of `Localization` and `boxes` `[b, m, 4]`, `classes` and `valid` `[b, m]`. NaN where no image counts.

    Raises:
        UserError: If `pick` is none of these.
    """
    if pick not in _NAMES:
        raise UserError(f"no metric of localization named {pick!r}: one of {', '.join(_NAMES)}")
    return Metric(localization_outcomes, summarize_localization, pick)


def localization_outcomes(predictions: Localization, batch: Batch) -> LocalizationOutcomes:
    """How right the prediction for each image of a batch is.

    Args:
        predictions: `[b]` of them.
        batch: `boxes` `[b, m, 4]` xyxy in pixels, `classes` and `valid` `[b, m]`.

    Returns:
        Four arrays `[b]`.
    """
    index, present = (np.asarray(x) for x in largest_box(np.asarray(batch["boxes"]), np.asarray(batch["valid"])))
    rows = np.arange(len(index))
    target = np.where(present[:, None], np.asarray(batch["boxes"])[rows, index], np.float32(0))
    return LocalizationOutcomes(
        present=present,
        said=np.asarray(predictions.score) > 0.5,
        right_class=np.asarray(predictions.label) == np.asarray(batch["classes"])[rows, index],
        iou=np.asarray(paired_box_iou(np.asarray(predictions.box), target)),
    )


def summarize_localization(batches: list[LocalizationOutcomes]) -> dict[str, float]:
    """All metrics of a whole set.

    Args:
        batches: What `localization_outcomes` gave for each batch.

    Returns:
        `correct`, `object`, `class`, `IoU`.
    """
    if not batches:
        return dict.fromkeys(_NAMES, float("nan"))
    present, said, right, iou = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return {
        "correct": _mean(np.where(present, said & right & (iou >= 0.5), ~said)),
        "object": _mean(said == present),
        "class": _mean(right[present]),
        "IoU": _mean(iou[present]),
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean(dtype=np.float64)) if values.size else float("nan")
