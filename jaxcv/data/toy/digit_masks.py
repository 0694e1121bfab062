"""The embedded set for segmentation: the scenes of `digit_scenes`, with a class for every pixel.

The classes are the background and the ten digits. A pixel is a digit's where its ink is more than half opaque; where
two overlap, that of the one on top.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from jaxcv.data.io.crops import Resize
from jaxcv.data.io.images import Progress
from jaxcv.data.source import make_spec
from jaxcv.data.toy.digit_scenes import Scenes, ink
from jaxcv.data.toy.digits import NAMES
from jaxcv.data.toy.rendered import rendered
from jaxcv.types import Batch, ImageFile, Placement

SCENES = {"train": 4_000, "test": 200}


@dataclass(frozen=True, eq=False)
class SceneMasks:
    """Scenes of digits over photographs with their masks, as a `Source`."""

    split: str
    image_size: int
    resize: Resize = field(default="squash", compare=False)

    @property
    def _scenes(self) -> Scenes:
        return Scenes(self.split, self.image_size, resize=self.resize)

    def __len__(self) -> int:
        return SCENES[self.split]

    def class_names(self) -> tuple[str, ...]:
        """The background and the ten digits."""
        return ("background", *NAMES)

    def found(self) -> Any:
        """Nothing but how many: the scenes are a function of this file; see `jaxcv.data.sources.digest`."""
        return self.split, len(self)

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """One example: `image` uint8 [s s 3] and `mask` uint8 [s s]."""
        return make_spec(self.image_size, 3, mask=((self.image_size, self.image_size), np.uint8))

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Render the scenes at `indices`."""
        batch = {k: np.zeros((len(indices), *v.shape), v.dtype) for k, v in self.spec().items()}
        for row, index in enumerate(indices.tolist()):
            batch["image"][row], placed = self._scenes.render(index)
            for glyph, box in placed:
                opacity, label = ink(self.split, glyph, box)
                part = batch["mask"][row, box[1] : box[3], box[0] : box[2]]
                part[opacity > 127] = 1 + label
        return batch

    def arrays(self, progress: Progress) -> Batch:
        """All scenes, rendered once."""
        return rendered(self, progress)

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """There is nothing to be wrong but a missing package."""
        self._scenes.check()
        return [f"{self.split}: {len(self):,} rendered scenes of digits with a class for each pixel"]

    def read_image(self, path: ImageFile) -> tuple[np.ndarray, Placement]:
        """One file, RGB, squashed to the scenes' size, and where that lies in the file."""
        return self._scenes.read_image(path)
