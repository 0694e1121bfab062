"""Windows with an object and windows without: what a classifier learns from that is to scan pictures.

`image` uint8 [b s s c], `label` int32 [b]: 0 for nothing, 1 for the object. Files to predict on are read whole, not cut
to a window. Example `i` is a function of `(split, i)` alone.
"""

import math

import numpy as np
from jaxtyping import UInt8

from jaxcv.data.io.images import read_image, to_array, to_image
from jaxcv.types import ImageFile, Placement

LARGEST_PICTURE = 640
"""Longer side in pixels to which a picture to be scanned is made smaller."""
STEP = 128
"""Heights and widths of pictures to be scanned are multiples of this: each size is a program to compile."""


def read_picture(path: ImageFile, channels: int) -> tuple[UInt8[np.ndarray, "h w c"], Placement]:
    """A whole picture, made smaller if it is large, and where it lies in the file."""
    from PIL import Image

    pixels = read_image(path, channels=channels)
    height, width = pixels.shape[:2]
    scale = min(1.0, LARGEST_PICTURE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size != (width, height):
        pixels = to_array(to_image(pixels).resize(size, Image.Resampling.BILINEAR))
    return pixels, Placement((width, height), width / size[0], height / size[1])


def cut(pixels: np.ndarray, box: tuple[float, float, float, float], size: int) -> np.ndarray:
    """The part `box` of a picture [h w c], black beyond it, as [size size c]."""
    from PIL import Image

    corners = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
    inner = box[0] - corners[0], box[1] - corners[1], box[2] - corners[0], box[3] - corners[1]
    return to_array(to_image(pixels).crop(corners).resize((size, size), Image.Resampling.BILINEAR, inner))


def read_padded(path: ImageFile, channels: int) -> tuple[np.ndarray, Placement]:
    """A whole picture, see `read_picture`; its last row and column repeated to the next multiple of `STEP`."""
    pixels, placement = read_picture(path, channels)
    more = [(0, -side % STEP) for side in pixels.shape[:2]]
    return np.pad(pixels, (*more, (0, 0)), mode="edge"), placement
