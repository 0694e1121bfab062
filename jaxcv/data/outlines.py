"""Outlines of objects, as polygons or as run lengths (RLE), to areas of pixels: COCO's way.

Polygons are filled by pycocotools, which is written in C and trusts what it is given: they may not reach far out of
the image. Run lengths must fill the image exactly.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from jaxcv.data.formats.coco_json import floats
from jaxcv.data.io.text import shown
from jaxcv.types import DataError

IGNORE = 255
"""In a mask: neither right nor wrong."""


class Shape(NamedTuple):
    """An outline in an image of known size."""

    polygons: list[list[float]]
    """Each x0, y0, x1, y1 ... in pixels; empty where there are runs."""
    runs: list[int]
    """How many pixels in turn are outside and inside, column by column."""


def read_polygon(values: list[float], *, size: tuple[int, int], refuse: Callable[[str], DataError]) -> list[float]:
    """One polygon, checked.

    Args:
      values: x0, y0, x1, y1 ... in pixels of an image.
      size: its width and height. Points may lie outside, but no farther than it is large.
      refuse: makes the DataError of a message.
    """
    if len(values) < 6 or len(values) % 2:
        raise refuse(f"a polygon of {len(values)} numbers, expected x and y of at least 3 points; take it out")
    for i, value in enumerate(values):
        side = size[i % 2]
        if not -side <= value <= 2 * side:  # not so either for NaN
            message = f"the polygon's {'xy'[i % 2]}{i // 2} is {shown(value)} in an image of {size[0]}x{size[1]}"
            raise refuse(message + "; correct it or take it out")
    return values


def read_shape(segmentation: Any, *, size: tuple[int, int], refuse: Callable[[str], DataError]) -> Shape:
    """COCO's `segmentation`: a list of polygons, or a mapping of run lengths, compressed or not.

    Args:
      segmentation: as JSON has it.
      size: the image's width and height.
      refuse: makes the DataError of a message.
    """
    if size[0] * size[1] >= 2**31:  # beyond what pycocotools counts with
        raise refuse(f"an outline in an image of {size[0]}x{size[1]} pixels; correct the image's size")
    if isinstance(segmentation, list):
        polygons = [floats(values) for values in segmentation]
        if not polygons or not all(polygons):
            what = f"segmentation is {shown(segmentation)} without polygons"
            raise refuse(f"{what}, expected lists of numbers; take the annotation out, or draw it anew")
        return Shape([read_polygon(values, size=size, refuse=refuse) for values in polygons if values], [])
    if not isinstance(segmentation, dict):
        raise refuse(f"segmentation is {shown(segmentation)}, expected polygons or run lengths; correct it")
    if segmentation.get("size") != [size[1], size[0]]:
        message = f"run lengths for a picture of {_plain(segmentation.get('size'))}, expected height and width "
        raise refuse(f"{message}{size[1]}, {size[0]}; correct one of them")
    counts = segmentation.get("counts")
    runs = _uncompress(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and 0 <= run <= size[0] * size[1] for run in runs):
        raise refuse("run lengths that are damaged, expected whole numbers from 0; make them anew")
    if sum(runs) != size[0] * size[1]:
        raise refuse(f"run lengths of {sum(runs):,} pixels, the image has {size[0] * size[1]:,}; make them anew")
    return Shape([], runs)


def _plain(value: Any) -> str:
    if isinstance(value, list) and len(value) == 2:
        return ", ".join(map(shown, value))
    return shown(value)


def _uncompress(counts: str) -> list[int] | None:
    """COCO's text of run lengths: five bits a character, little end first, each run less the last but one."""
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 40:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs if shift == 0 else None


def _runs(shape: Shape, size: tuple[int, int]) -> list[int]:
    from pycocotools import mask

    if shape.runs:
        return shape.runs
    packed = mask.merge(mask.frPyObjects(shape.polygons, size[1], size[0]))  # pyright: ignore
    return _uncompress(packed["counts"].decode("ascii")) or []  # pyright: ignore


def extent(shape: Shape, *, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The box x0, y0, x1, y1 of an outline, in pixels; without area where nothing is inside."""
    if shape.polygons:
        xs, ys = (np.concatenate([polygon[i::2] for polygon in shape.polygons]) for i in (0, 1))
        return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())
    ends = np.cumsum(shape.runs)
    starts, ends = ends[0::2], ends[1::2]
    starts, ends = starts[: len(ends)][starts[: len(ends)] < ends], ends[starts[: len(ends)] < ends] - 1
    if not len(starts):
        return 0.0, 0.0, 0.0, 0.0
    height = size[1]
    x0, x1 = int(starts[0]) // height, int(ends[-1]) // height + 1
    if (starts // height < ends // height).any():  # from the foot of a column to the head of the next
        return float(x0), 0.0, float(x1), float(height)
    return float(x0), float((starts % height).min()), float(x1), float((ends % height).max() + 1)


def fill(shape: Shape, *, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The pixels inside an outline, in an image of width and height `size`."""
    runs = _runs(shape, size)
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size).T


def draw(shapes: Sequence[tuple[Shape, int]], *, size: tuple[int, int]) -> UInt8[np.ndarray, "h w"]:
    """A mask of classes: 0 where nothing is; each outline filled with its class, the large first, so that small show.

    Args:
      shapes: outlines and the class of each, from 1; `IGNORE` is drawn below all others.
      size: the image's width and height.
    """
    canvas = np.zeros((size[1], size[0]), np.uint8)
    filled = [(fill(shape, size=size), value) for shape, value in shapes]
    for inside, value in sorted(filled, key=lambda each: (each[1] != IGNORE, -int(each[0].sum()))):
        canvas[inside] = value
    return canvas
