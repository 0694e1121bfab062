"""Detections of two-stage detectors: a fixed number of boxes per image."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxcv.ops import batched_nms, clip_boxes_to_image, decode_boxes
from jaxcv.types import Detections, Regions, Scalar, TwoStageOutputs


@functools.partial(jax.jit, static_argnames=("image_size", "max_candidates", "max_outputs", "proposals"))
def rcnn(
    outputs: Regions | TwoStageOutputs,
    *,
    image_size: tuple[int, int],
    score_threshold: Scalar = 0.05,
    iou_threshold: Scalar = 0.5,
    min_size: Scalar = 1e-2,
    delta_weights: tuple[Scalar, Scalar, Scalar, Scalar] = (10.0, 10.0, 5.0, 5.0),
    max_outputs: int = 100,
    max_candidates: int = 1000,
    proposals: int = 0,
) -> Detections:
    """Decode each region's box for every class, and keep the best of each class that do not overlap too much.

    Args:
        outputs: of `models.FasterRCNN`, `FastRCNN` or `RCNN`: regions `[b, n]`.
        image_size: (height, width) of the network's input in pixels, to which boxes are clipped.
        score_threshold: Probabilities of a class up to this are discarded.
        iou_threshold: Among boxes of a class, those with a higher IoU than this with a better one are dropped.
        min_size: Width and height in pixels that a box has at least.
        delta_weights: Factors that the deltas were trained with.
        max_outputs: Boxes per image.
        max_candidates: Pairs of a region and a class with the highest scores that are given to the suppression.
        proposals: So many of the regions, the first ones, which are the best in evaluation, are returned too.

    Returns:
        Detections of `max_outputs` rows per image, best first.

    References:
        Girshick, Fast R-CNN, https://arxiv.org/abs/1504.08083, section 3.1; torchvision's
        `RoIHeads.postprocess_detections`.
    """
    regions = outputs.regions if isinstance(outputs, TwoStageOutputs) else outputs
    k = regions.logits.shape[-1] - 1

    def one(boxes: Array, valid: Array, logits: Array, deltas: Array) -> Detections:
        scores = jax.nn.softmax(logits.astype(jnp.float32))[:, 1:]
        scores = jnp.where(valid[:, None] & (scores > score_threshold), scores, -jnp.inf).reshape(-1)
        best, candidate = lax.top_k(scores, min(max_candidates, scores.size))
        region, label = candidate // k, (candidate % k).astype(jnp.int32)
        moved = decode_boxes(deltas[region, label + 1], boxes[region], weights=delta_weights)
        moved = clip_boxes_to_image(moved, image_size=image_size)
        large = ((moved[:, 2:] - moved[:, :2]) >= min_size).all(-1)
        best = jnp.where(large, best, -jnp.inf)
        index, kept = batched_nms(moved, best, label, iou_threshold=iou_threshold, max_outputs=max_outputs)
        return Detections(
            boxes=jnp.where(kept[:, None], moved[index], 0.0),
            scores=jnp.where(kept, best[index], 0.0),
            classes=jnp.where(kept, label[index], -1),
            valid=kept,
        )

    found = jax.vmap(one)(*regions)
    if proposals:
        best = jnp.where(regions.valid[:, :proposals, None], regions.boxes[:, :proposals], 0.0)
        found = found._replace(proposals=best)
    return found
