"""Regions of image files, resized to the network's input, bilinear with antialiasing.

A region is left, top, width and height in pixels of the file; where it reaches beyond the picture it is black.
`RESIZES` are the ways in which a picture becomes the network's square input; training on classes may show a random
`window`.

A JPEG much larger than wanted is decoded at a half, quarter or eighth of its size, which costs a fraction of the time.

References:
  Windows: Szegedy et al., Going deeper with convolutions, https://arxiv.org/abs/1409.4842, section 6.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

from jaxcv.data.io.images import convert_image, open_any, upright_size
from jaxcv.types import ImageFile, Placement

Size = tuple[int, int]  # width and height
Region = tuple[int, int, int, int]  # left, top, width and height
Resize = Literal["squash", "letterbox", "shortest"]
MARGIN = 1.25  # side of the square around an object, by the longer side of its box


def whole(size: Size) -> Region:
    """All of a picture."""
    return 0, 0, *size


def square(size: Size) -> Region:
    """All of a picture, in the middle of a square."""
    side = max(size)
    return (size[0] - side) // 2, (size[1] - side) // 2, side, side


def middle(size: Size, *, at_least: int, fraction: float = 1.0) -> Region:
    """The centre square of a picture: `fraction` of its shorter side, all of it if that is less than `at_least`."""
    side = int(fraction * min(size))
    side = side if side >= at_least else min(size)  # a small picture is not cut and then enlarged
    return (size[0] - side) // 2, (size[1] - side) // 2, side, side


RESIZES: dict[Resize, Callable[[Size], Region]] = {
    "squash": whole,
    "letterbox": square,
    "shortest": partial(middle, at_least=1),
}
"""All of a picture, stretched to a square; all of it between black borders; the centre square of its shorter side."""


def around(box: tuple[float, float, float, float]) -> Region:
    """The square around a box x0, y0, x1, y1 in pixels, `MARGIN` times as large as its longer side."""
    side = max(8, round(MARGIN * max(box[2] - box[0], box[3] - box[1])))
    return round((box[0] + box[2] - side) / 2), round((box[1] + box[3] - side) / 2), side, side


def window(size: Size, uniform: Float[np.ndarray, "4"], *, min_area: float, max_ratio: float) -> Region:
    """A random part of a picture of this size, of at least one pixel.

    Args:
      size: of the picture.
      uniform: numbers in [0, 1) for area, ratio, and position along x and y.
      min_area: the least area as a fraction of the picture's, in (0, 1]; areas are uniform.
      max_ratio: the largest width by height or height by width, at least 1; uniform on a log scale. A width or
        height that would not fit is the picture's.
    """
    width, height = size
    area = width * height * (1 - float(uniform[0]) * (1 - min_area))
    ratio = max_ratio ** (2 * float(uniform[1]) - 1)
    w = max(1, min(width, round(math.sqrt(area * ratio))))
    h = max(1, min(height, round(math.sqrt(area / ratio))))
    return int(float(uniform[2]) * (width - w + 1)), int(float(uniform[3]) * (height - h + 1)), w, h


def resize_region(image: Any, region: Region, *, size: int, scale: int = 1, gap: float = 2.0) -> Any:
    """A region of a Pillow image that was decoded at 1 / `scale` of its size, as one of `size` by `size`."""
    from PIL import Image

    left, top, right, bottom = (n / scale for n in (region[0], region[1], region[0] + region[2], region[1] + region[3]))
    x, y = math.floor(left), math.floor(top)
    image = image.crop((x, y, math.ceil(right), math.ceil(bottom)))  # the resizing would look beyond the edges of a box
    box = (left - x, top - y, right - x, bottom - y)
    if image.size == (size, size) and box == (0, 0, size, size):
        return image
    return image.resize((size, size), Image.Resampling.BILINEAR, box, reducing_gap=None if gap >= 2 else gap)


def read_region(
    path: Any,
    region: Callable[[Size], Region],
    *,
    size: int,
    channels: int = 3,
    gap: float = 2.0,
    white: int | float | None = None,
) -> tuple[UInt8[np.ndarray, "s s c"], Size]:
    """The region that `region` gives for the size of an image, as `size` by `size` pixels, and that size.

    The image is what `open_any` takes. Sizes and regions are those of the upright picture.
    `white`: see `io.images`. `gap`: what is decoded at less than
    its size still has so many times the pixels wanted along each axis. With less than 2, files that are no JPEGs are
    first averaged down so far too: faster, and farther from the whole resized.

    Raises:
      DataError: missing, not an image, truncated or damaged.
    """
    with open_any(path) as file:
        stored, file_size, scale = file.size, upright_size(file), 1
        found = region(file_size)
        scale = next(k for k in (8, 4, 2, 1) if k == 1 or min(found[2:]) // k >= gap * size)
        if scale > 1:
            file.draft(file.mode, (stored[0] // scale, stored[1] // scale))  # does nothing but to a JPEG
            scale = scale if file.size != stored else 1
        image = resize_region(convert_image(file, channels, white), found, size=size, scale=scale, gap=gap)
        return np.asarray(image).reshape(size, size, channels), file_size  # a view, for what writes it elsewhere


def fit_file(
    path: ImageFile, region: Callable[[Size], Region], *, size: int, channels: int, white: int | float | None = None
) -> tuple[UInt8[np.ndarray, "s s c"], Placement]:
    """A region of a person's own file, and where it lies there."""
    pixels, file_size = read_region(path, region, size=size, channels=channels, white=white)
    left, top, width, height = region(file_size)
    return pixels.copy(), Placement(file_size, width / size, height / size, left, top)
