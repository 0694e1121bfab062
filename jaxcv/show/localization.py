"""`Localization`: one object or none, with its class and box."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxcv.show.canvas import DARK, Canvas, color_of, name_of
from jaxcv.show.prediction import draw, in_pixels, record, table, target_of
from jaxcv.types import Batch, Localization, Placement, Table


@target_of.register
def _target(prediction: Localization, example: Batch) -> Localization:
    boxes = np.where(example["valid"][:, None], example["boxes"], 0)
    largest = int(((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).argmax())
    label = int(example["classes"][largest])
    scores = np.eye(len(prediction.scores), dtype=np.float32)[label]
    return Localization(np.array(example["valid"].any(), np.float32), boxes[largest], np.array(label), scores)


@draw.register
def _draw(
    prediction: Localization, canvas: Canvas, class_names: Sequence[str], *, minimum: float = 0.3, scores: bool = True
) -> None:
    presence = f", p_c {prediction.score:.2f}" if scores else ""
    if prediction.score <= 0.5:
        canvas.text(f"no object{presence}", DARK)
        return
    label = int(prediction.label)
    name = name_of(label, class_names)
    text = f"{name} {prediction.scores[label]:.2f}{presence}" if scores else name
    canvas.box(np.asarray(prediction.box), text, color_of(label))


@table.register
def _table(
    prediction: Localization,
    title: str,
    class_names: Sequence[str],
    *,
    minimum: float = 0.3,
) -> Table:
    name, corners = "no object", ("",) * 4
    if prediction.score > 0.5:
        name = name_of(int(prediction.label), class_names)
        corners = (f"{c:.1f}" for c in prediction.box)
    row = (name, f"{prediction.score:.3f}", *corners)
    return Table("", title, ("class", "p_c", "x1", "y1", "x2", "y2"), [row])


@record.register
def _record(
    prediction: Localization,
    class_names: Sequence[str],
    *,
    minimum: float = 0.3,
) -> dict[str, Any]:
    return {
        "score": float(prediction.score),
        "box": [round(float(c), 2) for c in prediction.box],
        "class": name_of(int(prediction.label), class_names),
        "label": int(prediction.label),
        "scores": np.asarray(prediction.scores).tolist(),
    }


@in_pixels.register
def _in_pixels(prediction: Localization, placement: Placement, *, minimum: float = 0.0) -> Localization:
    return prediction._replace(box=placement.boxes(np.asarray(prediction.box)))
