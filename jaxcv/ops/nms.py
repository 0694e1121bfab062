"""Non-maximum suppression: of boxes that overlap too much, only the best.

Outputs have a fixed length, best first, with a mask; where it is False the index is 0 and means nothing. Memory is
O(n): no n x n matrix of overlaps is ever made. Indices have no gradient, so nothing here is differentiated.
"""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float, Int, Real

from jaxcv.ops.boxes import coordinates, widened
from jaxcv.ops.platform import on_cpu
from jaxcv.types import Scalar

_BLOCK = 2048
"""How many boxes are decided upon at a time."""
_SWEEPS = 6
"""How often the boxes of a block are looked at before the first question whether anything still changes."""


@functools.partial(jax.jit, static_argnames=("criterion", "max_outputs"))
def nms(
    boxes: Real[Array, "n 4"],
    scores: Float[Array, " n"],
    *,
    iou_threshold: Scalar = 0.5,
    score_threshold: Scalar = -math.inf,
    criterion: Literal["iou", "diou"] = "iou",
    max_outputs: int | None = None,
) -> tuple[Int[Array, " kept"], Bool[Array, " kept"]]:
    """Keep the best box, drop those that overlap it too much, and so on while any remain.

    Args:
        boxes: `[n, 4]` xyxy, any unit; `n` may be 0.
        scores: `[n]`, any scale. Among equals the lowest index goes first. NaN is never kept.
        iou_threshold: A box is dropped if its IoU with a kept one exceeds this, in the precision of the boxes, at
            least float32 (torchvision compares float32 with the threshold in double: an IoU of 3/10 exceeds 0.3 there).
        score_threshold: Only scores above this are looked at.
        criterion: What is compared with the threshold: the IoU, or the IoU less how far apart the centres are.
        max_outputs: Length of the outputs; by default `n`. Much smaller than `n` is much faster.

    Returns:
        indices: `[max_outputs]` int32 into `boxes`, best score first; 0 where not valid.
        valid: `[max_outputs]` bool.

    References:
        torchvision's `nms`, whose order among equal scores is left open; for `diou` Zheng et al., Distance-IoU Loss,
        https://arxiv.org/abs/1911.08287, section 3.4.
    """
    return _nms(boxes, scores, None, iou_threshold, score_threshold, max_outputs, criterion)


