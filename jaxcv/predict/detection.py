"""Predictions of detectors: a fixed number of boxes per image."""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxcv.ops import (
    AnchorBoxes,
    YoloOutputs,
    batched_nms,
    clip_boxes_to_image,
    decode_yolo,
    decode_yolo_v1,
    matrix_nms,
    nms,
    soft_nms,
)
from jaxcv.ops.grids import grids
from jaxcv.types import Detections, Scalar

Suppression = Literal["greedy", "diou", "soft", "matrix"]
"""`nms`; the same by distance IoU; `soft_nms` and `matrix_nms`, both `gaussian`."""

_STATIC = ("class_scores", "class_agnostic", "confidence", "image_size", "max_candidates", "max_outputs", "suppression")


@functools.partial(jax.jit, static_argnames=_STATIC)
def yolo(
    outputs: YoloOutputs,
    *,
    anchor_boxes: AnchorBoxes,
    image_size: tuple[int, int],
    confidence: Literal["objectness", "class"] = "objectness",
    class_scores: Literal["softmax", "sigmoid"] = "softmax",
    score_threshold: Scalar = 0.6,
    iou_threshold: Scalar = 0.5,
    suppression: Suppression = "greedy",
    class_agnostic: bool = False,
    max_outputs: int = 100,
    max_candidates: int = 400,
) -> Detections:
    """Decode YOLO's outputs and keep the best boxes of each class.

    By default a slot predicts its most probable class with the score p_c, its objectness; boxes of p_c <= 0.6 are
    discarded; then, per class, the box of the largest p_c is kept and those with an IoU above 0.5 with it are dropped,
    while any remain. Average precision needs low scores too: for COCO's evaluation use
    `confidence="class", score_threshold=0.01`.

    Boxes are clipped to the image before they are compared.

    Args:
        outputs: `[b, gh, gw, a, 5 + k]`: t_x, t_y, t_w, t_h, objectness logit, class logits; or a tuple of such grids,
            finest first.
        anchor_boxes: `[a, 2]` of (width, height) in pixels; of several grids one after the other.
        image_size: (height, width) of the network's input in pixels.
        confidence: The score: p_c alone, or p_c x class probability (v1's equation 1), where every (slot, class) pair
            is a candidate, so that one slot may predict several classes.
        class_scores: Class probabilities by softmax (v2) or by a logistic function of each logit (v3).
        score_threshold: Scores up to this are discarded.
        iou_threshold: Among boxes of a class, those with a higher IoU than this with a better one are dropped. Not
            used by `soft` and `matrix`, which lower scores instead.
        suppression: The algorithm; see `nms`, `soft_nms` and `matrix_nms`.
        class_agnostic: Suppress across classes.
        max_outputs: Boxes per image.
        max_candidates: Candidates of the highest scores that are given to the suppression.

    Returns:
        Detections of `max_outputs` rows per image, best first.

    References:
        Redmon, Farhadi, YOLO9000, https://arxiv.org/abs/1612.08242, section 2; YOLOv3,
        https://arxiv.org/abs/1804.02767, section 2.
    """
    boxes, objectness, classes = [], [], []
    for grid, anchors in grids(outputs, anchor_boxes):
        grid = grid.astype(jnp.float32)
        decoded = decode_yolo(grid, anchors, image_size=image_size)
        boxes.append(decoded.reshape(grid.shape[0], -1, 4))
        logits = grid[..., 5:]
        probabilities = jax.nn.softmax(logits) if class_scores == "softmax" else jax.nn.sigmoid(logits)
        objectness.append(jax.nn.sigmoid(grid[..., 4]).reshape(grid.shape[0], -1))
        classes.append(probabilities.reshape(grid.shape[0], -1, logits.shape[-1]))
    limits = (score_threshold, iou_threshold, suppression, class_agnostic, max_outputs, max_candidates)
    every = [jnp.concatenate(parts, axis=1) for parts in (boxes, objectness, classes)]
    return _best(every[0], every[1], every[2], _Rule(confidence, image_size, *limits))


