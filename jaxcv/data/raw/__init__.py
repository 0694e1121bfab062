"""What a format of annotations reads of an image, before any of it is checked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxcv.data.io.crops import Size
from jaxcv.data.io.text import Where

Edges = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels of an image file
Points = Sequence[tuple[float, float] | None]  # x and y in pixels, continuous; None where a point is not annotated


class Object(NamedTuple):
    """One object as its annotation has it."""

    where: Where
    name: str = ""  # of its class
    box: Edges | None = None
    outline: Any = None  # as COCO's `segmentation` has it: polygons in pixels, or run lengths
    points: Points = ()
    ignored: bool = False  # neither a target nor a false alarm
    written: str = "the extent of its outline"  # the box as its file has it, for a message
    named: Where | None = None  # where its class stands, if not there


class Raw(NamedTuple):
    """One image as its annotation has it."""

    image: Path
    where: Where
    size: Size
    objects: list[Object]
    group: str = ""  # of images that belong to the same split, such as the frames of a film; empty: the image's own
    whole: bool = False  # whether points are those of the whole image, not of an object in it
    stated: bool = True  # whether the annotation states the size; else it is that of the upright picture
