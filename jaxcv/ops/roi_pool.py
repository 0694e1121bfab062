"""Fast R-CNN's pooling of regions, by maxima, and R-CNN's warping of regions to one size."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxcv.ops.conv import pair
from jaxcv.ops.platform import on_cpu
from jaxcv.ops.roi import roi_align, without_fusion
from jaxcv.types import Scalar


@functools.partial(jax.jit, static_argnames=("output_size", "sampling_ratio"))
def crop_and_resize(
    images: Float[Array, "*b h w c"],
    boxes: Float[Array, "*b n 4"],
    *,
    output_size: int | tuple[int, int],
    context: Scalar = 0.0,
    sampling_ratio: int = 2,
) -> Float[Array, "*b n oh ow c"]:
    """What lies inside boxes, warped to one size: R-CNN's anisotropic scaling.

    Bilinear; black beyond the image.

    Args:
        images: `[..., h, w, c]`.
        boxes: `[..., n, 4]` xyxy in pixels, of each image its own. No gradient passes to them.
        output_size: Height and width of a crop in pixels, or (height, width).
        context: Fraction of its width and height that a box is enlarged by on either side.
        sampling_ratio: Samples along each side of a pixel, to be averaged: 1 for boxes up to the output's size.

    Returns:
        `[..., n, *output_size, c]`.

    References:
        Girshick et al., R-CNN, https://arxiv.org/abs/1311.2524, section 2.1 and appendix A, with a context of 16 / 195.
    """
    margin = context * jnp.tile(boxes[..., 2:] - boxes[..., :2], 2)
    sign = jnp.asarray([-1.0, -1.0, 1.0, 1.0], margin.dtype).reshape(*[1] * (margin.ndim - 1), 4)
    return roi_align(images, boxes + sign * margin, output_size=output_size, sampling_ratio=sampling_ratio)


@functools.partial(jax.jit, static_argnames=("output_size",))
def roi_pool(
    features: Float[Array, "*b h w c"],
    boxes: Float[Array, "*b n 4"],
    *,
    output_size: int | tuple[int, int],
    spatial_scale: Scalar = 1.0,
) -> Float[Array, "*b n oh ow c"]:
    """Each box, rounded to whole pixels of the features, cut into a grid of bins, each bin the maximum of its pixels.

    A box covers at least one pixel, both its last row and column included. Bins overlap where the box's size is no
    multiple of theirs; one outside the features is 0. Each bin's gradient goes to its maximum, the first of equals.

    Args:
        features: `[..., h, w, c]`.
        boxes: `[..., n, 4]` xyxy, of each image its own, in pixels of the image. No gradient passes to them; those that
            are not finite give zeros.
        output_size: Number of bins along a side, or (vertical, horizontal).
        spatial_scale: Pixels of the features for a pixel of the image, such as 1 / 16.

    Returns:
        `[..., n, *output_size, c]`.

    References:
        Girshick, Fast R-CNN, https://arxiv.org/abs/1504.08083, section 2.1; torchvision's `roi_pool`.
    """
    bins = pair(output_size)
    *lead, height, width, channels = features.shape
    shape = (*boxes.shape[:-1], *bins, channels)
    if 0 in (*shape, height, width):
        return jnp.zeros(shape, features.dtype)
    boxes = without_fusion(lax.stop_gradient(boxes.astype(jnp.float32) * spatial_scale)).reshape(-1, 4)
    finite = jnp.isfinite(boxes).all(-1)
    boxes = jnp.clip(jnp.where(finite[:, None], boxes, -1e6), -1e6, 1e6)
    whole = jnp.floor(jnp.abs(boxes))
    boxes = jnp.sign(boxes) * (
        whole + (jnp.abs(boxes) - whole >= 0.5).astype(boxes.dtype)
    )  # halves away from zero, as C rounds
    image = jnp.arange(len(boxes), dtype=jnp.int32) // (len(boxes) // math.prod(lead))
    y, x = (
        _windows(boxes[:, i], boxes[:, i + 2], n, size) for i, n, size in ((1, bins[0], height), (0, bins[1], width))
    )
    maps = features.reshape(-1, height, width, channels)
    found: Any = _maxima(maps, image, *y, *x)
    return found.reshape(shape)


def _windows(start, end, bins, size):
    """First pixel of every bin along one axis, and the first after it, [n, bins] int32, within the features."""
    extent = jnp.maximum(end - start + 1.0, 1.0)
    step = without_fusion(extent / jnp.where(extent == extent, float(bins), 1.0))[:, None]
    number = jnp.arange(bins, dtype=start.dtype)[None]
    edges = jnp.floor(without_fusion(number * step)), jnp.ceil(without_fusion((number + 1.0) * step))
    return tuple(jnp.clip(edge + start[:, None], 0.0, size).astype(jnp.int32) for edge in edges)


@jax.custom_vjp
def _maxima(maps, image, y0, y1, x0, x1):
    """[n, oh, ow, c]: maxima over rows y0 to y1 and columns x0 to x1 of maps [b, h, w, c].

    The maximum over any window is that of four squares of a power of two within it: those at its corners. The maxima
    over all such squares are computed first, each from two of half the size.
    """
    (found,) = _over_windows(maps.shape, (maps,), image, y0, y1, x0, x1)
    empty = ((y1 <= y0)[:, :, None] | (x1 <= x0)[:, None, :])[..., None]
    return jnp.where(empty, jnp.zeros_like(found), found)


def _gradient(maps, image, y0, y1, x0, x1, gradients):
    """Those of the windows, each added to the first pixel that has the maximum: [b, h, w, c]."""
    shape = maps.shape
    pixel = jnp.arange(math.prod(shape[:3]), dtype=jnp.int32).reshape(*shape[:3], 1)
    index = _over_windows(shape, (maps, jnp.broadcast_to(pixel, shape)), image, y0, y1, x0, x1)[1]
    empty = ((y1 <= y0)[:, :, None] | (x1 <= x0)[:, None, :])[..., None]
    gradients = jnp.where(empty, jnp.zeros_like(gradients), gradients)
    channel = jnp.broadcast_to(jnp.arange(shape[3], dtype=jnp.int32).reshape(1, 1, 1, -1), index.shape)
    total = jnp.zeros(math.prod(shape), gradients.dtype)
    total = total.at[(index * shape[3] + channel).reshape(-1)].add(gradients.reshape(-1), mode="promise_in_bounds")
    return total.reshape(shape)


_add_to_maxima: Any = on_cpu("maxima_gradient", _gradient)


def _forward(*given):
    return _maxima(*given), given


def _backward(given, gradients):
    return _add_to_maxima(*given, gradients), None, None, None, None, None


_maxima.defvjp(_forward, _backward)


def _larger(one, other):
    """The larger of two values, each perhaps with its pixel: of equals the first pixel."""
    if len(one) == 1:
        return (jnp.maximum(one[0], other[0]),)
    first = (one[0] > other[0]) | ((one[0] == other[0]) & (one[1] <= other[1]))
    return tuple(jnp.where(first, a, b) for a, b in zip(one, other, strict=True))


def _over_windows(shape, maps: Any, image, y0, y1, x0, x1) -> Any:
    """Values (and pixels) of the maxima over windows, anything where they are empty.

    The bins of boxes within the features are small: large squares are computed only if a window needs them.
    """
    sizes, bins = shape[1:3], (y0.shape[1], x0.shape[1])
    whole = tuple(size.bit_length() for size in sizes)
    usual = tuple(
        min(n, (-(-(size + 1) // count) + 1).bit_length()) for n, size, count in zip(whole, sizes, bins, strict=True)
    )
    look = functools.partial(_over_squares, shape)
    if usual == whole:
        return look(whole, maps, image, y0, y1, x0, x1)
    fits = ((y1 - y0).max() < 2 ** usual[0]) & ((x1 - x0).max() < 2 ** usual[1])
    ways = (functools.partial(look, powers) for powers in (usual, whole))
    return lax.cond(fits, *ways, maps, image, y0, y1, x0, x1)


def _over_squares(shape, powers, maps, image, y0, y1, x0, x1):
    """The same with rectangles of up to 2^(powers - 1) rows and columns."""
    b, height, width, channels = shape

    def doublings(squares, axis, count):
        yield squares
        for power in range(count - 1):
            by = 2**power
            ahead = (
                jnp.concatenate(
                    [lax.slice_in_dim(m, start, end, axis=axis) for start, end in ((by, None), (-by, None))], axis
                )
                for m in squares
            )
            squares = _larger(squares, tuple(ahead))
            yield squares

    table = [columns for rows in doublings(maps, 1, powers[0]) for columns in doublings(rows, 2, powers[1])]
    flat = [jnp.concatenate([m[i].reshape(-1, channels) for m in table]) for i in range(len(maps))]

    def power_of(extent):
        return 31 - lax.clz(jnp.maximum(extent, 1))

    py, px = power_of(y1 - y0), power_of(x1 - x0)
    starts = (py[:, :, None] * powers[1] + px[:, None, :]) * b + image[:, None, None]

    def at(y, x):
        y, x = (jnp.clip(v, 0, n - 1) for v, n in ((y, height), (x, width)))
        position = (starts * height + y[:, :, None]) * width + x[:, None, :]
        return tuple(m.at[position].get(mode="promise_in_bounds") for m in flat)

    y2, x2 = y1 - (1 << py), x1 - (1 << px)
    return _larger(_larger(at(y0, x0), at(y0, x2)), _larger(at(y2, x0), at(y2, x2)))
