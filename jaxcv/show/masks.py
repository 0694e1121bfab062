"""`Masks`: a class for each pixel."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageColor

from jaxcv.show.canvas import Canvas, color_of, name_of
from jaxcv.show.prediction import draw, draw_error, in_pixels, record, table, target_of
from jaxcv.types import Batch, Masks, Placement, Table

_VOID = 255


@target_of.register
def _target(prediction: Masks, example: Batch) -> Masks:
    return Masks(example["mask"], np.ones(example["mask"].shape, np.float32))


@draw.register
def _draw(
    prediction: Masks, canvas: Canvas, class_names: Sequence[str], *, minimum: float = 0.3, scores: bool = True
) -> None:
    canvas.mask(np.asarray(prediction.label), class_names)


@draw_error.register
def _draw_error(prediction: Masks, target: Masks, canvas: Canvas) -> bool:
    """Red where the class is wrong, black where the target is void."""
    wrong = np.asarray(prediction.label) != target.label
    colors = np.where(wrong[..., None], np.array([230, 25, 75], np.uint8), np.array([235, 235, 235], np.uint8))
    canvas.tint(np.where((target.label == _VOID)[..., None], np.uint8(0), colors))
    return True


@table.register
def _table(
    prediction: Masks,
    title: str,
    class_names: Sequence[str],
    *,
    minimum: float = 0.3,
) -> Table:
    areas = _areas(np.asarray(prediction.label), class_names)
    rows = [(a["class"], f"{a['pixels']:,}", f"{a['fraction']:.3f}") for a in areas]
    return Table("", title, ("class", "pixels", "fraction"), rows)


@record.register
def _record(
    prediction: Masks,
    class_names: Sequence[str],
    *,
    minimum: float = 0.3,
) -> dict[str, Any]:
    """How many pixels of the image each class takes, the largest first."""
    return {"areas": _areas(np.asarray(prediction.label), class_names)}


def palette_mask(prediction: Masks) -> Image.Image:
    """Class numbers as a picture with a palette."""
    picture = Image.fromarray(np.asarray(prediction.label, np.uint8))
    colors = [ImageColor.getrgb(color_of(i)) for i in range(_VOID)] + [(0, 0, 0)]
    picture.putpalette([channel for color in colors for channel in color])
    return picture


def _areas(label: np.ndarray, class_names: Sequence[str]) -> list[dict[str, Any]]:
    counts = np.bincount(label.ravel(), minlength=1)
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda i: -counts[i])
    return [
        {
            "class": name_of(i, class_names),
            "index": i,
            "pixels": int(counts[i]),
            "fraction": round(float(counts[i] / label.size), 6),
        }
        for i in order
    ]


@in_pixels.register
def _in_pixels(prediction: Masks, placement: Placement, *, minimum: float = 0.0) -> Masks:
    """By the nearest pixel; void where the network was not shown the picture."""
    (width, height), x, y, left, top = placement
    rows, columns = (
        np.floor((np.arange(n) + 0.5 - start) / factor).astype(int)
        for n, start, factor in ((height, top, y), (width, left, x))
    )
    label, score = (
        np.pad(np.asarray(field), 1, constant_values=outside)[
            np.clip(rows + 1, 0, field.shape[0] + 1)[:, None], np.clip(columns + 1, 0, field.shape[1] + 1)
        ]
        for field, outside in ((prediction.label, _VOID), (prediction.score, 0))
    )
    return Masks(label, score)
