"""Predictions of a classifier of windows: those in which it sees something."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxcv.ops import batched_nms, box_iou
from jaxcv.types import Detections, Scalar


@functools.partial(jax.jit, static_argnames=("background", "max_outputs", "max_candidates"))
def sliding_windows(
    outputs: tuple[Float[Array, "b n k"], Float[Array, "n 4"]],
    *,
    background: int = 0,
    score_threshold: Scalar = 0.5,
    iou_threshold: Scalar = 0.3,
    min_neighbors: Scalar = 0,
    neighbor_iou: Scalar = 0.5,
    max_outputs: int = 100,
    max_candidates: int = 1_000,
) -> Detections:
    """The windows in which a classifier sees something, the best one of those that overlap.

    The score of a window is the softmax probability of its class.

    Args:
        outputs: Logits `[b, n, k]` of every window, and the windows `[n, 4]` xyxy in pixels of the picture: what
            `models.WindowScanner` gives, or a classifier's answers to the crops of `ops.sliding_windows` with their
            boxes.
        background: The class that stands for nothing; never found.
        score_threshold: Probabilities up to this are dropped.
        iou_threshold: Among windows of a class, one that overlaps a better one by more is dropped.
        min_neighbors: A window is dropped before that unless so many others, of its class and above the threshold,
            overlap it by `neighbor_iou` or more: around an object neighbouring windows agree, false alarms are alone.
        neighbor_iou: IoU in (0, 1].
        max_outputs: Boxes per image.
        max_candidates: Only so many of the best windows are looked at.

    Returns:
        Detections of `max_outputs` rows per image, best first.

    References:
        Sermanet et al., OverFeat, https://arxiv.org/abs/1312.6229 (which merges boxes where this suppresses them).
        Dalal, Triggs, Histograms of oriented gradients for human detection, CVPR 2005.
        Rowley, Baluja, Kanade, Neural network-based face detection, 1998 (counting neighbours).
    """
    logits, boxes = outputs
    scores = jax.nn.softmax(logits.astype(jnp.float32)).at[..., background].set(0.0)
    kept = functools.partial(
        _best,
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
        max_outputs=max_outputs,
        max_candidates=max_candidates,
        min_neighbors=min_neighbors,
        neighbor_iou=neighbor_iou,
    )
    boxes = boxes.astype(jnp.float32)
    return jax.vmap(lambda scores: kept(boxes, scores))(jnp.where(scores > score_threshold, scores, 0.0))


def _agreed(boxes: Array, scores: Array, classes: Array, *, min_neighbors: Scalar, neighbor_iou: Scalar) -> Array:
    """The scores [n], 0 of those that too few others agree with."""
    found = scores > 0
    alike = (box_iou(boxes, boxes) >= neighbor_iou) & (classes[:, None] == classes[None]) & found[None]
    others = alike.sum(axis=1) - 1  # but itself
    return jnp.where(others.astype(jnp.float32) >= min_neighbors, scores, 0.0)


def _best(
    boxes: Array,
    scores: Array,
    *,
    iou_threshold: Scalar,
    score_threshold: Scalar,
    max_outputs: int,
    max_candidates: int,
    min_neighbors: Scalar,
    neighbor_iou: Scalar,
) -> Detections:
    """Of boxes [n 4] with a score for each class [n k], the best of each class that others agree with."""
    k = scores.shape[-1]
    best, candidate = lax.top_k(scores.reshape(-1), min(max_candidates, scores.size))
    box, label = boxes[candidate // k], candidate % k
    best = _agreed(box, best, label, min_neighbors=min_neighbors, neighbor_iou=neighbor_iou)
    index, valid = batched_nms(
        box, best, label, iou_threshold=iou_threshold, score_threshold=score_threshold, max_outputs=max_outputs
    )
    if best.size == 0:
        index = jnp.zeros_like(index)
        box, best, label = jnp.zeros((1, 4)), jnp.zeros(1), jnp.zeros(1, label.dtype)
    return Detections(
        boxes=jnp.where(valid[:, None], box[index], 0.0),
        scores=jnp.where(valid, best[index], 0.0),
        classes=jnp.where(valid, label[index], -1),
        valid=valid,
    )
