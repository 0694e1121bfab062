"""Depthwise convolutions: one multiply-add for each position of the kernel, in C++ where that is possible."""

import math

import jax.numpy as jnp
from jaxtyping import Array

from jaxcv.cpu import kernels
from jaxcv.cpu.geometry import Geometry, output_size, pad, reach, taps, total

_UNROLL = 16
"""Number of examples summed in registers before memory is written."""


def in_one_pass(x: Array, window: tuple[int, ...], at: Geometry) -> bool:
    """Whether there is a C++ kernel for it."""
    usual = window[:2] in ((3, 3), (5, 5)) and at.dilation == (1, 1)
    return usual and x.dtype == jnp.float32 and x.size > 0 and kernels.ready()


def forward(x: Array, w: Array, at: Geometry) -> Array:
    """[b h w c] by [fh fw c]: [b oh ow c]."""
    rows, columns = output_size(x.shape, (*w.shape[:2], 1, 1), at)
    if in_one_pass(x, w.shape, at):
        out = kernels.output(len(x), rows, columns, x.shape[-1])
        return kernels.call("depthwise_forward", out, x, w, **kernels.strides_and_corner(at))
    return multiply_adds(x, w, at)


def multiply_adds(x: Array, w: Array, at: Geometry) -> Array:
    """The depthwise convolution as a sum over the positions of the kernel."""
    rows, columns = output_size(x.shape, (*w.shape[:2], 1, 1), at)
    return total(x_ij * w[None, None, None, i, j] for i, j, x_ij in taps(x, w.shape, (rows, columns), at))


def input_gradient(dy: Array, w: Array, size: tuple[int, int], at: Geometry) -> Array:
    """[b oh ow c] by [fh fw c]: [b h w c]."""
    if at.strides == (1, 1) and in_one_pass(dy, w.shape, at):
        pads = [
            (f - 1 - p[0], n - m + p[0]) for f, p, n, m in zip(w.shape[:2], at.pads, size, dy.shape[1:3], strict=True)
        ]
        return forward(dy, w[::-1, ::-1], Geometry((1, 1), (pads[0], pads[1]), (1, 1)))
    (sh, sw), (dh, dw), (b, oh, ow, c) = at.strides, at.dilation, dy.shape
    high, wide = -(-size[0] // sh), -(-size[1] // sw)
    cover = reach(w.shape, at.dilation)
    margins = [
        (f - min(low, 0), max((s - 1 + low) // s + n - rows, 0))
        for f, (low, _), s, n, rows in zip(cover, at.pads, at.strides, (high, wide), (oh, ow), strict=True)
    ]
    dy = pad(dy, margins)
    rows = []
    for p in range(sh):
        columns = []
        for q in range(sw):
            terms = []
            for i in range(w.shape[0]):
                for j in range(w.shape[1]):
                    y, x = p + at.pads[0][0] - i * dh, q + at.pads[1][0] - j * dw
                    if y % sh or x % sw:
                        continue
                    top, left = margins[0][0] + y // sh, margins[1][0] + x // sw
                    terms.append(dy[:, top : top + high, left : left + wide] * w[None, None, None, i, j])
            columns.append(total(terms) if terms else jnp.zeros((b, high, wide, c), dy.dtype))
        rows.append(columns[0] if sw == 1 else jnp.stack(columns, axis=3).reshape(b, high, wide * sw, c))
    interleaved = rows[0] if sh == 1 else jnp.stack(rows, axis=2).reshape(b, high * sh, wide * sw, c)
    return interleaved[:, : size[0], : size[1]]


def kernel_gradient(x: Array, dy: Array, window: tuple[int, int], at: Geometry) -> Array:
    """[b h w c] by [b oh ow c]: [fh fw c]."""
    if in_one_pass(x, window, at):
        out = kernels.output(*window, x.shape[-1])
        return kernels.call("depthwise_gradient", out, x, dy, **kernels.strides_and_corner(at))
    return sums_by_position(x, dy, window, at)


def sums_by_position(x: Array, dy: Array, window: tuple[int, int], at: Geometry) -> Array:
    """The depthwise kernel's gradient, one sum for each of its positions."""
    b, oh, ow, c = dy.shape
    groups = [range(first, min(first + _UNROLL, b)) for first in range(0, b, _UNROLL)]
    partial = [
        total(x_ij[n] * dy[n] for n in group) for _, _, x_ij in taps(x, window, (oh, ow), at) for group in groups
    ]
    return jnp.stack(partial).reshape(math.prod(window), -1, c).sum(1).reshape(*window, c)
