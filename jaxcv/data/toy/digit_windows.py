"""Windows with an object and windows without: what a classifier learns from that is to scan pictures.

`image` uint8 [b s s c], `label` int32 [b]: 0 for nothing, 1 for the object. Files to predict on are read whole, not cut
to a window. Example `i` is a function of `(split, i)` alone.

`data=digits`: a digit of an embedded scene (`jaxcv.data.toy.digit_scenes`), of any size, in a square a quarter larger than it;
or another square of a scene that hardly overlaps a digit's. `data=npy:PATH`: `jaxcv.data.sets.photographs`.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxcv.data.dataset import Dataset
from jaxcv.data.io.images import Progress, read_image
from jaxcv.data.toy.digit_scenes import Scenes
from jaxcv.types import Batch

LARGEST_PICTURE = 640
"""Longer side in pixels to which a picture to be scanned is made smaller."""
STEP = 128
"""Sides of pictures to be scanned are multiples of this: each size is a program to compile."""
MARGIN = 1.25
"""Side of a window by the longer side of the digit in it."""
_SCENE, _TRIES = 128, 20


def open_scene_windows(*, image_size: int, channels: int) -> tuple[Dataset, Dataset]:
    """Windows of the embedded scenes to train on and to test on.

    Args:
      image_size: side of a window in pixels.
      channels: 1 for grey, 3 for RGB.
    """
    train, test = (SceneWindows(split, image_size, channels) for split in ("train", "test"))
    return Dataset(train, image_size, mirrors=False), Dataset(test, image_size, mirrors=False)


def _grey(pixels: UInt8[np.ndarray, "h w 3"], channels: int) -> UInt8[np.ndarray, "h w c"]:
    from PIL import Image

    return pixels if channels == 3 else np.asarray(Image.fromarray(pixels).convert("L"))[..., None]


def read_picture(path: str | Path, channels: int) -> tuple[UInt8[np.ndarray, "h w c"], tuple[float, float]]:
    """A whole picture, made smaller if it is large, and the factors (x, y) from its pixels to the file's."""
    from PIL import Image

    pixels, (width, height) = read_image(path, channels=channels)
    scale = min(1.0, LARGEST_PICTURE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size != (width, height):
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR)).reshape(size[1], size[0], channels)
    return pixels, (width / size[0], height / size[1])


def resized(pixels: np.ndarray, box: tuple[float, float, float, float], size: int) -> np.ndarray:
    """The part `box` of a picture [h w c], black beyond it, as [size size c]."""
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    corners = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
    inner = box[0] - corners[0], box[1] - corners[1], box[2] - corners[0], box[3] - corners[1]
    image = image.crop(corners).resize((size, size), Image.Resampling.BILINEAR, inner)
    return np.asarray(image).reshape(size, size, pixels.shape[-1])


class Windows:
    """What both kinds of source share."""

    image_size: int
    channels: int

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """One example: `image` uint8 [s s c] and `label` int32."""
        image = jax.ShapeDtypeStruct((self.image_size, self.image_size, self.channels), np.uint8)
        return {"image": image, "label": jax.ShapeDtypeStruct((), np.int32)}

    def box_sizes(self) -> Float[np.ndarray, "n 2"]:
        """No boxes in a window."""
        return np.zeros((0, 2), np.float32)

    def read_image(self, path: str | Path) -> tuple[np.ndarray, tuple[float, float]]:
        """A whole picture, see `read_picture`; its last row and column repeated to the next multiple of `STEP`."""
        pixels, factors = read_picture(path, self.channels)
        more = [(0, -side % STEP) for side in pixels.shape[:2]]
        return np.pad(pixels, (*more, (0, 0)), mode="edge"), factors


@dataclass(frozen=True, eq=False)
class SceneWindows(Windows):
    """Windows of the embedded scenes, one of each scene: every other one holds a digit. Each is rendered once."""

    split: str
    image_size: int
    channels: int
    _kept: dict[int, np.ndarray] = field(default_factory=dict, repr=False, init=False)

    @property
    def _scenes(self) -> Scenes:
        return Scenes(self.split, _SCENE)

    def __len__(self) -> int:
        return 2 * len(self._scenes) if self.split == "test" else len(self._scenes)

    def class_names(self) -> tuple[str, ...]:
        """Nothing and a digit."""
        return ("other", "digit")

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The windows at `indices`."""
        label = (indices // len(self._scenes) + indices) % 2
        new = np.array([i for i in np.unique(indices).tolist() if i not in self._kept], int)
        if new.size:
            self._render(new)
        image = np.stack([self._kept[i] for i in indices.tolist()])
        return {"image": image, "label": label.astype(np.int32)}

    def _render(self, indices: Int[np.ndarray, "b"]) -> None:
        scenes = self._scenes
        batch = scenes.read(indices % len(scenes))
        for row, index in enumerate(indices.tolist()):
            boxes = batch["boxes"][row][batch["valid"][row]]
            random = np.random.default_rng([int(self.split == "test"), 1, index]).random(1 + 3 * _TRIES).tolist()
            window = _around(boxes[int(random[0] * len(boxes))])
            if (index // len(scenes) + index) % 2 == 0:
                window = _elsewhere(boxes, random[1:])
            self._kept[index] = resized(_grey(batch["image"][row], self.channels), window, self.image_size)

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """There is nothing to be wrong but a missing package."""
        self._scenes.check()
        return [f"{self.split}: {len(self):,} windows of rendered scenes, half of them on a digit"]


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
