"""Labelled images that fit in memory, as a `Source`: what the embedded digits, MNIST, CIFAR and `.npy` files share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, UInt8

from jaxcv.data.io.crops import RESIZES, Resize, fit_file
from jaxcv.data.io.images import Progress, resize_images
from jaxcv.data.io.text import list_counts
from jaxcv.data.source import LABEL, make_spec
from jaxcv.data.sources.resident import read_all
from jaxcv.errors import DataError
from jaxcv.types import Batch, ImageFile, Placement

Labelled = tuple[UInt8[np.ndarray, "n h w *c"], Int[np.ndarray, "n"]]
"""Images, grey [n h w] or RGB [n h w 3], and the class index of each."""


def every_fifth(found: tuple[np.ndarray, np.ndarray], split: str, file: Path) -> tuple[np.ndarray, np.ndarray]:
    """One split of a set that has none: every fifth image is for testing."""
    test = np.arange(len(found[1])) % 5 == 4
    chosen = test if split == "test" else ~test
    if not chosen.any():
        raise DataError(f"{len(chosen)} pictures, of which none is left for {split}; add some", file=file)
    return found[0][chosen], found[1][chosen]


@dataclass(frozen=True, eq=False)
class InMemory:
    """Images [n h w] or [n h w 3] and labels [n], loaded when first needed; each batch is fitted to the network.

    Grey becomes three equal channels where three are wanted, RGB its luma where one is.
    """

    split: str
    image_size: int
    channels: int
    names: Callable[[], tuple[str, ...]]
    """Finds the class names; caches for itself."""
    load: Callable[[], Labelled]
    """Reads everything; caches for itself."""
    fit: Callable[..., UInt8[np.ndarray, "b s s *c"]] = resize_images
    """Stored images to the network's input `size`."""
    file_size: int | None = None
    """Side to which a person's own image file is brought before `fit`; None: straight to `image_size`."""
    in_color: bool = False
    """Whether the images are RGB."""
    resize: Resize = "squash"
    """How a person's own picture becomes a square."""

    def __len__(self) -> int:
        return len(self.load()[1])

    def class_names(self) -> tuple[str, ...]:
        """Name of each class index."""
        return self.names()

    def labels(self) -> Int[np.ndarray, "n"]:
        """The class index of each example."""
        return self.load()[1]

    def hands(self) -> None:
        """Nobody says whose drawing an example is."""

    def found(self) -> Any:
        """All images and labels, for a digest; see `jaxcv.data.sources.digest`."""
        return self.class_names(), self.load()

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """One example: `image` uint8 [s s c] and `label` int32."""
        return make_spec(self.image_size, self.channels, **LABEL)

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The examples at `indices`."""
        images, labels = self.load()
        return {"image": self._fit(images[indices]), "label": labels[indices].astype(np.int32)}

    def arrays(self, progress: Progress) -> Batch:
        """All examples: the images that are there, where they need no fitting."""
        images, labels = self.load()
        if not np.shares_memory(self._fit(images[:1]), images):
            return read_all(self, progress)
        return {"image": self._fit(images), "label": labels.astype(np.int32, copy=False)}

    def _fit(self, images: UInt8[np.ndarray, "b h w *c"]) -> UInt8[np.ndarray, "b s s c"]:
        images = self.fit(images, size=self.image_size)
        if images.ndim == 3:
            return images[..., None] if self.channels == 1 else np.repeat(images[..., None], self.channels, axis=-1)
        if self.channels == 1:  # ITU-R 601, as Pillow rounds it
            luma = images.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
            return ((luma + 0x8000) >> 16).astype(np.uint8)[..., None]
        return images

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """Reading checks everything there is: names, sizes, label range."""
        names = self.class_names()
        counts = np.bincount(self.load()[1], minlength=len(names))
        return [f"{self.split}: {len(self):,} images, {len(names)} classes ({list_counts(names, counts.tolist())})"]

    def read_image(self, path: ImageFile) -> tuple[np.ndarray, Placement]:
        """One file as the model is fed it, and where that lies in the file."""
        size = self.file_size or self.image_size
        pixels, placement = fit_file(path, RESIZES[self.resize], size=size, channels=3 if self.in_color else 1)
        scale, images = size / self.image_size, pixels[None] if self.in_color else pixels[None, ..., 0]
        return self._fit(images)[0], placement._replace(x=placement.x * scale, y=placement.y * scale)
