"""Winograd's F(2 x 2, 3 x 3): 16 products in place of 36 for every four outputs.

Lavin, Gray: Fast algorithms for convolutional neural networks, https://arxiv.org/abs/1509.09308, section 4.1. Tiles of
pixels become 16 planes. The C++ kernels keep the planes in the cache.
"""

import math
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxcv.cpu import kernels
from jaxcv.cpu.geometry import BARE, Geometry, output_size, pad, total

Matrix = tuple[tuple[float | int, ...], ...]

_BT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
_G = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
_AT = ((1, 1, 1, 0), (0, 1, -1, -1))


def fits(out: tuple[int, ...], w: tuple[int, ...], at: Geometry, dtype: Any, *, gradient: bool = False) -> bool:
    """Whether Winograd's form is faster than a plain convolution.

    Args:
        out: batch size, height and width of the result, or of the cotangents.
        w: shape of the kernel.
        at: strides, padding and dilation.
        dtype: of the images.
        gradient: for the kernel's gradient instead of the convolution.
    """
    (*window, c, o), few, pixels = w, min(w[2:]), math.prod(out)
    if window != [3, 3] or not at.strides == at.dilation == (1, 1) or dtype != jnp.float32:
        return False
    if kernels.ready():
        return few >= (64 if gradient else 32) and pixels >= 256 and min(out[1:]) > 1
    tiles = 16 * (c + o) * pixels  # bytes
    enough = 18 * pixels * c * o >= 1e9
    return enough and few >= (128 if gradient else 64) and (few >= 128 or tiles <= 64 << 20)


def convolve(x: Array, w: Array, at: Geometry, *, flip: bool = False) -> Array:
    """Y = A'[(G g G') * (B' d B)]A with d the 4 x 4 tiles of the images and g the kernel.

    `flip`: with the flipped kernel, and its input and output channels exchanged within the matrix products, because
    transposing it first takes longer than the products (512 channels: 6 ms for each of the 16).
    """
    channels = w.shape[2 if flip else 3]
    rows, columns = output_size(x.shape, w.shape, at)
    if kernels.ready():
        out = kernels.output(len(x), rows, columns, channels)
        return kernels.call("winograd_forward", out, x, w, top=at.pads[0][0], left=at.pads[1][0], flip=int(flip))
    v = _transform(_BT, x, at, (-(-rows // 2), -(-columns // 2)))
    u = _transform_kernel(w[::-1, ::-1] if flip else w)
    return _inverse(_AT, jnp.einsum("tnc,toc->tno" if flip else "tnc,tco->tno", v, u), (len(x), rows, columns))


def kernel_gradient(x: Array, dy: Array, at: Geometry) -> Array:
    """The gradient of `convolve` for the kernel: G'[(B' d B) * (A dy A')]G."""
    if kernels.ready():
        out = kernels.output(3, 3, x.shape[-1], dy.shape[-1])
        return kernels.call("winograd_gradient", out, x, dy, top=at.pads[0][0], left=at.pads[1][0])
    count = -(-dy.shape[1] // 2), -(-dy.shape[2] // 2)
    v, z = _transform(_BT, x, at, count), _transform(_transposed(_AT), dy, BARE, count)
    u = jnp.einsum("tnc,tno->tco", v, z)
    return _inverse(_transposed(_G), u.reshape(16, 1, -1), (1, 3, 3)).reshape(3, 3, *u.shape[1:])


def _transform_kernel(w: Array) -> Array:
    """[3 3 c o] to [16 c o]: the kernel is one tile of c o channels."""
    return _transform(_G, w.reshape(1, 3, 3, -1), BARE, (1, 1)).reshape(16, *w.shape[2:])


def _transform(matrix: Matrix, x: Array, at: Geometry, count: tuple[int, int]) -> Array:
    """matrix d matrix' for all tiles d, which start at every second pixel; `count` is their rows and columns.

    [b h w c] to [16 b*count c].
    """
    return jnp.concatenate([jnp.stack(row) for row in _mix(matrix, _tiles(x, at, count, len(matrix[0])))])


def _inverse(matrix: Matrix, planes: Array, shape: tuple[int, int, int]) -> Array:
    """Tiles matrix m matrix', assembled: [16 n c] to `[*shape c]`, the shape being batch, rows and columns."""
    (b, rows, columns), size = shape, len(matrix)
    high, wide = (-(-rows // 2), -(-columns // 2)) if size == 2 else (1, 1)

    mixed = _mix(matrix, [list(row) for row in planes.reshape(4, 4, b, high, wide, -1)])
    tiles = jnp.stack([jnp.stack(row, axis=3) for row in mixed], axis=2)
    return tiles.reshape(b, high * size, wide * size, -1)[:, :rows, :columns]


def _tiles(x: Array, at: Geometry, count: tuple[int, int], size: int) -> list[list[Array]]:
    """Pixels (i, j) of all `size` x `size` tiles, which start at every second pixel: [b*count c] each."""
    pads = [(p[0], 2 * n + size - 2 - pixels - p[0]) for p, n, pixels in zip(at.pads, count, x.shape[1:3], strict=True)]
    x = pad(x, pads)
    ends, (b, _, _, c) = [2 * n - 1 for n in count], x.shape
    return [
        [lax.slice(x, (0, i, j, 0), (b, i + ends[0], j + ends[1], c), (1, 2, 2, 1)).reshape(-1, c) for j in range(size)]
        for i in range(size)
    ]


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def _mix(matrix: Matrix, parts: list[list[Array]]) -> list[list[Array]]:
    """matrix parts matrix', the parts being arrays."""

    def combined(row: tuple[float | int, ...], column: list[Array]) -> Array:
        return total(
            part if f == 1 else -part if f == -1 else f * part for f, part in zip(row, column, strict=True) if f
        )

    columns = [[combined(row, list(column)) for row in matrix] for column in zip(*parts, strict=True)]
    return [[combined(row, list(line)) for row in matrix] for line in zip(*columns, strict=True)]
