"""Patches of images that excite a unit, in rows."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

_CELL, _GAP = 48, 3


def crop_patch(pixels: np.ndarray, place: np.ndarray, size: int) -> np.ndarray:
    """The square of an image [h w c] around a place, (x, y) as fractions; grey beyond the image."""
    height, width = pixels.shape[:2]
    x, y = round(float(place[0]) * width - size / 2), round(float(place[1]) * height - size / 2)
    around = np.pad(pixels, ((size, size), (size, size), (0, 0)), constant_values=128)
    return around[y + size : y + 2 * size, x + size : x + 2 * size]


def draw_patches(rows: Sequence[tuple[np.ndarray | None, Sequence[np.ndarray]]]) -> Image.Image:
    """A row a unit: the picture that was made for it, a gap, and the patches that excite it most.

    Args:
        rows: uint8 pictures [h w c] of any sizes, shown at 48 pixels; None where there is no picture.
    """
    columns = 1 + max(len(patches) for _, patches in rows)
    size = (columns * (_CELL + _GAP) + 3 * _GAP, len(rows) * (_CELL + _GAP) + _GAP)
    page = Image.new("RGB", size, "white")
    for row, (made, patches) in enumerate(rows):
        for column, pixels in enumerate([made, *patches]):
            if pixels is not None:
                cell = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
                method = Image.Resampling.NEAREST if max(cell.size) < _CELL else Image.Resampling.BICUBIC
                x = _GAP + column * (_CELL + _GAP) + (2 * _GAP if column else 0)
                page.paste(cell.resize((_CELL, _CELL), method), (x, _GAP + row * (_CELL + _GAP)))
    return page
