"""The main directions in which the colours of a set vary: computed once on the host, for `pca_colors`."""

from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from jaxcv.errors import UserError
from jaxcv.types import Batch


@runtime_checkable
class Readable(Protocol):
    """Examples that can be read by index, such as `source` of a data set."""

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def read(self, indices: np.ndarray) -> Batch:
        """The examples at `indices`, stacked."""
        ...


@lru_cache(maxsize=16)
def principal_colors(source: Readable, *, examples: int = 1000) -> Float[np.ndarray, "3 3"]:
    """Directions of the pixels' colours and how far they vary along each.

    Computed once for a source, so that an experiment may ask for it: `principal_colors(train.source)`.

    Args:
        source: Whose `image` is `[b, h, w, 3]`, uint8, or float in [0, 1].
        examples: How many to read, spread evenly over the set.

    Returns:
        `[3, 3]` float32, largest first: each row an eigenvector of the pixels' covariance times the root of its
        eigenvalue, in units of [0, 1]; the sign of a row is that of its sum.

    Raises:
        UserError: The pictures have other than three channels.
    """
    count = min(len(source), examples)
    chosen = (np.arange(count) * len(source)) // max(count, 1)
    total, squares, pixels = np.zeros(3), np.zeros((3, 3)), 0
    for part in np.array_split(chosen, max(1, count // 64)):
        image = np.asarray(source.read(part)["image"])
        if image.shape[-1] != 3:
            raise UserError(f"PCA colours want pictures of three channels, not {image.shape[-1]}")
        rows = image.reshape(-1, 3).astype(np.float64) / (255 if image.dtype == np.uint8 else 1)
        total, squares, pixels = total + rows.sum(0), squares + rows.T @ rows, pixels + len(rows)
    mean = total / max(pixels, 1)
    values, vectors = np.linalg.eigh(squares / max(pixels, 1) - np.outer(mean, mean))
    rows = (vectors * np.sqrt(np.maximum(values, 0))).T[::-1]
    return (rows * np.where(rows.sum(1, keepdims=True) < 0, -1, 1)).astype(np.float32)
