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
from jaxcv.types import Scalar

_CHUNK = 16
"""How many boxes' gradients are spread at a time: few enough to stay in the processor's cache."""


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
    """Where samples lie along one axis: the first of the two pixels around, [n, bins, ratio], and the shares of both.

    The shares, [n, bins, ratio, 2], add up to 1 / ratio, or to 0 for a sample outside.
    """
    extent = end - start
    extent = extent if aligned else jnp.maximum(extent, 1.0)
    bin_size = _quotient(extent, bins)[:, None, None]
    bin_number = jnp.arange(bins, dtype=start.dtype).reshape(1, bins, 1)
    offset = (jnp.arange(ratio, dtype=start.dtype) + 0.5).reshape(1, 1, ratio)
    place = start[:, None, None] + _rounded(bin_number * bin_size) + _quotient(_rounded(offset * bin_size), ratio)
    inside = (place >= -1.0) & (place <= size)
    place = jnp.clip(jnp.where(inside, place, 0.0), 0.0, size - 1.0)
    first = jnp.minimum(jnp.floor(place), max(size - 2, 0))
    second_share = place - first
    shares = jnp.stack([1.0 - second_share, second_share], axis=-1)
    return first.astype(jnp.int32), jnp.where(inside[..., None], shares / ratio, 0.0)


# A sample at the very edge is there or not by the last digit of its place, so places are computed as torchvision does.
# XLA would fuse a product with the sum that follows into one rounding, and divide by multiplying with 1 / divisor;
# the selections below change no number, but stand in its way.
def _rounded(product: Array) -> Array:
    return jnp.where(product > -jnp.inf, product, jnp.nan)


def _quotient(dividend: Array, divisor: int) -> Array:
    return dividend / jnp.where(dividend == dividend, float(divisor), 1.0)


# Without a rule of its own, the gradient is one scatter to every pixel touched: 320 ms where this takes 22 (512 boxes,
# 7 x 7 bins, 50 x 50 x 256 features; products of interpolation matrices take 88).
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _average(shape: tuple, pixels: Array, y: Array, x: Array, y_weights: Array, x_weights: Array) -> Array:
    """[n, oh, ow, c]: weighted sums over samples and the four pixels around each; pixels are [rows, w, c]."""
    _, columns, channels = shape
    n, ratio, bins = y.shape[0], y.shape[2], (y.shape[1], x.shape[1])
    y, x = (jnp.stack([first, first + 1], axis=-1) for first in (y, x))
    places = columns * y.reshape(n, bins[0], 1, 2 * ratio, 1) + x.reshape(n, 1, bins[1], 1, 2 * ratio)
    weights = y_weights.reshape(n, bins[0], 1, 2 * ratio, 1) * x_weights.reshape(n, 1, bins[1], 1, 2 * ratio)
    places, weights = (array.reshape(-1, 4 * ratio * ratio) for array in (places, weights))
    table = pixels.reshape(-1, channels)
    # A sum of gathers is one fused loop; a gather and then a sum would write every pixel touched to memory.
    parts = [
        table.at[places[:, i]].get(mode="promise_in_bounds") * weights[:, i : i + 1] for i in range(places.shape[1])
    ]
    return functools.reduce(jnp.add, parts).reshape(n, *bins, channels)


def _average_forward(shape, pixels, *samples):
    return _average(shape, pixels, *samples), samples


def _average_backward(shape, samples, gradients):
    """Every sample's gradient is added to the 2 x 2 pixels around it at once, some boxes at a time."""
    n, *bins, channels = gradients.shape
    ratio = samples[0].shape[2]
    chunk = min(_CHUNK, n)
    windows = lax.ScatterDimensionNumbers(
        update_window_dims=(1, 2, 3), inserted_window_dims=(), scatter_dims_to_operand_dims=(0, 1)
    )

    def spread(total, part):
        y, x, y_weights, x_weights, gradients = part
        for i, j in [(i, j) for i in range(ratio) for j in range(ratio)]:
            corner = jnp.broadcast_arrays(y[:, :, None, i], x[:, None, :, j])
            corner = jnp.stack(corner, axis=-1).reshape(-1, 2)
            weights = y_weights[:, :, None, i, :, None] * x_weights[:, None, :, j, None, :]
            update = weights.reshape(-1, 2, 2, 1) * gradients.reshape(-1, 1, 1, channels)
            total = lax.scatter_add(total, corner, update, windows, mode="promise_in_bounds")
        return total, None

    def in_chunks(array):
        # Boxes that fill the last chunk up have no weight.
        array = jnp.pad(array, ((0, -n % chunk), *[(0, 0)] * (array.ndim - 1)))
        return array.reshape(-1, chunk, *array.shape[1:])

    parts = tuple(in_chunks(array) for array in (*samples, gradients))
    total, _ = lax.scan(spread, jnp.zeros(shape, gradients.dtype), parts)
    return total, None, None, None, None


_average.defvjp(_average_forward, _average_backward)
