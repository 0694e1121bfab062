"""Image files with a class for each pixel, as a `Source`: what every segmentation format becomes once it is scanned.

Images and masks are squashed to the network's square input, images by mixing pixels, masks by taking the nearest.
Both are decoded once and kept, as many as fit in `CACHE_BYTES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxcv.data.example import Collection, Kept, check_all
from jaxcv.data.io.images import Progress, check_image, read_image
from jaxcv.types import Batch, DataError

CACHE_BYTES = 2**30
"""Most memory that decoded, resized images and masks of one split may take."""
IGNORE = 255


class MaskExample(NamedTuple):
    """One image and its mask."""

    image: Path
    annotation: Path
    """The file the mask comes from."""
    size: tuple[int, int] | None
    """Width and height that the annotation states, checked before the mask is drawn; None: the mask has its own."""
    draw: Callable[[], UInt8[np.ndarray, "h w"]]
    """The class of each pixel, 255 where it is to be ignored. Raises DataError."""


def read_labels(example: MaskExample, size: tuple[int, int], classes: int) -> UInt8[np.ndarray, "h w"]:
    """The mask of an image of `size` (width, height), every value below `classes` or 255. Raises DataError."""
    _same(example, example.size or size, size)
    mask = example.draw()
    _same(example, (mask.shape[1], mask.shape[0]), size)
    wrong = (mask >= classes) & (mask != IGNORE)
    if wrong.any():
        y, x = np.argwhere(wrong)[0].tolist()
        message = f"label {mask[y, x]} at x={x} y={y}, expected 0 to {classes - 1}, or {IGNORE} for void"
        raise DataError(f"{message}; list more classes, or say which label is void", file=example.annotation)
    return mask


def _same(example: MaskExample, stated: tuple[int, int], found: tuple[int, int]) -> None:
    if stated != found:
        message = f"a mask of {stated[0]}x{stated[1]} for {example.image.name} of {found[0]}x{found[1]}"
        raise DataError(f"{message}; make them equal or take both out", file=example.annotation)


def check_mask(example: MaskExample, *, classes: int, thorough: bool = False) -> None:
    """Look whether image and mask are whole and fit. Raises DataError."""
    size = check_image(example.image, thorough=thorough)
    if example.size is None or thorough:
        read_labels(example, size, classes)
    else:  # outlines were checked when they were read; drawing them takes long
        _same(example, example.size, size)


@dataclass(frozen=True, eq=False)
class MaskedImages:
    """One split of a collection of `MaskExample`s; `scan` reads the annotations and caches for itself."""

    split: str
    image_size: int
    channels: int
    scan: Callable[[], Collection]

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def _examples(self) -> tuple[MaskExample, ...]:
        return self.scan().splits[self.split]

    def class_names(self) -> tuple[str, ...]:
        """Name of each class index."""
        return self.scan().class_names

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """One example: `image` uint8 [s s c] and `mask` uint8 [s s]."""
        side = self.image_size
        return {
            "image": jax.ShapeDtypeStruct((side, side, self.channels), np.uint8),
            "mask": jax.ShapeDtypeStruct((side, side), np.uint8),
        }

    @cached_property
    def _kept(self) -> Kept:
        return Kept(len(self), (self.image_size, self.image_size, self.channels + 1), limit=CACHE_BYTES)

    def _decode(self, index: int) -> np.ndarray:
        """The image, and behind its channels the mask."""
        from PIL import Image

        example, side = self._examples[index], self.image_size
        pixels, size = read_image(example.image, size=side, channels=self.channels)
        mask = read_labels(example, size, len(self.class_names()))
        mask = np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.NEAREST))
        return np.concatenate([pixels, mask[..., None]], axis=-1)

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The examples at `indices`."""
        both = self._kept.read(indices, self._decode)
        return {"image": both[..., :-1], "mask": both[..., -1]}

    def box_sizes(self) -> Float[np.ndarray, "n 2"]:
        """No boxes in a set for segmentation."""
        return np.zeros((0, 2), np.float32)

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """Every mask, and of every image its header, size and ending; `thorough` decodes it too."""
        names = self.class_names()
        check_all(self._examples, partial(check_mask, classes=len(names), thorough=thorough), progress)
        listed = ", ".join(names[:20]) + (" ..." if len(names) > 20 else "")
        lines = [f"{self.split}: {len(self):,} images with masks, {len(names)} classes ({listed})"]
        return lines + [f"{self.split}: {note}" for note in self.scan().notes[self.split]]

    def read_image(self, path: str | Path) -> tuple[np.ndarray, tuple[float, float]]:
        """One file squashed to the input size, and the factors (x, y) from its pixels to the file's."""
        pixels, (width, height) = read_image(path, size=self.image_size, channels=self.channels)
        return pixels, (width / self.image_size, height / self.image_size)
