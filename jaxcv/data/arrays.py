"""Labelled grey images that fit in memory, as a `Source`: what the embedded digits and MNIST have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxcv.data.images import Progress, read_image
from jaxcv.types import Batch

Labelled = tuple[UInt8[np.ndarray, "n h w"], Int[np.ndarray, "n"]]
"""Images and the class index of each."""


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images [n h w] and labels [n], loaded when first needed; each batch is fitted to the network's input."""

    split: str
    names: tuple[str, ...]
    image_size: int
    load: Callable[[], Labelled]
    """Reads everything; caches for itself."""
    fit: Callable[[UInt8[np.ndarray, "b h w"]], UInt8[np.ndarray, "b s s"]]
    """Stored images to the network's input size."""
    file_size: int | None = None
    """Side to which a person's own image file is brought before `fit`; None: straight to `image_size`."""
    channels: int = 1
    """1, or 3 equal ones."""

    def __len__(self) -> int:
        return len(self.load()[1])

    def class_names(self) -> tuple[str, ...]:
        """Name of each class index."""
        return self.names

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """One example: `image` uint8 [s s c] and `label` int32."""
        image = jax.ShapeDtypeStruct((self.image_size, self.image_size, self.channels), np.uint8)
        return {"image": image, "label": jax.ShapeDtypeStruct((), np.int32)}

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The examples at `indices`."""
        images, labels = self.load()
        fitted = np.repeat(self.fit(images[indices])[..., None], self.channels, axis=-1)
        return {"image": fitted, "label": labels[indices].astype(np.int32)}

    def box_sizes(self) -> Float[np.ndarray, "n 2"]:
        """No boxes in a set for classification."""
        return np.zeros((0, 2), np.float32)

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """Reading checks everything there is: names, sizes, label range."""
        counts = np.bincount(self.load()[1], minlength=len(self.names))
        listed = ", ".join(f"{name} {count:,}" for name, count in zip(self.names, counts, strict=True))
        return [f"{self.split}: {len(self):,} images, {len(self.names)} classes ({listed})"]

    def read_image(self, path: str | Path) -> tuple[np.ndarray, tuple[float, float]]:
        """One file, grey, as the model is fed it, and the factors (x, y) from its pixels to the file's."""
        pixels, (width, height) = read_image(path, size=self.file_size or self.image_size, channels=1)
        if self.file_size is not None:
            pixels = self.fit(pixels[None, ..., 0])[0, ..., None]
        return np.repeat(pixels, self.channels, axis=-1), (width / self.image_size, height / self.image_size)
