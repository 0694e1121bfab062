"""One image's boxes, targets and detections, without padding: what every metric of detectors measures."""

from typing import NamedTuple

import numpy as np

from jaxcv.types import Batch, Detections


class ImageBoxes(NamedTuple):
    """One image's truths and detections, padding removed."""

    truths: np.ndarray
    """`[m, 4]` xyxy."""
    truth_classes: np.ndarray
    """`[m]`."""
    ignored: np.ndarray
    """`[m]` bool."""
    detections: np.ndarray
    """`[n, 4]` xyxy."""
    scores: np.ndarray
    """`[n]`."""
    detected_classes: np.ndarray
    """`[n]`."""


def collect_boxes(predictions: Detections, batch: Batch) -> list[ImageBoxes]:
    """Strip the padding off a batch's truths and detections.

    Args:
        predictions: `[b, n]` detections.
        batch: `boxes` `[b, m, 4]` xyxy in pixels, `classes` and `valid` `[b, m]`, optionally `ignored` `[b, m]`.

    Returns:
        One entry an image. A truth that is not finite or has no area is left out.
    """
    return _collect(predictions, batch, pixels=False)


def collect_pixel_boxes(predictions: Detections, batch: Batch) -> list[ImageBoxes]:
    """The same for boxes that name their first and last pixel: where both are one, the box is one pixel."""
    return _collect(predictions, batch, pixels=True)


def _collect(predictions: Detections, batch: Batch, *, pixels: bool) -> list[ImageBoxes]:
    detections, scores, labels, kept = (np.asarray(field) for field in predictions[:4])
    boxes, classes, valid = (np.asarray(batch[name]) for name in ("boxes", "classes", "valid"))
    ignored = np.asarray(batch["ignored"]) if "ignored" in batch else np.zeros_like(valid)
    with np.errstate(invalid="ignore"):  # infinity less infinity, which is not finite either way
        sizes = boxes[..., 2:] - boxes[..., :2]
        large = sizes >= 0 if pixels else sizes > 0
    real = np.asarray(np.isfinite(boxes).all(-1) & large.all(-1))
    images = []
    for i in range(len(boxes)):
        t, d = (valid[i] | ignored[i]) & real[i], kept[i]
        truths = boxes[i][t], classes[i][t], ignored[i][t]
        images.append(ImageBoxes(*truths, detections[i][d], scores[i][d], labels[i][d]))
    return images
