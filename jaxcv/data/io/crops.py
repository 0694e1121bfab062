"""Random windows of image files: decoded, cut and resized to the network's input, as fast as a thread can.

A window has a random area, ratio and place in its picture (`augment.warp` does the same to pictures that are read
already, and so as small as the network's input): here it is cut out of the file at its full resolution. Of a window at
least twice as large as wanted the file is decoded at, or averaged to, a half, quarter or eighth first; what remains is
bilinear between the two nearest pixels each way.

With OpenCV (`pip install 'jaxcv-research[fast]'`) that is faster. The bytes are the same without it: both use
libjpeg-turbo, and the resizing is OpenCV's `INTER_LINEAR_EXACT`, which is written here in C and in numpy too.

References:
  Szegedy et al., Going deeper with convolutions, https://arxiv.org/abs/1409.4842, section 6.
"""

import ctypes
import importlib
import importlib.util
import io
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt16

from jaxcv import native
from jaxcv.data.io.images import convert_image, open_image
from jaxcv.data.io.text import read_bytes

_SCALES = (8, 4, 2, 1)
_TAIL = 4096  # bytes in which a whole JPEG has its end marker


def place_window(
    uniform: Float[np.ndarray, "4"], size: tuple[int, int], *, min_area: float, max_ratio: float
) -> tuple[int, int, int, int]:
    """A window in a picture, in whole pixels of it.

    Args:
      uniform: numbers in [0, 1) for area, ratio, and place along x and y.
      size: width and height of the picture.
      min_area: the window has between this share of the picture's area and all of it, evenly; in (0, 1].
      max_ratio: its width by height is between 1 / max_ratio and this, evenly on a log scale; at least 1. A side that
        would not fit is the picture's.

    Returns:
      Left, top, width and height; at least one pixel.
    """
    width, height = size
    area = width * height * (1 - float(uniform[0]) * (1 - min_area))
    ratio = max_ratio ** (2 * float(uniform[1]) - 1)
    w = max(1, min(width, round(math.sqrt(area * ratio))))
    h = max(1, min(height, round(math.sqrt(area / ratio))))
    return int(float(uniform[2]) * (width - w + 1)), int(float(uniform[3]) * (height - h + 1)), w, h


def read_window(
    path: str | Path,
    uniform: Float[np.ndarray, "4"],
    *,
    size: int,
    min_area: float,
    max_ratio: float,
    channels: int = 3,
) -> UInt8[np.ndarray, "s s c"]:
    """A random window of one image file, resized to `size` by `size`.

    Args:
      path: the file.
      uniform: numbers in [0, 1) that choose the window; see `place_window`.
      size: side of the result, in pixels.
      min_area: see `place_window`.
      max_ratio: see `place_window`.
      channels: 3 for RGB, 1 for grey.

    Raises:
      DataError: missing, not an image, truncated or damaged.
    """
    data = read_bytes(Path(path))
    with open_image(Path(path), io.BytesIO(data)) as file:
        left, top, w, h = place_window(uniform, file.size, min_area=min_area, max_ratio=max_ratio)
        scale = next(k for k in _SCALES if k == 1 or min(w, h) // k >= size)
        pixels = _decode_fast(data, file, scale) if channels == 3 else None
        reverse = pixels is not None
        if pixels is None:
            pixels = _decode(file, scale, channels)
    rows, columns = (
        slice(start // scale, max(start // scale + 1, (start + side) // scale)) for start, side in ((top, h), (left, w))
    )
    out = resize_bilinear(pixels[rows, columns], size=size)
    return _opencv().cvtColor(out, _opencv().COLOR_BGR2RGB) if reverse else out


def _decode(file: Any, scale: int, channels: int) -> UInt8[np.ndarray, "h w c"]:
    """All of a file that Pillow has open, at 1 / scale of its size."""
    whole = file.size
    if scale > 1:
        file.draft(file.mode, (whole[0] // scale, whole[1] // scale))  # does nothing but to a JPEG
    drafted = file.size != whole
    image = convert_image(file, channels)
    if scale > 1 and not drafted:
        image = image.reduce(scale)
    pixels = np.asarray(image, np.uint8)
    return pixels[..., None] if channels == 1 else pixels


def _decode_fast(data: bytes, file: Any, scale: int) -> UInt8[np.ndarray, "h w 3"] | None:
    """The same in BGR, by OpenCV; None where it is not installed, or where the file is for Pillow to judge."""
    cv2 = _opencv()
    if cv2 is None or file.format != "JPEG" or file.mode not in ("L", "RGB") or b"\xff\xd9" not in data[-_TAIL:]:
        return None
    flag = {1: cv2.IMREAD_COLOR, **{k: getattr(cv2, f"IMREAD_REDUCED_COLOR_{k}") for k in _SCALES[:3]}}[scale]
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    expected = tuple(-(-side // scale) for side in reversed(file.size))
    return pixels if pixels is not None and pixels.shape[:2] == expected else None


def resize_bilinear(image: UInt8[np.ndarray, "h w c"], *, size: int) -> UInt8[np.ndarray, "s s c"]:
    """An image resized to `size` by `size`, each pixel from the four around its place, in fixed point numbers.

    Meant for sides of up to twice `size`: of larger ones some pixels count for nothing.
    """
    if (cv2 := _opencv()) is not None:
        return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR_EXACT).reshape(size, size, -1)
    if (compiled := _compiled()) is not None and image.strides[1:] == (image.shape[2], 1):
        taps = [np.concatenate(pair) for pair in zip(*(_taps(side, size) for side in image.shape[1::-1]), strict=True)]
        out = np.empty((size, size, image.shape[2]), np.uint8)
        if compiled(
            image.ctypes.data, image.strides[0], *(t.ctypes.data for t in taps), *out.shape[1:], out.ctypes.data
        ):
            raise MemoryError
        return out
    return _resize(image, size=size)


def _resize(image: UInt8[np.ndarray, "h w c"], *, size: int) -> UInt8[np.ndarray, "s s c"]:
    near, far, share = _taps(image.shape[1], size)
    share = share[None, :, None]
    lines = np.take(image, near, 1) * (256 - share) + np.take(image, far, 1) * share  # uint16: 255 * 256 at most
    near, far, share = _taps(image.shape[0], size)
    share = share.astype(np.uint32)[:, None, None]
    return ((lines[near] * (256 - share) + lines[far] * share + 2**15) >> 16).astype(np.uint8)


def _taps(side: int, size: int) -> tuple[Int[np.ndarray, "s"], Int[np.ndarray, "s"], UInt16[np.ndarray, "s"]]:
    """The two pixels around each place on a side, and the share of the second in 256ths."""
    place = (np.arange(size) + 0.5) * (side / size) - 0.5
    first = np.floor(place).astype(np.int64)
    share = np.rint((place - first) * 256).astype(np.uint16)
    return np.clip(first, 0, side - 1), np.clip(first + 1, 0, side - 1), share


@cache
def _opencv() -> Any:
    """The module, or None where it is not installed."""
    return importlib.import_module("cv2") if importlib.util.find_spec("cv2") else None


@cache
def _compiled() -> Any:
    """`_resize` in C, or None where it cannot be had."""
    library = native.build("resize.c")
    if library is None:
        return None
    try:
        function = ctypes.CDLL(str(library)).resize_bilinear
    except OSError:
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = (pointer, ctypes.c_ssize_t, pointer, pointer, pointer, number, number, pointer)
    return function
