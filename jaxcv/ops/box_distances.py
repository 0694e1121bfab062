"""IoU less penalties for the distance of the centres and for different aspect ratios.

Boxes are as in `jaxcv.ops.boxes`, results float32 at least; everything is finite, gradients included, for empty,
identical and disjoint boxes.

Zheng et al., Distance-IoU Loss, https://arxiv.org/abs/1911.08287.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Real

from jaxcv.ops.boxes import coordinates, overlap, ratio

_SMALLEST_SIDE = 1e-6


@jax.jit
def distance_box_iou(a: Real[Array, "*b n 4"], b: Real[Array, "*b m 4"]) -> Float[Array, "*b n m"]:
    """IoU of every box of `a` with every box of `b`, less the normalised squared distance of their centres.

    It is divided by the squared diagonal of the smallest enclosing box.

    Args:
        a: `[..., n, 4]` xyxy.
        b: `[..., m, 4]` xyxy, same unit.

    Returns:
        `[..., n, m]` in (-1, 1]; 0 where the enclosing box is a point.

    References:
        Zheng et al., Distance-IoU Loss, https://arxiv.org/abs/1911.08287, equation 7; torchvision's
        `distance_box_iou`.
    """
    return _distance_iou(a[..., :, None, :], b[..., None, :, :])


@jax.jit
def paired_distance_box_iou(a: Real[Array, "*n 4"], b: Real[Array, "*n 4"]) -> Float[Array, "*n"]:
    """`distance_box_iou` of each box of `a` with the box of `b` of the same index.

    Args:
        a: `[..., 4]` xyxy.
        b: `[..., 4]` xyxy, same unit.

    Returns:
        `[...]` in (-1, 1]; 0 where the enclosing box is a point.

    References:
        Zheng et al., Distance-IoU Loss, https://arxiv.org/abs/1911.08287, equation 7.
    """
    return _distance_iou(a, b)


@jax.jit
def complete_box_iou(a: Real[Array, "*b n 4"], b: Real[Array, "*b m 4"]) -> Float[Array, "*b n m"]:
    """`distance_box_iou` of every box of `a` with every box of `b`, less a penalty for different aspect ratios.

    The penalty is alpha v with v = (4 / pi²) (atan(w_a / h_a) - atan(w_b / h_b))² and alpha = v / (1 - IoU + v).
    No gradient flows through alpha, as in the paper.

    Args:
        a: `[..., n, 4]` xyxy.
        b: `[..., m, 4]` xyxy, same unit.

    Returns:
        `[..., n, m]` in (-2, 1].

    References:
        Zheng et al., Distance-IoU Loss, https://arxiv.org/abs/1911.08287, equations 8 to 11; torchvision's
        `complete_box_iou`.
    """
    return _complete_iou(a[..., :, None, :], b[..., None, :, :])


@jax.jit
def paired_complete_box_iou(a: Real[Array, "*n 4"], b: Real[Array, "*n 4"]) -> Float[Array, "*n"]:
    """`complete_box_iou` of each box of `a` with the box of `b` of the same index.

    Args:
        a: `[..., 4]` xyxy.
        b: `[..., 4]` xyxy, same unit.

    Returns:
        `[...]` in (-2, 1].

    References:
        Zheng et al., Distance-IoU Loss, https://arxiv.org/abs/1911.08287, equations 8 to 11.
    """
    return _complete_iou(a, b)


def _distance_iou(a: Array, b: Array) -> Array:
    a, b = coordinates(a), coordinates(b)
    # Coordinate by coordinate: XLA fuses it into one loop.
    across, down = ((a[..., i] + a[..., i + 2] - b[..., i] - b[..., i + 2]) / 2 for i in (0, 1))
    width, height = (jnp.maximum(a[..., i + 2], b[..., i + 2]) - jnp.minimum(a[..., i], b[..., i]) for i in (0, 1))
    return ratio(*overlap(a, b)) - ratio(across**2 + down**2, width**2 + height**2)


def _complete_iou(a: Array, b: Array) -> Array:
    a, b = coordinates(a), coordinates(b)
    iou = ratio(*overlap(a, b))
    v = (4 / math.pi**2) * (_shape_angle(a) - _shape_angle(b)) ** 2
    alpha = lax.stop_gradient(ratio(v, 1 - iou + v))
    return _distance_iou(a, b) - alpha * v


def _shape_angle(boxes: Array) -> Array:
    """atan(width / height), in radians."""
    width, height = (jnp.maximum(boxes[..., i + 2] - boxes[..., i], _SMALLEST_SIDE) for i in (0, 1))
    return jnp.arctan2(width, height)
