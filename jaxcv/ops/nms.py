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
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Bool, Float, Int, Real

from jaxcv.ops.boxes import widened
from jaxcv.types import Scalar

_BLOCK = 128
"""How many boxes are decided upon at a time; a multiple of 32."""
_TILE = 256
"""How many of the kept boxes a block is compared with at a time."""
_FEW = 8
"""Over classes, fewer outputs than this share of the boxes are found sooner best score first than class by class."""


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
    return _nms(boxes, scores, None, iou_threshold, score_threshold, max_outputs, criterion == "diou")


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
    return _nms(boxes, scores, classes, iou_threshold, score_threshold, max_outputs, criterion == "diou")


def _nms(
    boxes: Array,
    scores: Array,
    classes: Array | None,
    iou_threshold: Scalar,
    score_threshold: Scalar,
    max_outputs: int | None,
    distance: bool,
) -> tuple[Array, Array]:
    n = boxes.shape[0]
    length = n if max_outputs is None else max_outputs
    if n == 0 or length == 0:
        return jnp.zeros(length, jnp.int32), jnp.zeros(length, bool)
    boxes, scores = lax.stop_gradient((widened(boxes), widened(scores)))
    iou_threshold = jnp.asarray(iou_threshold, boxes.dtype)
    candidates = scores > score_threshold
    count = candidates.sum(dtype=jnp.int32)
    order = jnp.argsort(jnp.where(candidates, -scores, jnp.inf), stable=True).astype(jnp.int32)
    if classes is None or _FEW * length <= n:
        classes = None if classes is None else classes[order]
        kept = _keep(min(length, n), False, distance)(boxes[order], classes, count, iou_threshold)
    else:
        # One class after the other, so that a box meets no more than its class; what is no candidate goes last.
        last = jnp.iinfo(classes.dtype).max
        sorted_classes = jnp.where(jnp.arange(n) < count, classes[order], last)
        sorted_classes, ranks = lax.sort((sorted_classes, lax.iota(jnp.int32, n)), num_keys=1, is_stable=True)
        kept = _keep(n, True, distance)(boxes[order[ranks]], sorted_classes, count, iou_threshold)
        # Back to the order of the scores.
        ranks = jnp.where(kept < n, ranks[jnp.minimum(kept, n - 1)], n)
        kept = _places(jnp.zeros(n, bool).at[ranks].set(True, mode="drop"), n)
    kept = jnp.pad(kept, (0, max(length - n, 0)), constant_values=n)[:length]
    valid = kept < n
    return jnp.where(valid, order[jnp.minimum(kept, n - 1)], 0), valid


def _keep(limit: int, by_class: bool, distance: bool):
    """The greedy selection over sorted boxes, one example at a time under vmap: a batched loop would wait for all.

    Blocks of boxes are looked at in turn: first against the boxes kept so far, then against each other.
    """

    @sequential_vmap
    def keep(boxes, classes, count, iou_threshold):
        """Places of the kept boxes among the first `count`, `[limit]`, then n's; as few as `limit` suffice."""
        n = boxes.shape[0]
        blocks = -(-n // _BLOCK)
        # What is compared, in columns: coordinates and areas [5, n], and classes [n] where they matter.
        every = _padded((_with_areas(boxes), classes), blocks * _BLOCK - n)
        earlier = _overlaps_within_blocks(every, iou_threshold, distance)
        if blocks == 1:
            alive = _settle(jnp.arange(_BLOCK, dtype=jnp.int32) < count, earlier[0])
            return jnp.minimum(_places(alive, _BLOCK), n)[:limit]

        def proceed(carry):
            block, total, *_ = carry
            return (block * _BLOCK < count) & (total < limit)

        def step(carry):
            block, total, kept, kept_ones = carry
            start = block * _BLOCK
            mine = _part(every, start, _BLOCK)
            # Where the classes follow each other, those before the block's first class are done with.
            done = (kept_ones[1] < mine[1][0]).sum(dtype=jnp.int32) // _TILE if by_class else 0

            def drop(carry):
                tile, alive = carry
                theirs = _part(kept_ones, tile * _TILE, _TILE)
                return tile + 1, alive & ~_overlap(_across(theirs), _along(mine), iou_threshold, distance).any(0)

            alive = start + jnp.arange(_BLOCK, dtype=jnp.int32) < count
            alive = lax.while_loop(lambda carry: carry[0] * _TILE < total, drop, (done, alive))[1]
            alive = _settle(alive, lax.dynamic_index_in_dim(earlier, block, keepdims=False))

            places = _places(alive, _BLOCK)
            new = places < _BLOCK
            kept = lax.dynamic_update_slice(kept, jnp.where(new, start + places, n), (total,))
            new_ones = jax.tree.map(lambda x: jnp.take(x, places, axis=-1, fill_value=_nothing(x)), mine)
            kept_ones = jax.tree.map(
                lambda ones, new: lax.dynamic_update_slice_in_dim(ones, new, total, axis=-1), kept_ones, new_ones
            )
            return block + 1, total + new.sum(dtype=jnp.int32), kept, kept_ones

        # Room for the whole block that the last step writes, and for the whole tiles that are read.
        room = blocks * _BLOCK + _TILE
        start = (0, 0, jnp.full(room, n, jnp.int32), _padded(_part(every, 0, 0), room))
        return lax.while_loop(proceed, step, start)[2][:limit]

    return keep


def _with_areas(boxes):
    """[5, n] of x1, y1, x2, y2 and the area, which may be negative as in torchvision."""
    x1, y1, x2, y2 = (boxes[:, i] for i in range(4))
    return jnp.stack([x1, y1, x2, y2, (x2 - x1) * (y2 - y1)])


def _part(ones, start, size):
    return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, size, axis=-1), ones)


