"""Training targets of two-stage detectors: which candidate boxes stand for which target, and a sample of them."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from jaxcv.ops.boxes import box_iou
from jaxcv.types import Scalar


class Matches(NamedTuple):
    """What each of n candidates stands for; those neither positive nor negative take no part in training."""

    target: Int[Array, "*b n"]
    """Index of the target with the highest IoU; means nothing unless positive."""
    positive: Bool[Array, "*b n"]
    negative: Bool[Array, "*b n"]


@functools.partial(jax.jit, static_argnames=("keep_best",))
def match_boxes(
    candidates: Float[Array, "*b n 4"],
    targets: Float[Array, "*b m 4"],
    valid: Bool[Array, "*b m"],
    *,
    positive_iou: Scalar = 0.5,
    negative_iou: Scalar = 0.5,
    keep_best: bool = False,
) -> Matches:
    """Match every candidate to the target that it overlaps most.

    A candidate is positive where that IoU is at least `positive_iou`, negative where it is below `negative_iou`.
    Without any target all are negative.

    Args:
        candidates: `[..., n, 4]` xyxy, anchor boxes or proposals.
        targets: `[..., m, 4]` xyxy; rows that are not valid may hold anything finite.
        valid: `[..., m]`, which rows are targets.
        positive_iou: 0.7 for anchor boxes, 0.5 for proposals.
        negative_iou: At most as much: 0.3 for anchor boxes.
        keep_best: The candidates with the highest IoU of any with some target, all of equals, are positive in any case;
            each then stands for the target that it overlaps most itself.

    Returns:
        `Matches` of `[..., n]`.

    References:
        Ren et al., Faster R-CNN, https://arxiv.org/abs/1506.01497, section 3.1.2; torchvision's `Matcher`, where with
        `keep_best` a target that no candidate overlaps makes all of those with IoU 0 positive: here none.
    """
    if targets.shape[-2] == 0 or candidates.shape[-2] == 0:
        none = jnp.zeros(candidates.shape[:-1], bool)
        return Matches(jnp.zeros(none.shape, jnp.int32), none, ~none)
    overlaps = jnp.where(valid[..., None], box_iou(targets, candidates), -1.0)
    best, target = overlaps.max(-2), overlaps.argmax(-2).astype(jnp.int32)
    positive, negative = (best >= positive_iou) & (best >= 0), best < negative_iou
    if keep_best:
        highest = overlaps.max(-1, keepdims=True)
        positive |= ((overlaps == highest) & (highest > 0)).any(-2)
    return Matches(target, positive, negative & ~positive)


@functools.partial(jax.jit, static_argnames=("count",))
def balanced_sample(
    key: Key[Array, ""] | UInt32[Array, "2"],
    positives: Bool[Array, " n"],
    negatives: Bool[Array, " n"],
    *,
    count: int,
    positive_fraction: Scalar,
) -> tuple[Int[Array, " {count}"], Bool[Array, " {count}"]]:
    """A random sample with at most a given fraction of positives, filled up with negatives.

    Args:
        key: A random key.
        positives: `[n]`; all are chosen where they are too few.
        negatives: `[n]`.
        count: Size of the sample.
        positive_fraction: Of `count`, in [0, 1]: 0.5 for anchor boxes, 0.25 for proposals.

    Returns:
        indices: `[count]` int32 into the n, positives first, none twice; 0 where not valid.
        valid: `[count]`; False where there are not enough of both.

    References:
        Ren et al., Faster R-CNN, https://arxiv.org/abs/1506.01497, section 3.1.3; Girshick, Fast R-CNN,
        https://arxiv.org/abs/1504.08083, section 2.3; torchvision's `BalancedPositiveNegativeSampler`.
    """
    n = positives.shape[-1]
    if n == 0:
        return jnp.zeros(count, jnp.int32), jnp.zeros(count, bool)
    draws = jax.random.uniform(key, (n,))
    chosen = [lax.top_k(jnp.where(which, draws, -1.0), min(count, n)) for which in (positives, negatives)]
    limit = jnp.floor(count * jnp.asarray(positive_fraction, jnp.float32)).astype(jnp.int32)
    positive_count = jnp.minimum((chosen[0][0] >= 0).sum(dtype=jnp.int32), limit)
    negative_count = jnp.minimum((chosen[1][0] >= 0).sum(dtype=jnp.int32), count - positive_count)
    slot = jnp.arange(count, dtype=jnp.int32)
    valid = slot < positive_count + negative_count
    of_both = jnp.where(slot < positive_count, slot, min(count, n) + slot - positive_count)
    indices = jnp.concatenate([found.astype(jnp.int32) for _, found in chosen])
    return jnp.where(valid, indices[jnp.where(valid, of_both, 0)], 0), valid
