"""The embedded set for classification: real handwritten digits that come with scikit-learn, no download.

1,797 digits of 8x8 pixels, ink 0 to 16; every fifth is a test digit (359), the others train (1,438). The file is read
straight from the installed package: importing it would take a second.

References:
  E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (CC BY 4.0).
"""

import gzip
import io
from functools import cache

import numpy as np

from jaxcv.data.io.images import resize_images
from jaxcv.data.io.paths import sklearn_file
from jaxcv.data.sources.in_memory import Labelled, every_fifth

NAMES = tuple("0123456789")


@cache
def _all_digits() -> Labelled:
    """Every digit, ink 0 to 255, and its class."""
    text = gzip.decompress(sklearn_file("data", "digits.csv.gz").read_bytes())
    table = np.loadtxt(io.BytesIO(text), delimiter=",", dtype=np.int64)
    return np.round(table[:, :64].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8), table[:, 64]


@cache
def load_digits(split: str) -> Labelled:
    """One split, 8x8: every fifth digit is test."""
    return every_fifth(_all_digits(), split, sklearn_file("data", "digits.csv.gz"))


@cache
def enlarged_digits(split: str, image_size: int) -> Labelled:
    """One split, white ink on black, enlarged bicubically."""
    images, labels = load_digits(split)
    return resize_images(images, size=image_size), labels


@cache
def digits_apart(split: str, image_size: int, unseen: int) -> Labelled:
    """One split of the digits as identities: all pictures of the last `unseen` of the ten are for testing."""
    images, labels = _all_digits()
    chosen = (labels >= 10 - unseen) == (split == "test")
    return resize_images(images[chosen], size=image_size), labels[chosen]
