"""Anchor boxes of a region proposal network: their sizes, and one of each at every position of a feature map."""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.ops.anchors import AnchorBoxes
from jaxcv.ops.boxes import widened


def anchor_sizes(scales: tuple[int | float, ...], ratios: tuple[int | float, ...]) -> tuple[tuple[float, float], ...]:
    """Width and height of anchor boxes of every ratio and scale: (s / sqrt(r), s sqrt(r)), rounded to even pixels.

    Args:
        scales: Square roots of the areas, in pixels: the paper's 128, 256 and 512.
        ratios: Height by width of each shape: the paper's 1:2, 1:1 and 2:1.

    Returns:
        One (width, height) for each ratio and, within it, each scale: torchvision's order and rounding.

    References:
        Ren et al., Faster R-CNN, https://arxiv.org/abs/1506.01497, section 3.1.1.
    """
    return tuple((2.0 * round(s / math.sqrt(r) / 2), 2.0 * round(s * math.sqrt(r) / 2)) for r in ratios for s in scales)


@functools.partial(jax.jit, static_argnames=("grid_size", "image_size"))
def anchor_grid(
    anchor_boxes: AnchorBoxes, *, grid_size: tuple[int, int], image_size: tuple[int, int]
) -> Float[Array, "n 4"]:
    """Every anchor box at every position of a feature map.

    The position (i, j) stands for the pixel (i, j) x stride, as in torchvision: with the first box centred at (0, 0).

    Args:
        anchor_boxes: `[a, 2]` of (width, height) in pixels.
        grid_size: (height, width) of the feature map.
        image_size: (height, width) of the image in pixels; the strides are these by those of the map, rounded down.

    Returns:
        `[height * width * a, 4]` xyxy in pixels, row by row, the anchor boxes of a position one after the other.
    """
    half = widened(jnp.asarray(anchor_boxes)) / 2
    strides = [float(image // grid) for image, grid in zip(image_size, grid_size, strict=True)]
    y, x = (jnp.arange(n, dtype=half.dtype) * stride for n, stride in zip(grid_size, strides, strict=True))
    x, y = jnp.broadcast_arrays(x[None, :, None], y[:, None, None])
    width, height = half[None, None, :, 0], half[None, None, :, 1]
    return jnp.stack([x - width, y - height, x + width, y + height], axis=-1).reshape(-1, 4)
