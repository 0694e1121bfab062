"""The embedded set for detection: handwritten digits over photographs, rendered as they are read.

Scene `i` of a split is a pure function of `(split, i)`: a random square of one of the two photographs of scikit-learn
(train from their left two thirds, test from the right third) with one to six digits of random size, position and ink
(train digits or test digits), so that neither digit nor background is shared between the splits. A box is tight around
the ink that can be seen; boxes overlap by a twentieth of the smaller one at most.
"""

import math
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxcv.data.io.crops import RESIZES, Resize, fit_file
from jaxcv.data.io.images import Progress, read_image, resize_images
from jaxcv.data.io.paths import sklearn_file
from jaxcv.data.source import box_fields, make_spec
from jaxcv.data.toy.digits import NAMES, load_digits
from jaxcv.data.toy.rendered import kept_array, rendered
from jaxcv.data.toy.variation import BACKGROUND_UNIFORMS, GLYPH_UNIFORMS, varied_background, varied_glyph
from jaxcv.types import Batch, ImageFile, Placement

SCENES = {"train": 20_000, "test": 500}
MAX_DIGITS = 6
DIGIT_HEIGHT = (0.16, 0.45)
"""Smallest and largest height of a digit's ink, as a fraction of the image side."""
SINGLE_HEIGHT, EMPTY = (0.25, 0.7), 0.2
"""The same where there is one digit or none; and the fraction of scenes with none."""
CROP_SIDES = (96, 108, 121, 136, 152, 170, 190, 212)
"""Sides a background square may have, in pixels of the 640x427 photographs."""
TRIES = 12
"""Positions tried for a digit before it is left out of its scene."""
Box = tuple[int, int, int, int]
"""xyxy in whole pixels."""
_GLYPH = 64
PAPER, PAPERS = 72, (56, 72, 88)
"""What counts as paper in the digits' 256 shades; and where scenes are varied."""
_ANCHOR_SCENES = 2_000


@cache
def _glyphs(split: str, paper: int = PAPER) -> list[tuple[Any, int, float]]:
    """Each digit as (ink alone as a Pillow image, class, width by height): opacity 0 to 255, cut tight.

    What is not darker than `paper` is paper: a low number makes a thick pen, which closes small holes.
    """
    from PIL import Image

    images, labels = load_digits(split)
    glyphs = []
    for pixels, label in zip(resize_images(images, size=_GLYPH), labels, strict=True):
        ink = np.clip((pixels.astype(np.int32) - paper) * 3, 0, 255).astype(np.uint8)  # crisper than bicubic's edges
        rows, columns = (np.flatnonzero((ink > 127).any(axis)) for axis in (1, 0))
        ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        glyphs.append((Image.fromarray(ink), int(label), ink.shape[1] / ink.shape[0]))
    return glyphs


@cache
def backgrounds(split: str, image_size: int) -> list[Any]:
    """The split's part of each photograph at each scale: a square of `image_size` pixels is one of `CROP_SIDES`.

    Scaled once, so that the background of a scene is a plain cut: scaling each would be half the work of a scene.
    """
    from PIL import Image

    parts = []
    for name in ("china.jpg", "flower.jpg"):
        pixels = read_image(sklearn_file("images", name))
        cut = pixels.shape[1] * 2 // 3
        part = Image.fromarray(np.ascontiguousarray(pixels[:, :cut] if split == "train" else pixels[:, cut:]))
        for side in CROP_SIDES:
            size = [max(image_size, round(n * image_size / side)) for n in part.size]
            parts.append(part.resize((size[0], size[1]), Image.Resampling.BILINEAR))
    return parts


