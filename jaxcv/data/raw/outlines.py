"""Outlines of objects, as polygons or as run lengths (RLE), to areas of pixels: COCO's way.

Polygons are filled by pycocotools, which is written in C and trusts what it is given: `jaxcv.data.example` checks
outlines first.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

IGNORE = 255  # in a mask: neither right nor wrong


class Outline(NamedTuple):
    """An outline in an image of known size."""

    polygons: list[list[float]]  # each x0, y0, x1, y1 ... in pixels; empty where there are runs
    runs: list[int]  # how many pixels in turn are outside and inside, column by column


def uncompress(counts: str) -> list[int] | None:
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


def extent(outline: Outline, *, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The box x0, y0, x1, y1 of an outline, in pixels; without area where nothing is inside."""
    if outline.polygons:
        xs, ys = (np.concatenate([polygon[i::2] for polygon in outline.polygons]) for i in (0, 1))
        return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())
    inside = fill(compress(outline, size=size), size=size)
    if not inside.any():
        return 0.0, 0.0, 0.0, 0.0
    rows, columns = (np.flatnonzero(inside.any(axis)).tolist() for axis in (1, 0))
    return float(columns[0]), float(rows[0]), columns[-1] + 1.0, rows[-1] + 1.0


def compress(outline: Outline, *, size: tuple[int, int]) -> bytes:
    """The area of an outline as COCO's compressed run lengths, in an image of width and height `size`."""
    from pycocotools import mask

    what: Any = outline.polygons or {"counts": outline.runs, "size": size[::-1]}
    packed: Any = mask.frPyObjects(what, size[1], size[0])  # pyright: ignore
    merged: Any = mask.merge(packed) if outline.polygons else packed
    return merged["counts"]


def fill(runs: bytes, *, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The pixels inside compressed run lengths, in an image of width and height `size`."""
    found = uncompress(runs.decode("ascii")) or []
    return np.repeat(np.arange(len(found)) % 2 == 1, found).reshape(size).T


def run_lengths(inside: Bool[np.ndarray, "h w"]) -> dict[str, Any]:
    """An area as COCO's `segmentation` has it, run lengths that are not compressed."""
    flat = inside.T.ravel()
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.array([0, *ends.tolist(), len(flat)])).tolist()
    return {"size": [*inside.shape], "counts": [0, *runs] if flat[:1].any() else runs}


def draw(outlines: Sequence[tuple[bytes, int]], *, size: tuple[int, int]) -> UInt8[np.ndarray, "h w"]:
    """A mask of classes, 0 where nothing is, for an image of width and height `size`.

    Each area, as `compress` gives it, is filled with its class, from 1, the large first, so that small show; `IGNORE`
    below all others.
    """
    canvas = np.zeros((size[1], size[0]), np.uint8)
    filled = [(fill(runs, size=size), value) for runs, value in outlines]
    for inside, value in sorted(filled, key=lambda each: (each[1] != IGNORE, -int(each[0].sum()))):
        canvas[inside] = value
    return canvas
