"""Image files as `uint8` arrays: one way to open, convert and resize.

Whatever the file holds (grey, palette, CMYK, transparency, 16 bit) becomes grey or RGB by the number of channels asked
for; transparency is dropped, 16-bit grey is divided by 257 whatever its largest value, floats reach from 0 to 1.
`white` is the value that becomes 255 where it is another one: 4095 in a 16-bit file of 12 bits. The EXIF orientation is
applied everywhere: sizes, boxes and points are those of the upright picture.
"""

import io
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt32

from jaxcv.data.io.text import one_line
from jaxcv.errors import DataError
from jaxcv.types import ImageFile

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "PPM", "TIFF")  # Pillow knows others whose reading runs programs
Progress = Callable[[int, int], None]  # called with (done, total) while many files are read
_ORIENTATION = 0x0112
_loading = threading.Lock()
_TRANSPOSES = (0, 0, 0, 3, 1, 5, 4, 6, 2)
"""`PIL.Image.Transpose` by EXIF orientation, from 2; those from 5 exchange width and height."""


def _hush() -> None:
    """Let Pillow not warn of metadata that nobody here reads, nor of sizes that `open_image` looks at itself."""
    ours = (
        "Corrupt EXIF data|Possibly corrupt EXIF|Metadata Warning|Truncated File Read|Palette images with Transparency|"
        "Tag (data|offset)|Image appears to be a malformed MPO|Invalid APNG"
    )
    there = [(rule[1].pattern, rule[2]) for rule in warnings.filters if isinstance(rule[1], re.Pattern)]
    for rule in ((ours, UserWarning), ("Image size .* exceeds limit", RuntimeWarning)):
        if rule not in there:  # each call makes Python forget which warnings were shown before
            warnings.filterwarnings("ignore", *rule)


@contextmanager
def open_image(path: Path, stream: io.BytesIO | None = None, *, whole: bool = False) -> Iterator[Any]:
    """A Pillow image, nothing decoded yet; whatever is raised while it is open becomes a DataError with its name.

    `stream` holds the contents where `path` is not a file but what they are called. `whole`: the file is read at once,
    for it will be decoded; Pillow reads it in forty pieces, which takes a tenth of decoding a photograph.
    """
    from PIL import Image, UnidentifiedImageError

    _hush()
    try:
        if stream is None and not path.is_file():  # opening a pipe would wait for ever
            raise DataError("is no ordinary file" if path.exists() else "image is missing", file=path)
        if stream is None and whole:
            stream = io.BytesIO(path.read_bytes())
        with Image.open(stream or path, formats=FORMATS) as image:
            (width, height), most = image.size, Image.MAX_IMAGE_PIXELS
            if most and width * height > most:
                raise Image.DecompressionBombError(f"{width}x{height}, more than {most:,} pixels")
            yield image
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError("not an image file that can be read", file=path) from None
    except Image.DecompressionBombError as error:
        expected = "expected at most PIL.Image.MAX_IMAGE_PIXELS"
        raise DataError(f"image is too large to be trusted: {one_line(error)}; {expected}", file=path) from None
    except Exception as error:  # Pillow answers damage in many ways: OSError, SyntaxError, struct.error, KeyError ...
        what = "image is truncated" if "truncated" in str(error) else "image cannot be decoded"
        raise DataError(f"{what} ({one_line(error) or type(error).__name__})", file=path) from None


@contextmanager
def open_any(file: Any) -> Iterator[Any]:
    """As `open_image`, to be decoded: of an `ImageFile` or the bytes of one; of pixels that are there; or itself.

    Raises:
      TypeError: the pixels are not uint8, or no grey or RGB picture.
    """
    if hasattr(file, "getexif"):  # a Pillow image, which decodes when first used: for one thread
        with _loading:
            file.load()
        yield file
        return
    if not isinstance(file, np.ndarray):
        stream = io.BytesIO(file) if isinstance(file, bytes) else None
        path = file if isinstance(file, Path) else Path("bytes" if isinstance(file, bytes) else file)
        with open_image(path, stream, whole=True) as image:
            yield image
        return
    if file.dtype != np.uint8 or file.ndim not in (2, 3) or file.shape[2:] not in ((), (1,), (3,)) or not file.size:
        raise TypeError(f"a picture {file.dtype}{list(file.shape)}: expected uint8 [h, w], [h, w, 1] or [h, w, 3]")
    yield to_image(file)


def orientation(image: Any) -> int:
    """The EXIF orientation that is to be applied to a Pillow image, 1 to 8; 1: it is upright."""
    # Pillow itself turns TIFF, and of a PNG decodes everything to look for EXIF behind the pixels.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # EXIF is written by many programs and damaged by others
        return 1
    return found if found in range(2, 9) else 1


def upright_size(image: Any) -> tuple[int, int]:
    """Width and height of a Pillow image once its EXIF orientation is applied."""
    return image.size[::-1] if orientation(image) >= 5 else image.size


