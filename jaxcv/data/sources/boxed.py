"""Image files with boxes, as a `Source`: what every detection format becomes once its annotations are read.

Images are squashed to the network's square input, boxes with them. Resized images are decoded once and kept, as many as
fit in `CACHE_BYTES`.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxcv.data.example import Collection, Kept, check_all
from jaxcv.data.io.images import Progress, check_image, read_image
from jaxcv.data.io.text import list_counts
from jaxcv.types import Batch, DataError

CACHE_BYTES = 2**30
"""Most memory that decoded, resized images of one split may take; those that come first in the split are kept."""
MAX_BOXES = 10_000
"""Of one image: every image of a batch is given room for as many as the fullest has."""
_NO_AREA = 0.01


class Example(NamedTuple):
    """One image and what its annotation says."""

    image: Path
    annotation: Path
    width: int
    """Of the image file, in pixels; what the annotation says, checked against the file when it is opened."""
    height: int
    boxes: Float[np.ndarray, "n 4"]
    """xyxy in pixels of the image file."""
    classes: Int[np.ndarray, "n"]
    ignored: Bool[np.ndarray, "n"]
    """Boxes that are neither truth nor false alarm."""


def clip_box(
    edges: tuple[float, float, float, float], *, size: tuple[int, int], written: str, refuse: Callable[[str], DataError]
) -> tuple[tuple[float, float, float, float], bool] | None:
    """One box by the rules that hold for all formats but VOC's own.

    Numbers that are not finite, a negative width or height, a place wholly outside the image, or an edge farther
    outside than the image is large are faults. A box without area (narrower or lower than a hundredth of a pixel) is
    dropped. What reaches out of the image is cut.

    Args:
      edges: x0, y0, x1, y1 in pixels of the image file.
      size: width and height of the image.
      written: the box as its file has it, for a message.
      refuse: makes the DataError of a message, with file and line.

    Returns:
      The edges inside the image, and whether more than a pixel was cut off; None: no area.
    """
    x0, y0, x1, y1 = edges
    width, height = size
    if not all(map(math.isfinite, edges)):
        raise refuse(f"{written}: not a finite number; correct it or take the box out")
    if x1 < x0 or y1 < y0:
        raise refuse(f"{written}: negative width or height; correct it or take the box out")
    if far_outside(edges, size):
        raise refuse(f"{written} reaches far out of the {width}x{height} image; correct it or take the box out")
    if min(x1 - x0, y1 - y0) < _NO_AREA:
        return None
    cut = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    if cut[0] >= cut[2] or cut[1] >= cut[3]:
        raise refuse(f"{written} lies outside the {width}x{height} image; correct it or take the box out")
    if min(cut[2] - cut[0], cut[3] - cut[1]) < _NO_AREA:
        return None
    return cut, x0 < -1 or y0 < -1 or x1 > width + 1 or y1 > height + 1


def far_outside(edges: tuple[float, ...], size: tuple[float | int, float | int]) -> bool:
    """Whether an edge lies farther outside an image of `size` than it is wide or high."""
    return any(not -side <= edge <= 2 * side for edge, side in zip(edges, (*size, *size), strict=True))


def check_example(example: Example, *, thorough: bool = False) -> None:
    """Look whether an example's image is whole and as large as its annotation says. Raises DataError."""
    if len(example.boxes) > MAX_BOXES:
        message = f"{len(example.boxes):,} boxes for {example.image.name}, expected at most {MAX_BOXES:,}"
        raise DataError(message + "; take the image out", file=example.annotation)
    _check_size(example, check_image(example.image, thorough=thorough))


def _check_size(example: Example, size: tuple[int, int]) -> None:
    if size != (example.width, example.height):
        turned = size == (example.height, example.width)
        raise DataError(
            f"the annotation says {example.width}x{example.height}, {example.image.name} is {size[0]}x{size[1]}; "
            + ("boxes must count the pixels as stored, not as turned by EXIF" if turned else "correct one of them"),
            file=example.annotation,
        )


