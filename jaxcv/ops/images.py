"""Images: number formats, resampling, colours.

Images are `[b, h, w, c]`; coordinates are in pixels with (0, 0) the upper left corner of the picture, so that the
centre of the first pixel is (0.5, 0.5) and a picture spans [0, w] x [0, h], as boxes do. Resampling is bilinear
and takes its samples by gathering, which on CPU is several times faster than `map_coordinates` and
`scale_and_translate`.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Shaped

from jaxcv.ops.boxes import widened
from jaxcv.types import Scalar

_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luma, ITU-R BT.601."""


@jax.jit
def to_float(images: Shaped[Array, "*n"]) -> Float[Array, "*n"]:
    """Images as the networks take them: float32 in [0, 1].

    Args:
        images: Any shape. uint8 is divided by 255; floats are taken to be in [0, 1] already.

    Returns:
        Same shape, float32.

    Raises:
        TypeError: If `images` is neither uint8 nor float: the range of other integers is not known.
    """
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 255
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images.astype(jnp.float32)
    raise TypeError(f"images are uint8 or float, not {images.dtype}")


@functools.partial(jax.jit, static_argnames=("size",))
def resized_crop(
    images: Float[Array, "b h w c"],
    windows: Float[Array, "b 4"],
    *,
    size: tuple[int, int] | None = None,
    fill: Scalar | None = None,
) -> Float[Array, "b oh ow c"]:
    """Cut a window out of each picture and stretch it to one size, by one bilinear resampling.

    Windows may reach beyond the picture; one with x1 > x2 is mirrored left to right, one with y1 > y2 top to bottom.
    Rows and columns are resampled one after the other. Without antialiasing: meant for scales near 1.

    Args:
        images: `[b, h, w, c]`.
        windows: `[b, 4]` xyxy in pixels of the picture.
        size: (height, width) of the outputs in pixels; by default that of the inputs.
        fill: Value of pixels outside the picture; None repeats its edge.

    Returns:
        `[b, oh, ow, c]`.
    """
    h, w = images.shape[1:3]
    rows, columns = size or (h, w)

    def one(image: Array, window: Array) -> Array:
        x1, y1, x2, y2 = window
        above, below, fy, inside_y = _taps(y1, y2, rows, h)
        left, right, fx, inside_x = _taps(x1, x2, columns, w)
        lines = image[above] * (1 - fy)[:, None, None] + image[below] * fy[:, None, None]
        picture = lines[:, left] * (1 - fx)[None, :, None] + lines[:, right] * fx[None, :, None]
        if fill is None:
            return picture
        return jnp.where(inside_y[:, None, None] & inside_x[None, :, None], picture, fill)

    return jax.vmap(one)(images, windows)


@functools.partial(jax.jit, static_argnames=("size",))
def boxes_in_window(
    boxes: Float[Array, "*b n 4"], windows: Float[Array, "*b 4"], *, size: tuple[int, int]
) -> Float[Array, "*b n 4"]:
    """Boxes of a picture as boxes of the window `resized_crop` cut from it.

    Args:
        boxes: `[..., n, 4]` xyxy in pixels of the picture.
        windows: `[..., 4]` xyxy in pixels of the picture; x1 > x2 or y1 > y2 where mirrored.
        size: (height, width) in pixels of the crop that `resized_crop` returned.

    Returns:
        `[..., n, 4]` xyxy in pixels of the crop, at least float32, not clipped to it.
    """
    boxes, windows = widened(boxes), widened(windows)
    x1, y1, x2, y2 = (windows[..., None, i] for i in range(4))
    xs = [(boxes[..., i] - x1) / (x2 - x1) * size[1] for i in (0, 2)]
    ys = [(boxes[..., i] - y1) / (y2 - y1) * size[0] for i in (1, 3)]
    corners = jnp.minimum(*xs), jnp.minimum(*ys), jnp.maximum(*xs), jnp.maximum(*ys)
    return jnp.stack(corners, axis=-1)


@functools.partial(jax.jit, static_argnames=("size",))
def affine(
    images: Float[Array, "b h w c"],
    matrices: Float[Array, "b 2 3"],
    *,
    size: tuple[int, int] | None = None,
    fill: Scalar | None = None,
) -> Float[Array, "b oh ow c"]:
    """Warp each picture by an affine map, by one bilinear resampling.

    For a map without rotation and shear `resized_crop` is faster.

    Args:
        images: `[b, h, w, c]`.
        matrices: `[b, 2, 3]`: takes (x, y, 1) in the output to (x, y) in the input, in pixels.
        size: (height, width) of the outputs in pixels; by default that of the inputs.
        fill: Value of pixels outside the picture; None repeats its edge.

    Returns:
        `[b, oh, ow, c]`.
    """
    h, w, c = images.shape[1:]
    rows, columns = size or (h, w)
    y = jnp.arange(rows, dtype=images.dtype)[:, None] + 0.5
    x = jnp.arange(columns, dtype=images.dtype)[None, :] + 0.5

    def one(image: Array, matrix: Array) -> Array:
        u, v = (matrix[i, 0] * x + matrix[i, 1] * y + matrix[i, 2] for i in range(2))
        left, right, fx, inside_x = _around(u, w)
        above, below, fy, inside_y = _around(v, h)
        pixels = image.reshape(h * w, c)
        fx, fy = fx[..., None], fy[..., None]
        top = pixels[above * w + left] * (1 - fx) + pixels[above * w + right] * fx
        bottom = pixels[below * w + left] * (1 - fx) + pixels[below * w + right] * fx
        picture = top * (1 - fy) + bottom * fy
        return picture if fill is None else jnp.where((inside_x & inside_y)[..., None], picture, fill)

    return jax.vmap(one)(images, matrices)


