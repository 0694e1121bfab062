"""Pooling, and the arithmetic of convolutions: sizes, parameters, multiply-adds.

Images are NHWC. Pooling is written as strided slices: XLA's `reduce_window` and its gradient are 2 to 50 times slower
on CPU. The arithmetic works on Python ints, before there is any array.
"""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Padding = Literal["valid", "same"] | int | tuple[tuple[int, int], tuple[int, int]]
"""`valid` none, `same` so that output side = ceil(input side / stride), `p` on all sides, or ((top, bottom), (left,
right))."""


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
        `[b, oh, ow, c]` with the sides of `conv_output_size`. Equal largest values share the gradient.
    """
    taps = _taps(images, window, strides, padding, -math.inf)
    return functools.reduce(jnp.maximum, taps)


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
    taps = _taps(images, window, strides, padding, 0.0)
    return functools.reduce(jnp.add, taps) / len(taps)


def conv_output_size(size: int, *, window: int, stride: int = 1, padding: int | Literal["valid", "same"] = 0) -> int:
    """Side of a convolution's or a pooling's output: floor((n + 2p - f) / s) + 1.

    Args:
        size: Input side n in pixels.
        window: Kernel side f in pixels.
        stride: s in pixels.
        padding: p pixels on either side; `valid` is 0, `same` gives ceil(n / s).

    Returns:
        Output side in pixels.

    Raises:
        ValueError: If the window does not fit into the padded input.
    """
    before, after = (
        _same(size, window, stride) if padding == "same" else (0, 0) if padding == "valid" else (padding,) * 2
    )
    room = size + before + after - window
    if room < 0:
        raise ValueError(f"a window of {window} does not fit into {size} + {before} + {after} pixels")
    return room // stride + 1


def conv_parameters(
    in_channels: int, out_channels: int, *, window: int, bias: bool = True, separable: bool = False
) -> int:
    """Parameters of a convolution: f x f x n_C[l-1] x n_C[l], and n_C[l] biases.

    Args:
        in_channels: n_C[l-1].
        out_channels: n_C[l], the number of filters. (The course's notes once set it equal to n_C[l-1].)
        window: Kernel side f.
        bias: Whether each filter has a bias; the depthwise stage of the separable form has none.
        separable: Depthwise then pointwise: f x f x n_C[l-1] + n_C[l-1] x n_C[l].

    Returns:
        Number of parameters.
    """
    if separable:
        return window * window * in_channels + in_channels * out_channels + bias * out_channels
    return window * window * in_channels * out_channels + bias * out_channels


def conv_multiply_adds(
    in_channels: int, out_channels: int, *, window: int, output_size: tuple[int, int], separable: bool = False
) -> int:
    """Multiply-adds of a convolution of one image: parameters of the filters x positions.

    Plain: f x f x n_C[l-1] x positions x n_C[l]. Depthwise separable: f x f x n_C[l-1] x positions for the depthwise
    stage plus n_C[l-1] x positions x n_C[l] for the pointwise. The ratio is 1 / n_C[l] + 1 / f². (The course's notes
    give the plain formula for both.)

    Args:
        in_channels: n_C[l-1].
        out_channels: n_C[l].
        window: Kernel side f.
        output_size: (height, width) of the output.
        separable: Depthwise then pointwise.

    Returns:
        Number of multiply-adds, biases not counted.

    References:
        Howard et al., MobileNets, https://arxiv.org/abs/1704.04861, section 3.1.
    """
    per_position = conv_parameters(in_channels, out_channels, window=window, bias=False, separable=separable)
    return per_position * math.prod(output_size)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _same(size: int, window: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def _taps(images: Array, window, strides, padding: Padding, fill: float) -> list[Array]:
    """The window's places one by one, each as a strided view of the images: [b, oh, ow, c]."""
    window = _pair(window)
    strides = window if strides is None else _pair(strides)
    b, h, w, c = images.shape
    if padding == "valid":
        pads = (0, 0), (0, 0)
    elif padding == "same":
        pads = _same(h, window[0], strides[0]), _same(w, window[1], strides[1])
    elif isinstance(padding, int):
        pads = (padding, padding), (padding, padding)
    else:
        pads = padding
    if pads != ((0, 0), (0, 0)):
        images = jnp.pad(images, ((0, 0), *pads, (0, 0)), constant_values=fill)
        h, w = images.shape[1:3]
    rows, columns = (conv_output_size(n, window=f, stride=s) for n, f, s in zip((h, w), window, strides, strict=True))
    ends = (rows - 1) * strides[0] + 1, (columns - 1) * strides[1] + 1
    return [
        lax.slice(images, (0, i, j, 0), (b, i + ends[0], j + ends[1], c), (1, *strides, 1))
        for i in range(window[0])
        for j in range(window[1])
    ]