@functools.partial(jax.jit, static_argnames=("num_boxes", *(name for name in _STATIC if name != "class_scores")))
def yolo_v1(
    outputs: Float[Array, "b gh gw d"],
    *,
    num_boxes: int,
    image_size: tuple[int, int],
    confidence: Literal["objectness", "class"] = "objectness",
    score_threshold: Scalar = 0.6,
    iou_threshold: Scalar = 0.5,
    suppression: Suppression = "greedy",
    class_agnostic: bool = False,
    max_outputs: int = 100,
    max_candidates: int = 400,
) -> Detections:
    """Decode the outputs of YOLO v1, `num_boxes` boxes and one class in each cell, and keep the best boxes.

    Args:
        outputs: `[b, gh, gw, 5 * num_boxes + k]`; see `decode_yolo_v1`. Confidences and class scores are clipped
            to [0, 1].
        num_boxes: Boxes in a cell.
        image_size: (height, width) of the network's input in pixels.
        confidence: The score: the box's confidence, or that times the class score (equation 1).
        score_threshold: Scores up to this are discarded.
        iou_threshold: As in `yolo`.
        suppression: As in `yolo`.
        class_agnostic: As in `yolo`.
        max_outputs: Boxes per image.
        max_candidates: Candidates of the highest scores that are given to the suppression.

    Returns:
        Detections of `max_outputs` rows per image, best first.

    References:
        Redmon et al., You Only Look Once, https://arxiv.org/abs/1506.02640, sections 2 and 2.3.
    """
    outputs = outputs.astype(jnp.float32)
    b = outputs.shape[0]
    boxes = decode_yolo_v1(outputs, num_boxes=num_boxes, image_size=image_size)
    own = outputs[..., : 5 * num_boxes].reshape(*outputs.shape[:3], num_boxes, 5)
    classes = jnp.broadcast_to(outputs[..., None, 5 * num_boxes :], (*own.shape[:4], outputs.shape[-1] - 5 * num_boxes))
    limits = (score_threshold, iou_threshold, suppression, class_agnostic, max_outputs, max_candidates)
    objectness = jnp.clip(own[..., 4], 0.0, 1.0).reshape(b, -1)
    classes = jnp.clip(classes, 0.0, 1.0).reshape(b, -1, classes.shape[-1])
    return _best(boxes.reshape(b, -1, 4), objectness, classes, _Rule(confidence, image_size, *limits))


class _Rule(NamedTuple):
    """Options of `yolo`."""

    confidence: str
    image_size: tuple[int, int]
    score_threshold: Scalar
    iou_threshold: Scalar
    suppression: str
    class_agnostic: bool
    max_outputs: int
    max_candidates: int


def _best(boxes: Array, objectness: Array, classes: Array, rule: _Rule) -> Detections:
    """Detections from every slot's box [b n 4], objectness [b n] and class probabilities [b n k]."""
    boxes = clip_boxes_to_image(boxes, image_size=rule.image_size)
    k = classes.shape[-1]

    def one(boxes: Array, objectness: Array, classes: Array) -> Detections:
        if rule.confidence == "objectness":
            scores = jnp.where(objectness > rule.score_threshold, objectness, 0.0)
            best, slot = lax.top_k(scores, min(rule.max_candidates, scores.size))
            label = classes[slot].argmax(-1)
        else:
            scores = objectness[:, None] * classes
            scores = jnp.where(scores > rule.score_threshold, scores, 0.0)
            # The best slots hold the best candidates: not all slots times classes need sorting.
            _, slots = lax.top_k(scores.max(-1), min(rule.max_candidates, scores.shape[0]))
            best, candidate = lax.top_k(scores[slots].reshape(-1), min(rule.max_candidates, slots.size * k))
            slot, label = slots[candidate // k], candidate % k
        box, label = boxes[slot], label.astype(jnp.int32)
        by_class = None if rule.class_agnostic else label
        if rule.suppression in ("greedy", "diou"):
            limits = {"score_threshold": rule.score_threshold, "max_outputs": rule.max_outputs}
            criterion = "iou" if rule.suppression == "greedy" else "diou"
            if by_class is None:
                index, valid = nms(box, best, iou_threshold=rule.iou_threshold, criterion=criterion, **limits)
            else:
                index, valid = batched_nms(
                    box, best, by_class, iou_threshold=rule.iou_threshold, criterion=criterion, **limits
                )
            kept = best[index]
        else:
            soften = soft_nms if rule.suppression == "soft" else matrix_nms
            index, kept, valid = soften(
                box, best, classes=by_class, score_threshold=rule.score_threshold, max_outputs=rule.max_outputs
            )
        return Detections(
            boxes=jnp.where(valid[:, None], box[index], 0.0),
            scores=jnp.where(valid, kept, 0.0),
            classes=jnp.where(valid, label[index], -1),
            valid=valid,
        )

    return jax.vmap(one)(boxes, objectness, classes)
