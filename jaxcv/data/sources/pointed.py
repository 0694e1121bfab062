"""Image files with key points, as a `Source`: what every format of landmarks becomes once its annotations are read.

An example is a square of its image, resized with its proportions: the whole image in the middle of black borders, or
the surroundings of one object. Points are continuous, like the edges of boxes: the middle of the first pixel is
(0.5, 0.5). A point that is not annotated, or lies outside its image, is not `visible`, and its numbers mean nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxcv.data.example import Collection, Kept, check_all
from jaxcv.data.io.images import Progress, check_image, read_region
from jaxcv.types import Batch, DataError

CACHE_BYTES = 2**30
"""Most memory that decoded, resized images of one split may take; those that come first in the split are kept."""
MARGIN = 1.25
"""Side of the square around an object, by the longer side of its box."""
MAX_POINTS = 10_000


class PointExample(NamedTuple):
    """One object."""

    image: Path
    annotation: Path
    line: int | None
    size: tuple[int, int]
    """Width and height of the image file, checked when it is opened."""
    region: tuple[int, int, int]
    """Left, top and side of its square, in pixels of the file."""
    points: Float[np.ndarray, "p 2"]
    """x and y in pixels of the file, continuous."""
    visible: Bool[np.ndarray, "p"]
    group: str
    """Examples of one group, such as the frames of a film, belong to the same split."""


def check_example(example: PointExample, *, thorough: bool = False) -> None:
    """Look whether an example's image is whole and as large as its annotation says. Raises DataError."""
    _check_size(example, check_image(example.image, thorough=thorough))


def _check_size(example: PointExample, size: tuple[int, int]) -> None:
    if size != example.size:
        message = (
            f"the annotation says {example.size[0]}x{example.size[1]}, {example.image.name} is {size[0]}x{size[1]}"
        )
        raise DataError(f"{message}; correct one of them", file=example.annotation, line=example.line)


def whole(size: tuple[int, int]) -> tuple[int, int, int]:
    """The region of a whole image, in the middle of a square."""
    side = max(size)
    return (size[0] - side) // 2, (size[1] - side) // 2, side


def around(box: tuple[float, float, float, float]) -> tuple[int, int, int]:
    """The region around a box x0, y0, x1, y1 in pixels, `MARGIN` times as large as its longer side."""
    side = max(8, round(MARGIN * max(box[2] - box[0], box[3] - box[1])))
    return round((box[0] + box[2] - side) / 2), round((box[1] + box[3] - side) / 2), side


def place_points(
    values: list[tuple[float, float] | None], *, size: tuple[int, int], refuse: Callable[[str], DataError]
) -> tuple[Float[np.ndarray, "p 2"], Bool[np.ndarray, "p"]]:
    """Points and which of them are visible, checked.

    Args:
      values: x and y in pixels of an image, continuous; None where a point is not annotated.
      size: its width and height. Points may lie outside, but no farther than it is large.
      refuse: makes the DataError of a message.
    """
    if not 0 < len(values) <= MAX_POINTS:
        raise refuse(f"{len(values)} points, expected 1 to {MAX_POINTS:,}; correct it or take it out")
    for number, point in enumerate(values):
        for axis, side, value in zip("xy", size, point or (), strict=False):
            if not -side <= value <= 2 * side:  # not so either for NaN
                what = "not a finite number" if not math.isfinite(value) else f"in an image of {size[0]}x{size[1]}"
                raise refuse(f"{axis} of point {number} is {value:g}, {what}; correct it or leave the point out")
    points = np.array([point or (0.0, 0.0) for point in values], np.float32)
    inside = ((points >= 0) & (points <= np.array(size, np.float32))).all(1)
    return points, inside & np.array([point is not None for point in values])


@dataclass(frozen=True, eq=False)
class PointedImages:
    """One split of a collection of `PointExample`s, all with as many points; `scan` caches for itself."""

    split: str
    image_size: int
    channels: int
    scan: Callable[[], Collection]

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def _examples(self) -> tuple[PointExample, ...]:
        return self.scan().splits[self.split]

    def class_names(self) -> tuple[str, ...]:
        """No classes in a set of key points."""
        return ()

    @property
    def _count(self) -> int:
        return len(self.scan().splits["train"][0].points)

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """One example: `image` uint8 [s s c], `points` [p 2] and `visible` [p]."""
        return {
            "image": jax.ShapeDtypeStruct((self.image_size, self.image_size, self.channels), np.uint8),
            "points": jax.ShapeDtypeStruct((self._count, 2), np.float32),
            "visible": jax.ShapeDtypeStruct((self._count,), np.bool_),
        }

    @cached_property
    def _kept(self) -> Kept:
        return Kept(len(self), (self.image_size, self.image_size, self.channels), limit=CACHE_BYTES)

    def _decode(self, index: int) -> np.ndarray:
        example = self._examples[index]
        pixels, size = read_region(example.image, region=example.region, size=self.image_size, channels=self.channels)
        _check_size(example, size)
        return pixels

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The examples at `indices`."""
        points = np.zeros((len(indices), self._count, 2), np.float32)
        visible = np.zeros((len(indices), self._count), np.bool_)
        for row, i in enumerate(indices.tolist()):
            example = self._examples[i]
            left, top, side = example.region
            points[row] = (example.points - np.array([left, top], np.float32)) * np.float32(self.image_size / side)
            visible[row] = example.visible
        points[~visible] = 0
        return {"image": self._kept.read(indices, self._decode), "points": points, "visible": visible}

    def box_sizes(self) -> Float[np.ndarray, "n 2"]:
        """No boxes in a set of key points."""
        return np.zeros((0, 2), np.float32)

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """Every annotation, and of every image its header, size and ending; `thorough` decodes it too."""
        check_all(self._examples, partial(check_example, thorough=thorough), progress)
        images, hidden = len({e.image for e in self._examples}), sum(int((~e.visible).sum()) for e in self._examples)
        among = "" if images == len(self) else f" in {images:,} images"
        lines = [f"{self.split}: {len(self):,} examples{among}, {self._count} points each"]
        if hidden:
            lines.append(f"{self.split}: {hidden:,} points not annotated, or outside their image")
        return lines + [f"{self.split}: {note}" for note in self.scan().notes[self.split]]

    def read_image(self, path: str | Path) -> tuple[np.ndarray, tuple[float, float]]:
        """One whole file in the middle of a square, and the factors (x, y) from its pixels to the file's."""
        region = whole(check_image(Path(path)))
        pixels, _ = read_region(path, region=region, size=self.image_size, channels=self.channels)
        return pixels, (region[2] / self.image_size, region[2] / self.image_size)
