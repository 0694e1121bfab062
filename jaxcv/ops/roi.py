"""Regions of interest: what a feature map shows inside boxes, sampled to one size.

Features are NHWC, `[..., h, w, c]`, boxes `[..., n, 4]` with the same leading axes: each image's features go with its
own boxes. Linear in the features; boxes get no gradient, as in torchvision.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxcv.ops.conv import pair
from jaxcv.ops.platform import on_cpu
from jaxcv.types import Scalar


@functools.partial(jax.jit, static_argnames=("output_size", "sampling_ratio", "aligned"))
def roi_align(
    features: Float[Array, "*b h w c"],
    boxes: Float[Array, "*b n 4"],
    *,
    output_size: int | tuple[int, int],
    spatial_scale: Scalar = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> Float[Array, "*b n oh ow c"]:
    """Each box cut into a grid of bins, each bin the mean of bilinear samples spread evenly over it.

    A sample more than one pixel outside the features counts as zero; one nearer takes the pixels of the border. An
    inverted box is sampled backwards with `aligned`, and counts as one of one pixel without. NaN and infinite
    coordinates give zeros.

    Args:
        features: `[..., h, w, c]`.
        boxes: `[..., n, 4]` xyxy, of each image its own, in pixels of the image. No gradient passes to them.
        output_size: Number of bins along a side, or (vertical, horizontal).
        spatial_scale: Pixels of the features for a pixel of the image, such as 1 / 16.
        sampling_ratio: Samples along each side of a bin. torchvision's 0 and -1, as many as a bin has pixels, would
            make shapes depend on boxes and are refused.
        aligned: Whether pixel (0, 0) covers the square from (0, 0) to (1, 1), so that its centre lies at one half;
            without, places are half a pixel off, as in the first Mask R-CNN, and boxes at least one pixel wide.

    Returns:
        `[..., n, *output_size, c]` in the features' precision.

    Raises:
        ValueError: If there is no sample to a bin.

    References:
        He et al., Mask R-CNN, https://arxiv.org/abs/1703.06870, section 3; torchvision's `roi_align`.
    """
    if sampling_ratio < 1:
        raise ValueError(f"sampling_ratio must be at least 1, not {sampling_ratio}")
    bins = pair(output_size)
    *lead, height, width, channels = features.shape
    shape = (*boxes.shape[:-1], *bins, channels)
    if 0 in (*shape, height, width):
        return jnp.zeros(shape, features.dtype)
    # A sample lies between two rows and two columns; where there is but one, it stands for both.
    rows, columns = max(height, 2), max(width, 2)
    features = jnp.pad(features, (*[(0, 0)] * len(lead), (0, rows - height), (0, columns - width), (0, 0)), mode="edge")
    # All images one below the other.
    pixels = features.reshape(-1, columns, channels).astype(jnp.float32)

    boxes = _rounded(lax.stop_gradient(boxes.astype(jnp.float32) * spatial_scale).reshape(-1, 4))
    edges = boxes - 0.5 if aligned else boxes
    y, y_weights = _samples(edges[:, 1], edges[:, 3], bins[0], sampling_ratio, height, aligned)
    x, x_weights = _samples(edges[:, 0], edges[:, 2], bins[1], sampling_ratio, width, aligned)
    image = jnp.arange(boxes.shape[0], dtype=jnp.int32) // shape[len(lead)]
    y += rows * image[:, None, None]
    average: Any = _average(pixels.shape, pixels, y, x, y_weights, x_weights)
    return average.reshape(shape).astype(features.dtype)


def _samples(start, end, bins, ratio, size, aligned):
    """Where samples lie along one axis: the two pixels around each, [n, bins, 2 ratio], and the fraction of either.

    The fractions of a bin add up to 1, less those of the samples that lie outside.
    """
    extent = end - start
    extent = extent if aligned else jnp.maximum(extent, 1.0)
    bin_size = _quotient(extent, bins)[:, None, None]
    bin_number = jnp.arange(bins, dtype=start.dtype).reshape(1, bins, 1)
    offset = (jnp.arange(ratio, dtype=start.dtype) + 0.5).reshape(1, 1, ratio)
    position = start[:, None, None] + _rounded(bin_number * bin_size) + _quotient(_rounded(offset * bin_size), ratio)
    inside = (position >= -1.0) & (position <= size)
    position = jnp.clip(jnp.where(inside, position, 0.0), 0.0, size - 1.0)
    first = jnp.minimum(jnp.floor(position), max(size - 2, 0))
    # Selected, not stacked: XLA fuses it all into one loop.
    side = jnp.arange(2, dtype=jnp.int32).reshape(1, 1, 1, 2)
    fraction = jnp.where(side == 1, (position - first)[..., None], 1.0 - (position - first)[..., None])
    fraction = jnp.where(inside[..., None], fraction / ratio, 0.0)
    pixels = first.astype(jnp.int32)[..., None] + side
    return pixels.reshape(-1, bins, 2 * ratio), fraction.reshape(-1, bins, 2 * ratio)


# A sample at the very edge is there or not by the last digit of its position, so that is computed as torchvision does.
# XLA would fuse a product with the sum that follows into one rounding, and divide by multiplying with 1 / divisor;
# the selections below change no number, but stand in its way.
def _rounded(product: Array) -> Array:
    return jnp.where(product > -jnp.inf, product, jnp.nan)


def _quotient(dividend: Array, divisor: int) -> Array:
    return dividend / jnp.where(dividend == dividend, float(divisor), 1.0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _average(shape: tuple, pixels: Array, y: Array, x: Array, y_weights: Array, x_weights: Array) -> Array:
    """[n, oh, ow, c]: weighted sums over rows y and columns x, [n, bins, 2 ratio]; pixels are [rows, w, c]."""
    _, columns, channels = shape
    bins = (y.shape[0], y.shape[1], x.shape[1], 1)
    table = pixels.reshape(-1, channels)
    # Computed once and not, as XLA would, for every gather and channel.
    y, x, y_weights, x_weights = lax.optimization_barrier((columns * y, x, y_weights, x_weights))

    def gathered(i, j):
        positions = jnp.broadcast_to(_down(y, i) + _along(x, j), bins).reshape(-1)
        found = table.at[positions].get(mode="promise_in_bounds", wrap_negative_indices=False)
        return found.reshape(*bins[:3], channels)

    # A sum of gathers is one fused loop; a gather and then a sum would write every pixel touched to memory.
    def row(i):
        return functools.reduce(jnp.add, (_along(x_weights, j) * gathered(i, j) for j in range(x.shape[2])))

    return functools.reduce(jnp.add, (_down(y_weights, i) * row(i) for i in range(y.shape[2])))


def _down(array: Array, i: int) -> Array:
    return array[:, :, None, i, None]


def _along(array: Array, j: int) -> Array:
    return array[:, None, :, j, None]


def _average_forward(shape, pixels, *samples):
    return _average(shape, pixels, *samples), samples


def _average_backward(shape, samples, gradients):
    return _spread(*samples, gradients, shape=shape), None, None, None, None


_average.defvjp(_average_forward, _average_backward)


def _in_one_scatter(y, x, y_weights, x_weights, gradients, *, shape):
    """The gradient of the pixels, [rows, w, c]: each bin's, [n, oh, ow, c], is added to all pixels that it averages."""
    _, columns, channels = shape
    y, y_weights = (array[:, :, None, :, None] for array in (columns * y, y_weights))
    x, x_weights = (array[:, None, :, None, :] for array in (x, x_weights))
    positions, weights = y + x, y_weights * x_weights
    updates = weights.reshape(-1, weights.shape[3] * weights.shape[4], 1) * gradients.reshape(-1, 1, channels)
    total = jnp.zeros((shape[0] * columns, channels), gradients.dtype)
    total = total.at[positions.reshape(-1)].add(
        updates.reshape(-1, channels), mode="promise_in_bounds", wrap_negative_indices=False
    )
    return total.reshape(shape)


_spread: Any = on_cpu("spread", _in_one_scatter)
