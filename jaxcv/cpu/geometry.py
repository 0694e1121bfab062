"""Strides, padding and dilation of a convolution, and shapes and views that follow. Images are NHWC, kernels HWIO."""

import functools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


class Geometry(NamedTuple):
    """Strides, padding and dilation in pixels, (vertical, horizontal)."""

    strides: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    """((top, bottom), (left, right)); negative numbers crop."""
    dilation: tuple[int, int]


BARE = Geometry((1, 1), ((0, 0), (0, 0)), (1, 1))
"""No strides, padding or dilation."""


def reach(window: tuple[int, ...], dilation: tuple[int, int]) -> tuple[int, int]:
    """Height and width that a dilated kernel covers."""
    return (window[0] - 1) * dilation[0] + 1, (window[1] - 1) * dilation[1] + 1


def output_size(x: tuple[int, ...], w: tuple[int, ...], at: Geometry) -> tuple[int, int]:
    """Height and width of the output, from the shapes of the images and the kernel."""
    cover = reach(w, at.dilation)
    high, wide = ((n + sum(p) - f) // s + 1 for n, p, f, s in zip(x[1:3], at.pads, cover, at.strides, strict=True))
    return high, wide


def every(x: Array, strides: tuple[int, int]) -> Array:
    """Each `strides`-th pixel."""
    return x if strides == (1, 1) else x[:, :: strides[0], :: strides[1]]


def pad(x: Array, pads: Any, value: float = 0.0) -> Array:
    """Pad by ((top, bottom), (left, right)) pixels; negative numbers crop."""
    (top, bottom), (left, right) = pads
    if (top, bottom, left, right) == (0, 0, 0, 0):
        return x
    return lax.pad(x, jnp.asarray(value, x.dtype), ((0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0)))


def taps(x: Array, window: tuple[int, ...], out: tuple[int, int], at: Geometry) -> list[tuple[int, int, Array]]:
    """(i, j, the pixels under position (i, j) of the kernel) for every position: strided views of the padded images."""
    x = pad(x, at.pads)
    (b, _, _, c), (sh, sw), (dh, dw) = x.shape, at.strides, at.dilation
    return [
        (
            i,
            j,
            lax.slice(
                x,
                (0, i * dh, j * dw, 0),
                (b, i * dh + (out[0] - 1) * sh + 1, j * dw + (out[1] - 1) * sw + 1, c),
                (1, sh, sw, 1),
            ),
        )
        for i in range(window[0])
        for j in range(window[1])
    ]


def plain(x: Array, w: Array, at: Geometry) -> Array:
    """XLA's own convolution, or one matrix product where the image is smaller than the kernel."""
    small = min(n - f for n, f in zip(x.shape[1:3], reach(w.shape, at.dilation), strict=True)) < 0
    if small and math.prod(w.shape[:2]) <= 49 and min(output_size(x.shape, w.shape, at)) > 0:
        views = [view for _, _, view in taps(x, w.shape, output_size(x.shape, w.shape, at), at)]
        return jnp.concatenate(views, axis=-1) @ w.reshape(-1, w.shape[3])
    # jaxlib 0.10 reads out of bounds where one edge has negative padding and the opposite one has not.
    negative = [(min(low, 0), min(high, 0)) for low, high in at.pads]
    rest = [(max(low, 0), max(high, 0)) for low, high in at.pads]
    return lax.conv_general_dilated(
        pad(x, negative), w, at.strides, rest, rhs_dilation=at.dilation, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def total(terms: Iterable[Array]) -> Array:
    """The sum of the terms, in order."""
    return functools.reduce(lax.add, terms)
