"""Windows of the embedded scenes, with and without a digit; see `jaxcv.data.sources.windows`.

Of each scene a digit, of any size, in a square a quarter larger than it; or another square that hardly overlaps one.
"""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxcv.data.io.crops import MARGIN
from jaxcv.data.io.images import Progress, convert_image, to_array, to_image
from jaxcv.data.source import LABEL, make_spec
from jaxcv.data.sources.windows import cut, read_padded
from jaxcv.data.toy.digit_scenes import Scenes
from jaxcv.data.toy.rendered import rendered
from jaxcv.types import Batch, ImageFile, Placement

_SCENE, _TRIES = 128, 20


@dataclass(frozen=True, eq=False)
class SceneWindows:
    """Windows of the embedded scenes, one of each scene: every other one holds a digit."""

    split: str
    image_size: int
    channels: int

    @property
    def _scenes(self) -> Scenes:
        return Scenes(self.split, _SCENE)

    def __len__(self) -> int:
        return 2 * len(self._scenes) if self.split == "test" else len(self._scenes)

    def class_names(self) -> tuple[str, ...]:
        """Nothing and a digit."""
        return ("other", "digit")

    def found(self) -> Any:
        """Nothing but how many: the scenes are a function of this file; see `jaxcv.data.sources.digest`."""
        return self.split, len(self)

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """One example: `image` uint8 [s s c] and `label` int32."""
        return make_spec(self.image_size, self.channels, **LABEL)

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The windows at `indices`."""
        scenes, label = self._scenes, (indices // len(self._scenes) + indices) % 2
        batch = scenes.read(indices % len(scenes))
        image = np.zeros((len(indices), *self.spec()["image"].shape), np.uint8)
        for row, index in enumerate(indices.tolist()):
            boxes = batch["boxes"][row][batch["valid"][row]]
            random = np.random.default_rng([int(self.split == "test"), 1, index]).random(1 + 3 * _TRIES).tolist()
            window = _around(boxes[int(random[0] * len(boxes))]) if label[row] else _elsewhere(boxes, random[1:])
            pixels = to_array(convert_image(to_image(batch["image"][row]), self.channels))
            image[row] = cut(pixels, window, self.image_size)
        return {"image": image, "label": label.astype(np.int32)}

    def arrays(self, progress: Progress) -> Batch:
        """All windows, rendered once."""
        return rendered(self, progress)

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """There is nothing to be wrong but a missing package."""
        self._scenes.check()
        return [f"{self.split}: {len(self):,} windows of rendered scenes, half of them on a digit"]

    def read_image(self, path: ImageFile) -> tuple[np.ndarray, Placement]:
        """A whole picture."""
        return read_padded(path, self.channels)


def _around(box: Float[np.ndarray, "4"]) -> tuple[float, float, float, float]:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half = MARGIN * max(box[2] - box[0], box[3] - box[1]) / 2
    return float(x - half), float(y - half), float(x + half), float(y + half)


def _elsewhere(boxes: Float[np.ndarray, "n 4"], random: list[float]) -> tuple[float, float, float, float]:
    """The first of some random squares of a scene that is no window of a digit, else the one that is so the least."""
    squares = []
    for u, v, w in zip(random[::3], random[1::3], random[2::3], strict=True):
        side = 20 * 4**u
        x, y = v * (_SCENE - side), w * (_SCENE - side)
        square = (x, y, x + side, y + side)
        overlap = max(_iou(square, _around(box)) for box in boxes)
        if overlap < 0.25:
            return square
        squares.append((overlap, square))
    return min(squares)[1]


def _iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
