"""Training pictures made more different than what they are made of: for `scenes` of one digit or none.

Two photographs are few backgrounds, and some 1,400 digits few digits: a network knows them by heart before it knows
what a digit is. Whether a scene holds a digit at all, it then cannot say over a photograph it has not seen.
"""

import math
from typing import Any

import numpy as np

MOST_PATCHES = 4
PATCH_SIDES = (0.1, 0.7)
"""Smallest and largest side of a patch, as a fraction of the scene's."""
TURN, SLANT = 12.0, 0.2
"""Most by which a digit is turned, in degrees, and slanted, as the tangent of the angle."""
PATCH_UNIFORMS = 8
BACKGROUND_UNIFORMS = 2 + MOST_PATCHES * PATCH_UNIFORMS
GLYPH_UNIFORMS = 2
_INK = [0] * 128 + [255] * 128


def varied_background(image: Any, photos: list[Any], u: list[float]) -> Any:
    """A square Pillow image mirrored or turned by quarters, with up to four patches of the photographs over it.

    A patch is a rectangle, an ellipse or leaves, itself mirrored or turned, darker or lighter.

    Args:
      image: the square.
      photos: Pillow images at least as large.
      u: `BACKGROUND_UNIFORMS` numbers in [0, 1).
    """
    from PIL import Image, ImageDraw

    side = image.width
    image = _turned_by_quarters(image, u[0])
    for i in range(int(u[1] * (MOST_PATCHES + 1))):
        which, x, y, width, height, turn, shape, light = u[2 + i * PATCH_UNIFORMS :][:PATCH_UNIFORMS]
        low, high = PATCH_SIDES
        photo = photos[int(which * len(photos))]
        w, h = (max(1, round(side * low * (high / low) ** v)) for v in (width, height))
        # The same number says where it comes from and where it goes: any place can come to any place by the turn.
        left, top = int(x * (photo.width - w + 1)), int(y * (photo.height - h + 1))
        patch = photo.crop((left, top, left + w, top + h))
        patch = Image.blend(Image.new("RGB", patch.size), patch, 4.0 ** (light - 0.5))
        patch = _turned_by_quarters(patch, turn)
        if shape < 1 / 4:
            mask = Image.new("L", patch.size)
            ImageDraw.Draw(mask).ellipse((0, 0, patch.width - 1, patch.height - 1), fill=255)
        else:
            mask = _leaves(patch.size, 4 * shape - 1) if shape < 3 / 4 else None
        image.paste(patch, (round((x * 7.3 % 1) * side - w / 2), round((y * 7.3 % 1) * side - h / 2)), mask)
    return image


def varied_glyph(glyph: Any, u: list[float]) -> Any:
    """Ink turned and slanted a little, and cut tight again.

    Args:
      glyph: a Pillow image, 0 to 255.
      u: `GLYPH_UNIFORMS` numbers in [0, 1).
    """
    from PIL import Image

    angle, slant = math.radians(TURN * (2 * u[0] - 1)), SLANT * (2 * u[1] - 1)
    side = 2 * max(glyph.size)
    cos, sin = math.cos(angle), math.sin(angle)
    a, b, d, e = cos - slant * sin, sin + slant * cos, -sin, cos
    x, y = glyph.width / 2 - (a + b) * side / 2, glyph.height / 2 - (d + e) * side / 2
    out = glyph.transform((side, side), Image.Transform.AFFINE, (a, b, x, d, e, y), Image.Resampling.BILINEAR)
    return out.crop(out.point(_INK).getbbox())


def _leaves(size: tuple[int, int], u: float) -> Any:
    """A mask with a random outline and random holes, coarse or fine, from a number in [0, 2)."""
    from PIL import Image

    cells = 3 + int(u * 5)
    noise = np.random.default_rng(int(u * 2**40)).bytes(cells * cells)
    return Image.frombytes("L", (cells, cells), noise).resize(size, Image.Resampling.BICUBIC).point(_INK)


def _turned_by_quarters(image: Any, u: float) -> Any:
    from PIL import Image

    ways = (None, *Image.Transpose)
    way = ways[int(u * len(ways))]
    return image if way is None else image.transpose(way)
