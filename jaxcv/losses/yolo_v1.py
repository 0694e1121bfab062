"""The loss of YOLO v1: `(outputs, batch) -> {term: [b]}`, float32, unreduced."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxcv.losses.assignment import first_of_slot, truths_of
from jaxcv.ops import decode_yolo_v1, paired_box_iou
from jaxcv.types import Batch, Scalar

_SMALLEST_SIDE = 1e-6


def yolo_v1(
    outputs: Float[Array, "b gh gw d"],
    batch: Batch,
    *,
    num_boxes: int,
    coordinate_weight: Scalar = 5.0,
    objectness_weight: Scalar = 1.0,
    no_object_weight: Scalar = 0.5,
    class_weight: Scalar = 1.0,
    objectness_iou: Scalar = 1.0,
) -> dict[str, Float[Array, " b"]]:
    """Squared errors over the cells of a grid, summed over the image's ground truth (`no_object`: over all boxes).

    Every ground-truth box is assigned the cell of its centre; of several in a cell only the first, for a cell predicts
    one class. Of the cell's boxes the one with the highest IoU with the target is responsible (where none overlaps, the
    nearest in centre and size):

    - `xy`: the squared distance of the centres, in cells;
    - `wh`: the squared differences of the square roots of width and height, as fractions of the image's;
    - `objectness`: (confidence - IoU with the target)²;
    - `class`: squared differences of the cell's class scores from 1 and 0;
    - `no_object`: confidence² of all boxes that are not responsible.

    Args:
        outputs: `[b, gh, gw, 5 * num_boxes + k]`; see `ops.decode_yolo_v1`.
        batch: `image` `[b, h, w, c]`, read for its size only; `boxes` `[b, m, 4]` xyxy in pixels; `classes` `[b, m]`;
            `valid` `[b, m]`; optionally `ignored` `[b, m]`, background for this loss as in the paper.
        num_boxes: Boxes in a cell.
        coordinate_weight: Factor of `xy` and `wh`.
        objectness_weight: Factor of `objectness`.
        no_object_weight: Factor of `no_object`.
        class_weight: Factor of `class`.
        objectness_iou: The target of `objectness` is interpolated from 1 (at 0) to the IoU (at 1, as in the paper).

    Returns:
        `xy`, `wh`, `objectness`, `no_object`, `class`, each `[b]`, times its weight.

    References:
        Redmon et al., You Only Look Once, https://arxiv.org/abs/1506.02640, equation 3.
    """
    outputs = outputs.astype(jnp.float32)
    b, rows, columns, d = outputs.shape
    height, width = batch["image"].shape[1:3]
    truths = truths_of(batch)
    boxes = truths.boxes

    x, y = ((boxes[..., i] + boxes[..., i + 2]) / 2 * scale for i, scale in ((0, columns / width), (1, rows / height)))
    column, row = jnp.clip(jnp.floor(x), 0, columns - 1), jnp.clip(jnp.floor(y), 0, rows - 1)
    offset = jnp.clip(jnp.stack([x - column, y - row], -1), 0.0, 1.0)
    sizes = [jnp.maximum(boxes[..., i + 2] - boxes[..., i], _SMALLEST_SIDE) for i in (0, 1)]
    root = jnp.sqrt(jnp.stack([sizes[0] / width, sizes[1] / height], -1))
    cell = row.astype(jnp.int32) * columns + column.astype(jnp.int32)
    assigned = first_of_slot(cell, truths.valid)

    cells = outputs.reshape(b, rows * columns, d)
    own = jnp.take_along_axis(cells, cell[..., None], axis=1)
    own_boxes = own[..., : 5 * num_boxes].reshape(*own.shape[:2], num_boxes, 5)
    decoded = lax.stop_gradient(decode_yolo_v1(outputs, num_boxes=num_boxes, image_size=(height, width)))
    decoded = decoded.reshape(b, rows * columns, num_boxes * 4)
    decoded = jnp.take_along_axis(decoded, cell[..., None], axis=1).reshape(*own.shape[:2], num_boxes, 4)

    iou = paired_box_iou(decoded, jnp.broadcast_to(boxes[:, :, None], decoded.shape))
    apart = jnp.square(lax.stop_gradient(own_boxes[..., :4]) - jnp.concatenate([offset, root], -1)[:, :, None]).sum(-1)
    responsible = jnp.where((iou > 0).any(-1), iou.argmax(-1), apart.argmin(-1))
    chosen = jax.nn.one_hot(responsible, num_boxes, dtype=own_boxes.dtype)
    mine = (own_boxes * chosen[..., None]).sum(2)
    goal = 1 - objectness_iou * (1 - (iou * chosen).sum(-1))
    one_hot = jax.nn.one_hot(jnp.where(truths.valid, batch["classes"], 0), d - 5 * num_boxes, dtype=own_boxes.dtype)

    box = cell * num_boxes + responsible
    has_object = (box[..., None] == jnp.arange(rows * columns * num_boxes)[None, None]) & assigned[..., None]
    confidence = cells[..., : 5 * num_boxes].reshape(b, -1, 5)[..., 4]

    def over_truths(values: Array) -> Array:
        return jnp.where(assigned, values, 0.0).sum(-1)

    return {
        "xy": coordinate_weight * over_truths(jnp.square(mine[..., :2] - offset).sum(-1)),
        "wh": coordinate_weight * over_truths(jnp.square(mine[..., 2:4] - root).sum(-1)),
        "objectness": objectness_weight * over_truths(jnp.square(mine[..., 4] - goal)),
        "no_object": no_object_weight * jnp.where(has_object.any(1), 0.0, jnp.square(confidence)).sum(-1),
        "class": class_weight * over_truths(jnp.square(own[..., 5 * num_boxes :] - one_hot).sum(-1)),
    }
