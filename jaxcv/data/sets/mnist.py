"""MNIST and its kin in the IDX format, gzipped or plain, under their four usual names.

IDX: two zero bytes, a byte for the type (8 = uint8), a byte for the number of dimensions, each dimension as a
big-endian 32 bit integer, then the values: http://yann.lecun.com/exdb/mnist/

References:
  Y. LeCun et al., Gradient-based learning applied to document recognition, 1998.
  H. Xiao et al., Fashion-MNIST, https://arxiv.org/abs/1708.07747
"""

import gzip
import io
import math
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jaxcv.data.formats.numpy_arrays import check_labelled
from jaxcv.data.io.images import resize_images
from jaxcv.data.io.paths import find_folder, holds
from jaxcv.data.io.text import one_line, read_bytes
from jaxcv.data.sources.in_memory import Labelled
from jaxcv.errors import DataError

FILES = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
         "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}  # fmt: skip
_MAX_BYTES = 2**28
DIGITS = tuple("0123456789")
FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def read_idx(path: Path, *, ndim: int) -> UInt8[np.ndarray, "..."]:
    """Read one IDX file of bytes.

    Its name ends in `.gz` where it is gzipped; `ndim` dimensions are expected, 3 for images, 1 for labels.

    Raises:
      DataError: damaged gzip, wrong magic number or dimensions, more or fewer values than the header says.
    """
    data = read_bytes(path, limit=_MAX_BYTES)
    if path.suffix == ".gz":
        try:
            with gzip.open(io.BytesIO(data)) as stream:
                data = stream.read(_MAX_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"cannot be read ({one_line(error)})", file=path) from None
    header, magic = 4 + 4 * ndim, bytes([0, 0, 8, ndim])
    if len(data) < header or data[:4] != magic:
        expected = f"expected {magic.hex()} (IDX, bytes, {ndim} dimensions)"
        raise DataError(f"starts with {data[:4].hex() or 'nothing'}, {expected}", file=path)
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", ndim, 4))
    if len(data) - header != math.prod(shape) or 0 in shape:
        stated = f"the header says {'x'.join(map(str, shape))} = {math.prod(shape):,} bytes"
        raise DataError(f"{stated}, the file holds {len(data) - header:,}", file=path)
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _find(folder: Path, name: str) -> Path:
    find_folder(folder, "data=mnist:PATH needs the folder with the four IDX files")
    spellings = [f"{n}{end}" for n in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
    if not (found := [folder / spelling for spelling in spellings if (folder / spelling).is_file()]):
        raise DataError(f"{name} or {name}.gz is missing; {holds(folder)}", file=folder)
    return found[0]


@cache
def load_mnist(folder: Path, split: str) -> Labelled:
    """One split: 60,000 or 10,000 digits or clothes of 28x28 pixels, light on black."""
    image_file, label_file = (_find(folder, name) for name in FILES[split])
    return check_labelled(read_idx(image_file, ndim=3), read_idx(label_file, ndim=1), len(DIGITS), label_file)


def fit_digits(images: UInt8[np.ndarray, "b h w"], *, size: int) -> UInt8[np.ndarray, "b s s"]:
    """Images to `size` pixels: 28 to 32 by a border of two zeros, as LeNet-5 is fed; otherwise resized."""
    if images.shape[1:] == (28, 28) and size == 32:
        return np.pad(images, ((0, 0), (2, 2), (2, 2)))
    return resize_images(images, size=size)
