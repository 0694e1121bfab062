"""U-Net's weights of pixels beside every mask: computed once for each picture."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy import ndimage

from jaxcv.data.io.images import Progress
from jaxcv.data.sources.extended import Extended
from jaxcv.data.sources.resident import in_parts, read, resident
from jaxcv.types import Batch

_VOID = 255


def border_weights(
    mask: UInt8[np.ndarray, "h w"], *, factor: float = 10.0, sigma: float = 5.0, foreground: int = 1
) -> Float[np.ndarray, "h w"]:
    """The weight of each pixel in the loss: w_c + w0 exp(-(d1 + d2)² / 2 sigma²) between cells.

    w_c balances the classes of the picture: with n pixels of k classes, the n_c of class c weigh n / (k n_c), 1 on
    average. d1 and d2 are the distances to the nearest and the second nearest cell; with fewer than two cells there is
    no second term. Pixels within cells have none either, a deviation.

    Args:
        mask: [h w] classes, 255 where void.
        factor: w0, the second term where two cells touch.
        sigma: in pixels, above 0.
        foreground: the class of cells, which are its parts connected by edges.

    Returns:
        [h w] float32, 0 where void.

    References:
        Ronneberger et al., U-Net, https://arxiv.org/abs/1505.04597, equation 2.
    """
    known = mask != _VOID
    counts = np.bincount(mask[known], minlength=256)
    balanced = known.sum() / np.maximum(counts * max((counts > 0).sum(), 1), 1)
    cells = ndimage.label(mask == foreground)[0]  # type: ignore[index]
    nearest = second = np.full(mask.shape, np.inf)
    for cell in range(1, cells.max(initial=0) + 1):
        distance: Any = ndimage.distance_transform_edt(cells != cell)
        nearest, second = np.minimum(nearest, distance), np.minimum(second, np.maximum(nearest, distance))
    border = factor * np.exp(-((nearest + second) ** 2) / (2 * sigma**2)) * (cells == 0)
    return np.where(known, balanced[mask] + border, 0).astype(np.float32)


@dataclass(frozen=True, eq=False)
class BorderWeighted(Extended):
    """A source whose examples also have `pixel_weights` [s s], the `border_weights` of their mask.

    An augmentation in the training step moves them with the picture.
    """

    factor: float
    sigma: float

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The source's fields, and `pixel_weights`."""
        fields = dict(self.source.spec())
        return {**fields, "pixel_weights": jax.ShapeDtypeStruct(fields["mask"].shape, np.float32)}

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The examples at `indices`, their weights computed anew."""
        batch = read(self.source, indices)
        return {**batch, "pixel_weights": np.stack([self._weights(mask) for mask in batch["mask"]])}

    def arrays(self, progress: Progress) -> Batch:
        """All examples: the source's arrays, and the weights."""
        batch = resident(self.source)
        weights = np.empty(batch["mask"].shape, np.float32)

        def compute(part: Int[np.ndarray, "b"]) -> None:
            for i in part.tolist():
                weights[i] = self._weights(batch["mask"][i])

        in_parts(len(self), compute, progress)
        return {**batch, "pixel_weights": weights}

    def _weights(self, mask: np.ndarray) -> np.ndarray:
        return border_weights(mask, factor=self.factor, sigma=self.sigma)
