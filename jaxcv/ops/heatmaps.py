"""Heat maps: key points as maps of where they may be, and the points back from the maps.

Maps are `[..., h, w, p]`, one channel a point; points are `[..., p, 2]` of (x, y) as fractions of the map's width and
height, independent of its stride: (0, 0) is the upper left corner, the first cell's centre is (0.5 / w, 0.5 / h).
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.types import Scalar


@jax.jit
def soft_argmax(logits: Float[Array, "*b h w p"]) -> Float[Array, "*b p 2"]:
    """The expected position under the softmax of each map: differentiable, and finer than a cell.

    x = sum over cells of softmax(logits) (column + 0.5) / w, and y likewise with rows. Several peaks give their
    mean, and a constant map its centre.

    Args:
        logits: `[..., h, w, p]`, any finite numbers.

    Returns:
        `[..., p, 2]` of (x, y), fractions of width and height in (0, 1).

    References:
        Sun et al., Integral human pose regression, https://arxiv.org/abs/1711.08229, equations 1 to 3.
    """
    *_, h, w, _ = logits.shape
    probabilities = jax.nn.softmax(logits, axis=(-3, -2))
    x = jnp.einsum("...wp,w->...p", probabilities.sum(-3), _centres(w, logits))
    y = jnp.einsum("...hp,h->...p", probabilities.sum(-2), _centres(h, logits))
    return jnp.stack([x, y], axis=-1)


@functools.partial(jax.jit, static_argnames=("size",))
def gaussian_heatmaps(
    points: Float[Array, "*b p 2"], *, size: tuple[int, int], sigma: Scalar = 1.0
) -> Float[Array, "*b h w p"]:
    """A Gaussian around each point, the cells of a map summing to 1.

    exp(-d² / (2 sigma²)) over its sum, with d the distance of a cell's centre from the point, in cells. The map of a
    point outside is highest at the nearest edge; coordinates are clipped to [-1, 2].

    Args:
        points: `[..., p, 2]` of (x, y), fractions of width and height, finite.
        size: (h, w) of the maps in cells.
        sigma: Standard deviation in cells, above 0.

    Returns:
        `[..., h, w, p]`.

    References:
        Tompson et al., Joint training of a convolutional network and a graphical model for human pose estimation,
        https://arxiv.org/abs/1406.2984, section 4; there the Gaussians are not divided by their sums.
    """

    def gaussian(position: Array, cells: int) -> Array:
        lead = (1,) * (points.ndim - 2)
        position = jnp.clip(position, -1, 2)
        apart = cells * (_centres(cells, points).reshape(*lead, cells, 1) - jnp.expand_dims(position, -2))
        return jax.nn.softmax(-jnp.square(apart) / jnp.asarray(2 * sigma**2, points.dtype), axis=-2)

    h, w = size
    return jnp.expand_dims(gaussian(points[..., 1], h), -2) * jnp.expand_dims(gaussian(points[..., 0], w), -3)


def _centres(cells: int, like: Array) -> Array:
    return (jnp.arange(cells, dtype=like.dtype) + 0.5) / cells
