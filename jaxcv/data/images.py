"""Image files as `uint8` arrays: one way to open, convert and resize, and named errors instead of grey pictures.

Whatever the file holds (grey, palette, CMYK, transparency, 16 bit) becomes grey or RGB by the number of channels asked
for; transparency is dropped, 16 bit grey keeps its upper 8. Pixels stay where the file stores them: an EXIF rotation
is not applied, because annotations count stored pixels. Resizing is bilinear with antialiasing: `read_image` squashes
the whole picture to a square, as boxes need it; `fit_image` cuts a centre square first, as classes need it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxcv.types import DataError

Progress = Callable[[int, int], None]
"""Called with (done, total) while many files are read."""


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Whatever Pillow raises for a file becomes a DataError that names the file."""
    import struct
    import zlib

    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError("image is missing", file=path) from None
    except UnidentifiedImageError:
        raise DataError("not an image file that can be read; replace the file or take it out", file=path) from None
    except Image.DecompressionBombError as error:
        raise DataError(f"image is too large to be trusted: {error}", file=path) from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error) as error:
        what = "image is truncated" if "truncated" in str(error) else "image cannot be decoded"
        raise DataError(f"{what} ({error}); replace the file or take it out", file=path) from None


def _convert(image: Any, channels: int) -> Any:
    """A Pillow image of any mode as mode L or RGB."""
    from PIL import Image

    mode = "L" if channels == 1 else "RGB"
    if image.mode.startswith("I") or image.mode == "F":  # Pillow would clip at 255
        values = np.asarray(image).astype(np.float64)
        image = Image.fromarray((values / 256 if values.max(initial=0) > 255 else values).clip(0, 255).astype(np.uint8))
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


def read_image(
    path: str | Path, *, size: int | None = None, channels: int = 3
) -> tuple[UInt8[np.ndarray, "h w c"], tuple[int, int]]:
    """Decode one image file, completely or not at all.

    Args:
      path: the file.
      size: side of the square the image is resized to, in pixels; None keeps the file's own size.
      channels: 3 for RGB, 1 for grey.

    Returns:
      The pixels, and the file's own (width, height).

    Raises:
      DataError: missing, not an image, truncated or damaged.
    """
    from PIL import Image

    path = Path(path)
    with _named_errors(path), Image.open(path) as file:
        width, height = file.size
        image = _convert(file, channels)
        if size is not None and (width, height) != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        pixels = np.array(image, np.uint8)
    return pixels[..., None] if channels == 1 else pixels, (width, height)


def fit_image(
    path: str | Path, *, size: int, channels: int = 3, share: float = 1.0
) -> tuple[UInt8[np.ndarray, "s s c"], float]:
    """The centre square of one image file, resized to `size` by `size` without changing its proportions.

    The square's side is `share` of the shorter side, in whole pixels, or all of the shorter side where that share would
    have fewer than `size` pixels: a small picture is used whole, not cut and then enlarged. A JPEG whose square is at
    least four times as large as wanted is decoded at a half, quarter or eighth of its size, which costs a fraction of
    the time; at least twice the pixels wanted always remain for the resizing.

    Args:
      path: the file.
      size: side of the result, in pixels.
      channels: 3 for RGB, 1 for grey.
      share: of the shorter side, in (0, 1].

    Returns:
      The pixels, and the side of one of them in pixels of the file.

    Raises:
      DataError: missing, not an image, truncated or damaged.
    """
    from PIL import Image

    path = Path(path)
    with _named_errors(path), Image.open(path) as file:
        (width, height), shorter = file.size, min(file.size)
        side = int(share * shorter) if int(share * shorter) >= size else shorter
        left, top = (width - side) // 2, (height - side) // 2
        box = (left, top, left + side, top + side)
        scale = next(k for k in (8, 4, 2, 1) if k == 1 or side // k >= 2 * size)
        if scale > 1:
            file.draft(file.mode, (width // scale, height // scale))  # does nothing but to a JPEG
        image = _convert(file, channels)
        if image.size == (width, height):
            image = image.crop(box)
            if side != size:
                image = image.resize((size, size), Image.Resampling.BILINEAR)
        else:
            box = (left / scale, top / scale, (left + side) / scale, (top + side) / scale)
            image = image.resize((size, size), Image.Resampling.BILINEAR, box)
        pixels = np.array(image, np.uint8)
    return pixels[..., None] if channels == 1 else pixels, side / size


def resize_images(images: UInt8[np.ndarray, "b h w"], *, size: int) -> UInt8[np.ndarray, "b s s"]:
    """Grey images [b h w] resized to `size` by `size`, bicubic when growing and bilinear when shrinking."""
    from PIL import Image

    if images.shape[1:] == (size, size):
        return images
    method = Image.Resampling.BICUBIC if size > max(images.shape[1:]) else Image.Resampling.BILINEAR
    out = np.empty((len(images), size, size), np.uint8)
    for i, image in enumerate(images):
        out[i] = np.asarray(Image.fromarray(image).resize((size, size), method))
    return out


def check_image(path: Path, *, thorough: bool = False) -> tuple[int, int]:
    """Look whether an image file is there and whole, without decoding it unless `thorough`.

    Returns:
      The (width, height) its header states.

    Raises:
      DataError: missing, unreadable header, a JPEG or PNG without its end marker; with `thorough`, any decoding fault.
    """
    from PIL import Image

    with _named_errors(path), open(path, "rb") as stream:
        with Image.open(stream) as image:
            size, kind = image.size, image.format
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 4096))
            tail = stream.read()
        marker = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}.get(kind or "")
        if marker is not None and marker not in tail:
            raise DataError(
                f"image is truncated: the {kind} end marker is missing; replace the file or take it out", file=path
            )
    if thorough:
        read_image(path)
    return size