@dataclass(frozen=True, eq=False)
class BoxedImages:
    """One split of a collection of `Example`s; `scan` reads the annotations and caches for itself."""

    split: str
    image_size: int
    scan: Callable[[], Collection]

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def _examples(self) -> tuple[Example, ...]:
        return self.scan().splits[self.split]

    def class_names(self) -> tuple[str, ...]:
        """Name of each class index."""
        return self.scan().class_names

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """One example: `image` uint8 [s s 3], `boxes` [m 4], `classes`, `valid`, `ignored` [m]."""
        m = self._max_boxes
        return {
            "image": jax.ShapeDtypeStruct((self.image_size, self.image_size, 3), np.uint8),
            "boxes": jax.ShapeDtypeStruct((m, 4), np.float32),
            "classes": jax.ShapeDtypeStruct((m,), np.int32),
            "valid": jax.ShapeDtypeStruct((m,), np.bool_),
            "ignored": jax.ShapeDtypeStruct((m,), np.bool_),
        }

    @cached_property
    def _max_boxes(self) -> int:
        """Most boxes of one image in any split, at least 1."""
        return max(1, *(len(e.boxes) for split in self.scan().splits.values() for e in split))

    @cached_property
    def _kept(self) -> Kept:
        return Kept(len(self), (self.image_size, self.image_size, 3), limit=CACHE_BYTES)

    def _scaled(self, example: Example) -> Float[np.ndarray, "n 4"]:
        return example.boxes * (self.image_size / np.array([example.width, example.height] * 2, np.float32))

    def _decode(self, index: int) -> np.ndarray:
        example = self._examples[index]
        pixels, size = read_image(example.image, size=self.image_size)
        _check_size(example, size)
        return pixels

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The examples at `indices`."""
        batch = {k: np.zeros((len(indices), *v.shape), v.dtype) for k, v in self.spec().items() if k != "image"}
        for row, i in enumerate(indices.tolist()):
            example, n = self._examples[i], len(self._examples[i].boxes)
            batch["boxes"][row, :n] = self._scaled(example)
            batch["classes"][row, :n] = example.classes
            batch["valid"][row, :n] = ~example.ignored
            batch["ignored"][row, :n] = example.ignored
        return {"image": self._kept.read(indices, self._decode), **batch}

    def box_sizes(self) -> Float[np.ndarray, "n 2"]:
        """Sizes of all boxes that count, in pixels of the network's input image."""
        boxes = [self._scaled(e)[~e.ignored] for e in self._examples]
        edges = np.concatenate(boxes) if boxes else np.zeros((0, 4), np.float32)
        return edges[:, 2:] - edges[:, :2]

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """Every annotation, and of every image its header, size and ending; `thorough` decodes it too."""
        examples, names = self._examples, self.class_names()
        check_all(examples, partial(check_example, thorough=thorough), progress)
        counts = Counter(names[c] for e in examples for c in e.classes[~e.ignored].tolist())
        per_class = list_counts(names, [counts[name] for name in names])
        lines = [f"{self.split}: {len(examples):,} images, {counts.total():,} boxes ({per_class})"]
        ignored, empty = sum(int(e.ignored.sum()) for e in examples), sum(len(e.boxes) == 0 for e in examples)
        if ignored:
            what = f"{ignored:,} difficult or crowd boxes, neither truth nor false alarm"
            lines.append(f"{self.split}: {what}")
        if empty:
            lines.append(f"{self.split}: {empty:,} images without a box")
        return lines + [f"{self.split}: {note}" for note in self.scan().notes[self.split]]

    def read_image(self, path: str | Path) -> tuple[np.ndarray, tuple[float, float]]:
        """One file, RGB, squashed to the input size, and the factors (x, y) from its pixels to the file's."""
        pixels, (width, height) = read_image(path, size=self.image_size)
        return pixels, (width / self.image_size, height / self.image_size)
