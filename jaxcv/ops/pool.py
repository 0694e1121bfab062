"""Pooling: nothing is learnt.

Images are NHWC. Written as strided slices: XLA's `reduce_window` and its gradient are 2 to 50 times slower on CPU.
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
    images = _max_pool(images, 2, window[1], strides[1], columns)
    return _max_pool(images, 1, window[0], strides[0], rows)


# The gradient of `maximum` compares its operands with its result. XLA may compute an operand twice, in two loops that
# round differently (a normalisation before the pooling is enough); then nothing is equal and the gradient is lost. So
# the place of the largest value is noted where it is found.
@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _max_pool(images: Array, axis: int, window: int, stride: int, pads: tuple[int, int]) -> Array:
    return functools.reduce(jnp.maximum, _places(images, axis, window, stride, pads, -math.inf))


def _max_pool_forward(images: Array, axis: int, window: int, stride: int, pads: tuple[int, int]) -> tuple[Array, Any]:
    largest, *others = _places(images, axis, window, stride, pads, -math.inf)
    place = jnp.zeros(largest.shape, jnp.int8 if window < 128 else jnp.int32)
    for i, value in enumerate(others, start=1):
        larger = (value > largest) | jnp.isnan(value)
        largest, place = jnp.where(larger, value, largest), jnp.where(larger, i, place).astype(place.dtype)
    return largest, (place, jnp.zeros((images.shape[axis], 0), jnp.bool))  # the second says how long the axis was


def _max_pool_backward(
    axis: int, window: int, stride: int, pads: tuple[int, int], saved: Any, gradient: Array
) -> tuple[Array]:
    place, size = saved[0], saved[1].shape[0]
    many, none = -(-size // stride), jnp.zeros((), gradient.dtype)
    # Every `stride`-th value took part at the same places of its windows: one sum for each of these phases.
    place = _extend(place, axis, (window, many), -1)
    gradient = _extend(gradient, axis, (window, many), 0)
    phases = []
    for phase in range(stride):
        terms = []
        for k in range((phase + pads[0]) % stride, window, stride):
            first = window + (phase + pads[0] - k) // stride
            there, here = (lax.slice_in_dim(v, first, first + many, axis=axis) for v in (place, gradient))
            terms.append(jnp.where(there == k, here, none))
        empty = jnp.zeros((*gradient.shape[:axis], many, *gradient.shape[axis + 1 :]), gradient.dtype)
        phases.append(functools.reduce(jnp.add, terms, *([] if terms else [empty])))
    interleaved = jnp.stack(phases, axis=axis + 1) if stride > 1 else phases[0]
    interleaved = interleaved.reshape(*gradient.shape[:axis], many * stride, *gradient.shape[axis + 1 :])
    return (lax.slice_in_dim(interleaved, 0, size, axis=axis),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _places(images: Array, axis: int, window: int, stride: int, pads: tuple[int, int], fill: float) -> list[Array]:
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
