"""Image files as `uint8` arrays: one way to open, convert and resize, and named errors instead of grey pictures.

Whatever the file holds (grey, palette, CMYK, transparency, 16 bit) becomes grey or RGB by the number of channels asked
for; transparency is dropped, 16 bit grey keeps its upper 8. Pixels stay where the file stores them: an EXIF rotation
is not applied, because annotations count stored pixels. `read_mask` reads labels, whose pixels are never mixed.
"""

import io
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxcv.data.io.text import one_line
from jaxcv.errors import DataError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "PPM", "TIFF")
"""What Pillow may take a file for: it knows others whose reading runs programs."""
Progress = Callable[[int, int], None]
"""Called with (done, total) while many files are read."""


def _hush() -> None:
    """Let Pillow not warn of metadata that nobody here reads, nor of sizes that `open_image` looks at itself."""
    ours = (
        "Corrupt EXIF data|Possibly corrupt EXIF|Metadata Warning|Truncated File Read|Palette images with Transparency|"
        "Tag (data|offset)|Image appears to be a malformed MPO|Invalid APNG"
    )
    rules = [(ours, UserWarning), ("Image size .* exceeds limit", RuntimeWarning)]
    there = [(rule[1].pattern, rule[2]) for rule in warnings.filters if isinstance(rule[1], re.Pattern)]
    for message, kind in rules:
        if (message, kind) not in there:  # each call makes Python forget which warnings were shown before
            warnings.filterwarnings("ignore", message, kind)


@contextmanager
def open_image(path: Path, stream: io.BytesIO | None = None) -> Iterator[Any]:
    """A Pillow image, nothing decoded yet; whatever is raised while it is open becomes a DataError with its name.

    Args:
      path: the file, or what its contents are called.
      stream: the contents, where they are no file.
    """
    from PIL import Image, UnidentifiedImageError

    _hush()
    large = "image is too large to be trusted: {}; make it smaller, or set PIL.Image.MAX_IMAGE_PIXELS"
    try:
        if stream is None and not path.is_file():  # opening a pipe would wait for ever
            what = "image is missing" if not path.exists() else "is no ordinary file"
            raise DataError(f"{what}; put the picture itself there, or take it out", file=path)
        with Image.open(stream or path, formats=FORMATS) as image:
            (width, height), most = image.size, Image.MAX_IMAGE_PIXELS
            if most and width * height > most:
                raise DataError(large.format(f"{width}x{height}, more than {most:,} pixels"), file=path)
            yield image
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError("not an image file that can be read; replace the file or take it out", file=path) from None
    except Image.DecompressionBombError as error:
        raise DataError(large.format(one_line(error)), file=path) from None
    except Exception as error:  # Pillow answers damage in many ways: OSError, SyntaxError, struct.error, KeyError ...
        what = "image is truncated" if "truncated" in str(error) else "image cannot be decoded"
        detail = one_line(error) or type(error).__name__
        raise DataError(f"{what} ({detail}); replace the file or take it out", file=path) from None


def convert_image(image: Any, channels: int) -> Any:
    """A Pillow image of any mode as mode L or RGB."""
    from PIL import Image

    mode = "L" if channels == 1 else "RGB"
    if image.mode.startswith("I") or image.mode == "F":  # Pillow would clip at 255
        values = np.asarray(image).astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError("pixels that are no finite numbers")
        image = Image.fromarray((values / 256 if values.max(initial=0) > 255 else values).clip(0, 255).astype(np.uint8))
    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


def to_array(image: Any) -> UInt8[np.ndarray, "h w c"]:
    """The pixels of a Pillow image of mode L or RGB."""
    pixels = np.array(image, np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def to_image(pixels: UInt8[np.ndarray, "h w *c"]) -> Any:
    """The Pillow image of pixels."""
    from PIL import Image

    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels)


def read_image(path: str | Path, *, channels: int = 3) -> UInt8[np.ndarray, "h w c"]:
    """All of one image file. Raises DataError: missing, not an image, truncated or damaged."""
    with open_image(Path(path)) as file:
        return to_array(convert_image(file, channels))


def read_mask(path: Path, *, colors: Mapping[int, int] | None = None) -> UInt8[np.ndarray, "h w"]:
    """The numbers in a picture of labels: the index into its palette where it has one, else its grey values.

    Args:
      path: the file; black and white gives 0 and 1.
      colors: where labels are colours: the value of each, a colour being `red * 65536 + green * 256 + blue`.

    Raises:
      DataError: what `read_image` raises; colours where none are expected, or another one; values above 255.
    """
    with open_image(path) as file:
        if file.mode in ("LA", "PA"):
            file = file.getchannel(0)
        elif file.mode == "F":
            raise DataError("a mask of fractions, expected whole numbers; save it as a grey PNG", file=path)
        elif file.mode not in ("1", "L", "P", "I", "I;16", "RGB"):
            file = file.convert("RGB")
        values = np.asarray(file)
        if values.ndim == 2 and colors is None:
            if values.max(initial=0) > 255 or values.min(initial=0) < 0:
                wrong = values.max() if values.max() > 255 else values.min()
                raise DataError(f"label {wrong}, expected 0 to 255; number the classes anew", file=path)
            return values.astype(np.uint8)
        codes = np.asarray(file.convert("RGB"), np.uint32) @ np.array([65536, 256, 1], np.uint32)
    found, inverse = np.unique(codes, return_inverse=True)
    if colors is None:
        colors = {value * 65793: value for value in range(256)}  # grey, saved in three equal channels
    if (unknown := next((code for code in found.tolist() if code not in colors), None)) is not None:
        y, x = np.argwhere(codes == unknown)[0].tolist()
        message = f"colour #{unknown:06x} at x={x} y={y} is no label; expected class numbers, or a label_colors.txt"
        raise DataError(message + " that lists it", file=path)
    return np.array([colors[code] for code in found.tolist()], np.uint8)[inverse].reshape(codes.shape)


def resize_images(images: UInt8[np.ndarray, "b h w *c"], *, size: int) -> UInt8[np.ndarray, "b s s *c"]:
    """Images [b h w] or [b h w 3] resized to `size` by `size`, bicubic when growing and bilinear when shrinking."""
    from PIL import Image

    if images.shape[1:3] == (size, size):
        return images
    method = Image.Resampling.BICUBIC if size > max(images.shape[1:3]) else Image.Resampling.BILINEAR
    out = np.empty((len(images), size, size, *images.shape[3:]), np.uint8)
    for i, image in enumerate(images):
        out[i] = np.asarray(Image.fromarray(image).resize((size, size), method))
    return out


def check_image(path: Path, *, thorough: bool = False) -> tuple[int, int]:
    """Look whether an image file is there and whole, without decoding it unless `thorough`.

    Returns:
      The (width, height) its header states.

    Raises:
      DataError: missing, unreadable header, a JPEG or PNG that is cut off; with `thorough`, any decoding fault.
    """
    with open_image(path) as image:
        size, kind = image.size, image.format
        with open(path, "rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 4096))
            tail = stream.read()
        marker = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}.get(kind or "")
        cut = marker is not None and marker not in tail
    if cut:
        try:  # telephones write more behind the end, and nothing is wrong with that
            read_image(path)
        except DataError:
            message = f"image is truncated: the {kind} end marker is missing; replace the file or take it out"
            raise DataError(message, file=path) from None
    elif thorough:
        read_image(path)
    return size
