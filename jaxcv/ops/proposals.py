"""Region proposals: the best boxes that a network makes of its anchor boxes."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxcv.ops.boxes import clip_boxes_to_image, decode_boxes
from jaxcv.ops.nms import batched_nms
from jaxcv.types import Scalar


@functools.partial(jax.jit, static_argnames=("level_sizes", "image_size", "max_candidates", "max_outputs"))
def region_proposals(
    objectness: Float[Array, " n"],
    deltas: Float[Array, "n 4"],
    anchors: Float[Array, "n 4"],
    *,
    image_size: tuple[int, int],
    level_sizes: tuple[int, ...] | None = None,
    iou_threshold: Scalar = 0.7,
    min_size: Scalar = 1e-3,
    max_candidates: int = 1000,
    max_outputs: int = 1000,
) -> tuple[Float[Array, "{max_outputs} 4"], Float[Array, " {max_outputs}"], Bool[Array, " {max_outputs}"]]:
    """Decode the anchor boxes of one image, and keep the best that do not overlap too much.

    Of each level the `max_candidates` of the highest objectness are decoded and clipped to the image; too small ones
    are dropped; then, by non-maximum suppression within each level, the best of all levels are kept. No gradient
    passes: the proposals are constants for the second stage (approximate joint training, section 3.2).

    Args:
        objectness: `[n]` logits.
        deltas: `[n, 4]`, see `decode_boxes`.
        anchors: `[n, 4]` xyxy in pixels, of all levels one after the other.
        image_size: (height, width) in pixels.
        level_sizes: How many of the n belong to each level; None: there is one level.
        iou_threshold: Above it the box of the smaller objectness is dropped.
        min_size: Width and height in pixels that a proposal has at least.
        max_candidates: Of each level.
        max_outputs: Proposals.

    Returns:
        boxes: `[max_outputs, 4]` xyxy in pixels, best first; zeros where not valid.
        scores: `[max_outputs]`, probabilities of an object; 0 where not valid.
        valid: `[max_outputs]`.

    References:
        Ren et al., Faster R-CNN, https://arxiv.org/abs/1506.01497, sections 3.2 and 3.3; torchvision's
        `RegionProposalNetwork.filter_proposals`.
    """
    objectness, deltas = lax.stop_gradient((objectness.astype(jnp.float32), deltas))
    indices, levels, start = [], [], 0
    for level, size in enumerate(level_sizes or (objectness.shape[0],)):
        _, best = lax.top_k(objectness[start : start + size], min(max_candidates, size))
        indices.append(best.astype(jnp.int32) + start)
        levels.append(jnp.full(best.shape, level, jnp.int32))
        start += size
    index, level = jnp.concatenate(indices), jnp.concatenate(levels)
    boxes = clip_boxes_to_image(decode_boxes(deltas[index], anchors[index]), image_size=image_size)
    large = ((boxes[:, 2:] - boxes[:, :2]) >= min_size).all(-1)
    # Ordered by probabilities, as in torchvision: where two logits have the same, by level and then by position.
    scores = jnp.where(large, jax.nn.sigmoid(objectness[index]), -jnp.inf)
    kept, valid = batched_nms(boxes, scores, level, iou_threshold=iou_threshold, max_outputs=max_outputs)
    return jnp.where(valid[:, None], boxes[kept], 0.0), jnp.where(valid, scores[kept], 0.0), valid
