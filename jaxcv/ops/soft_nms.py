"""Non-maximum suppression that lowers scores instead of dropping boxes.

Outputs have a fixed length, best lowered score first, with a mask; where it is False the index is 0 and the score 0.
Memory is O(n): no n x n matrix of overlaps is ever made. The lowered score is the box's own times a factor, and has
the gradient of that product in the scores; through the factor, which depends on the boxes and on the order, none flows.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Real

from jaxcv.ops.boxes import box_iou, widened
from jaxcv.types import Scalar

_BLOCK = 128
"""How many boxes are compared with all others at a time."""
_SMALLEST = 1e-6


@functools.partial(jax.jit, static_argnames=("method", "max_outputs"))
def soft_nms(
    boxes: Real[Array, "n 4"],
    scores: Float[Array, " n"],
    *,
    classes: Int[Array, " n"] | None = None,
    method: Literal["linear", "gaussian"] = "gaussian",
    sigma: Scalar = 0.5,
    iou_threshold: Scalar = 0.3,
    score_threshold: Scalar = 0.001,
    max_outputs: int | None = None,
) -> tuple[Int[Array, " kept"], Float[Array, " kept"], Bool[Array, " kept"]]:
    """Take the best box, lower the scores of those that overlap it, and so on while any remain.

    A taken box of IoU u multiplies a score by exp(-u² / sigma) (`gaussian`), or by 1 - u where u exceeds
    `iou_threshold` (`linear`).

    Args:
        boxes: `[n, 4]` xyxy, any unit; `n` may be 0.
        scores: `[n]`, at least 0. Among equals the lowest index goes first. NaN is never kept.
        classes: `[n]` integers: only boxes of a class lower each other; None: all do.
        method: Which factor.
        sigma: Of `gaussian`; above 0.
        iou_threshold: Of `linear`.
        score_threshold: Only boxes whose lowered score is above this are kept.
        max_outputs: Length of the outputs; by default `n`. Much smaller than `n` is much faster.

    Returns:
        indices: `[max_outputs]` int32 into `boxes`, best lowered score first; 0 where not valid.
        scores: `[max_outputs]` lowered, computed in float32 and returned in their own precision; 0 where not valid.
        valid: `[max_outputs]` bool.

    References:
        Bodla et al., Soft-NMS, https://arxiv.org/abs/1704.04503, equations 2 and 3.
    """
    n = boxes.shape[0]
    length = n if max_outputs is None else max_outputs
    if n == 0 or length == 0:
        return _nothing(length, scores)
    fixed = lax.stop_gradient(boxes.astype(jnp.float32))
    wide = widened(scores)
    left = lax.stop_gradient(jnp.where(wide > score_threshold, wide, 0.0).astype(jnp.float32))
    classes = jnp.zeros(n, jnp.int32) if classes is None else classes

    def proceed(carry):
        step, left, *_ = carry
        return (step < min(length, n)) & (left > score_threshold).any()

    def take(carry):
        step, left, factor, index, taken = carry
        best = left.argmax().astype(jnp.int32)
        overlap = jnp.where(classes == classes[best], box_iou(fixed[best][None], fixed)[0], 0.0)
        if method == "gaussian":
            lowered = jnp.exp(-jnp.square(overlap) / sigma)
        else:
            lowered = jnp.where(overlap > iou_threshold, 1 - overlap, 1.0)
        index, taken = index.at[step].set(best), taken.at[step].set(factor[best])
        return step + 1, (left * lowered).at[best].set(-1.0), factor * lowered, index, taken

    start = (0, left, jnp.ones(n), jnp.zeros(length, jnp.int32), jnp.zeros(length))
    count, _, _, index, factor = lax.while_loop(proceed, take, start)
    valid = jnp.arange(length) < count
    lowered = wide[index] * factor.astype(wide.dtype)
    return index, jnp.where(valid, lowered, 0.0).astype(scores.dtype), valid


@functools.partial(jax.jit, static_argnames=("method", "max_outputs"))
def matrix_nms(
    boxes: Real[Array, "n 4"],
    scores: Float[Array, " n"],
    *,
    classes: Int[Array, " n"] | None = None,
    method: Literal["linear", "gaussian"] = "gaussian",
    sigma: Scalar = 2.0,
    score_threshold: Scalar = 0.05,
    max_outputs: int | None = None,
) -> tuple[Int[Array, " kept"], Float[Array, " kept"], Bool[Array, " kept"]]:
    """Lower every score at once, by how much better boxes overlap it and how little those are overlapped themselves.

    With u_ij the IoU of the better box i with box j, and c_i the largest IoU of i with a box better than i, the score
    of j is multiplied by the smallest over i of f(u_ij) / f(c_i), where f(u) is 1 - u (`linear`) or exp(-sigma u²)
    (`gaussian`). Nothing waits for anything else: no loop over boxes taken.

    Args:
        boxes: `[n, 4]` xyxy, any unit; `n` may be 0.
        scores: `[n]`, at least 0. Among equals the lowest index counts as better. NaN is never kept.
        classes: `[n]` integers: only boxes of a class lower each other; None: all do.
        method: Which f.
        sigma: Of `gaussian`; at least 0.
        score_threshold: Only boxes whose lowered score is above this are kept.
        max_outputs: Length of the outputs; by default `n`.

    Returns:
        indices: `[max_outputs]` int32 into `boxes`, best lowered score first; 0 where not valid.
        scores: `[max_outputs]` lowered, computed in float32 and returned in their own precision; 0 where not valid.
        valid: `[max_outputs]` bool.

    References:
        Wang et al., SOLOv2, https://arxiv.org/abs/2003.10152, section 3.3 (there on masks; sigma 2 as in its code).
    """
    n = boxes.shape[0]
    length = n if max_outputs is None else max_outputs
    if n == 0 or length == 0:
        return _nothing(length, scores)
    real = ~jnp.isnan(scores)
    order = jnp.argsort(jnp.where(real, -lax.stop_gradient(scores), jnp.inf), stable=True).astype(jnp.int32)
    blocks = -(-n // _BLOCK)
    padding = (0, blocks * _BLOCK - n)
    sorted_boxes = jnp.pad(lax.stop_gradient(boxes.astype(jnp.float32))[order], (padding, (0, 0)))
    labels = jnp.zeros(n, jnp.int32) if classes is None else classes
    labels, sane = jnp.pad(labels[order], padding), jnp.pad(real[order], padding)
    place = jnp.arange(blocks * _BLOCK)

    def of_block(over_better):
        """`over_better` of each block's overlaps with all better boxes, 0 with the others: `[blocks * _BLOCK]`."""

        def one(rows):
            mine = rows * _BLOCK + jnp.arange(_BLOCK)
            counts = (place[None] < mine[:, None]) & (labels[None] == labels[mine][:, None]) & sane[None]
            return over_better(jnp.where(counts, box_iou(sorted_boxes[mine], sorted_boxes), 0.0), counts)

        return lax.map(one, jnp.arange(blocks)).reshape(-1)

    def f(overlap):
        return jnp.exp(-sigma * jnp.square(overlap)) if method == "gaussian" else 1 - overlap

    most = of_block(lambda overlap, _: overlap.max(1))
    reference = jnp.maximum(f(most), _SMALLEST)[None]
    factor = of_block(lambda overlap, counts: jnp.where(counts, f(overlap) / reference, 1.0).min(1))[:n]
    factor = jnp.zeros(n).at[order].set(jnp.minimum(factor, 1.0))
    wide = widened(scores)
    lowered = jnp.where(real, wide * factor.astype(wide.dtype), 0.0)
    above = real & (lowered > score_threshold)
    ranks = jnp.argsort(jnp.where(above, -lax.stop_gradient(lowered), jnp.inf), stable=True).astype(jnp.int32)
    ranks = jnp.pad(ranks, (0, max(length - n, 0)))[:length]
    valid = jnp.arange(length) < above.sum()
    return jnp.where(valid, ranks, 0), jnp.where(valid, lowered[ranks], 0.0).astype(scores.dtype), valid


def _nothing(length: int, scores: Array) -> tuple[Array, Array, Array]:
    return jnp.zeros(length, jnp.int32), jnp.zeros(length, scores.dtype), jnp.zeros(length, bool)
