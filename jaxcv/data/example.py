"""Examples, and the one validation that every format of annotations goes through.

A parser yields raw numbers and where they stand: `Raw` images of `Object`s, which `data.collector` checks by the
functions here.

Boxes: numbers that are not finite, a negative width or height, a box wholly outside the image, or an edge farther
outside than the image is large are faults. A box without area (narrower or lower than a hundredth of a pixel) is
dropped and counted. What reaches out of the image is cut, and counted when by more than a pixel.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from jaxcv.data.io.crops import Region, Size
from jaxcv.data.io.images import Progress, check_image, read_orientation
from jaxcv.data.io.kept import KeptScan
from jaxcv.data.io.text import Where, list_names, shown
from jaxcv.data.raw import Edges, Points
from jaxcv.data.raw.frames import turn_pixels
from jaxcv.data.raw.outlines import Outline, uncompress
from jaxcv.errors import DataError

Task = Literal["label", "boxes", "mask", "points"]
SPLITS = ("train", "test")
MAX_SIDE = 10**6  # pixels that an annotation may say an image is wide or high
MAX_BOXES = MAX_POINTS = 10_000  # of one image: every image of a batch is given room for as many as the fullest has
NO_AREA = 0.01  # pixels of a side


class Example(NamedTuple):
    """One image file, or an object in it, and what its annotation says, checked."""

    image: Path
    where: Where
    size: Size | None = None  # as the annotation states it; None: it states none
    label: int = 0
    boxes: Float[np.ndarray, "n 4"] = np.zeros((0, 4), np.float32)  # xyxy in pixels of the image file
    classes: Int[np.ndarray, "n"] = np.zeros(0, np.int32)
    ignored: Bool[np.ndarray, "n"] = np.zeros(0, np.bool_)
    mask: Callable[[], UInt8[np.ndarray, "h w"]] | None = None
    """Makes the class of each pixel, 255 where it is to be ignored. Raises DataError."""
    region: Region = (0, 0, 0, 0)  # where the points' object is
    points: Float[np.ndarray, "p 2"] = np.zeros((0, 2), np.float32)  # x and y in pixels of the file, continuous
    visible: Bool[np.ndarray, "p"] = np.zeros(0, np.bool_)
    group: str = ""


class LabelledFiles(Sequence[Example]):
    """Image files with a class each, as examples: a million of them take little room."""

    def __init__(self, files: Iterable[str | Path], labels: Iterable[int]):
        self.files, self.labels = tuple(map(str, files)), np.array([*labels], np.int32)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Example:  # pyright: ignore[reportIncompatibleMethodOverride]: no slices
        path = Path(self.files[index])
        return Example(path, Where(path), label=int(self.labels[index]))


class Scan(NamedTuple):
    """Both splits of a set, annotations read."""

    class_names: tuple[str, ...]
    splits: Mapping[str, Sequence[Example]]
    notes: Mapping[str, list[str]]  # what was dropped, cut or skipped, by split
    swap: tuple[int, ...] | None = None  # of each point the one that it becomes in a mirror image; None: nobody says
    kept: KeptScan | None = None  # where it is kept for later processes


def _misplaced(points: Points, size: Size) -> tuple[str, str]:
    """Of the first point that cannot be, its number, axis and value, and what is wrong with it; empty: none."""
    for number, point in enumerate(points):
        for axis, side, value in zip("xy", size, point or (), strict=False):
            if not -side <= value <= 2 * side:  # not so either for NaN
                fault = f"far out of the {size[0]}x{size[1]} image" if math.isfinite(value) else "not a finite number"
                return f"{axis} of point {number} is {value:g}", fault
    return "", ""


def check_box(edges: Edges, *, size: Size, written: str, where: Where) -> tuple[Edges, bool] | None:
    """One box by the rules of the module: inside the image, and whether more than a pixel was cut off; None: no area.

    `written` is the box as its file has it, for a message.
    """
    x0, y0, x1, y1 = edges
    width, height = size
    _, fault = _misplaced([edges[:2], edges[2:]], size)
    if not fault and (x1 < x0 or y1 < y0):
        fault = "negative width or height"
    cut = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    if not fault and min(x1 - x0, y1 - y0) >= NO_AREA and (cut[0] >= cut[2] or cut[1] >= cut[3]):
        fault = f"outside the {width}x{height} image"
    if fault:
        raise where.refuse(f"{written}: {fault}")
    if min(x1 - x0, y1 - y0, cut[2] - cut[0], cut[3] - cut[1]) < NO_AREA:
        return None
    return cut, x0 < -1 or y0 < -1 or x1 > width + 1 or y1 > height + 1


def check_points(points: Points, *, size: Size, where: Where) -> tuple[Float[np.ndarray, "p 2"], Bool[np.ndarray, "p"]]:
    """Points and which of them are visible: annotated, and inside the image."""
    if not 0 < len(points) <= MAX_POINTS:
        raise where.refuse(f"{len(points)} points, expected 1 to {MAX_POINTS:,}")
    found, fault = _misplaced(points, size)
    if fault:
        raise where.refuse(f"{found}, {fault}")
    placed = np.array([point or (0.0, 0.0) for point in points], np.float32)
    inside = ((placed >= 0) & (placed <= np.array(size, np.float32))).all(1)
    return placed, inside & np.array([point is not None for point in points])


def to_floats(values: Any) -> list[float] | None:
    """A list of numbers as floats; None where it is anything else."""
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        return None
    return [math.inf if type(value) is int and abs(value) > 2**1000 else float(value) for value in values]


def check_outline(outline: Any, *, size: Size, where: Where) -> Outline:
    """Polygons, or run lengths, compressed or not, as COCO's `segmentation` has them."""
    width, height = size
    if width * height >= 2**31:  # beyond what pycocotools counts with
        raise where.refuse(f"an outline in an image of {width}x{height} pixels, expected less than 2^31")
    if isinstance(outline, list):
        polygons = [polygon for values in outline if (polygon := to_floats(values))]
        if not polygons or len(polygons) < len(outline):
            raise where.refuse(f"segmentation is {shown(outline)} without polygons, expected lists of numbers")
        for polygon in polygons:
            if len(polygon) < 6 or len(polygon) % 2:
                raise where.refuse(f"a polygon of {len(polygon)} numbers, expected x and y of at least 3 points")
            found, fault = _misplaced([*zip(polygon[0::2], polygon[1::2], strict=True)], size)
            if fault:
                raise where.refuse(f"a polygon whose {found}, {fault}")
        return Outline(polygons, [])
    if not isinstance(outline, dict):
        raise where.refuse(f"segmentation is {shown(outline)}, expected polygons or run lengths")
    if (stated := outline.get("size")) != [height, width]:
        expected = f"expected height and width {height}, {width}"
        raise where.refuse(f"run lengths for a picture of {shown(stated)}, {expected}")
    counts = outline.get("counts")
    runs = uncompress(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and 0 <= run <= width * height for run in runs):
        raise where.refuse(f"run lengths that are damaged, expected whole numbers from 0 to {width * height:,}")
    if sum(runs) != width * height:
        raise where.refuse(f"run lengths of {sum(runs):,} pixels, the image has {width * height:,}")
    return Outline([], runs)


