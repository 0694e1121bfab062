"""`Embeddings`: one vector for the whole image. `Similarities`: how like each image of its batch it is."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxcv.show.canvas import DARK, Canvas
from jaxcv.show.prediction import draw, record, table
from jaxcv.types import Embeddings, Similarities, Table


@draw.register(Embeddings)
@draw.register(Similarities)
def _draw(
    prediction: Any, canvas: Canvas, class_names: Sequence[str], *, minimum: float = 0.3, scores: bool = True
) -> None:
    """Numbers that mean nothing alone."""
    canvas.text(f"{_NAMES[type(prediction)]} of {prediction[0].size} numbers", DARK)


@table.register(Embeddings)
@table.register(Similarities)
def _table(
    prediction: Any,
    title: str,
    class_names: Sequence[str],
    *,
    minimum: float = 0.3,
) -> Table:
    values = prediction[0]
    first = " ".join(f"{value:.3f}" for value in values[:8])
    return Table("", title, (_NAMES[type(prediction)], "numbers"), [(first + " ..." * (len(values) > 8), len(values))])


@record.register(Embeddings)
@record.register(Similarities)
def _record(
    prediction: Any,
    class_names: Sequence[str],
    *,
    minimum: float = 0.3,
) -> dict[str, Any]:
    return {_NAMES[type(prediction)]: np.asarray(prediction[0], np.float64).round(6).tolist()}


_NAMES = {Embeddings: "embedding", Similarities: "similarities"}