@functools.partial(jax.jit, static_argnames=("criterion", "max_outputs"))
def batched_nms(
    boxes: Real[Array, "n 4"],
    scores: Float[Array, " n"],
    classes: Int[Array, " n"],
    *,
    iou_threshold: Scalar = 0.5,
    score_threshold: Scalar = -math.inf,
    criterion: Literal["iou", "diou"] = "iou",
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
        criterion: What is compared with the threshold: the IoU, or the IoU less how far apart the centres are.
        max_outputs: Length of the outputs over all classes; by default `n`. Much smaller than `n` is much faster.

    Returns:
        indices: `[max_outputs]` int32 into `boxes`, best score of any class first; 0 where not valid.
        valid: `[max_outputs]` bool.

    References:
        torchvision's `batched_nms`.
    """
    return _nms(boxes, scores, classes, iou_threshold, score_threshold, max_outputs, criterion)


def _nms(
    boxes: Array,
    scores: Array,
    classes: Array | None,
    iou_threshold: Scalar,
    score_threshold: Scalar,
    max_outputs: int | None,
    criterion: str,
) -> tuple[Array, Array]:
    n = boxes.shape[0]
    length = n if max_outputs is None else max_outputs
    if n == 0 or length == 0:
        return jnp.zeros(length, jnp.int32), jnp.zeros(length, bool)
    boxes, scores = lax.stop_gradient((coordinates(boxes), widened(scores)))
    x1, y1, x2, y2 = (boxes[:, i] for i in range(4))
    # The area may be negative, as in torchvision.
    columns = jnp.stack([x1, y1, x2, y2, (x2 - x1) * (y2 - y1)])
    scores = jnp.where(scores > score_threshold, scores, jnp.nan)
    iou_threshold = jnp.asarray(iou_threshold, boxes.dtype)
    by_class = () if classes is None else (classes,)
    exceeds = _iou_exceeds if criterion == "iou" else _diou_exceeds
    return _suppress(columns, scores, iou_threshold, *by_class, length=length, exceeds=exceeds)


def _in_sweeps(columns, scores, iou_threshold, *classes, length, exceeds):
    """Indices of the boxes that greedy suppression keeps, [length], and which are valid.

    An accelerator waits longest for the start of an operation and for the host's answer whether a loop goes on.
    Therefore boxes are decided upon in large blocks. Within a block the greedy answer is the only one that fits "kept
    unless a kept better box overlaps", which is asked of all boxes at once until their answers no longer change: each
    sweep settles at least the best box that was not, so the answer is exact, and a few sweeps suffice unless boxes
    overlap in a long chain.

    Args:
        columns: [5 n] of x1, y1, x2, y2 and area.
        scores: [n]; NaN is never kept.
        iou_threshold: [].
        classes: [n], or nothing.
        length: of the outputs.
        exceeds: whether columns [5 ...] overlap others by more than a threshold.
    """
    n = scores.shape[0]
    order = jnp.arange(n, dtype=jnp.int32)
    if n > _BLOCK:  # one block needs no sorting
        order = jnp.argsort(-scores, stable=True).astype(jnp.int32)
        columns, scores, *classes = (x[..., order] for x in (columns, scores, *classes))
    keep = _keep(min(length, n), exceeds)
    kept = keep(*(x[None] for x in (columns, scores, iou_threshold, *classes)))[0]
    rank = (kept[None] & _better(scores)).sum(1, dtype=jnp.int32)
    # Positions beyond the end are dropped; they differ, so that none is written twice.
    rank = jnp.where(kept, rank, length + jnp.arange(n, dtype=jnp.int32))
    indices = jnp.zeros(length, jnp.int32).at[rank].set(order, mode="drop", unique_indices=True)
    return indices, jnp.arange(length, dtype=jnp.int32) < kept.sum(dtype=jnp.int32)


def _keep(limit, exceeds):
    """Whether each box is kept, [b n]; of each image right for the best `limit` that are, which is where it may stop.

    Under vmap it is given the boxes of all images at once: every block and every sweep is of all of them.
    """

    @custom_vmap
    def keep(columns, scores, iou_threshold, *classes):
        n = scores.shape[1]
        blocks = -(-n // _BLOCK)
        size = -(-n // blocks)
        padding = blocks * size - n
        # A score of NaN is never kept.
        scores = jnp.pad(scores, ((0, 0), (0, padding)), constant_values=jnp.nan)
        every = [jnp.moveaxis(columns, 1, 0), *classes]
        every = [jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, padding)]) for x in every]
        position = jnp.arange(blocks * size, dtype=jnp.int32)[None]

        def part(x, start):
            return lax.dynamic_slice_in_dim(x, start, size, axis=-1)

        def overlap(first, second):
            """Whether boxes overlap by too much, [b first second]."""
            (boxes, *classes), (other_boxes, *other_classes) = first, second
            found = exceeds(boxes[..., :, None], other_boxes[..., None, :], iou_threshold[:, None, None])
            for one, other in zip(classes, other_classes, strict=True):
                found &= one[:, :, None] == other[:, None, :]
            return found

        def settle(start, alive):
            block = [part(x, start) for x in every]
            return block, _settled(part(alive, start), overlap(block, block) & _better(part(scores, start)))

        def proceed(carry):
            start, alive = carry
            enough = (alive & (position < start)).sum(1, dtype=jnp.int32) >= limit
            return (~enough & (alive & (position >= start)).any(1)).any()

        def step(carry):
            start, alive = carry
            block, kept = settle(start, alive)
            dropped = (overlap(every, block) & kept[:, None, :]).any(2) & (position >= start + size)
            return start + size, lax.dynamic_update_slice_in_dim(alive & ~dropped, kept, start, axis=1)

        alive = ~jnp.isnan(scores)
        if blocks == 1:
            return settle(0, alive)[1]
        return lax.while_loop(proceed, step, (jnp.int32(0), alive))[1][:, :n]

    @keep.def_vmap
    def _(size, mapped, *arrays):
        pairs = zip(arrays, mapped, strict=True)
        arrays = [x if has_axis else jnp.broadcast_to(x[None], (size, *x.shape)) for x, has_axis in pairs]
        kept = keep(*(x.reshape(-1, *x.shape[2:]) for x in arrays))
        return kept.reshape(size, -1, kept.shape[1]), True

    return keep


def _better(scores):
    """Whether the second box goes before the first, [... n n]; a NaN goes nowhere."""
    n = scores.shape[-1]
    first, second = scores[..., :, None], scores[..., None, :]
    position = jnp.arange(n, dtype=jnp.int32).reshape(*[1] * (scores.ndim - 1), n)
    return (second > first) | ((second == first) & (position[..., None, :] < position[..., :, None]))


def _settled(alive, overlap):
    """The boxes [b n] that no kept better one overlaps, [b n better]."""

    def again(carry):
        before, kept = carry[0], carry[0]
        for _ in range(_SWEEPS):
            before, kept = kept, alive & ~(overlap & kept[:, None, :]).any(2)
        return kept, jnp.any(kept != before)

    return lax.while_loop(lambda carry: carry[1], again, again((alive, None)))[0]


def _iou_exceeds(a, b, iou_threshold):
    """Whether the IoU of boxes exceeds the threshold, in torchvision's operations and order."""
    return _iou(a, b) > iou_threshold


def _diou_exceeds(a, b, iou_threshold):
    """The same of the IoU less the squared distance of the centres over that of the hull's corners."""
    x, y = (a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2
    width = _larger(a[2], b[2]) - _smaller(a[0], b[0])
    height = _larger(a[3], b[3]) - _smaller(a[1], b[1])
    return _iou(a, b) - (x * x + y * y) / (width * width + height * height) > iou_threshold


def _iou(a, b):
    width = _larger(_smaller(a[2], b[2]) - _larger(a[0], b[0]), 0.0)
    height = _larger(_smaller(a[3], b[3]) - _larger(a[1], b[1]), 0.0)
    intersection = width * height
    # No guard: 0 / 0 is NaN, and NaN exceeds nothing.
    return intersection / (a[4] + b[4] - intersection)


# One instruction each, where jnp.minimum and maximum take three to pass on NaN; the area does that already.
def _smaller(a, b):
    return jnp.where(a < b, a, b)


def _larger(a, b):
    return jnp.where(a > b, a, b)


_suppress = on_cpu("suppression", _in_sweeps)
