"""Boxes: formats, areas, overlaps, and the regression targets of R-CNN.

Boxes are `xyxy` unless a name says otherwise: `[..., 4]` of (x1, y1, x2, y2) with x1 <= x2 and y1 <= y2, x to the
right, y down, all in the same unit. An inverted box counts as empty. Everything is finite, gradients included, for no
boxes at all and for empty, identical and disjoint boxes.

Boxes in half precision and of integers are cast to float32 first, and so are all results (float64 stays): an area of
300 by 300 pixels is infinite in float16, and bfloat16 does not resolve pixels beyond 256. torchvision's areas and
overlaps are float32 likewise; its conversions and clipping stay in half precision.
"""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Real

from jaxcv.types import Scalar

BoxFormat = Literal["xyxy", "xywh", "cxcywh"]

_SMALLEST_AREA = 1e-12
"""A quotient with a smaller denominator is 0: 1 / area², in the gradient, still fits float32."""
_SMALLEST_SIDE = 1e-6
_LARGEST_LOG_SCALE = math.log(1000 / 16)


@functools.partial(jax.jit, static_argnames=("source", "target"))
def box_convert(boxes: Real[Array, "*n 4"], *, source: BoxFormat, target: BoxFormat) -> Float[Array, "*n 4"]:
    """Rewrite boxes from one format into another.

    Args:
        boxes: `[..., 4]`, any unit.
        source: What `boxes` is: `xyxy` two corners, `xywh` upper left corner and size, `cxcywh` centre and size.
        target: What to return.

    Returns:
        `[..., 4]`, same unit.
    """
    boxes = coordinates(boxes)
    p, q, r, s = (boxes[..., i] for i in range(4))
    if source == target:
        return boxes
    if source == "xywh":
        p, q, r, s = p, q, p + r, q + s
    elif source == "cxcywh":
        p, q, r, s = p - r / 2, q - s / 2, p + r / 2, q + s / 2
    if target == "xywh":
        p, q, r, s = p, q, r - p, s - q
    elif target == "cxcywh":
        p, q, r, s = (p + r) / 2, (q + s) / 2, r - p, s - q
    return jnp.stack([p, q, r, s], axis=-1)


