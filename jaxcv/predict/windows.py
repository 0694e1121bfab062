"""Predictions of a window classifier: windows with objects."""

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
    """Windows that a classifier takes for objects, after non-maximum suppression.

    The score of a window is the softmax probability of its class.

    Args:
        outputs: Logits `[b, n, k]` of every window, and the windows `[n, 4]` xyxy in pixels of the picture: the
            outputs of `models.WindowScanner`, or a classifier's for the crops of `ops.sliding_windows` and their boxes.
        background: Index of the background class, which is never predicted.
        score_threshold: Probabilities up to this are discarded.
        iou_threshold: Among windows of a class, those with a higher IoU than this with a better one are dropped.
        min_neighbors: Before that, a window is dropped unless at least so many others, of its class and above the
            threshold, have an IoU of `neighbor_iou` or more with it: false positives have few neighbours.
        neighbor_iou: IoU in (0, 1].
        max_outputs: Boxes per image.
        max_candidates: Windows of the highest scores that are considered.

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


def _supported(boxes: Array, scores: Array, classes: Array, *, min_neighbors: Scalar, neighbor_iou: Scalar) -> Array:
    """The scores [n], 0 for windows with too few neighbours."""
    positive = scores > 0
    alike = (box_iou(boxes, boxes) >= neighbor_iou) & (classes[:, None] == classes[None]) & positive[None]
    others = alike.sum(axis=1) - 1  # without the window itself
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
    """Detections from boxes [n 4] with a score for each class [n k]."""
    k = scores.shape[-1]
    best, candidate = lax.top_k(scores.reshape(-1), min(max_candidates, scores.size))
    box, label = boxes[candidate // k], candidate % k
    best = _supported(box, best, label, min_neighbors=min_neighbors, neighbor_iou=neighbor_iou)
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
