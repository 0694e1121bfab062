"""ImageNet's 1,000 class names, in the order of the weights trained on it, for networks with such weights: no pictures.

`imagenet_classes.txt` has one name a line, the first of each synset; a name that two synsets share carries in brackets
what tells them apart.

References:
  O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015.
"""

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import NoReturn

import jax
import numpy as np
from jaxtyping import Int

from jaxcv.data.io.crops import fit_file, middle
from jaxcv.data.io.images import Progress
from jaxcv.data.source import LABEL, make_spec
from jaxcv.data.sources.image_files import TEST_FRACTION
from jaxcv.errors import UserError
from jaxcv.types import Batch, ImageFile, Placement


@cache
def _class_names() -> tuple[str, ...]:
    return tuple(Path(__file__).with_name("imagenet_classes.txt").read_text("utf-8").splitlines())


@dataclass(frozen=True, eq=False)
class ImageNet:
    """A source without examples: asking for one, or for their number, is refused."""

    image_size: int
    channels: int

    def _refuse(self) -> NoReturn:
        message = "data=imagenet knows the class names but has no pictures, which suffices for --predict: "
        raise UserError(message + "data=folder:PATH reads a folder with ImageNet's train and val")

    def __len__(self) -> int:
        self._refuse()

    def class_names(self) -> tuple[str, ...]:
        """The 1,000 names."""
        return _class_names()

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What an example would be: `image` uint8 [s s c] and `label` int32."""
        return make_spec(self.image_size, self.channels, **LABEL)

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Refused."""
        self._refuse()

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """Refused."""
        self._refuse()

    def read_image(self, path: ImageFile) -> tuple[np.ndarray, Placement]:
        """One file fitted like a labelled test picture, and where that lies in the file."""
        region = partial(middle, at_least=self.image_size, fraction=TEST_FRACTION)
        return fit_file(path, region, size=self.image_size, channels=self.channels)
