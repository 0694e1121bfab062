"""Regions of interest: what a feature map shows inside boxes, sampled to one size.

Features are NHWC, `[..., h, w, c]`, boxes `[..., n, 4]` with the same leading axes: each image's features go with its
own boxes. Linear in the features; boxes get no gradient, as in torchvision.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxcv.ops.boxes import box_area
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
    boxes = boxes.astype(jnp.float32)
    scaled = without_fusion(lax.stop_gradient(boxes * spatial_scale).reshape(-1, 4))
    return _align([features], scaled, None, boxes.shape[:-1], pair(output_size), sampling_ratio, aligned)


@functools.partial(jax.jit, static_argnames=("output_size", "image_size", "sampling_ratio", "aligned"))
def multiscale_roi_align(
    features: tuple[Float[Array, "*b _ _ c"], ...],
    boxes: Float[Array, "*b n 4"],
    *,
    output_size: int | tuple[int, int],
    image_size: tuple[int, int],
    sampling_ratio: int = 2,
    aligned: bool = False,
    canonical_size: Scalar = 224.0,
    canonical_level: Scalar = 4.0,
) -> Float[Array, "*b n oh ow c"]:
    """`roi_align` of each box on the one feature map of a pyramid that suits its size.

    A box of width w and height h is sampled on the level floor(4 + log2(sqrt(w h) / 224)), where level l is the map of
    stride 2^l; the finest and the coarsest map serve what lies beyond.

    Args:
        features: `[..., h, w, c]` of each level, finest first, each of twice the stride of the one before.
        boxes: `[..., n, 4]` xyxy, of each image its own, in pixels of the image. No gradient passes to them.
        output_size: As in `roi_align`.
        image_size: (height, width) of the image in pixels; the strides are taken to be powers of two.
        sampling_ratio: As in `roi_align`.
        aligned: As in `roi_align`; torchvision's is without.
        canonical_size: Square root of the area, in pixels, of the boxes that belong to the canonical level.
        canonical_level: Logarithm to the base 2 of its stride.

    Returns:
        `[..., n, *output_size, c]` in the features' precision.

    References:
        Lin et al., Feature Pyramid Networks, https://arxiv.org/abs/1612.03144, equation 1; torchvision's
        `MultiScaleRoIAlign`.
    """
    strides = [round(math.log2(image_size[0] / max(x.shape[-3], 1))) for x in features]
    boxes = lax.stop_gradient(boxes.astype(jnp.float32))
    size = jnp.sqrt(jnp.maximum(box_area(boxes), 1e-12))
    level = jnp.floor(canonical_level + jnp.log2(size / canonical_size) + 1e-6)
    level = jnp.where(jnp.isfinite(level), level, strides[0])
    level = (jnp.clip(level, strides[0], strides[-1]).astype(jnp.int32) - strides[0]).reshape(-1)
    scale = jnp.asarray([2.0**-stride for stride in strides], jnp.float32)[level]
    scaled = without_fusion(boxes.reshape(-1, 4) * scale[:, None])
    return _align(list(features), scaled, level, boxes.shape[:-1], pair(output_size), sampling_ratio, aligned)


def _align(features, boxes, level, shape, bins, ratio, aligned):
    """The mean of bilinear samples in every bin of boxes [n 4], in pixels of the map that each is sampled on.

    Args:
        features: [... h w c] of each level.
        boxes: of all images one after the other.
        level: [n], the map of each box; None: there is one.
        shape: of the boxes with their leading axes.
        bins: (vertical, horizontal).
        ratio: samples along each side of a bin.
        aligned: as in `roi_align`.
    """
    if ratio < 1:
        raise ValueError(f"sampling_ratio must be at least 1, not {ratio}")
    shape, sizes = (*shape, *bins, features[0].shape[-1]), [x.shape[-3:-1] for x in features]
    if 0 in (*shape, *sum(sizes, ())):
        return jnp.zeros(shape, features[0].dtype)
    # A sample lies between two rows and two columns; where there is but one, it stands for both. All maps are padded
    # to one width, and lie one below the other: all images of a level, then those of the next.
    columns, images = max(2, *(width for _, width in sizes)), math.prod(features[0].shape[:-3])
    starts, maps = [0], []
    for x, (height, width) in zip(features, sizes, strict=True):
        rows = max(height, 2)
        edges = [(0, 0)] * (x.ndim - 3) + [(0, rows - height), (0, columns - width), (0, 0)]
        maps.append(jnp.pad(x, edges, mode="edge").reshape(-1, columns, x.shape[-1]).astype(jnp.float32))
        starts.append(starts[-1] + rows * images)
    pixels = maps[0] if len(maps) == 1 else jnp.concatenate(maps)
    (height, width), start, rows = sizes[0], 0, max(sizes[0][0], 2)
    if level is not None:
        of_levels = [[h for h, _ in sizes], [w for _, w in sizes], [max(h, 2) for h, _ in sizes], starts[:-1]]
        height, width, rows, start = (jnp.asarray(x, jnp.int32)[level][:, None, None] for x in of_levels)

    edges = boxes - 0.5 if aligned else boxes
    y, y_weights = _samples(edges[:, 1], edges[:, 3], bins[0], ratio, height, aligned)
    x, x_weights = _samples(edges[:, 0], edges[:, 2], bins[1], ratio, width, aligned)
    image = jnp.arange(boxes.shape[0], dtype=jnp.int32) // (boxes.shape[0] // images)
    y += start + rows * image[:, None, None]
    average: Any = _average(pixels.shape, pixels, y, x, y_weights, x_weights)
    return average.reshape(shape).astype(features[0].dtype)


def _samples(start, end, bins, ratio, size, aligned):
    """Where samples lie along one axis: the two pixels around each, [n, bins, 2 ratio], and the fraction of either.

    The fractions of a bin add up to 1, less those of the samples that lie outside.
    """
    extent = end - start
    extent = extent if aligned else jnp.maximum(extent, 1.0)
    bin_size = _quotient(extent, bins)[:, None, None]
    bin_number = jnp.arange(bins, dtype=start.dtype).reshape(1, bins, 1)
    offset = (jnp.arange(ratio, dtype=start.dtype) + 0.5).reshape(1, 1, ratio)
    position = (
        start[:, None, None]
        + without_fusion(bin_number * bin_size)
        + _quotient(without_fusion(offset * bin_size), ratio)
    )
    size = jnp.asarray(size, start.dtype).reshape(-1, 1, 1)
    inside = (position >= -1.0) & (position <= size)
    position = jnp.clip(jnp.where(inside, position, 0.0), 0.0, size - 1.0)
    first = jnp.minimum(jnp.floor(position), jnp.maximum(size - 2.0, 0.0))
    # Selected, not stacked: XLA fuses it all into one loop.
    side = jnp.arange(2, dtype=jnp.int32).reshape(1, 1, 1, 2)
    fraction = jnp.where(side == 1, (position - first)[..., None], 1.0 - (position - first)[..., None])
    fraction = jnp.where(inside[..., None], fraction / ratio, 0.0)
    pixels = first.astype(jnp.int32)[..., None] + side
    return pixels.reshape(-1, bins, 2 * ratio), fraction.reshape(-1, bins, 2 * ratio)


# A sample at the very edge is there or not by the last digit of its position, so that is computed as torchvision does.
# XLA would fuse a product with the sum that follows into one rounding, and divide by multiplying with 1 / divisor;
# the selections below change no number, but stand in its way.
def without_fusion(product: Array) -> Array:
    """The product itself, rounded before it is used."""
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
