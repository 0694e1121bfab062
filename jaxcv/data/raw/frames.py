"""Annotations that count pixels as a picture is stored, brought to the picture as it is shown.

Of a picture with an EXIF orientation the size that an annotation states tells which of the two it counts. Where it does
not, because the picture is square, only rotated by half a turn or mirrored, or no size is stated, nothing does, and
boxes or points could be somewhere else: such a picture is refused.
"""

from pathlib import Path
from typing import Any

import numpy as np

from jaxcv.data.io.images import check_image, read_orientation
from jaxcv.data.io.text import Where
from jaxcv.data.raw import Object, Raw
from jaxcv.data.raw.outlines import Outline, compress, fill, run_lengths, uncompress

REMEDY = "whether its pixels are counted as stored or as shown; save it as shown (PIL.ImageOps.exif_transpose)"


def upright(raw: Raw) -> Raw:
    """An image, its objects in pixels of the upright picture. Raises DataError: which they are in cannot be told."""
    if not raw.objects or (turn := read_orientation(raw.image)) == 1:
        return raw
    size = check_image(raw.image)
    if not raw.stated or not can_be_told(turn, size):
        why = "the stated size does not tell" if raw.stated else "no size is stated that would tell"
        raise raw.where.refuse(f"{raw.image.name} has EXIF orientation {turn}, and {why} {REMEDY}")
    if raw.size == size or raw.size != size[::-1]:  # the latter is refused as of another size
        return raw
    return raw._replace(size=size, objects=[_turn(each, turn, raw.size) for each in raw.objects])


def check_frame(image: Path, mask: Path) -> None:
    """Whether it can be told in which frame the mask of a picture is. Raises DataError."""
    if (turn := read_orientation(image)) > 1 and turn != read_orientation(mask):
        if not can_be_told(turn, check_image(image)):
            found = f"{image.name} has EXIF orientation {turn}, and the size of its mask does not tell"
            raise Where(mask).refuse(f"{found} {REMEDY}")


def can_be_told(turn: int, size: tuple[int, int]) -> bool:
    """Whether a size tells in which frame an annotation of a picture of this EXIF orientation is."""
    return turn >= 5 and size[0] != size[1]


def _turn(each: Object, turn: int, stored: tuple[int, int]) -> Object:
    width, height = stored

    def move(point: tuple[float, float]) -> tuple[float, float]:
        x, y = point
        return (y if turn in (5, 8) else height - y, x if turn in (5, 6) else width - x)

    box, outline = each.box, each.outline
    if box is not None and box[0] <= box[2] and box[1] <= box[3]:
        (x0, y0), (x1, y1) = move(box[:2]), move(box[2:])
        box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    if isinstance(outline, dict):  # run lengths, perhaps compressed
        outline = _turn_runs(outline, turn, stored)
    elif isinstance(outline, list) and all(map(_is_polygon, outline)):
        outline = [
            [v for p in zip(o[0::2], o[1::2], strict=True) for v in move((float(p[0]), float(p[1])))] for o in outline
        ]
    points = [None if point is None else move(point) for point in each.points]
    return each._replace(box=box, outline=outline, points=points)


def turn_pixels(pixels: np.ndarray, turn: int) -> np.ndarray:
    """An array [h w] as stored, upright; `turn` is an EXIF orientation from 5."""
    return {5: pixels.T, 6: np.rot90(pixels, -1), 7: np.rot90(pixels, 2).T, 8: np.rot90(pixels)}[turn]


def _is_polygon(values: Any) -> bool:
    return (
        isinstance(values, list)
        and len(values) % 2 == 0
        and all(type(value) in (int, float) and abs(value) < 1e9 for value in values)
    )


def _turn_runs(outline: dict[str, Any], turn: int, stored: tuple[int, int]) -> dict[str, Any]:
    """Run lengths; those that are wrong stay as they are, to be refused."""
    runs = outline.get("counts")
    runs = uncompress(runs) if isinstance(runs, str) else runs
    if outline.get("size") != [*stored[::-1]] or not isinstance(runs, list) or sum(runs) != stored[0] * stored[1]:
        return outline
    inside = fill(compress(Outline([], runs), size=stored), size=stored)
    return run_lengths(turn_pixels(inside, turn))