def _padded(ones, count):
    """So many boxes more, which overlap nothing and come after every class."""
    return jax.tree.map(lambda x: jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, count)], constant_values=_nothing(x)), ones)


def _nothing(x):
    return jnp.iinfo(x.dtype).max if jnp.issubdtype(x.dtype, jnp.integer) else jnp.nan


def _across(ones):
    return jax.tree.map(lambda x: x[..., :, None], ones)


def _along(ones):
    return jax.tree.map(lambda x: x[..., None, :], ones)


def _overlap(a, b, iou_threshold, distance):
    """Whether boxes are of one class and their IoU exceeds the threshold, in torchvision's operations and order."""
    (a, a_classes), (b, b_classes) = a, b
    width = _larger(_smaller(a[2], b[2]) - _larger(a[0], b[0]), 0.0)
    height = _larger(_smaller(a[3], b[3]) - _larger(a[1], b[1]), 0.0)
    intersection = width * height
    # No guard: 0 / 0 is NaN, and NaN exceeds nothing.
    overlap = intersection / (a[4] + b[4] - intersection)
    if distance:
        overlap -= _distance(a, b)
    exceeds = overlap > iou_threshold
    return exceeds if a_classes is None else exceeds & (a_classes == b_classes)


def _distance(a, b):
    """The squared distance of the centres over that of the hull's corners."""
    x, y = (a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2
    width = _larger(a[2], b[2]) - _smaller(a[0], b[0])
    height = _larger(a[3], b[3]) - _smaller(a[1], b[1])
    return (x * x + y * y) / (width * width + height * height)


# One instruction each, where jnp.minimum and maximum take three to pass on NaN; the area does that already.
def _smaller(a, b):
    return jnp.where(a < b, a, b)


def _larger(a, b):
    return jnp.where(a > b, a, b)


def _overlaps_within_blocks(every, iou_threshold, distance):
    """Which earlier boxes of its block each box overlaps too much: bits, [blocks, _BLOCK / 32, _BLOCK] uint32."""
    words = _BLOCK // 32
    first = jax.tree.map(lambda x: x.reshape(*x.shape[:-1], -1, words, 32, 1), every)
    second = jax.tree.map(lambda x: x.reshape(*x.shape[:-1], -1, 1, 1, _BLOCK), every)
    place = jnp.arange(_BLOCK, dtype=jnp.int32)
    is_earlier = place.reshape(1, words, 32, 1) < place.reshape(1, 1, 1, _BLOCK)
    bits = jnp.where(is_earlier, _bits().reshape(1, 1, 32, 1), jnp.uint32(0))
    return jnp.where(_overlap(first, second, iou_threshold, distance), bits, jnp.uint32(0)).sum(2, dtype=jnp.uint32)


def _settle(alive, earlier):
    """The boxes of a block that no kept one drops, by repeating the question until the answer stays.

    Every round settles at least the first box that was not, so the answer is the greedy one; a few rounds suffice
    unless the overlaps form a long chain.
    """

    def again(carry):
        kept, _ = carry
        words = jnp.where(kept.reshape(-1, 32), _bits()[None], jnp.uint32(0)).sum(1, dtype=jnp.uint32)
        dropped = functools.reduce(jnp.bitwise_or, [earlier[i] & words[i] for i in range(_BLOCK // 32)]) != 0
        kept_now = alive & ~dropped
        return kept_now, jnp.any(kept_now != kept)

    return lax.while_loop(lambda carry: carry[1], again, (alive, jnp.array(True)))[0]


def _bits():
    return jnp.uint32(1) << jnp.arange(32, dtype=jnp.uint32)


def _places(mask, length):
    """Where a mask is set, in order, padded with its length: [length] int32."""
    n = mask.shape[0]
    target = jnp.where(mask, jnp.cumsum(mask, dtype=jnp.int32) - 1, length)
    return jnp.full(length, n, jnp.int32).at[target].set(jnp.arange(n, dtype=jnp.int32), mode="drop")
