"""`Stylised`: a picture in place of another one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from jaxcv.show.canvas import Canvas
from jaxcv.show.prediction import draw, record, table, target_of
from jaxcv.types import Batch, Stylised, Table


@target_of.register
def _target(prediction: Stylised, example: Batch) -> Stylised:
    return Stylised(np.asarray(example["image"], np.float32) / 255)


@draw.register
def _draw(
    prediction: Stylised, canvas: Canvas, class_names: Sequence[str], *, minimum: float = 0.3, scores: bool = True
) -> None:
    pixels = Image.fromarray(np.round(255 * np.asarray(prediction.picture)).clip(0, 255).astype(np.uint8))
    canvas.image.paste(pixels.resize(canvas.image.size, Image.Resampling.BICUBIC))


@table.register
def _table(
    prediction: Stylised,
    title: str,
    class_names: Sequence[str],
    *,
    minimum: float = 0.3,
) -> Table:
    height, width, _ = prediction.picture.shape
    return Table("", title, ("width", "height"), [(width, height)])


@record.register
def _record(
    prediction: Stylised,
    class_names: Sequence[str],
    *,
    minimum: float = 0.3,
) -> dict[str, Any]:
    height, width, _ = prediction.picture.shape
    return {"made_at": [width, height]}
