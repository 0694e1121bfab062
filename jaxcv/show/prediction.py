"""The functions that a type of prediction registers, and an image with a prediction drawn onto it."""

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np
from PIL import Image

from jaxcv.show.canvas import Canvas
from jaxcv.types import Batch, Placement, Table


@singledispatch
def target_of(prediction: Any, example: Batch) -> Any:
    """The target of one example as a prediction of the same type; None for types that have none.

    Args:
        prediction: for this example.
        example: its fields, without batch axis.
    """
    return None


@singledispatch
def draw(
    prediction: Any, canvas: Canvas, class_names: Sequence[str], *, minimum: float = 0.3, scores: bool = True
) -> None:
    """Draw the prediction for one image.

    Args:
        prediction: in the pixels that the canvas is told.
        canvas: holds the image.
        class_names: name of each class index.
        minimum: detections with a smaller score are left out.
        scores: whether scores are written beside the names; those of a target say nothing.

    Raises:
        TypeError: nothing is registered for the type.
    """
    raise TypeError(f"no drawing is known for {type(prediction).__name__}")


@singledispatch
def draw_error(prediction: Any, target: Any, canvas: Canvas) -> bool:
    """Draw where the prediction for one image is wrong; False for types that have no such drawing, the others True.

    Args:
        prediction: for one image.
        target: what `target_of` gave.
        canvas: holds the image.
    """
    return False


@singledispatch
def table(
    prediction: Any,
    title: str,
    class_names: Sequence[str],
    *,
    minimum: float = 0.3,
) -> Table:
    """The prediction for one image as a table for a terminal.

    Args:
        prediction: for one image.
        title: of the table.
        class_names: name of each class index.
        minimum: detections with a smaller score are left out.

    Raises:
        TypeError: nothing is registered for the type.
    """
    raise TypeError(f"no table is known for {type(prediction).__name__}")


@singledispatch
def record(
    prediction: Any,
    class_names: Sequence[str],
    *,
    minimum: float = 0.3,
) -> dict[str, Any]:
    """The prediction for one image as fields for JSON.

    Args:
        prediction: for one image.
        class_names: name of each class index.
        minimum: detections with a smaller score are left out.

    Returns:
        Of a type for which nothing is registered: its fields as nested lists.
    """
    fields = prediction._asdict() if hasattr(prediction, "_asdict") else {"output": prediction}
    return {name: np.asarray(value).tolist() for name, value in fields.items()}


@singledispatch
def in_pixels(prediction: Any, placement: Placement, *, minimum: float = 0.0) -> Any:
    """The prediction for one image in the pixels of the image, without padding; its type stays.

    Args:
        prediction: for one image.
        placement: where the network's input lies in the image; boxes are clipped to that.
        minimum: detections with a smaller score are left out.

    Returns:
        Of a type for which nothing is registered: the prediction, in which no pixels are meant.
    """
    return prediction


def render(
    prediction: Any,
    pixels: np.ndarray,
    class_names: Sequence[str],
    *,
    title: str = "",
    minimum: float = 0.3,
    scores: bool = True,
) -> Image.Image:
    """One uint8 image [h w c] with its prediction drawn onto it, small images enlarged.

    Args:
        prediction: for this image.
        pixels: of the image, 1 or 3 channels.
        class_names: name of each class index.
        title: written in the lower right corner.
        minimum: detections with a smaller score are left out.
        scores: whether scores are written.
    """
    canvas = Canvas(pixels)
    draw(prediction, canvas, class_names, minimum=minimum, scores=scores)
    if title:
        canvas.title(title)
    return canvas.image
