"""`Landmarks`: known points of one object."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxcv.show.canvas import Canvas
from jaxcv.show.prediction import draw, in_pixels, record, table, target_of
from jaxcv.types import Batch, Landmarks, Placement, Table


@target_of.register
def _target(prediction: Landmarks, example: Batch) -> Landmarks:
    return Landmarks(example["points"], example.get("visible", np.ones(len(example["points"]), bool)))


@draw.register
def _draw(
    prediction: Landmarks, canvas: Canvas, class_names: Sequence[str], *, minimum: float = 0.3, scores: bool = True
) -> None:
    canvas.points(np.asarray(prediction.points), np.asarray(prediction.visible))


@table.register
def _table(
    prediction: Landmarks,
    title: str,
    class_names: Sequence[str],
    *,
    minimum: float = 0.3,
) -> Table:
    points = enumerate(zip(*prediction, strict=True))
    rows = [(str(i), *(f"{c:.1f}" for c in point)) for i, (point, visible) in points if visible]
    return Table("", title, ("point", "x", "y"), rows)


@record.register
def _record(
    prediction: Landmarks,
    class_names: Sequence[str],
    *,
    minimum: float = 0.3,
) -> dict[str, Any]:
    points = np.round(np.asarray(prediction.points, np.float64), 2).tolist()
    return {"points": points, "visible": np.asarray(prediction.visible).tolist()}


@in_pixels.register
def _in_pixels(prediction: Landmarks, placement: Placement, *, minimum: float = 0.0) -> Landmarks:
    return prediction._replace(points=placement.points(np.asarray(prediction.points)).astype(np.float32))
