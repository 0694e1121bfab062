"""Max pooling that says where the largest values stood, and unpooling, which puts values back there.

Zeiler, Fergus: Visualizing and understanding convolutional networks, https://arxiv.org/abs/1311.2901, section 2.1.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxcv.ops.conv import Padding, conv_output_size, pads, pair, windows


@functools.partial(jax.jit, static_argnames=("window", "strides", "padding"))
def max_pool2d_positions(
    images: Float[Array, "b h w c"],
    *,
    window: int | tuple[int, int],
    strides: int | tuple[int, int] | None = None,
    padding: Padding = "valid",
) -> tuple[Float[Array, "b oh ow c"], Int[Array, "b oh ow c"]]:
    """The largest value of each window, and its position.

    Args:
        images: `[b, h, w, c]`.
        window: Size, or (height, width), in pixels.
        strides: Step from window to window in pixels; by default the window.
        padding: Padding counts as minus infinity.

    Returns:
        Values `[b, oh, ow, c]`, those of `max_pool2d`, and int32 positions `[b, oh, ow, c]`, row x w + column in the
        image, of equal largest values the first: torch's `max_pool2d_with_indices`. NaN is largest.

    Raises:
        ValueError: If the window does not fit into the padded images.
    """
    window = pair(window)
    strides = window if strides is None else pair(strides)
    h, w = images.shape[1:3]
    around = pads((h, w), window, strides, padding)
    rows, columns = (
        conv_output_size(n + sum(p), window=f, stride=s)
        for n, p, f, s in zip((h, w), around, window, strides, strict=True)
    )
    y = jnp.arange(rows, dtype=jnp.int32)[:, None] * strides[0] - around[0][0]
    x = jnp.arange(columns, dtype=jnp.int32)[None, :] * strides[1] - around[1][0]
    largest, *others = windows(images, window, strides, padding, -math.inf)
    shape = (1, rows, columns, 1)
    position, known = jnp.broadcast_to((y * w + x).reshape(shape), largest.shape), _inside(y, x, h, w)
    for k, value in enumerate(others, start=1):
        row, column = y + k // window[1], x + k % window[1]
        # A window that begins in the padding holds minus infinity first, which an equal pixel takes over.
        begins = _inside(row, column, h, w) & ~known
        known = known | begins
        larger = (value > largest) | (jnp.isnan(value) & ~jnp.isnan(largest)) | begins.reshape(shape)
        largest = jnp.where(larger, value, largest)
        position = jnp.where(larger, (row * w + column).reshape(shape), position)
    return largest, position


def _inside(y: Array, x: Array, h: int, w: int) -> Array:
    return (y >= 0) & (y < h) & (x >= 0) & (x < w)


@functools.partial(jax.jit, static_argnames=("size", "window"))
def max_unpool2d(
    values: Float[Array, "b oh ow c"],
    positions: Int[Array, "b oh ow c"],
    *,
    size: tuple[int, int],
    window: int | tuple[int, int] | None = None,
) -> Float[Array, "b h w c"]:
    """Values put back to positions of a larger image, zeros elsewhere.

    Args:
        values: `[b, oh, ow, c]`.
        positions: `[b, oh, ow, c]`, row x w + column, as of `max_pool2d_positions`.
        size: (height, width) of the image.
        window: Of the pooling, if its windows do not overlap (stride equal to the window) and there was no padding:
            the same result, without a scatter, several times faster.

    Returns:
        `[b, *size, c]`. Where several values have one position, they are summed, so that this is the transpose of
        the pooling (torch keeps any one of them).

    References:
        Noh et al., Learning deconvolution network, https://arxiv.org/abs/1505.04366, section 3.2.
    """
    (b, rows, columns, c), (h, w) = values.shape, size
    if window is None:
        image, channel = jnp.arange(b)[:, None, None, None], jnp.arange(c)[None, None, None, :]
        flat = jnp.zeros((b, h * w, c), values.dtype).at[image, positions, channel].add(values, mode="drop")
        return flat.reshape(b, h, w, c)
    fh, fw = pair(window)
    y, x = jnp.arange(rows, dtype=positions.dtype), jnp.arange(columns, dtype=positions.dtype)
    corner = (y[:, None] * fh * w + x[None, :] * fw)[None, :, :, None]
    inside = [positions == corner + (i * w + j) for i in range(fh) for j in range(fw)]
    spread = jnp.stack([jnp.where(here, values, jnp.zeros((), values.dtype)) for here in inside], axis=3)
    spread = spread.reshape(b, rows, columns, fh, fw, c).swapaxes(2, 3).reshape(b, rows * fh, columns * fw, c)
    more = [(0, max(0, n - m)) for n, m in zip(size, spread.shape[1:3], strict=True)]
    return jnp.pad(spread, ((0, 0), *more, (0, 0)))[:, :h, :w]
