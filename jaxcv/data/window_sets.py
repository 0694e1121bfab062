"""Windows with an object and windows without: what a classifier learns from that is to scan pictures.

`image` uint8 [b s s c], `label` int32 [b]: 0 for nothing, 1 for the object. Files to predict on are read whole, not cut
to a window.

`data=digits`: a digit of an embedded scene (`jaxcv.data.scenes`), of any size, in a square a quarter larger than it;
or another square of a scene that hardly overlaps a digit's. `data=npy:PATH`: the pictures of an array, whose classes
are 0 nothing and 1 the object (`jaxcv.data.npy`), and while training squares of photographs without objects beside
them, by default those of scikit-learn: an array of pictures has few of the many things that are no face.

Example `i` is a function of `(split, i)` alone.
"""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxcv.data.digits import sklearn_file
from jaxcv.data.images import Progress, read_image
from jaxcv.data.pipeline import Dataset
from jaxcv.data.scenes import Scenes
from jaxcv.data.source import Source
from jaxcv.types import Batch, DataError

LARGEST_PICTURE = 640
"""Longer side in pixels to which a picture to be scanned is made smaller."""
MARGIN = 1.25
"""Side of a window by the longer side of the digit in it."""
_SCENE, _TRIES = 128, 20


def open_windows(
    kind: str, path: Path, *, image_size: int, channels: int, photographs: int = 4_000
) -> tuple[Dataset, Dataset]:
    """Windows to train on and to test on.

    Args:
      kind: `digits` or `npy`.
      path: of the array.
      image_size: side of a window in pixels.
      channels: 1 for grey, 3 for RGB.
      photographs: of an array, how many squares of photographs there are beside its pictures while training.
    """
    if kind == "digits":
        splits = [SceneWindows(split, image_size, channels) for split in ("train", "test")]
        return Dataset(splits[0], image_size, mirrors=False), Dataset(splits[1], image_size, mirrors=False)
    from jaxcv.data.npy import open_npy

    train, test = open_npy(path, image_size=image_size, channels=channels)
    more = PictureWindows(train.source, path, image_size, channels, photographs)
    return Dataset(more, image_size), Dataset(PictureWindows(test.source, path, image_size, channels, 0), image_size)


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


def _resized(pixels: np.ndarray, box: tuple[float, float, float, float], size: int) -> np.ndarray:
    """The part `box` of a picture [h w c], black beyond it, as [size size c]."""
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    corners = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
    inner = box[0] - corners[0], box[1] - corners[1], box[2] - corners[0], box[3] - corners[1]
    image = image.crop(corners).resize((size, size), Image.Resampling.BILINEAR, inner)
    return np.asarray(image).reshape(size, size, pixels.shape[-1])


def _grey(pixels: UInt8[np.ndarray, "h w 3"], channels: int) -> UInt8[np.ndarray, "h w c"]:
    from PIL import Image

    return pixels if channels == 3 else np.asarray(Image.fromarray(pixels).convert("L"))[..., None]


class _Windows:
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
        """A whole picture; see `read_picture`."""
        return read_picture(path, self.channels)


@dataclass(frozen=True, eq=False)
class SceneWindows(_Windows):
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

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The windows at `indices`."""
        scenes = self._scenes
        batch = scenes.read(indices % len(scenes))
        label = (indices // len(scenes) + indices) % 2
        out = np.zeros((len(indices), *self.spec()["image"].shape), np.uint8)
        for row, index in enumerate(indices.tolist()):
            boxes = batch["boxes"][row][batch["valid"][row]]
            random = np.random.default_rng([int(self.split == "test"), 1, index]).random(1 + 3 * _TRIES).tolist()
            window = _around(boxes[int(random[0] * len(boxes))])
            if label[row] == 0:
                window = _elsewhere(boxes, random[1:])
            out[row] = _resized(_grey(batch["image"][row], self.channels), window, self.image_size)
        return {"image": out, "label": label.astype(np.int32)}

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


@cache
def _photographs(channels: int) -> list[Any]:
    """The photographs of scikit-learn that hold no face."""
    return [read_image(sklearn_file("images", name), channels=channels)[0] for name in ("china.jpg", "flower.jpg")]


@dataclass(frozen=True, eq=False)
class PictureWindows(_Windows):
    """Pictures of an array, and squares of photographs as further examples of nothing."""

    pictures: Source
    path: Path
    image_size: int
    channels: int
    photographs: int

    def __len__(self) -> int:
        return len(self.pictures) + self.photographs

    def class_names(self) -> tuple[str, ...]:
        """Those of the array: nothing, then the object."""
        names = self.pictures.class_names()
        if len(names) != 2:
            raise DataError(f"{len(names)} classes, expected two: 0 nothing and 1 the object", file=self.path)
        return names

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The pictures, and after them the squares."""
        own = indices < len(self.pictures)
        batch = self.pictures.read(np.where(own, indices, 0))
        for row in np.flatnonzero(~own).tolist():
            batch["image"][row] = self._square(int(indices[row]))
            batch["label"][row] = 0
        return batch

    def _square(self, index: int) -> np.ndarray:
        u, v, w, x = np.random.default_rng([2, index]).random(4).tolist()
        if index % 2:
            return self._spoilt(u, v, w, x)
        photo = _photographs(self.channels)[int(u * 2)]
        shortest = min(photo.shape[:2])
        side = self.image_size * (shortest / self.image_size) ** v
        left, top = w * (photo.shape[1] - side), x * (photo.shape[0] - side)
        return _resized(photo, (left, top, left + side, top + side), self.image_size)

    def _spoilt(self, u: float, v: float, w: float, x: float) -> np.ndarray:
        """One of the array's pictures so that it shows the object no more, but all that it is made of."""
        image = self.pictures.read(np.array([int(u * len(self.pictures))]))["image"][0]
        side, how = self.image_size, int(v * 3)
        if how == 0:  # on its head, or on its side
            return np.rot90(image, 1 + int(w * 3)).copy()
        if how == 1:  # cut and put together the wrong way
            move = [round(side * (0.3 + 0.4 * t)) if t < 1 else 0 for t in (w, x)]
            return np.roll(image, move, (0, 1))
        part = side * (0.35 + 0.25 * v % 1)  # a part of it, as large as a whole
        left, top = w * (side - part), x * (side - part)
        return _resized(image, (left, top, left + part, top + part), side)

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """What the array's reader finds."""
        self.class_names()
        found = self.pictures.check(thorough=thorough, progress=progress)
        if self.photographs:
            _photographs(self.channels)
            found = [*found, f"and {self.photographs:,} squares of photographs without objects"]
        return found
