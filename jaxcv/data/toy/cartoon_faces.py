"""The embedded set for landmarks: drawn faces over photographs, with the 68 points of 300-W.

Face `i` of a split is a pure function of `(split, i)`: proportions, turn of the head, position, size, tilt and colours
are random, and the points are those the picture is drawn from. Backgrounds are those of `digit_scenes`, not shared
between the splits. A cartoon: a check of the machinery that needs no download, no stand-in for photographs.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxcv.data.io.crops import fit_file, whole
from jaxcv.data.io.images import Progress
from jaxcv.data.source import make_spec
from jaxcv.data.toy.digit_scenes import backgrounds
from jaxcv.data.toy.rendered import rendered
from jaxcv.types import Batch, ImageFile, Placement

FACES = {"train": 2_000, "test": 200}
POINTS = 68
_UNIFORMS = 40
_FINE = 2
"""Drawn at so many times the size, and averaged down: PIL draws without antialiasing."""


def face_points(u: Float[np.ndarray, "n"]) -> Float[np.ndarray, "68 2"]:
    """The points of a face around the origin, x to the right, y down, half as wide as 1, from uniform numbers."""
    v = 2 * u - 1
    yaw, length, eye_gap, eye_w, eye_h = 0.16 * v[0], 1.15 + 0.15 * v[1], 0.42 + 0.06 * v[2], 0.17 + 0.03 * v[3], 0.0
    eye_h, brow, arch = 0.075 + 0.045 * v[4], 0.2 + 0.06 * v[5], 0.06 + 0.05 * v[6]
    nose, nose_w, mouth_y, mouth_w = 0.3 + 0.08 * v[7], 0.17 + 0.04 * v[8], 0.62 + 0.06 * v[9], 0.33 + 0.09 * v[10]
    lip, gape, smile = 0.07 + 0.02 * v[11], 0.1 * max(v[12], 0), 0.09 * v[13]
    t = np.arange(17) / 16 * math.pi
    jaw = np.stack([-np.cos(t), -0.2 + length * np.sin(t) ** 0.9], -1)
    s = np.linspace(-1, 1, 5)
    left_brow = np.stack([-eye_gap + 0.27 * s, -0.3 - brow - arch * (1 - s**2)], -1)
    right_brow = left_brow[::-1] * [-1, 1]
    ridge = np.stack([np.zeros(4), np.linspace(-0.28, nose - 0.08, 4)], -1)
    nostrils = np.stack([nose_w * s, nose + 0.04 * (1 - s**2)], -1)
    angle = math.pi * np.array([1, 2 / 3, 1 / 3, 0, -1 / 3, -2 / 3])
    eye = np.stack([eye_w * np.cos(angle), -eye_h * np.sin(angle)], -1)
    eyes = [eye + [side * eye_gap, -0.3] for side in (-1, 1)]

    def ring(count: int, width: float, height: float) -> np.ndarray:
        a = math.pi * (1 - 2 * np.arange(count) / count)
        x = width * np.cos(a)
        return np.stack([x, mouth_y - height * np.sin(a) - smile * (x / mouth_w) ** 2], -1)

    inner = [left_brow, right_brow, ridge, nostrils, *eyes, ring(12, mouth_w, lip + gape), ring(8, 0.8 * mouth_w, gape)]
    middle = np.concatenate(inner)
    middle[:, 0] += yaw * (1 + 0.8 * (np.abs(middle[:, 0]) < nose_w))  # what stands out of the face moves further
    return np.concatenate([jaw, middle])


@dataclass(frozen=True, eq=False)
class DrawnFaces:
    """Drawn faces, as a `Source`."""

    split: str
    image_size: int
    channels: int = 3

    def __len__(self) -> int:
        return FACES[self.split]

    def class_names(self) -> tuple[str, ...]:
        """No classes."""
        return ()

    def found(self) -> Any:
        """Nothing but how many: the scenes are a function of this file; see `jaxcv.data.sources.digest`."""
        return self.split, len(self)

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """One example: `image` uint8 [s s c], `points` [68 2] and `visible` [68]."""
        fields = {"points": ((POINTS, 2), np.float32), "visible": ((POINTS,), np.bool_)}
        return make_spec(self.image_size, self.channels, **fields)

    def _render(self, index: int) -> tuple[UInt8[np.ndarray, "s s c"], Float[np.ndarray, "68 2"]]:
        from PIL import ImageDraw

        u = np.random.default_rng([list(FACES).index(self.split), index]).random(_UNIFORMS)
        side = self.image_size
        radius, tilt = side * (0.2 + 0.12 * u[20]), 0.35 * (2 * u[21] - 1)  # radians
        turn = np.array([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])
        centre = side * (0.5 + 0.12 * (2 * u[22:24] - 1))
        points = face_points(u[:20]) @ turn * radius + centre

        photos = backgrounds(self.split, side)
        photo = photos[int(u[24] * len(photos))]
        x, y = int(u[25] * (photo.width - side + 1)), int(u[26] * (photo.height - side + 1))
        image = photo.crop((x, y, x + side, y + side)).resize((_FINE * side, _FINE * side))
        pen = ImageDraw.Draw(image)

        def shape(outline: np.ndarray, color: tuple[int, ...]) -> None:
            pen.polygon([tuple(p) for p in (_FINE * outline).tolist()], fill=color)

        def line(path: np.ndarray, color: tuple[int, ...], width: float) -> None:
            pen.line([tuple(p) for p in (_FINE * path).tolist()], fill=color, width=max(1, round(_FINE * width)))

        shade = 0.45 + 0.55 * u[27]
        skin = tuple(int(shade * c) for c in (235, 190 + 15 * u[28], 150 + 40 * u[29]))
        dark = tuple(int(0.55 * c) for c in skin)
        hair = tuple(int(c) for c in u[30] * np.array([190, 150, 110]))
        a = np.linspace(0, 2 * math.pi, 40)
        shape(np.stack([1.12 * np.cos(a), 1.05 * np.sin(a) - 0.3], -1) @ turn * radius + centre, hair)
        a = np.linspace(math.pi, 2 * math.pi, 20)
        brow = np.stack([np.cos(a), 0.75 * np.sin(a) - 0.2], -1) @ turn * radius + centre
        shape(np.concatenate([points[:17], brow[::-1]]), skin)
        for first in (17, 22):
            line(points[first : first + 5], hair, 0.07 * radius)
        line(points[27:31], dark, 0.05 * radius)
        line(points[31:36], dark, 0.06 * radius)
        for first in (36, 42):
            eye = points[first : first + 6]
            shape(eye, (245, 245, 240))
            middle, r = _FINE * eye.mean(0), _FINE * 0.055 * radius
            pen.ellipse([*(middle - r), *(middle + r)], fill=tuple(int(90 * c) for c in u[31:34]))
        shape(points[48:60], (int(90 + 110 * shade), 60, 70))
        shape(points[60:68], (60, 15, 20))
        line(points[60:65], (60, 15, 20), 0.02 * radius)
        image = image.reduce(_FINE)
        pixels = np.asarray(image if self.channels == 3 else image.convert("L"))
        return pixels.reshape(side, side, self.channels), points.astype(np.float32)

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Draw the faces at `indices`."""
        batch = {k: np.zeros((len(indices), *v.shape), v.dtype) for k, v in self.spec().items()}
        for row, index in enumerate(indices.tolist()):
            batch["image"][row], points = self._render(index)
            inside = np.all((points >= 0) & (points < self.image_size), axis=-1)
            batch["points"][row] = np.where(inside[:, None], points, 0)
            batch["visible"][row] = inside
        return batch

    def arrays(self, progress: Progress) -> Batch:
        """All faces, drawn once."""
        return rendered(self, progress)

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """There is nothing to be wrong but a missing package."""
        backgrounds(self.split, self.image_size)
        return [f"{self.split}: {len(self):,} drawn faces of {POINTS} points"]

    def read_image(self, path: ImageFile) -> tuple[np.ndarray, Placement]:
        """One file squashed to the faces' size, and where that lies in the file."""
        return fit_file(path, whole, size=self.image_size, channels=self.channels)
