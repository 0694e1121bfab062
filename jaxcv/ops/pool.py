"""Pooling. Images are NHWC.

Written as strided slices: XLA's `reduce_window` and its gradient are 2 to 50 times slower on CPU.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxcv.ops.conv import Padding, conv_output_size, pads, pair, windows


@functools.partial(jax.jit, static_argnames=("window", "strides", "padding"))
def max_pool2d(
    images: Float[Array, "b h w c"],
    *,
    window: int | tuple[int, int],
    strides: int | tuple[int, int] | None = None,
    padding: Padding = "valid",
) -> Float[Array, "b oh ow c"]:
    """The largest value of each window.

    Args:
        images: `[b, h, w, c]`.
        window: Size, or (height, width), in pixels.
        strides: Step from window to window in pixels; by default the window.
        padding: Padding counts as minus infinity.

    Returns:
        `[b, oh, ow, c]`, height and width by `conv_output_size`. The gradient goes to the first of equal largest
        values, as in torch; NaN is largest.

    Raises:
        ValueError: If the window does not fit into the padded images.
    """
    window = pair(window)
    strides = window if strides is None else pair(strides)
    rows, columns = pads(images.shape[1:3], window, strides, padding)
    # Along the rows, then down the columns: fewer comparisons, and GoogLeNet compiles in a third of the time.
    images = _max_pool(images, 2, window[1], strides[1], columns)
    return _max_pool(images, 1, window[0], strides[0], rows)


# The gradient of `maximum` compares its operands with its result. XLA may compute an operand twice, in two loops that
# round differently (a normalisation before the pooling is enough); then nothing is equal and the gradient is lost. So
# the forward pass saves the index of the largest value in its window.
@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _max_pool(images: Array, axis: int, window: int, stride: int, pads: tuple[int, int]) -> Array:
    return functools.reduce(jnp.maximum, _window_values(images, axis, window, stride, pads, -math.inf))


def _max_pool_forward(images: Array, axis: int, window: int, stride: int, pads: tuple[int, int]) -> tuple[Array, Any]:
    largest, *others = _window_values(images, axis, window, stride, pads, -math.inf)
    index = jnp.zeros(largest.shape, jnp.int8 if window < 128 else jnp.int32)
    for i, value in enumerate(others, start=1):
        larger = (value > largest) | jnp.isnan(value)
        largest, index = jnp.where(larger, value, largest), jnp.where(larger, i, index).astype(index.dtype)
    return largest, (index, jnp.zeros((images.shape[axis], 0), jnp.bool))  # the second carries the axis's length


def _max_pool_backward(
    axis: int, window: int, stride: int, pads: tuple[int, int], saved: Any, gradient: Array
) -> tuple[Array]:
    index, size = saved[0], saved[1].shape[0]
    many, none = -(-size // stride), jnp.zeros((), gradient.dtype)
    # Input values `stride` apart (one phase) are read at the same indices of their windows: one sum a phase.
    index = _extend(index, axis, (window, many), -1)
    gradient = _extend(gradient, axis, (window, many), 0)
    phases = []
    for phase in range(stride):
        terms = []
        for k in range((phase + pads[0]) % stride, window, stride):
            first = window + (phase + pads[0] - k) // stride
            there, here = (lax.slice_in_dim(v, first, first + many, axis=axis) for v in (index, gradient))
            terms.append(jnp.where(there == k, here, none))
        empty = jnp.zeros((*gradient.shape[:axis], many, *gradient.shape[axis + 1 :]), gradient.dtype)
        phases.append(functools.reduce(jnp.add, terms, *([] if terms else [empty])))
    interleaved = jnp.stack(phases, axis=axis + 1) if stride > 1 else phases[0]
    interleaved = interleaved.reshape(*gradient.shape[:axis], many * stride, *gradient.shape[axis + 1 :])
    return (lax.slice_in_dim(interleaved, 0, size, axis=axis),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _window_values(
    images: Array, axis: int, window: int, stride: int, pads: tuple[int, int], fill: float
) -> list[Array]:
    """The values of each window one by one, along one axis."""
    images = _extend(images, axis, pads, fill)
    end = (conv_output_size(images.shape[axis], window=window, stride=stride) - 1) * stride + 1
    return [lax.slice_in_dim(images, i, i + end, stride, axis) for i in range(window)]


def _extend(x: Array, axis: int, pads: tuple[int, int], fill: float | int) -> Array:
    if pads == (0, 0):
        return x
    return lax.pad(x, jnp.asarray(fill, x.dtype), [(*pads, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)])


@functools.partial(jax.jit, static_argnames=("window", "strides", "padding"))
def avg_pool2d(
    images: Float[Array, "b h w c"],
    *,
    window: int | tuple[int, int],
    strides: int | tuple[int, int] | None = None,
    padding: Padding = "valid",
) -> Float[Array, "b oh ow c"]:
    """The mean of each window.

    Args:
        images: `[b, h, w, c]`.
        window: Size, or (height, width), in pixels.
        strides: Step from window to window in pixels; by default the window.
        padding: Padding counts as zeros (torch's `count_include_pad=True`).

    Returns:
        `[b, oh, ow, c]`, height and width by `conv_output_size`.

    Raises:
        ValueError: If the window does not fit into the padded images.
    """
    window = pair(window)
    values = windows(images, window, window if strides is None else pair(strides), padding, 0.0)
    return functools.reduce(jnp.add, values) / len(values)


@functools.partial(jax.jit, static_argnames=("output_size",))
def adaptive_avg_pool2d(
    images: Float[Array, "b h w c"], *, output_size: int | tuple[int, int]
) -> Float[Array, "b oh ow c"]:
    """Means over windows spread evenly so that the output has a given size, whatever that of the images.

    Along an axis of s pixels, window i of n is floor(i s / n) to ceil((i + 1) s / n) as in torch: windows may overlap,
    and pixels of images smaller than the output are repeated.

    Args:
        images: `[b, h, w, c]`.
        output_size: Height and width if they are equal, or (height, width), in pixels.

    Returns:
        `[b, *output_size, c]`.
    """
    rows, columns = (
        _averages(n, out, images.dtype) for n, out in zip(images.shape[1:3], pair(output_size), strict=True)
    )
    return jnp.einsum("bhwc,yh,xw->byxc", images, rows, columns)


def _averages(size: int, out: int, dtype: Any) -> Array:
    """[out, size]: each row averages its window."""
    pixel, i = jnp.arange(size)[None], jnp.arange(out)[:, None]
    inside = ((pixel >= i * size // out) & (pixel < -(-(i + 1) * size // out))).astype(dtype)
    return inside / inside.sum(1, keepdims=True)
