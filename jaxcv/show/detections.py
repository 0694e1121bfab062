"""`Detections`: a box, a class and a score for each object."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxcv.show.canvas import Canvas, color_of, name_of
from jaxcv.show.prediction import draw, in_pixels, record, table, target_of
from jaxcv.types import Batch, Detections, Placement, Table


def _kept(prediction: Detections, minimum: float) -> Iterator[tuple[np.ndarray, float, int]]:
    for box, score, label, valid in zip(*prediction[:4], strict=True):
        if valid and score >= minimum:
            yield np.asarray(box), float(score), int(label)


@target_of.register
def _target(prediction: Detections, example: Batch) -> Detections:
    valid = example["valid"]
    return Detections(example["boxes"], valid.astype(np.float32), example["classes"], valid)


@draw.register
def _draw(
    prediction: Detections, canvas: Canvas, class_names: Sequence[str], *, minimum: float = 0.3, scores: bool = True
) -> None:
    if prediction.proposals is not None:
        for box in prediction.proposals:
            canvas.outline(box, "white")
    for box, score, label in reversed(list(_kept(prediction, minimum))):  # the best one on top
        name = name_of(label, class_names)
        canvas.box(box, f"{name} {score:.2f}" if scores else name, color_of(label))


@table.register
def _table(
    prediction: Detections,
    title: str,
    class_names: Sequence[str],
    *,
    minimum: float = 0.3,
) -> Table:
    rows = [
        (name_of(label, class_names), f"{score:.3f}", *(f"{c:.1f}" for c in box))
        for box, score, label in _kept(prediction, minimum)
    ]
    return Table("", title, ("class", "score", "x1", "y1", "x2", "y2"), rows)


@record.register
def _record(
    prediction: Detections,
    class_names: Sequence[str],
    *,
    minimum: float = 0.3,
) -> dict[str, Any]:
    detections = [
        {
            "class": name_of(label, class_names),
            "index": label,
            "score": round(score, 6),
            "box": [round(float(c), 2) for c in box],
        }
        for box, score, label in _kept(prediction, minimum)
    ]
    return {"detections": detections}


@in_pixels.register
def _in_pixels(prediction: Detections, placement: Placement, *, minimum: float = 0.0) -> Detections:
    kept = np.asarray(prediction.valid) & (np.asarray(prediction.scores) >= minimum)
    boxes, scores, classes, valid = (np.asarray(field)[kept] for field in prediction[:4])
    proposals = None if prediction.proposals is None else placement.boxes(np.asarray(prediction.proposals))
    return Detections(placement.boxes(boxes), scores, classes, valid, proposals)
