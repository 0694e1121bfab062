"""Heat maps: a point as a picture of where it may be, and the point back from the picture.

Maps are `[..., h, w, p]`, one channel a point; points are `[..., p, 2]` of (x, y) as shares of the map's sides, so that
they do not depend on its stride: (0, 0) is the upper left corner, the middle of the first cell is (0.5 / w, 0.5 / h).
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.types import Scalar


@jax.jit
def soft_argmax(logits: Float[Array, "*b h w p"]) -> Float[Array, "*b p 2"]:
    """The mean place under the softmax of each map: a largest place that has gradients and is finer than a cell.

    x = sum over cells of softmax(logits) (column + 0.5) / w, and y likewise with rows. Several peaks give the mean
    between them, and a flat map its middle.

    Args:
        logits: `[..., h, w, p]`, any finite numbers.

    Returns:
        `[..., p, 2]` of (x, y), shares of the sides in (0, 1).

    References:
        Sun et al., Integral human pose regression, https://arxiv.org/abs/1711.08229, equations 1 to 3.
    """
    *_, h, w, _ = logits.shape
    shares = jax.nn.softmax(logits, axis=(-3, -2))
    x = jnp.einsum("...wp,w->...p", shares.sum(-3), _middles(w, logits))
    y = jnp.einsum("...hp,h->...p", shares.sum(-2), _middles(h, logits))
    return jnp.stack([x, y], axis=-1)


@functools.partial(jax.jit, static_argnames=("size",))
def gaussian_heatmaps(
    points: Float[Array, "*b p 2"], *, size: tuple[int, int], sigma: Scalar = 1.0
) -> Float[Array, "*b h w p"]:
    """A bell around each point, the cells of a map summing to 1.

    exp(-d² / (2 sigma²)) over its sum, with d the distance of a cell's middle from the point, in cells. A point outside
    makes the cells nearest to it the highest; it counts as at most one side away.

    Args:
        points: `[..., p, 2]` of (x, y), shares of the sides, finite.
        size: (h, w) of the maps in cells.
        sigma: Width of the bell in cells, above 0.

    Returns:
        `[..., h, w, p]`.

    References:
        Tompson et al., Joint training of a convolutional network and a graphical model for human pose estimation,
        https://arxiv.org/abs/1406.2984, section 4; there the bells are not divided by their sums.
    """

    def bell(place: Array, cells: int) -> Array:
        lead = (1,) * (points.ndim - 2)
        place = jnp.clip(place, -1, 2)
        apart = cells * (_middles(cells, points).reshape(*lead, cells, 1) - jnp.expand_dims(place, -2))
        return jax.nn.softmax(-jnp.square(apart) / jnp.asarray(2 * sigma**2, points.dtype), axis=-2)

    h, w = size
    return jnp.expand_dims(bell(points[..., 1], h), -2) * jnp.expand_dims(bell(points[..., 0], w), -3)


def _middles(cells: int, like: Array) -> Array:
    return (jnp.arange(cells, dtype=like.dtype) + 0.5) / cells