def check_class(name: str, names: Mapping[str, int], where: Where) -> int:
    """The index of a class."""
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise where.refuse(f"class {shown(name)} is not in the list ({list_names([*names])}){hint}")
    return names[name]


def check_size(example: Example, size: Size) -> None:
    """Whether an image file is as large as its annotation says."""
    if example.size not in (None, size):
        width, height = example.size
        found = f"{example.image.name} is {size[0]}x{size[1]}"
        raise example.where.refuse(f"the annotation says {width}x{height}, {found}")


def read_labels(example: Example, size: Size) -> UInt8[np.ndarray, "h w"]:
    """The mask of an image of `size`."""
    check_size(example, size)  # before a mask of the stated size is drawn
    mask = np.zeros((0, 0), np.uint8) if example.mask is None else example.mask()
    if mask.shape != size[::-1] and (turn := read_orientation(example.image)) >= 5:
        mask = turn_pixels(mask, turn)
    check_size(example._replace(size=mask.shape[::-1]), size)
    return mask


def check_example(example: Example, *, thorough: bool = False) -> None:
    """Whether an example's image is whole and as large as its annotation says; `thorough` also decodes and draws."""
    size = check_image(example.image, thorough=thorough)
    check_size(example, size)
    if example.mask is not None and (thorough or example.size is None):  # outlines take long to draw
        read_labels(example, size)


def find_faults(items: Sequence[Any], look: Callable[[Any], object]) -> Iterator[DataError | None]:
    """What `look` finds wrong with each item, in order; two are looked at at once."""

    def fault(item: Any) -> DataError | None:
        try:
            look(item)
        except DataError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(items), 64):  # whoever stops listening waits for no more than these
            yield from pool.map(fault, [items[i] for i in range(start, min(start + 64, len(items)))])


def check_all(items: Sequence[Any], look: Callable[[Any], object], progress: Progress | None = None) -> None:
    """Look at each item. Raises the first DataError, in order."""
    for done, fault in enumerate(find_faults(items, look), 1):
        if fault is not None:
            raise fault
        if progress is not None:
            progress(done, len(items))
