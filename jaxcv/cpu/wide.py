"""Convolutions of few channels, for which vectors are too wide: neighbouring outputs of a row as channels of one."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from jaxcv.cpu.geometry import Geometry, output_size, pad


class Wide(NamedTuple):
    """A convolution with neighbouring outputs of a row in the channels of one."""

    m: int
    """Outputs combined in one."""
    blocks: int
    """Columns of combined outputs."""
    window: int
    """Width of the kernel, in blocks of the input."""
    left: int
    """Padding at the left, in pixels."""
    width: int
    """Width of the input with its padding, in pixels."""
    at: Geometry


def neighbours(x: tuple[int, ...], w: tuple[int, ...], at: Geometry) -> Wide | None:
    """How many outputs to combine, from the shapes of images and kernel; None where that is not faster."""
    (fh, fw, c, o), s = w, at.strides[1]
    rows, columns = output_size(x, w, at)
    if c > 8 or o > 64 or at.dilation != (1, 1) or max(at.strides) > 2 or min(rows, columns, x[0]) < 1 or fw == 1:
        return None
    m = 4 if c * s == 1 else 1 if min(fh, fw) > 5 else 2
    if m * s == 1:
        return None
    blocks, window = -(-columns // m), -(-(fw + s * (m - 1)) // (s * m))
    at_ = Geometry((at.strides[0], 1), (at.pads[0], (0, 0)), (1, 1))
    return Wide(m, blocks, window, at.pads[1][0], (blocks + window - 1) * s * m, at_)


def widen_images(x: Array, wide: Wide) -> Array:
    """Combine blocks of pixels; they are adjacent in memory, so this is a reshape."""
    x = pad(x, ((0, 0), (wide.left, wide.width - x.shape[2] - wide.left)))
    return x.reshape(*x.shape[:2], wide.blocks + wide.window - 1, -1)


def widen_kernel(w: Array, wide: Wide) -> Array:
    """m copies of the kernel as output channels, each shifted by a stride: more products, but full vectors."""
    fh, fw, c, o = w.shape
    block = wide.width // (wide.blocks + wide.window - 1)
    s, room = block // wide.m, wide.window * block - fw
    copies = [jnp.pad(w, ((0, 0), (s * t, room - s * t), (0, 0), (0, 0))) for t in range(wide.m)]
    return jnp.stack(copies, axis=3).reshape(fh, wide.window, block * c, wide.m * o)
