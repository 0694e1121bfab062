"""Losses of detectors with anchor boxes: `(outputs, batch) -> {term: [b]}`, float32, unreduced.

A box is ground truth where the batch's `valid` is set, unless it has no area or a coordinate that is not finite: then
it counts as padding. An image may have no ground truth.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float

from jaxcv.losses.assignment import assign, assigned_slots, truths_of
from jaxcv.ops import (
    AnchorBoxes,
    YoloOutputs,
    box_iou,
    decode_yolo,
    paired_box_iou,
    paired_complete_box_iou,
    paired_distance_box_iou,
    paired_generalized_box_iou,
)
from jaxcv.ops.grids import grids
from jaxcv.types import Batch, Scalar

_OVERLAPS = {
    "iou": paired_box_iou,
    "giou": paired_generalized_box_iou,
    "diou": paired_distance_box_iou,
    "ciou": paired_complete_box_iou,
}


def yolo(
    outputs: YoloOutputs,
    batch: Batch,
    *,
    anchor_boxes: AnchorBoxes,
    box_loss: Literal["squared", "iou", "giou", "diou", "ciou"] = "squared",
    class_loss: Literal["softmax", "sigmoid"] = "softmax",
    xy_weight: Scalar = 5.0,
    wh_weight: Scalar = 5.0,
    box_weight: Scalar = 5.0,
    objectness_weight: Scalar = 1.0,
    no_object_weight: Scalar = 0.5,
    class_weight: Scalar = 1.0,
    ignore_threshold: Scalar = 0.6,
    small_box_weight: Scalar = 1.0,
    objectness_iou: Scalar = 0.0,
    focal_gamma: Scalar | None = None,
    focal_alpha: Scalar | None = None,
    label_smoothing: Scalar = 0.0,
) -> dict[str, Float[Array, " b"]]:
    """The loss of YOLO with anchor boxes, each term summed over the image's ground truth (`no_object`: over slots).

    Every ground-truth box is assigned one slot: the cell of its centre, and there the anchor box of the most similar
    shape; with several grids, in that anchor box's grid. Of two boxes with the same slot the first in the list has it;
    the second adds no term, but slots that overlap it are still excluded from `no_object`. With sigma the logistic
    function, per ground-truth box in its slot:

    - `xy`: (sigma(t_xy) - offset in the cell)², summed over x and y, in cells;
    - `wh`: (t_wh - log(target / anchor box))², summed over width and height;
    - or, in place of these two, `box`: 1 - the (generalized, distance, complete) IoU of prediction and target;
    - `objectness`: binary cross-entropy of sigma(t_o) with 1, the IoU, or between them (`objectness_iou`);
    - `class`: cross-entropy;
    - `no_object`: binary cross-entropy of sigma(t_o) with 0, over all unassigned slots whose box has an IoU of at
      most `ignore_threshold` with all ground-truth and `ignored` boxes.

    `xy` and `wh` follow the squared errors of YOLO v1 (equation 3) and v2; binary and softmax cross-entropy for
    objectness and classes replace their squared errors, as does v3 for objectness. The weights are v1's. YOLOv3 is
    `class_loss="sigmoid", ignore_threshold=0.5`. Left out of v2: the loss that draws all slots to their anchor boxes
    over the first 12,800 images, which is in its code, not in its paper.

    Args:
        outputs: `[b, gh, gw, a, 5 + k]`: t_x, t_y, t_w, t_h, objectness logit, class logits; or a tuple of such grids,
            finest first.
        batch: `image` `[b, h, w, c]`, read for its size only; `boxes` `[b, m, 4]` xyxy in pixels; `classes` `[b, m]`;
            `valid` `[b, m]`; optionally `ignored` `[b, m]`.
        anchor_boxes: `[a, 2]` of (width, height) in pixels; of several grids one after the other.
        box_loss: Squared errors, or an overlap: `box` then stands for `xy` and `wh`.
        class_loss: Softmax cross-entropy, or a binary cross-entropy for each class, summed (v3).
        xy_weight: Factor of `xy`.
        wh_weight: Factor of `wh`.
        box_weight: Factor of `box`.
        objectness_weight: Factor of `objectness`.
        no_object_weight: Factor of `no_object`.
        class_weight: Factor of `class`.
        ignore_threshold: IoU in [0, 1] up to which an unassigned slot counts as background.
        small_box_weight: `xy`, `wh` and `box` are weighted by 1 + small_box_weight * (1 - fraction of the image that
            the target covers). 1 is darknet's 2 - w * h; 0 weighs all boxes alike, as in the papers.
        objectness_iou: The target of `objectness` is interpolated from 1 (at 0) to the IoU of prediction and target (at
            1, as in v1 and v2).
        focal_gamma: `objectness` and `no_object` are focal: times (1 - probability of the target) to this power; None:
            they are not.
        focal_alpha: With `focal_gamma`: `objectness` times this, `no_object` times 1 - this; None: neither.
        label_smoothing: Fraction in [0, 1] of the target's probability that is spread evenly over all classes (sigmoid:
            over 0 and 1).

    Returns:
        `xy`, `wh` (or `box`), `objectness`, `no_object`, `class`, each `[b]`, times its weight.

    References:
        Redmon et al., You Only Look Once, https://arxiv.org/abs/1506.02640, section 2.2;
        Redmon, Farhadi, YOLO9000, https://arxiv.org/abs/1612.08242, section 2;
        Redmon, Farhadi, YOLOv3, https://arxiv.org/abs/1804.02767, sections 2.1 (ignoring by IoU) and 2.2;
        Lin et al., Focal Loss, https://arxiv.org/abs/1708.02002, equation 5; for the IoUs see the ops.
    """
    image_size = batch["image"].shape[1:3]
    pairs = [(grid.astype(jnp.float32), anchors) for grid, anchors in grids(outputs, anchor_boxes)]
    truths = truths_of(batch)
    target = assign(truths, pairs, image_size)
    slots = _joined([grid for grid, _ in pairs])
    boxes = _joined([decode_yolo(grid, anchors, image_size=image_size) for grid, anchors in pairs])
    own = jnp.take_along_axis(slots, target.slot[..., None], axis=1)
    box = jnp.take_along_axis(boxes, target.slot[..., None], axis=1)
    boxes = lax.stop_gradient(boxes)

    def binary(logits: Array, goal: Array) -> Array:
        if focal_gamma is None:
            return optax.sigmoid_binary_cross_entropy(logits, goal)
        return optax.sigmoid_focal_loss(logits, goal, alpha=focal_alpha, gamma=focal_gamma)

    goal = 1 - objectness_iou * (1 - paired_box_iou(lax.stop_gradient(box), truths.boxes))
    overlaps = ((box_iou(truths.boxes, boxes) > ignore_threshold) & truths.shield[..., None]).any(1)
    excluded = assigned_slots(target, slots.shape[1]) | overlaps
    background = jnp.where(excluded, 0.0, binary(slots[..., 4], jnp.zeros_like(slots[..., 4])))
    classes = _class_errors(own[..., 5:], jnp.where(truths.valid, batch["classes"], 0), class_loss, label_smoothing)

    def over_truths(values: Array) -> Array:
        return jnp.where(target.assigned, values, 0.0).sum(-1)

    fraction = jnp.minimum(truths.area / (image_size[0] * image_size[1]), 1.0)
    weight = 1 + small_box_weight * (1 - fraction)
    if box_loss == "squared":
        xy = jnp.square(jax.nn.sigmoid(own[..., 0:2]) - target.offset).sum(-1)
        wh = jnp.square(own[..., 2:4] - target.log_scale).sum(-1)
        terms = {"xy": xy_weight * over_truths(weight * xy), "wh": wh_weight * over_truths(weight * wh)}
    else:
        terms = {"box": box_weight * over_truths(weight * (1 - _OVERLAPS[box_loss](box, truths.boxes)))}
    return terms | {
        "objectness": objectness_weight * over_truths(binary(own[..., 4], goal)),
        "no_object": no_object_weight * background.sum(-1),
        "class": class_weight * over_truths(classes),
    }


def _joined(arrays: list[Array]) -> Array:
    """The slots of all grids concatenated: `[b, slots, ...]`."""
    flat = [x.reshape(x.shape[0], -1, x.shape[-1]) for x in arrays]
    return flat[0] if len(flat) == 1 else jnp.concatenate(flat, axis=1)


def _class_errors(logits: Array, classes: Array, loss: str, smoothing: Scalar) -> Array:
    k = logits.shape[-1]
    one_hot = jax.nn.one_hot(classes, k, dtype=logits.dtype)
    if loss == "sigmoid":
        return optax.sigmoid_binary_cross_entropy(logits, one_hot + smoothing * (0.5 - one_hot)).sum(-1)
    return optax.softmax_cross_entropy(logits, one_hot + smoothing * (1 / k - one_hot))
