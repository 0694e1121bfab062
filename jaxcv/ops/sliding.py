"""Sliding windows: all crops of a picture, or of a picture at several sizes, and where they lie.

Windows go row by row, from the upper left corner; only whole ones are taken. Sizes and strides are in pixels of the
scaled picture, boxes in pixels of the picture itself. `jaxcv.models.convolutionalize` computes a network's outputs for
all windows at once.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.ops.conv import conv_output_size, pair

Scales = tuple[float, ...]


@functools.partial(jax.jit, static_argnames=("scales",))
def image_pyramid(images: Float[Array, "b h w c"], *, scales: Scales) -> tuple[Float[Array, "b _ _ c"], ...]:
    """Pictures at several sizes, by bilinear resampling with antialiasing.

    Args:
        images: `[b, h, w, c]`.
        scales: Factors of the size; static. 1 returns the pixels unchanged.

    Returns:
        One array for each scale: `[b, round(h scale), round(w scale), c]`, height and width at least 1.
    """
    b, h, w, c = images.shape

    def scaled(scale: float) -> Array:
        size = (b, _scaled(h, scale), _scaled(w, scale), c)
        return images if size == images.shape else jax.image.resize(images, size, "bilinear")

    return tuple(scaled(scale) for scale in scales)


@functools.partial(jax.jit, static_argnames=("window", "strides", "scales"))
def sliding_windows(
    images: Float[Array, "b h w c"],
    *,
    window: int | tuple[int, int],
    strides: int | tuple[int, int] = 1,
    scales: Scales = (1.0,),
) -> tuple[Float[Array, "b n wh ww c"], Float[Array, "n 4"]]:
    """Cut out every window, at every scale.

    crops[:, i] of one scale is images[:, y : y + wh, x : x + ww], y and x the multiples of the strides. A window of
    fixed size over a smaller scale covers a larger part of the picture, and so larger objects.

    Args:
        images: `[b, h, w, c]`.
        window: Size of a window in pixels, or (height, width).
        strides: Distance between neighbouring windows in pixels, or (vertical, horizontal).
        scales: Factors of the pictures' size, one after another; static. A scale at which the picture is smaller than
            a window has none.

    Returns:
        crops: `[b, n, wh, ww, c]`, n = sum over scales of rows x columns, rows = (h scale - wh) // stride + 1.
        boxes: `[n, 4]` float32 xyxy in pixels of `images`: `window_boxes`.

    Raises:
        ValueError: If window or strides are not positive.

    References:
        Dalal, Triggs, Histograms of oriented gradients for human detection, CVPR 2005 (windows over a pyramid).
    """
    (height, width), (down, across) = _checked(window, strides)
    b, h, w, c = images.shape
    crops = [jnp.zeros((b, 0, height, width, c), images.dtype)]
    for level in image_pyramid(images, scales=scales):
        rows, columns = _count(level.shape[1:3], (height, width), (down, across))
        if rows * columns == 0:
            continue
        ys = jnp.arange(rows)[:, None] * down + jnp.arange(height)[None]
        xs = jnp.arange(columns)[:, None] * across + jnp.arange(width)[None]
        cut = level[:, ys][:, :, :, xs].transpose(0, 1, 3, 2, 4, 5)
        crops.append(cut.reshape(b, rows * columns, height, width, c))
    boxes = window_boxes(image_size=(h, w), window=window, strides=strides, scales=scales)
    return jnp.concatenate(crops, axis=1), boxes


def window_boxes(
    *,
    image_size: tuple[int, int],
    window: int | tuple[int, int],
    strides: int | tuple[int, int] = 1,
    scales: Scales = (1.0,),
) -> Float[Array, "n 4"]:
    """The boxes of the windows of `sliding_windows`.

    Args:
        image_size: (height, width) of the picture in pixels.
        window: Size of a window in pixels of the scaled picture, or (height, width).
        strides: Distance between neighbouring windows in the same pixels, or (vertical, horizontal).
        scales: Factors of the picture's size.

    Returns:
        `[n, 4]` float32 xyxy in pixels of the picture, scale by scale and row by row.

    Raises:
        ValueError: If window or strides are not positive.
    """
    (height, width), (down, across) = _checked(window, strides)
    boxes = [jnp.zeros((0, 4), jnp.float32)]
    for scale in scales:
        size = _scaled(image_size[0], scale), _scaled(image_size[1], scale)
        rows, columns = _count(size, (height, width), (down, across))
        y = jnp.arange(rows, dtype=jnp.float32)[:, None] * down + jnp.zeros((1, columns))
        x = jnp.arange(columns, dtype=jnp.float32)[None] * across + jnp.zeros((rows, 1))
        # The factors after rounding to whole pixels.
        v, u = image_size[0] / size[0], image_size[1] / size[1]
        level = jnp.stack([x * u, y * v, (x + width) * u, (y + height) * v], axis=-1)
        boxes.append(level.reshape(rows * columns, 4))
    return jnp.concatenate(boxes)


def pyramid_scales(
    *, image_size: tuple[int, int], window: int | tuple[int, int], smallest: float | int | None = None, ratio: float
) -> Scales:
    """Scales for `sliding_windows`: windows from a smallest size up to the whole picture.

    Args:
        image_size: (height, width) of the picture in pixels.
        window: Size of a window in pixels, or (height, width).
        ratio: Ratio of neighbouring scales, above 1.
        smallest: Height of the smallest window, in pixels of the picture; by default the window's own, so that no
            picture is enlarged.

    Returns:
        Factors of the picture's size, largest first; none where no window fits.

    Raises:
        ValueError: If `ratio` or `smallest` is out of range.
    """
    (height, width), _ = _checked(window, 1)
    if ratio <= 1:
        raise ValueError(f"ratio={ratio}: expected more than 1")
    if smallest is not None and smallest <= 0:
        raise ValueError(f"smallest={smallest}: expected pixels, more than 0")
    scale, scales = 1.0 if smallest is None else height / smallest, []
    while _scaled(image_size[0], scale) >= height and _scaled(image_size[1], scale) >= width:
        scales.append(scale)
        scale /= ratio
    return tuple(scales)


def _scaled(n: int, scale: float) -> int:
    return max(1, round(n * scale))


def _count(size: tuple[int, int], window: tuple[int, int], strides: tuple[int, int]) -> tuple[int, int]:
    if size[0] < window[0] or size[1] < window[1]:
        return 0, 0
    rows, columns = (conv_output_size(n, window=f, stride=s) for n, f, s in zip(size, window, strides, strict=True))
    return rows, columns


def _checked(window: int | tuple[int, int], strides: int | tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    if min(*pair(window), *pair(strides)) < 1:
        raise ValueError(f"window={window} with strides={strides}: expected at least one pixel")
    return pair(window), pair(strides)
