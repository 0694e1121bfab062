"""Losses of detectors: `(outputs, batch) -> {term: [b]}`, float32, unreduced.

A box counts as a truth where the batch's `valid` is set, unless it has no area or a coordinate that is not finite:
then it is padding. An image without a truth is legal.
"""

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float

from jaxcv.ops import AnchorBoxes, box_area, box_iou, decode_yolo, encode_yolo, paired_box_iou
from jaxcv.types import Batch, Scalar


def yolo(
    outputs: Float[Array, "b gh gw a d"],
    batch: Batch,
    *,
    anchor_boxes: AnchorBoxes,
    xy_weight: Scalar = 5.0,
    wh_weight: Scalar = 5.0,
    objectness_weight: Scalar = 1.0,
    no_object_weight: Scalar = 0.5,
    class_weight: Scalar = 1.0,
    ignore_threshold: Scalar = 0.6,
    small_box_weight: Scalar = 1.0,
    objectness_iou: Scalar = 0.0,
) -> dict[str, Float[Array, " b"]]:
    """The loss of YOLO with anchor boxes, each term summed over the image's truths (`no_object`: over slots).

    Every truth claims one slot: the cell of its centre, and there the anchor box of the most similar shape. Where two
    truths claim the same slot the earlier in the list gets it; the later adds nothing, but as a truth it still shields
    what overlaps it from `no_object`. With sigma the logistic function, per truth in its slot:

    - `xy`: (sigma(t_xy) - offset in the cell)², summed over x and y, in cells;
    - `wh`: (t_wh - log(truth / anchor box))², summed over width and height;
    - `objectness`: binary cross-entropy of sigma(t_o) with 1, or on the way to the IoU (`objectness_iou`);
    - `class`: softmax cross-entropy;
    - `no_object`: binary cross-entropy of sigma(t_o) with 0, over all unclaimed slots whose box overlaps no truth and
      no `ignored` box by more than `ignore_threshold`.

    `xy` and `wh` follow the squared errors of YOLO v1 (equation 3) and v2; binary and softmax cross-entropy for
    objectness and classes replace their squared errors (the course: "in practice log-loss"), as does v3 for objectness.
    The weights are v1's.

    Args:
        outputs: `[b, gh, gw, a, 5 + k]`: t_x, t_y, t_w, t_h, objectness logit, class logits.
        batch: `image` `[b, h, w, c]`, read for its size only; `boxes` `[b, m, 4]` xyxy in pixels; `classes` `[b, m]`;
            `valid` `[b, m]`; optionally `ignored` `[b, m]`.
        anchor_boxes: `[a, 2]` of (width, height) in pixels.
        xy_weight: Factor of `xy`.
        wh_weight: Factor of `wh`.
        objectness_weight: Factor of `objectness`.
        no_object_weight: Factor of `no_object`.
        class_weight: Factor of `class`.
        ignore_threshold: IoU in [0, 1] up to which an unclaimed slot counts as a mistake.
        small_box_weight: How much more a small box's `xy` and `wh` weigh: 1 + small_box_weight * (1 - share of the
            image it covers). 1 is darknet's 2 - w * h; 0 weighs all alike, as in the papers.
        objectness_iou: How far the target of `objectness` goes from 1 (at 0) to the predicted box's IoU with its
            truth (at 1, as in v1 and v2).

    Returns:
        `xy`, `wh`, `objectness`, `no_object`, `class`, each `[b]`, times its weight.

    References:
        Redmon et al., You Only Look Once, https://arxiv.org/abs/1506.02640, section 2.2;
        Redmon, Farhadi, YOLO9000, https://arxiv.org/abs/1612.08242, section 2;
        Redmon, Farhadi, YOLOv3, https://arxiv.org/abs/1804.02767, section 2.1 (ignoring by IoU).
    """
    anchors = jnp.asarray(anchor_boxes, jnp.float32)
    outputs = outputs.astype(jnp.float32)
    _, rows, columns, a, depth = outputs.shape
    height, width = batch["image"].shape[1:3]
    slots = outputs.reshape(outputs.shape[0], rows * columns * a, depth)

    finite = jnp.isfinite(batch["boxes"]).all(-1)
    boxes = jnp.where(finite[..., None], batch["boxes"], 0.0).astype(jnp.float32)
    area = box_area(boxes)
    present = finite & (area > 0)
    truth = batch["valid"] & present
    shield = (truth | (batch["ignored"] & present)) if "ignored" in batch else truth

    target = encode_yolo(boxes, anchors, grid_size=(rows, columns), image_size=(height, width))
    same_slot = target.slot[:, :, None] == target.slot[:, None, :]
    earlier = jnp.tri(boxes.shape[1], k=-1, dtype=bool)
    claims = truth & ~(same_slot & earlier[None] & truth[:, None, :]).any(-1)

    predicted = lax.stop_gradient(decode_yolo(outputs, anchors, image_size=(height, width))).reshape(
        *slots.shape[:2], 4
    )
    said = jnp.take_along_axis(slots, target.slot[..., None], axis=1)
    where = jnp.take_along_axis(predicted, target.slot[..., None], axis=1)

    weight = 1 + small_box_weight * (1 - jnp.minimum(area / (height * width), 1.0))
    xy = jnp.square(jax.nn.sigmoid(said[..., 0:2]) - target.offset).sum(-1)
    wh = jnp.square(said[..., 2:4] - target.log_scale).sum(-1)
    goal = 1 - objectness_iou * (1 - paired_box_iou(where, boxes))
    objectness = optax.sigmoid_binary_cross_entropy(said[..., 4], goal)
    classes = optax.softmax_cross_entropy_with_integer_labels(said[..., 5:], jnp.where(truth, batch["classes"], 0))

    slot_number = jnp.arange(slots.shape[1], dtype=target.slot.dtype)
    claimed = ((target.slot[:, :, None] == slot_number[None, None]) & claims[..., None]).any(1)
    overlaps = ((box_iou(boxes, predicted) > ignore_threshold) & shield[..., None]).any(1)
    no_object = optax.sigmoid_binary_cross_entropy(slots[..., 4], jnp.zeros_like(slots[..., 4]))

    def over_truths(values: Array) -> Array:
        return jnp.where(claims, values, 0.0).sum(-1)

    return {
        "xy": xy_weight * over_truths(weight * xy),
        "wh": wh_weight * over_truths(weight * wh),
        "objectness": objectness_weight * over_truths(objectness),
        "no_object": no_object_weight * jnp.where(claimed | overlaps, 0.0, no_object).sum(-1),
        "class": class_weight * over_truths(classes),
    }
