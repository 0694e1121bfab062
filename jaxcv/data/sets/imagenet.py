"""ImageNet's 1,000 class names, in the order of the weights trained on it. The pictures are not included.

`data=imagenet` is for networks with such weights: it says how an image file is fitted and what the classes are called.
`imagenet_classes.txt` has one name a line, the first of each synset; a name that two synsets share carries in brackets
what tells them apart.

References:
  O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxcv.data.dataset import Dataset
from jaxcv.data.io.images import Progress, fit_image
from jaxcv.data.sources.class_folders import TEST_SHARE
from jaxcv.types import Batch, UserError


def open_imagenet(*, image_size: int, channels: int = 3) -> tuple[Dataset, Dataset]:
    """Class names and fitting of ImageNet-1k without examples; both splits are the same."""
    data = Dataset(ImageNet(image_size, channels), image_size=image_size)
    return data, data


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The 1,000 names."""
    return tuple(Path(__file__).with_name("imagenet_classes.txt").read_text("utf-8").splitlines())


@dataclass(frozen=True, eq=False)
class ImageNet:
    """A source without examples: asking for one, or for their number, is refused."""

    image_size: int
    channels: int

    def _refuse(self) -> NoReturn:
        raise UserError(
            "data=imagenet knows the class names but has no pictures, which suffices for --predict: "
            "data=folder:PATH reads a folder with ImageNet's train and val"
        )

    def __len__(self) -> int:
        self._refuse()

    def class_names(self) -> tuple[str, ...]:
        """Name of each class index."""
        return imagenet_classes()

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What an example would be: `image` uint8 [s s c] and `label` int32."""
        image = jax.ShapeDtypeStruct((self.image_size, self.image_size, self.channels), np.uint8)
        return {"image": image, "label": jax.ShapeDtypeStruct((), np.int32)}

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Refused."""
        self._refuse()

    def box_sizes(self) -> Float[np.ndarray, "n 2"]:
        """No boxes in a set for classification."""
        return np.zeros((0, 2), np.float32)

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """Refused."""
        self._refuse()

    def read_image(self, path: str | Path) -> tuple[np.ndarray, tuple[float, float]]:
        """One file fitted like a test picture of `folder`, and the factors (x, y) from its pixels to the file's."""
        pixels, factor = fit_image(path, size=self.image_size, channels=self.channels, share=TEST_SHARE)
        return pixels, (factor, factor)