@jax.jit
def box_area(boxes: Real[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Area of boxes.

    Args:
        boxes: `[..., 4]` xyxy.

    Returns:
        `[...]`, unit squared; 0 for an inverted box (torchvision multiplies the negative width and height).
    """
    boxes = coordinates(boxes)
    width = jnp.maximum(boxes[..., 2] - boxes[..., 0], 0.0)
    height = jnp.maximum(boxes[..., 3] - boxes[..., 1], 0.0)
    return width * height


@jax.jit
def box_iou(a: Real[Array, "*b n 4"], b: Real[Array, "*b m 4"]) -> Float[Array, "*b n m"]:
    """Intersection over union of every box of `a` with every box of `b`.

    Args:
        a: `[..., n, 4]` xyxy.
        b: `[..., m, 4]` xyxy, same unit.

    Returns:
        `[..., n, m]` in [0, 1]; 0 where both boxes are empty.
    """
    return _iou(a[..., :, None, :], b[..., None, :, :])


@jax.jit
def paired_box_iou(a: Real[Array, "*n 4"], b: Real[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Intersection over union of each box of `a` with the box of `b` of the same index.

    Args:
        a: `[..., 4]` xyxy.
        b: `[..., 4]` xyxy, same unit.

    Returns:
        `[...]` in [0, 1]; 0 where both boxes are empty.
    """
    return _iou(a, b)


@jax.jit
def generalized_box_iou(a: Real[Array, "*b n 4"], b: Real[Array, "*b m 4"]) -> Float[Array, "*b n m"]:
    """Generalized intersection over union of every box of `a` with every box of `b`.

    IoU minus the fraction of the smallest enclosing box that neither covers: unlike IoU it still has a gradient between
    disjoint boxes.

    Args:
        a: `[..., n, 4]` xyxy.
        b: `[..., m, 4]` xyxy, same unit.

    Returns:
        `[..., n, m]` in [-1, 1]; 0 where the enclosing box is empty (torchvision: NaN).

    References:
        Rezatofighi et al., Generalized Intersection over Union, https://arxiv.org/abs/1902.09630, algorithm 1.
    """
    return _generalized_iou(a[..., :, None, :], b[..., None, :, :])


@jax.jit
def paired_generalized_box_iou(a: Real[Array, "*n 4"], b: Real[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Generalized intersection over union of each box of `a` with the box of `b` of the same index.

    Args:
        a: `[..., 4]` xyxy.
        b: `[..., 4]` xyxy, same unit.

    Returns:
        `[...]` in [-1, 1]; 0 where the enclosing box is empty.

    References:
        Rezatofighi et al., Generalized Intersection over Union, https://arxiv.org/abs/1902.09630, algorithm 1.
    """
    return _generalized_iou(a, b)


@jax.jit
def clip_boxes_to_image(boxes: Real[Array, "*n 4"], *, image_size: tuple[Scalar, Scalar]) -> Float[Array, "*n 4"]:
    """Clip boxes to the image.

    Args:
        boxes: `[..., 4]` xyxy in pixels.
        image_size: (height, width) in pixels.

    Returns:
        `[..., 4]` with x in [0, width] and y in [0, height]; a box wholly outside becomes empty.
    """
    boxes, (height, width) = coordinates(boxes), image_size
    x1, x2 = (jnp.clip(boxes[..., i], 0.0, width) for i in (0, 2))
    y1, y2 = (jnp.clip(boxes[..., i], 0.0, height) for i in (1, 3))
    return jnp.stack([x1, y1, x2, y2], axis=-1)


@jax.jit
def largest_box(boxes: Real[Array, "*b m 4"], valid: Bool[Array, "*b m"]) -> tuple[Int[Array, "*b"], Bool[Array, "*b"]]:
    """Which of several boxes has the largest area.

    Args:
        boxes: `[..., m, 4]` xyxy, m at least 1.
        valid: `[..., m]`, which of them count. Boxes without area, or not finite, never count.

    Returns:
        Index `[...]` of the largest, the first among equals, 0 where there is none; and whether there is one, `[...]`.
    """
    finite = jnp.isfinite(boxes).all(-1)
    area = jnp.where(valid & finite, box_area(jnp.where(finite[..., None], widened(boxes), 0.0)), 0.0)
    return area.argmax(-1), area.max(-1) > 0


@jax.jit
def encode_boxes(
    boxes: Real[Array, "*n 4"],
    references: Real[Array, "*n 4"],
    *,
    weights: tuple[Scalar, Scalar, Scalar, Scalar] = (1.0, 1.0, 1.0, 1.0),
) -> Float[Array, "*n 4"]:
    """Regression targets: the deltas from each reference box (an anchor box, a proposal) to its box.

    t_x = (x - x_r) / w_r, t_y = (y - y_r) / h_r, t_w = log(w / w_r), t_h = log(h / h_r), with (x, y) the centres.

    Args:
        boxes: `[..., 4]` xyxy, the targets. Widths and heights count as at least 1e-6, for finite deltas.
        references: `[..., 4]` xyxy, same unit, likewise.
        weights: Factors of (t_x, t_y, t_w, t_h); Fast R-CNN's are (10, 10, 5, 5).

    Returns:
        `[..., 4]`, without unit.

    References:
        Girshick et al., R-CNN, https://arxiv.org/abs/1311.2524, appendix C; torchvision's `BoxCoder.encode`.
    """
    x, y, w, h = _centre_and_size(boxes)
    x_r, y_r, w_r, h_r = _centre_and_size(references)
    deltas = (x - x_r) / w_r, (y - y_r) / h_r, jnp.log(w / w_r), jnp.log(h / h_r)
    return jnp.stack([factor * delta for factor, delta in zip(weights, deltas, strict=True)], axis=-1)


@jax.jit
def decode_boxes(
    deltas: Real[Array, "*n 4"],
    references: Real[Array, "*n 4"],
    *,
    weights: tuple[Scalar, Scalar, Scalar, Scalar] = (1.0, 1.0, 1.0, 1.0),
    max_log_scale: Scalar = _LARGEST_LOG_SCALE,
) -> Float[Array, "*n 4"]:
    """Apply predicted deltas to reference boxes: the inverse of `encode_boxes`.

    Args:
        deltas: `[..., 4]` of (t_x, t_y, t_w, t_h), without unit.
        references: `[..., 4]` xyxy. Widths and heights count as at least 1e-6.
        weights: As given to `encode_boxes`.
        max_log_scale: t_w and t_h are clipped here, so that the exponential stays finite (torchvision's log(1000/16)).

    Returns:
        `[..., 4]` xyxy, in the unit of `references`, not clipped to any image.

    References:
        Girshick et al., R-CNN, https://arxiv.org/abs/1311.2524, appendix C; torchvision's `BoxCoder.decode`.
    """
    x_r, y_r, w_r, h_r = _centre_and_size(references)
    deltas = widened(deltas)
    t_x, t_y, t_w, t_h = (deltas[..., i] / weights[i] for i in range(4))
    x, y = x_r + t_x * w_r, y_r + t_y * h_r
    w, h = w_r * jnp.exp(jnp.minimum(t_w, max_log_scale)), h_r * jnp.exp(jnp.minimum(t_h, max_log_scale))
    return jnp.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=-1)


def coordinates(boxes: Array) -> Array:
    """Boxes `widened`.

    Raises:
        TypeError: they do not have four coordinates each.
    """
    if boxes.shape[-1:] != (4,):
        raise TypeError(f"boxes of {boxes.shape[-1] if boxes.shape else 'no'} coordinates: expected [..., 4]")
    return widened(boxes)


def widened(boxes: Array) -> Array:
    """Cast to float32, except float64."""
    return boxes if boxes.dtype in (jnp.float32, jnp.float64) else boxes.astype(jnp.float32)


def overlap(a: Array, b: Array) -> tuple[Array, Array]:
    """Intersection and union of boxes that broadcast against each other, by coordinate: XLA fuses it into one loop.

    Boxes are `widened`.
    """
    width = jnp.maximum(jnp.minimum(a[..., 2], b[..., 2]) - jnp.maximum(a[..., 0], b[..., 0]), 0.0)
    height = jnp.maximum(jnp.minimum(a[..., 3], b[..., 3]) - jnp.maximum(a[..., 1], b[..., 1]), 0.0)
    intersection = width * height
    return intersection, box_area(a) + box_area(b) - intersection


def ratio(numerator: Array, denominator: Array) -> Array:
    """The quotient of two areas, 0 where the denominator is 0; masked twice, so that the gradient is finite there."""
    fine = denominator > _SMALLEST_AREA
    return jnp.where(fine, numerator / jnp.where(fine, denominator, 1.0), 0.0)


def _iou(a: Array, b: Array) -> Array:
    return ratio(*overlap(coordinates(a), coordinates(b)))


def _generalized_iou(a: Array, b: Array) -> Array:
    a, b = coordinates(a), coordinates(b)
    intersection, union = overlap(a, b)
    width = jnp.maximum(jnp.maximum(a[..., 2], b[..., 2]) - jnp.minimum(a[..., 0], b[..., 0]), 0.0)
    height = jnp.maximum(jnp.maximum(a[..., 3], b[..., 3]) - jnp.minimum(a[..., 1], b[..., 1]), 0.0)
    hull = width * height
    return ratio(intersection, union) - ratio(hull - union, hull)


def _centre_and_size(boxes: Array) -> tuple[Array, Array, Array, Array]:
    boxes = coordinates(boxes)
    width = jnp.maximum(boxes[..., 2] - boxes[..., 0], _SMALLEST_SIDE)
    height = jnp.maximum(boxes[..., 3] - boxes[..., 1], _SMALLEST_SIDE)
    return (boxes[..., 0] + boxes[..., 2]) / 2, (boxes[..., 1] + boxes[..., 3]) / 2, width, height
