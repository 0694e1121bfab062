"""Greedy non-maximum suppression in the order in which a CPU's cache likes it: small blocks against what was kept."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import sequential_vmap
from jaxtyping import Array

_BLOCK = 128
"""How many boxes are decided upon at a time; a multiple of 32."""
_TILE = 256
"""How many of the kept boxes a block is compared with at a time."""
_FEW = 8
"""Over classes, fewer outputs than this fraction of the boxes are found sooner best score first than class by class."""


def greedy(columns: Array, scores: Array, iou_threshold: Array, *by_class: Array, length: int, exceeds: Any) -> Any:
    """Indices of the kept boxes, best first, [length], and which are valid; memory is O(n).

    Args:
        columns: [5 n] of x1, y1, x2, y2 and area.
        scores: [n]; NaN is never kept.
        iou_threshold: [].
        by_class: the class of each box, [n]; or nothing.
        length: of the outputs.
        exceeds: whether columns [5 ...] overlap others by more than a threshold.
    """
    n, (classes,) = scores.shape[0], by_class or (None,)
    count = (~jnp.isnan(scores)).sum(dtype=jnp.int32)
    order = jnp.argsort(-scores, stable=True).astype(jnp.int32)
    if classes is None or _FEW * length <= n:
        classes = None if classes is None else classes[order]
        kept = _keep(min(length, n), False, exceeds)(columns[:, order], classes, count, iou_threshold)
    else:
        # One class after the other, so that a box meets no more than its class; what is no candidate goes last.
        last = jnp.iinfo(classes.dtype).max
        sorted_classes = jnp.where(jnp.arange(n) < count, classes[order], last)
        sorted_classes, ranks = lax.sort((sorted_classes, lax.iota(jnp.int32, n)), num_keys=1, is_stable=True)
        kept = _keep(n, True, exceeds)(columns[:, order[ranks]], sorted_classes, count, iou_threshold)
        # Back to the order of the scores.
        ranks = jnp.where(kept < n, ranks[jnp.minimum(kept, n - 1)], n)
        kept = _places(jnp.zeros(n, bool).at[ranks].set(True, mode="drop"), n)
    kept = jnp.pad(kept, (0, max(length - n, 0)), constant_values=n)[:length]
    valid = kept < n
    return jnp.where(valid, order[jnp.minimum(kept, n - 1)], 0), valid


def _keep(limit: int, by_class: bool, exceeds: Any):
    """The greedy selection over sorted boxes, one example at a time under vmap: a batched loop would wait for all.

    Blocks of boxes are looked at in turn: first against the boxes kept so far, then against each other.
    """

    @sequential_vmap
    def keep(columns, classes, count, iou_threshold):
        """Places of the kept boxes among the first `count`, `[limit]`, then n's; as few as `limit` suffice."""
        n = columns.shape[1]
        blocks = -(-n // _BLOCK)
        # What is compared, in columns: coordinates and areas [5, n], and classes [n] where they matter.
        every = _padded((columns, classes), blocks * _BLOCK - n)
        earlier = _overlaps_within_blocks(every, iou_threshold, exceeds)
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
                return tile + 1, alive & ~_overlap(_across(theirs), _along(mine), iou_threshold, exceeds).any(0)

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


def _overlap(a, b, iou_threshold, exceeds):
    """Whether boxes are of one class and overlap by more than the threshold."""
    (a, a_classes), (b, b_classes) = a, b
    answer = exceeds(a, b, iou_threshold)
    return answer if a_classes is None else answer & (a_classes == b_classes)


def _overlaps_within_blocks(every, iou_threshold, exceeds):
    """Which earlier boxes of its block each box overlaps too much: bits, [blocks, _BLOCK / 32, _BLOCK] uint32."""
    words = _BLOCK // 32
    first = jax.tree.map(lambda x: x.reshape(*x.shape[:-1], -1, words, 32, 1), every)
    second = jax.tree.map(lambda x: x.reshape(*x.shape[:-1], -1, 1, 1, _BLOCK), every)
    place = jnp.arange(_BLOCK, dtype=jnp.int32)
    is_earlier = place.reshape(1, words, 32, 1) < place.reshape(1, 1, 1, _BLOCK)
    bits = jnp.where(is_earlier, _bits().reshape(1, 1, 32, 1), jnp.uint32(0))
    return jnp.where(_overlap(first, second, iou_threshold, exceeds), bits, jnp.uint32(0)).sum(2, dtype=jnp.uint32)


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
