"""The embedded set for classification: real handwritten digits that come with scikit-learn, no download.

1,797 digits of 8x8 pixels, ink 0 to 16; every fifth is a test digit (359), the others train (1,438). The file is read
straight from the installed package: importing it would take a second.

References:
  E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (CC BY 4.0).
"""

import gzip
import io
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from jaxcv.data.dataset import Dataset
from jaxcv.data.io.images import resize_images
from jaxcv.data.sources.in_memory import Labelled, LabelledImages
from jaxcv.types import UserError

NAMES = tuple("0123456789")


def sklearn_file(*parts: str) -> Path:
    """A data file of the installed scikit-learn. Raises UserError when there is none."""
    spec = find_spec("sklearn")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        file = Path(folder, "datasets", *parts)
        if file.is_file():
            return file
    raise UserError(
        f"data=digits reads {'/'.join(parts)} of scikit-learn, which is not installed: pip install scikit-learn"
    )


@cache
def _all_digits() -> Labelled:
    """Every digit, ink 0 to 255, and its class."""
    text = gzip.decompress(sklearn_file("data", "digits.csv.gz").read_bytes())
    table = np.loadtxt(io.BytesIO(text), delimiter=",", dtype=np.int64)
    return np.round(table[:, :64].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8), table[:, 64]


@cache
def load_digits(split: str) -> Labelled:
    """One split: every fifth digit is test."""
    images, labels = _all_digits()
    test = np.arange(len(labels)) % 5 == 4
    chosen = test if split == "test" else ~test
    return images[chosen], labels[chosen]


@cache
def _enlarged(split: str, image_size: int) -> Labelled:
    images, labels = load_digits(split)
    return resize_images(images, size=image_size), labels


def open_digits(*, image_size: int, channels: int = 1) -> tuple[Dataset, Dataset]:
    """Single digits for classification: uint8 [b s s c], white ink on black, enlarged from 8x8 bicubically."""
    train, test = (
        Dataset(
            LabelledImages(
                split,
                NAMES,
                image_size,
                load=partial(_enlarged, split, image_size),
                fit=partial(resize_images, size=image_size),
                channels=channels,
            ),
            image_size,
            mirrors=False,
        )
        for split in ("train", "test")
    )
    return train, test
