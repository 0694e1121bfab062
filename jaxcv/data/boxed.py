"""Image files with boxes, as a `Source`: what every detection format becomes once its annotations are read.

Images are squashed to the network's square input, boxes with them. When the resized images of the split fit in
`CACHE_BYTES`, each is decoded once and kept.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from jaxcv.data.images import Progress, check_image, read_image
from jaxcv.types import Batch, DataError

CACHE_BYTES = 2**30
"""Most memory that decoded, resized images of one split may take."""


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


class BoxSet(NamedTuple):
    """Both splits of a set, annotations read."""

    class_names: tuple[str, ...]
    max_boxes: int
    """Most boxes of one image in any split, at least 1."""
    splits: Mapping[str, tuple[Example, ...]]
    notes: Mapping[str, list[str]]
    """What was dropped, cut or skipped, by split."""


def check_example(example: Example, *, thorough: bool = False) -> None:
    """Look whether an example's image is whole and as large as its annotation says. Raises DataError."""
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
    """One split of a `BoxSet`; `scan` reads the annotations and caches for itself."""

    split: str
    image_size: int
    scan: Callable[[], BoxSet]

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
        m = self.scan().max_boxes
        return {
            "image": jax.ShapeDtypeStruct((self.image_size, self.image_size, 3), np.uint8),
            "boxes": jax.ShapeDtypeStruct((m, 4), np.float32),
            "classes": jax.ShapeDtypeStruct((m,), np.int32),
            "valid": jax.ShapeDtypeStruct((m,), np.bool_),
            "ignored": jax.ShapeDtypeStruct((m,), np.bool_),
        }

    @cached_property
    def _truth(self) -> Batch:
        """Every field but the image, of the whole split."""
        truth = {k: np.zeros((len(self), *v.shape), v.dtype) for k, v in self.spec().items() if k != "image"}
        for row, example in enumerate(self._examples):
            n = len(example.boxes)
            scale = self.image_size / np.array([example.width, example.height] * 2, np.float32)
            truth["boxes"][row, :n] = example.boxes * scale
            truth["classes"][row, :n] = example.classes
            truth["valid"][row, :n] = ~example.ignored
            truth["ignored"][row, :n] = example.ignored
        return truth

    @cached_property
    def _kept(self) -> tuple[UInt8[np.ndarray, "n s s 3"], Bool[np.ndarray, "n"]] | None:
        """Decoded images and which of them are there; None when they would not fit."""
        shape = (len(self), self.image_size, self.image_size, 3)
        if np.prod(shape, dtype=np.int64) > CACHE_BYTES:
            return None
        return np.zeros(shape, np.uint8), np.zeros(len(self), np.bool_)  # memory is taken as pages are filled

    def _decode(self, index: int) -> UInt8[np.ndarray, "s s 3"]:
        example = self._examples[index]
        pixels, size = read_image(example.image, size=self.image_size)
        _check_size(example, size)
        return pixels

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The examples at `indices`."""
        truth = {k: v[indices] for k, v in self._truth.items()}
        if self._kept is None:
            return {"image": np.stack([self._decode(i) for i in indices.tolist()]), **truth}
        images, there = self._kept
        for i in indices[~there[indices]].tolist():
            images[i] = self._decode(i)
            there[i] = True  # after the pixels: another thread may be reading
        return {"image": images[indices], **truth}

    def box_sizes(self) -> Float[np.ndarray, "n 2"]:
        """Sizes of all boxes that count, in pixels of the network's input image."""
        boxes = self._truth["boxes"][self._truth["valid"]]
        return boxes[:, 2:] - boxes[:, :2]

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """Every annotation, and of every image its header, size and ending; `thorough` decodes it too."""
        examples, names = self._examples, self.class_names()
        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(check_example, example, thorough=thorough) for example in examples]
            try:
                for done, job in enumerate(jobs, 1):
                    job.result()
                    if progress is not None:
                        progress(done, len(examples))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        counts = Counter(names[c] for e in examples for c in e.classes[~e.ignored].tolist())
        per_class = ", ".join(f"{name} {counts[name]:,}" for name in names)
        lines = [f"{self.split}: {len(examples):,} images, {counts.total():,} boxes ({per_class})"]
        ignored, empty = sum(int(e.ignored.sum()) for e in examples), sum(len(e.boxes) == 0 for e in examples)
        if ignored:
            lines.append(f"{self.split}: {ignored:,} difficult boxes, neither truth nor false alarm")
        if empty:
            lines.append(f"{self.split}: {empty:,} images without a box")
        return lines + [f"{self.split}: {note}" for note in self.scan().notes[self.split]]

    def read_image(self, path: str | Path) -> tuple[np.ndarray, tuple[float, float]]:
        """One file, RGB, squashed to the input size, and the factors (x, y) from its pixels to the file's."""
        pixels, (width, height) = read_image(path, size=self.image_size)
        return pixels, (width / self.image_size, height / self.image_size)
