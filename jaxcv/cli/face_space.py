"""Whether a picture is of the kind that a network was trained on: its distance from the space of those pictures.

Turk, Pentland: Eigenfaces for recognition, 1991, section 3 (there the threshold is chosen by hand).
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

_SIDE, _DIRECTIONS = 24, 20
_TOLERANCE = 1.5
"""Times the largest distance of a test picture."""
_MOST = 2_000
"""Pictures that are looked at, of each split."""
_CONTRAST = 2.0
"""Standard deviation of the grey values, of 255, below which there is nothing in a picture."""


class Space(NamedTuple):
    """Mean and main directions of pictures, and how far from these one may be."""

    mean: np.ndarray
    directions: np.ndarray
    limit: float


def fit_space(train: np.ndarray, test: np.ndarray) -> Space:
    """The space of the training pictures, and the largest distance of the test pictures, with a tolerance.

    Args:
        train: uint8 `[n, h, w, c]`, n at least 1.
        test: uint8 `[m, h, w, c]`, of identities that are not among the others.
    """
    vectors = _vectors(_some(train))
    mean = vectors.mean(0)
    _, _, directions = np.linalg.svd(vectors - mean, full_matrices=False)
    space = Space(mean, directions[:_DIRECTIONS], 0.0)
    return space._replace(limit=_TOLERANCE * float(max(distance(space, image) for image in _some(test))))


def distance(space: Space, image: np.ndarray) -> float:
    """Mean squared distance of one picture, uint8 `[h, w, c]`, grey values standardised; infinite of a blank one."""
    if image.std() < _CONTRAST:
        return float("inf")
    vector = _vectors(image[None])[0] - space.mean
    return float((np.square(vector).sum() - np.square(space.directions @ vector).sum()) / vector.size)


def _some(images: np.ndarray) -> np.ndarray:
    return images[np.unique(np.linspace(0, len(images) - 1, _MOST).astype(np.int64))]


def _vectors(images: np.ndarray) -> np.ndarray:
    small = [
        np.asarray(Image.fromarray(image.mean(-1).astype(np.uint8)).resize((_SIDE, _SIDE), Image.Resampling.BOX))
        for image in images
    ]
    vectors = np.stack(small).reshape(len(small), -1).astype(np.float32)
    vectors -= vectors.mean(1, keepdims=True)
    return vectors / np.maximum(vectors.std(1, keepdims=True), 1e-6)
