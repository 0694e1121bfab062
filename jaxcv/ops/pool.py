"""Pooling: nothing is learnt.

Images are NHWC. Written as strided slices: XLA's `reduce_window` and its gradient are 2 to 50 times slower on CPU.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.ops.conv import Padding, pads, pair, windows


@functools.partial(jax.jit, static_argnames=("window", "strides", "padding"))
def max_pool2d(
    images: Float[Array, "b h w c"],
    *,
    window: int | tuple[int, int],
    strides: int | tuple[int, int] | None = None,
    padding: Padding = "valid",
) -> Float[Array, "b oh ow c"]:
    """The largest value of each window; nothing is learnt.

    Args:
        images: `[b, h, w, c]`.
        window: Side, or (height, width), in pixels.
        strides: Step from window to window in pixels; by default the window.
        padding: Padded places never win.

    Returns:
        `[b, oh, ow, c]` with the sides of `conv_output_size`. The gradient goes to the first of equal largest values,
        as in torch; NaN is largest.
    """
    window = pair(window)
    strides = window if strides is None else pair(strides)
    rows, columns = pads(images.shape[1:3], window, strides, padding)
    # Along the rows, then down the columns: fewer comparisons, and GoogLeNet compiles in a third of the time.
    images = _max_pool(images, (1, window[1]), (1, strides[1]), ((0, 0), columns))
    return _max_pool(images, (window[0], 1), (strides[0], 1), (rows, (0, 0)))


# The gradient of `maximum` compares its operands with its result. XLA may compute an operand twice, in two loops that
# round differently (a normalisation before the pooling is enough); then nothing is equal and the gradient is lost. So
# the place of the largest value is noted where it is found.
@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _max_pool(images: Array, window: tuple[int, int], strides: tuple[int, int], padding: Padding) -> Array:
    return functools.reduce(jnp.maximum, windows(images, window, strides, padding, -math.inf))


@_max_pool.defjvp
def _(window, strides, padding, primals, tangents):
    first, *others = windows(primals[0], window, strides, padding, -math.inf)
    largest, place = first, jnp.zeros(first.shape, jnp.int8 if window[0] * window[1] < 128 else jnp.int32)
    for i, value in enumerate(others, start=1):
        larger = (value > largest) | jnp.isnan(value)
        largest, place = jnp.where(larger, value, largest), jnp.where(larger, i, place).astype(place.dtype)
    slopes = windows(tangents[0], window, strides, padding, 0.0)
    slope = functools.reduce(jnp.add, [jnp.where(place == i, s, jnp.zeros_like(s)) for i, s in enumerate(slopes)])
    return largest, slope


@functools.partial(jax.jit, static_argnames=("window", "strides", "padding"))
def avg_pool2d(
    images: Float[Array, "b h w c"],
    *,
    window: int | tuple[int, int],
    strides: int | tuple[int, int] | None = None,
    padding: Padding = "valid",
) -> Float[Array, "b oh ow c"]:
    """The mean of each window; nothing is learnt.

    Args:
        images: `[b, h, w, c]`.
        window: Side, or (height, width), in pixels.
        strides: Step from window to window in pixels; by default the window.
        padding: Padded places count as zeros (torch's `count_include_pad=True`).

    Returns:
        `[b, oh, ow, c]` with the sides of `conv_output_size`.
    """
    window = pair(window)
    places = windows(images, window, window if strides is None else pair(strides), padding, 0.0)
    return functools.reduce(jnp.add, places) / len(places)


@functools.partial(jax.jit, static_argnames=("output_size",))
def adaptive_avg_pool2d(
    images: Float[Array, "b h w c"], *, output_size: int | tuple[int, int]
) -> Float[Array, "b oh ow c"]:
    """Means over as many windows as the output has places, whatever the size of the images.

    Window i of n over a side of s pixels is floor(i s / n) to ceil((i + 1) s / n): torch's rule, windows may overlap,
    and images smaller than the output are repeated.

    Args:
        images: `[b, h, w, c]`.
        output_size: Side, or (height, width), in pixels.

    Returns:
        `[b, *output_size, c]`.
    """
    rows, columns = (
        _averages(n, out, images.dtype) for n, out in zip(images.shape[1:3], pair(output_size), strict=True)
    )
    return jnp.einsum("bhwc,yh,xw->byxc", images, rows, columns)


def _averages(size: int, out: int, dtype: Any) -> Array:
    """[out, size]: each row averages its window."""
    place, i = jnp.arange(size)[None], jnp.arange(out)[:, None]
    inside = ((place >= i * size // out) & (place < -(-(i + 1) * size // out))).astype(dtype)
    return inside / inside.sum(1, keepdims=True)