def upright(image: Any) -> Any:
    """A Pillow image, its EXIF orientation applied."""
    if (found := orientation(image)) == 1:
        return image
    image = image.transpose(_TRANSPOSES[found])
    image.info.pop("exif", None)
    return image


def convert_image(image: Any, channels: int, white: int | float | None = None) -> Any:
    """A Pillow image of any mode as mode L or RGB, upright; `white` as of the module."""
    from PIL import Image

    image, mode = upright(image), "L" if channels == 1 else "RGB"
    if image.mode.startswith("I") or image.mode == "F":  # Pillow would clip at 255
        deep = image.mode != "F" and (
            image.mode != "I" or image.format in ("PPM", "PNG")
        )  # Pillow scales these to 16 bit
        values, most = np.asarray(image).astype(np.float64), white or (65535 if deep else 1)
        if not np.isfinite(values).all():
            raise ValueError("pixels that are no finite numbers")
        if white is None and not deep and (image.mode == "I" or values.max(initial=0) > 1):
            found = "32-bit integers" if image.mode == "I" else f"floats up to {values.max():g}"
            raise ValueError(f"{found}, expected 8 or 16 bits or floats up to 1; scale= says which value is white")
        image = Image.fromarray(np.round(values * (255 / most)).clip(0, 255).astype(np.uint8))
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


def read_image(path: ImageFile, *, channels: int = 3, white: int | float | None = None) -> UInt8[np.ndarray, "h w c"]:
    """All of one image file. Raises DataError: missing, not an image, truncated or damaged."""
    with open_any(path) as file:
        return to_array(convert_image(file, channels, white))


def read_mask(path: Path, *, colors: Mapping[int, int] | None = None) -> UInt8[np.ndarray, "h w"]:
    """The numbers in a picture of labels: the index into its palette where it has one, else its grey values.

    Black and white gives 0 and 1. `colors`, where labels are colours: the value of each, a colour being
    `red * 65536 + green * 256 + blue`.

    Raises:
      DataError: what `read_image` raises; colours where none are expected, or another one; values above 255.
    """
    with open_image(path) as file:
        file = upright(file)
        if file.mode in ("LA", "PA"):
            file = file.getchannel(0)
        elif file.mode == "F":
            raise DataError("a mask of fractions, expected whole numbers", file=path)
        elif file.mode not in ("1", "L", "P", "I", "I;16", "RGB"):
            file = file.convert("RGB")
        values = np.asarray(file)
        if values.ndim == 2 and colors is None:
            if values.max(initial=0) > 255 or values.min(initial=0) < 0:
                wrong = values.max() if values.max() > 255 else values.min()
                raise DataError(f"label {wrong}, expected 0 to 255", file=path)
            return values.astype(np.uint8)
        codes = np.asarray(file.convert("RGB"), np.uint32) @ np.array([65536, 256, 1], np.uint32)
    found, inverse = np.unique(codes, return_inverse=True)
    if colors is None:
        colors = {value * 65793: value for value in range(256)}  # grey, saved in three equal channels
    if (unknown := next((code for code in found.tolist() if code not in colors), None)) is not None:
        y, x = np.argwhere(codes == unknown)[0].tolist()
        expected = "expected class numbers, or a label_colors.txt that lists it"
        raise DataError(f"colour #{unknown:06x} at x={x} y={y} is no label; {expected}", file=path)
    return np.array([colors[code] for code in found.tolist()], np.uint8)[inverse].reshape(codes.shape)


def read_colors(path: Path) -> UInt32[np.ndarray, "h w"]:
    """The colours of a picture as `red + green * 256 + blue * 65536`. Raises DataError: see `read_image`."""
    return read_image(path).astype(np.uint32) @ np.array([1, 256, 65536], np.uint32)


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
    """Width and height of an image file upright, as its header states; the file is there and whole.

    Raises:
      DataError: missing, unreadable header, a JPEG or PNG that is cut off; with `thorough`, any decoding fault.
    """
    with open_image(path) as image:
        size, kind = upright_size(image), image.format or ""
        with open(path, "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - 4096))
            cut = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}.get(kind, b"") not in stream.read()
    if cut or thorough:
        try:  # telephones write more behind the end, and nothing is wrong with that
            read_image(path)
        except DataError:
            if cut:
                raise DataError(f"image is truncated: the {kind} end marker is missing", file=path) from None
            raise
    return size


_MARKS = re.compile(rb"Exif|eXIf|EXIF|ns\.adobe\.com|^II\*\0|^MM\0\*")


def read_orientation(path: Path) -> int:
    """The EXIF orientation of a file, 1 to 8; 1 where it cannot be read, for reading the picture will say why."""
    try:
        if not path.is_file():  # a pipe would wait for ever
            return 1
        with open(path, "rb", buffering=0) as stream:  # a tenth of the time that Pillow takes to open one
            if not _MARKS.search(stream.read(4096)):
                return 1
        with open_image(path) as image:
            return orientation(image)
    except (OSError, DataError):
        return 1
