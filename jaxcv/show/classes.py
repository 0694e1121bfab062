"""`Classes`: one class for the whole image."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxcv.show.canvas import Canvas, color_of, name_of
from jaxcv.show.prediction import draw, record, table, target_of
from jaxcv.types import Batch, Classes, Table

_BEST = 5
"""Classes in table and record."""


@target_of.register
def _target(prediction: Classes, example: Batch) -> Classes:
    return Classes(example["label"], np.eye(len(prediction.scores), dtype=np.float32)[example["label"]])


@draw.register
def _draw(
    prediction: Classes, canvas: Canvas, class_names: Sequence[str], *, minimum: float = 0.3, scores: bool = True
) -> None:
    label = int(prediction.label)
    name = name_of(label, class_names)
    canvas.text(f"{name} {prediction.scores[label]:.2f}" if scores else name, color_of(label))


@table.register
def _table(
    prediction: Classes,
    title: str,
    class_names: Sequence[str],
    *,
    minimum: float = 0.3,
) -> Table:
    best = np.argsort(-prediction.scores)[:_BEST].tolist()
    rows = [(name_of(label, class_names), f"{prediction.scores[label]:.3f}") for label in best]
    return Table("", title, ("class", "probability"), rows)


@record.register
def _record(
    prediction: Classes,
    class_names: Sequence[str],
    *,
    minimum: float = 0.3,
) -> dict[str, Any]:
    best = np.argsort(-prediction.scores)[:_BEST].tolist()
    fields = [{"class": name_of(i, class_names), "index": i, "score": float(prediction.scores[i])} for i in best]
    return {"classes": fields}
