"""MNIST and its kin in the IDX format, gzipped or plain, under their four usual names.

IDX: two zero bytes, a byte for the type (8 = uint8), a byte for the number of dimensions, each dimension as a
big-endian 32 bit integer, then the values. Reference: http://yann.lecun.com/exdb/mnist/
"""

import gzip
import io
import math
import zlib
from functools import cache, partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jaxcv.data.dataset import Dataset
from jaxcv.data.io.images import resize_images
from jaxcv.data.io.text import find_folder, holds, one_line, read_bytes
from jaxcv.data.sources.in_memory import Labelled, LabelledImages
from jaxcv.types import DataError

FILES = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
         "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}  # fmt: skip
_MAX_BYTES = 2**28
NAMES = tuple("0123456789")
FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def read_idx(path: Path, *, ndim: int) -> UInt8[np.ndarray, "..."]:
    """Read one IDX file of bytes.

    Args:
      path: the file, gzipped when its name ends in `.gz`.
      ndim: dimensions expected: 3 for images, 1 for labels.

    Raises:
      DataError: damaged gzip, wrong magic number or dimensions, more or fewer values than the header says.
    """
    data = read_bytes(path, limit=_MAX_BYTES)
    if path.suffix == ".gz":
        try:
            with gzip.open(io.BytesIO(data)) as stream:
                data = stream.read(_MAX_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"cannot be read ({one_line(error)}); fetch the file again", file=path) from None
    header = 4 + 4 * ndim
    if len(data) < header or data[:4] != bytes([0, 0, 8, ndim]):
        expected = bytes([0, 0, 8, ndim]).hex()
        raise DataError(
            f"starts with {data[:4].hex() or 'nothing'}, expected {expected} (IDX, bytes, {ndim} dimensions); "
            "fetch the file again",
            file=path,
        )
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", ndim, 4))
    if len(data) - header != math.prod(shape) or 0 in shape:
        raise DataError(
            f"the header says {'x'.join(map(str, shape))} = {math.prod(shape):,} bytes, the file holds "
            f"{len(data) - header:,}; fetch the file again",
            file=path,
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _find(folder: Path, name: str) -> Path:
    find_folder(folder, "data=mnist:PATH needs the folder with the four IDX files")
    spellings = [name, name.replace("-idx", ".idx")]
    for file in [folder / f"{n}{end}" for n in spellings for end in ("", ".gz")]:
        if file.is_file():
            return file
    raise DataError(f"{name} or {name}.gz is missing; {holds(folder)}", file=folder)


@cache
def _load(folder: Path, split: str) -> Labelled:
    image_file, label_file = (_find(folder, name) for name in FILES[split])
    images, labels = read_idx(image_file, ndim=3), read_idx(label_file, ndim=1)
    if len(images) != len(labels) or len(images) == 0:
        message = f"{len(labels):,} labels for {len(images):,} images in {image_file.name}; fetch both again"
        raise DataError(message, file=label_file)
    if labels.max() >= len(NAMES):
        place = int(np.argmax(labels >= len(NAMES)))
        message = f"label {labels[place]} of example {place}: expected 0 to {len(NAMES) - 1}; fetch the file again"
        raise DataError(message, file=label_file)
    return images, labels.astype(np.int32)


def fit_digits(images: UInt8[np.ndarray, "b h w"], *, size: int) -> UInt8[np.ndarray, "b s s"]:
    """Images to `size` pixels: 28 to 32 by a border of two zeros, as LeNet-5 is fed; otherwise resized."""
    if images.shape[1:] == (28, 28) and size == 32:
        return np.pad(images, ((0, 0), (2, 2), (2, 2)))
    return resize_images(images, size=size)


def open_mnist(folder: Path, *, image_size: int, channels: int = 1, fashion: bool = False) -> tuple[Dataset, Dataset]:
    """The 60,000 training and 10,000 test digits of 28x28 pixels, uint8 [b s s c], white ink on black.

    Args:
      folder: holds the four files.
      image_size: side of the network's input image in pixels.
      channels: 1, or 3 equal ones.
      fashion: whether it is Fashion-MNIST, whose classes are clothes.

    References:
      Y. LeCun et al., Gradient-based learning applied to document recognition, 1998.
      H. Xiao et al., Fashion-MNIST, https://arxiv.org/abs/1708.07747
    """
    fit = partial(fit_digits, size=image_size)
    train, test = (
        Dataset(
            LabelledImages(
                split,
                FASHION if fashion else NAMES,
                image_size,
                partial(_load, folder, split),
                fit,
                file_size=28,
                channels=channels,
            ),
            image_size,
            mirrors=fashion,
        )
        for split in ("train", "test")
    )
    return train, test