@jax.jit
def adjust_colors(
    images: Float[Array, "b h w c"],
    brightness: Float[Array, " b"],
    contrast: Float[Array, " b"],
    saturation: Float[Array, " b"],
) -> Float[Array, "b h w c"]:
    """Scale brightness, then contrast about the mean grey of the picture, then saturation about the grey of each pixel.

    Args:
        images: `[b, h, w, c]` in [0, 1]. Of three channels grey is the luma, of any other number the mean.
        brightness: `[b]` factors, at least 0; 1 changes nothing.
        contrast: `[b]` factors, likewise.
        saturation: `[b]` factors, likewise.

    Returns:
        `[b, h, w, c]`, clipped to [0, 1] once at the end (torchvision's `adjust_brightness`, `adjust_contrast`,
        `adjust_saturation` clip after each; clipped once, the three are one pass over the pixels).
    """
    c = images.shape[-1]
    channels = _LUMA if c == 3 else (1 / c,) * c
    gray = functools.reduce(jnp.add, (images[..., i] * weight for i, weight in enumerate(channels)))
    # Materialised before it is averaged: XLA on CPU takes four times as long for the two fused.
    gray = lax.optimization_barrier(gray)
    mean = gray.reshape(gray.shape[0], -1).mean(-1)
    gain, lift = _over_pixels(brightness * contrast), _over_pixels(brightness * (1 - contrast) * mean)
    saturation = _over_pixels(saturation)
    return jnp.clip(gain * (saturation * images + (1 - saturation) * gray[..., None]) + lift, 0.0, 1.0)


@jax.jit
def upsample2x(images: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Nearest-neighbour resampling to twice the height and width.

    Args:
        images: `[b, h, w, c]`.

    Returns:
        `[b, 2h, 2w, c]`.
    """
    b, h, w, c = images.shape
    spread = jnp.broadcast_to(images[:, :, None, :, None, :], (b, h, 2, w, 2, c))
    return spread.reshape(b, 2 * h, 2 * w, c)


@functools.partial(jax.jit, static_argnames=("size",))
def upsample_bilinear(images: Float[Array, "b h w c"], *, size: tuple[int, int]) -> Float[Array, "b oh ow c"]:
    """Bilinear resampling to another height and width, by one matrix product an axis.

    Args:
        images: `[b, h, w, c]`.
        size: (height, width) of the outputs in pixels; meant for larger ones, there is no antialiasing.

    Returns:
        `[b, oh, ow, c]`: torch's `interpolate(mode="bilinear", align_corners=False)`. Beyond the middles of the
        outermost pixels their values are repeated.
    """
    rows, columns = (_weights(n, out, images.dtype) for n, out in zip(images.shape[1:3], size, strict=True))
    # One matrix product makes the large array, of contiguous rows: half the time of the other orders.
    wide = jnp.einsum("bhwc,xw->hbxc", images, columns)
    return jnp.einsum("yh,hbxc->ybxc", rows, wide).swapaxes(0, 1)


def _weights(size: int, out: int, dtype: jnp.dtype) -> Array:
    """[out, size]: each row averages two pixels."""
    near, far, fraction, _ = _taps(jnp.zeros(()), jnp.asarray(size, jnp.float32), out, size)
    pixel = jnp.arange(size)[None]
    first, second = (jnp.where(pixel == one[:, None], 1.0, 0.0) for one in (near, far))
    return (first * (1 - fraction)[:, None] + second * fraction[:, None]).astype(dtype)


def _over_pixels(values: Array) -> Array:
    return values[:, None, None, None]


def _taps(start: Array, end: Array, count: int, size: int) -> tuple[Array, Array, Array, Array]:
    centres = start + (jnp.arange(count, dtype=start.dtype) + 0.5) * ((end - start) / count)
    return _around(centres, size)


def _around(centres: Array, size: int) -> tuple[Array, Array, Array, Array]:
    """The two pixels around each position on an axis, the weight of the second, and whether the position is inside."""
    position = centres - 0.5
    first = jnp.floor(position)
    near, far = (jnp.clip(i, 0, size - 1).astype(jnp.int32) for i in (first, first + 1))
    return near, far, position - first, (centres >= 0) & (centres <= size)