@dataclass(frozen=True, eq=False)
class Scenes:
    """Scenes of digits over photographs, as a `Source`."""

    split: str
    image_size: int
    single: bool = False
    """One large digit, or none in a fifth of the scenes, instead of one to six: for localization."""
    resize: Resize = field(default="letterbox", compare=False)
    """How a person's own picture becomes a square; scenes are square."""

    @property
    def varied(self) -> bool:
        """Whether backgrounds and digits are varied: see `jaxcv.data.toy.variation`."""
        return self.single and self.split == "train"

    @property
    def _most(self) -> int:
        return 1 if self.single else MAX_DIGITS

    def __len__(self) -> int:
        return SCENES[self.split]

    def class_names(self) -> tuple[str, ...]:
        """The ten digits."""
        return NAMES

    def found(self) -> Any:
        """Nothing but how many: the scenes are a function of this file; see `jaxcv.data.sources.digest`."""
        return self.split, len(self)

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """One example: `image` uint8 [s s 3], `boxes` [m 4], `classes`, `valid`, `ignored` [m], m 6 or 1."""
        return make_spec(self.image_size, 3, **box_fields(self._most))

    def _layout(self, index: int) -> tuple[list[tuple[int, Box]], Float[np.ndarray, "u"]]:
        """Which digit stands where, and the random numbers left for background and ink.

        Every number comes from one vector of uniform numbers: one call, and a stream numpy keeps from version to
        version.
        """
        glyphs, side = _glyphs(self.split), self.image_size
        key = [list(SCENES).index(self.split), index]
        random = np.random.default_rng(key).random(1 + MAX_DIGITS * (2 + 2 * TRIES) + 3 + MAX_DIGITS * 3)
        u = random.tolist()
        count = int(u[0] >= EMPTY) if self.single else 1 + int(u[0] * MAX_DIGITS)
        low, high = map(math.log, SINGLE_HEIGHT if self.single else DIGIT_HEIGHT)
        chosen = sorted(  # large ones first: small ones find room between them
            (
                (round(side * math.exp(low + (high - low) * u[2 * d + 2])), int(u[2 * d + 1] * len(glyphs)))
                for d in range(count)
            ),
            reverse=True,
        )
        placed: list[tuple[int, Box]] = []
        start = 1 + 2 * MAX_DIGITS
        for d, (height, glyph) in enumerate(chosen):
            height = max(height, 1)
            width = min(max(round(height * glyphs[glyph][2]), 1), side)
            for t in range(start + 2 * TRIES * d, start + 2 * TRIES * (d + 1), 2):
                x, y = int(u[t] * (side - width + 1)), int(u[t + 1] * (side - height + 1))
                box = (x, y, x + width, y + height)
                if all(_overlap(box, other) <= 0.05 for _, other in placed):
                    placed.append((glyph, box))
                    break
        return placed, random[start + 2 * TRIES * MAX_DIGITS :]

    def render(self, index: int) -> tuple[UInt8[np.ndarray, "s s 3"], list[tuple[int, Box]]]:
        """The picture of one scene, and what stands where."""
        from PIL import Image

        placed, random = self._layout(index)
        (which, u, v), inks = random[:3].tolist(), random[3:].reshape(MAX_DIGITS, 3)
        photos, side = backgrounds(self.split, self.image_size), self.image_size
        photo = photos[int(which * len(photos))]
        x, y = int(u * (photo.width - side + 1)), int(v * (photo.height - side + 1))
        image = photo.crop((x, y, x + side, y + side))
        more = []
        if self.varied:
            more = np.random.default_rng([2, index]).random(BACKGROUND_UNIFORMS + 1 + GLYPH_UNIFORMS).tolist()
            image = varied_background(image, photos, more)
        for (glyph, box), ink in zip(placed, inks, strict=False):
            mask = _glyphs(self.split)[glyph][0]
            if self.varied:
                pen, *turn = more[BACKGROUND_UNIFORMS:]
                mask = varied_glyph(_glyphs(self.split, PAPERS[int(pen * len(PAPERS))])[glyph][0], turn)
            mask = mask.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BILINEAR)
            red, green, blue = image.resize((1, 1), Image.Resampling.BOX, box=box).getpixel((0, 0))
            image.paste(_contrasting(ink.tolist(), 0.299 * red + 0.587 * green + 0.114 * blue), box, mask)
        return np.asarray(image), placed

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Render the scenes at `indices`."""
        b = len(indices)
        batch = {k: np.zeros((b, *v.shape), v.dtype) for k, v in self.spec().items()}
        glyphs = _glyphs(self.split)
        for row, index in enumerate(indices.tolist()):
            batch["image"][row], placed = self.render(index)
            if not placed:
                continue
            batch["boxes"][row, : len(placed)] = [box for _, box in placed]
            batch["classes"][row, : len(placed)] = [glyphs[glyph][1] for glyph, _ in placed]
            batch["valid"][row, : len(placed)] = True
        return batch

    def arrays(self, progress: Progress) -> Batch:
        """All scenes, rendered once."""
        return rendered(self, progress)

    def box_sizes(self) -> Float[np.ndarray, "n 2"]:
        """Sizes of the digits in the first 2,000 scenes."""
        count = min(len(self), _ANCHOR_SCENES)

        def make() -> Float[np.ndarray, "s m 2"]:
            sizes = np.zeros((count, self._most, 2), np.float32)
            for i in range(count):
                for d, (_, (x0, y0, x1, y1)) in enumerate(self._layout(i)[0]):
                    sizes[i, d] = x1 - x0, y1 - y0
            return sizes

        sizes = kept_array(self, "sizes", (count, self._most, 2), make)
        return sizes[sizes[..., 0] > 0]

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """There is nothing to be wrong but a missing package."""
        count, known = "0 or 1" if self.single else f"1 to {MAX_DIGITS}", len(load_digits(self.split)[1])
        return [f"{self.split}: {len(self):,} rendered scenes of {count} out of {known:,} digits"]

    def read_image(self, path: ImageFile) -> tuple[np.ndarray, Placement]:
        """One file, RGB, at the scenes' size, and where that lies in the file."""
        return fit_file(path, RESIZES[self.resize], size=self.image_size, channels=3)


def ink(split: str, glyph: int, box: Box) -> tuple[UInt8[np.ndarray, "h w"], int]:
    """Opacity of a digit that fills a box, 0 to 255, and its class."""
    from PIL import Image

    image, label, _ = _glyphs(split)[glyph]
    return np.asarray(image.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BILINEAR)), label


def _overlap(a: Box, b: Box) -> float:
    """Intersection as a fraction of the smaller box."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))


def _contrasting(u: list[float], background: float) -> tuple[int, int, int]:
    """Ink of any hue: light over a dark background, dark over a light one."""
    light = background < 128
    red, green, blue = (round(185 + 70 * v if light else 65 * v) for v in u[:3])
    return red, green, blue
