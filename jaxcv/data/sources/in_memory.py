"""Labelled images that fit in memory, as a `Source`: what the embedded digits, MNIST, CIFAR and `.npy` files share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxcv.data.io.images import Progress, read_image
from jaxcv.data.io.text import list_counts
from jaxcv.types import Batch

Labelled = tuple[UInt8[np.ndarray, "n h w *c"], Int[np.ndarray, "n"]]
"""Images, grey [n h w] or RGB [n h w 3], and the class index of each."""


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images [n h w] or [n h w 3] and labels [n], loaded when first needed; each batch is fitted to the network.

    Grey becomes three equal channels where three are wanted, RGB its luma where one is.
    """

    split: str
    names: tuple[str, ...] | Callable[[], tuple[str, ...]]
    """Class names, or what finds them; caches for itself."""
    image_size: int
    load: Callable[[], Labelled]
    """Reads everything; caches for itself."""
    fit: Callable[[UInt8[np.ndarray, "b h w *c"]], UInt8[np.ndarray, "b s s *c"]]
    """Stored images to the network's input size."""
    file_size: int | None = None
    """Side to which a person's own image file is brought before `fit`; None: straight to `image_size`."""
    channels: int = 1
    in_color: bool = False
    """Whether the images are RGB."""

    def __len__(self) -> int:
        return len(self.load()[1])

    def class_names(self) -> tuple[str, ...]:
        """Name of each class index."""
        return self.names if isinstance(self.names, tuple) else self.names()

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """One example: `image` uint8 [s s c] and `label` int32."""
        image = jax.ShapeDtypeStruct((self.image_size, self.image_size, self.channels), np.uint8)
        return {"image": image, "label": jax.ShapeDtypeStruct((), np.int32)}

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The examples at `indices`."""
        images, labels = self.load()
        return {"image": self._channels(self.fit(images[indices])), "label": labels[indices].astype(np.int32)}

    def _channels(self, images: UInt8[np.ndarray, "b s s *c"]) -> UInt8[np.ndarray, "b s s c"]:
        if images.ndim == 3:
            return np.repeat(images[..., None], self.channels, axis=-1)
        if self.channels == 1:  # ITU-R 601, as Pillow rounds it
            luma = images.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
            return ((luma + 0x8000) >> 16).astype(np.uint8)[..., None]
        return images

    def box_sizes(self) -> Float[np.ndarray, "n 2"]:
        """No boxes in a set for classification."""
        return np.zeros((0, 2), np.float32)

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """Reading checks everything there is: names, sizes, label range."""
        names = self.class_names()
        counts = np.bincount(self.load()[1], minlength=len(names))
        return [f"{self.split}: {len(self):,} images, {len(names)} classes ({list_counts(names, counts.tolist())})"]

    def read_image(self, path: str | Path) -> tuple[np.ndarray, tuple[float, float]]:
        """One file as the model is fed it, and the factors (x, y) from its pixels to the file's."""
        size = self.file_size or self.image_size
        pixels, (width, height) = read_image(path, size=size, channels=3 if self.in_color else 1)
        images = pixels[None] if self.in_color else pixels[None, ..., 0]
        fitted = self._channels(images if self.file_size is None else self.fit(images))
        return fitted[0], (width / self.image_size, height / self.image_size)
