"""Non-maximum suppression: of boxes that overlap too much, only the best.

Outputs have a fixed length, best first, with a mask; where it is False the index is 0 and means nothing. Memory is
O(n): no n x n matrix of overlaps is ever made. Indices have no slope, so nothing here is differentiated.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Bool, Float, Int

from jaxcv.ops.boxes import box_area, box_iou
from jaxcv.types import Scalar

_BLOCK = 256
"""How many boxes are compared with a kept one at a time when all of them may be kept."""


@functools.partial(jax.jit, static_argnames=("max_outputs",))
def nms(
    boxes: Float[Array, "n 4"],
    scores: Float[Array, " n"],
    *,
    iou_threshold: Scalar = 0.5,
    score_threshold: Scalar = -math.inf,
    max_outputs: int | None = None,
) -> tuple[Int[Array, " kept"], Bool[Array, " kept"]]:
    """Keep the best box, drop those that overlap it too much, and so on while any remain.

    Args:
        boxes: `[n, 4]` xyxy, any unit; `n` may be 0.
        scores: `[n]`, any scale. Among equals the lowest index goes first. NaN is never kept.
        iou_threshold: A box is dropped if its IoU with a kept one exceeds this.
        score_threshold: Only scores above this are looked at.
        max_outputs: Length of the outputs; by default `n`. Much smaller than `n` is much faster.

    Returns:
        indices: `[max_outputs]` int32 into `boxes`, best score first; 0 where not valid.
        valid: `[max_outputs]` bool.

    References:
        torchvision's `nms`, whose order among equal scores is left open.
    """
    return _nms(boxes, scores, None, iou_threshold, score_threshold, max_outputs)


@functools.partial(jax.jit, static_argnames=("max_outputs",))
def batched_nms(
    boxes: Float[Array, "n 4"],
    scores: Float[Array, " n"],
    classes: Int[Array, " n"],
    *,
    iou_threshold: Scalar = 0.5,
    score_threshold: Scalar = -math.inf,
    max_outputs: int | None = None,
) -> tuple[Int[Array, " kept"], Bool[Array, " kept"]]:
    """Non-maximum suppression within each class; boxes of different classes never drop each other.

    Classes are compared as numbers. torchvision shifts each class by more than the largest coordinate instead, which
    costs small boxes their precision.

    Args:
        boxes: `[n, 4]` xyxy, any unit; `n` may be 0.
        scores: `[n]`, any scale. Among equals the lowest index goes first. NaN is never kept.
        classes: `[n]` integers, any values.
        iou_threshold: A box is dropped if its IoU with a kept one of its class exceeds this.
        score_threshold: Only scores above this are looked at.
        max_outputs: Length of the outputs over all classes; by default `n`. Much smaller than `n` is much faster.

    Returns:
        indices: `[max_outputs]` int32 into `boxes`, best score of any class first; 0 where not valid.
        valid: `[max_outputs]` bool.

    References:
        torchvision's `batched_nms`.
    """
    return _nms(boxes, scores, classes, iou_threshold, score_threshold, max_outputs)


def _nms(
    boxes: Array,
    scores: Array,
    classes: Array | None,
    iou_threshold: Scalar,
    score_threshold: Scalar,
    max_outputs: int | None,
) -> tuple[Array, Array]:
    n = boxes.shape[0]
    length = n if max_outputs is None else max_outputs
    if n == 0 or length == 0:
        return jnp.zeros(length, jnp.int32), jnp.zeros(length, bool)
    boxes, scores = lax.stop_gradient((boxes, scores))
    candidates = scores > score_threshold
    if 3 * length <= n or n <= _BLOCK:
        return _keep_few(boxes, scores, classes, candidates, iou_threshold, length)
    iou_threshold = jnp.asarray(iou_threshold, boxes.dtype)
    kept = _keep_many(boxes, scores, jnp.zeros(n, jnp.int32) if classes is None else classes, candidates, iou_threshold)
    order = jnp.lexsort((-scores, ~kept)).astype(jnp.int32)
    order = jnp.pad(order, (0, max(length - n, 0)))[:length]
    valid = jnp.arange(length) < kept.sum()
    return jnp.where(valid, order, 0), valid


def _keep_few(boxes, scores, classes, candidates, iou_threshold, length):
    """Take the best remaining box `length` times; each time O(n)."""
    n = boxes.shape[0]
    order = jnp.argsort(jnp.where(candidates, -scores, jnp.inf), stable=True).astype(jnp.int32)
    boxes, alive = boxes[order], candidates[order]
    classes = None if classes is None else classes[order]
    place = jnp.arange(n, dtype=jnp.int32)

    def proceed(carry):
        step, best, *_ = carry
        return (step < length) & (best < n)

    def keep(carry):
        step, best, alive, kept = carry
        box = lax.dynamic_slice_in_dim(boxes, best, 1)
        dropped = (box_iou(box, boxes)[0] > iou_threshold) | (place == best)
        if classes is not None:
            dropped &= classes == lax.dynamic_slice_in_dim(classes, best, 1)
        alive &= ~dropped
        return step + 1, jnp.where(alive, place, n).min(), alive, lax.dynamic_update_slice(kept, best[None], (step,))

    best = jnp.where(alive, place, n).min()
    start = (0, best, alive, jnp.full(length, n, jnp.int32))
    kept = lax.while_loop(proceed, keep, start)[-1]
    valid = kept < n
    return jnp.where(valid, order[jnp.where(valid, kept, 0)], 0), valid


@sequential_vmap
def _keep_many(boxes, scores, classes, candidates, iou_threshold):
    """Which boxes are kept: sorted by class and score, each kept box looks at the rest of its class, block by block.

    One example at a time under vmap: a batched loop would run every row of every example.
    """
    n = boxes.shape[0]
    order = jnp.lexsort((jnp.where(candidates, -scores, jnp.inf), classes))
    pad = (0, _BLOCK)
    sorted_boxes = jnp.pad(boxes[order], (pad, (0, 0)))
    columns = [sorted_boxes[:, i] for i in range(4)]
    areas = box_area(sorted_boxes)
    sorted_classes = jnp.pad(classes[order], pad)
    alive = jnp.pad(candidates[order], pad)

    def row(i, alive):
        mine = sorted_classes[i]

        def more(carry):
            start, _ = carry
            return (start < n) & (sorted_classes[start] == mine)

        def drop(carry):
            start, alive = carry
            x1, y1, x2, y2 = (lax.dynamic_slice(column, (start,), (_BLOCK,)) for column in columns)
            width = jnp.minimum(columns[2][i], x2) - jnp.maximum(columns[0][i], x1)
            height = jnp.minimum(columns[3][i], y2) - jnp.maximum(columns[1][i], y1)
            intersection = jnp.maximum(width, 0.0) * jnp.maximum(height, 0.0)
            union = areas[i] + lax.dynamic_slice(areas, (start,), (_BLOCK,)) - intersection
            # No guard: 0 / 0 is NaN, and NaN exceeds nothing.
            dropped = intersection / union > iou_threshold
            dropped &= lax.dynamic_slice(sorted_classes, (start,), (_BLOCK,)) == mine
            rest = lax.dynamic_slice(alive, (start,), (_BLOCK,)) & ~dropped
            return start + _BLOCK, lax.dynamic_update_slice(alive, rest, (start,))

        first = jnp.where(alive[i], i + 1, n)
        return lax.while_loop(more, drop, (first, alive))[1]

    alive = lax.fori_loop(0, n, row, alive)
    return jnp.zeros(n, bool).at[order].set(alive[:n])
