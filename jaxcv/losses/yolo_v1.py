"""The loss of the first YOLO: `(outputs, batch) -> {term: [b]}`, float32, unreduced."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxcv.losses.assignment import first_claims, truths_of
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
    """Squared errors over the cells of a grid, each term summed over the image's truths (`no_object`: over boxes).

    Every truth claims the cell of its centre; of several in a cell the first gets it, for a cell has one answer for
    the class. Of the cell's boxes the one that overlaps the truth most is responsible (where none does, the nearest in
    centre and size):

    - `xy`: its centre's distance squared, in cells;
    - `wh`: the squared differences of the roots of width and height, as shares of the image's;
    - `objectness`: (confidence - IoU with the truth)²;
    - `class`: squared differences of the cell's class scores from 1 and 0;
    - `no_object`: confidence² of all boxes that are responsible for nothing.

    Args:
        outputs: `[b, gh, gw, 5 * num_boxes + k]`; see `ops.decode_yolo_v1`.
        batch: `image` `[b, h, w, c]`, read for its size only; `boxes` `[b, m, 4]` xyxy in pixels; `classes` `[b, m]`;
            `valid` `[b, m]`; optionally `ignored` `[b, m]`, which this loss takes for background, as the paper does.
        num_boxes: Boxes in a cell.
        coordinate_weight: Factor of `xy` and `wh`.
        objectness_weight: Factor of `objectness`.
        no_object_weight: Factor of `no_object`.
        class_weight: Factor of `class`.
        objectness_iou: How far the target of `objectness` goes from 1 (at 0) to the IoU (at 1, the paper).

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

    x, y = ((boxes[..., i] + boxes[..., i + 2]) / 2 * side for i, side in ((0, columns / width), (1, rows / height)))
    column, row = jnp.clip(jnp.floor(x), 0, columns - 1), jnp.clip(jnp.floor(y), 0, rows - 1)
    offset = jnp.clip(jnp.stack([x - column, y - row], -1), 0.0, 1.0)
    sides = [jnp.maximum(boxes[..., i + 2] - boxes[..., i], _SMALLEST_SIDE) for i in (0, 1)]
    root = jnp.sqrt(jnp.stack([sides[0] / width, sides[1] / height], -1))
    cell = row.astype(jnp.int32) * columns + column.astype(jnp.int32)
    claims = first_claims(cell, truths.truth)

    cells = outputs.reshape(b, rows * columns, d)
    own = jnp.take_along_axis(cells, cell[..., None], axis=1)
    said = own[..., : 5 * num_boxes].reshape(*own.shape[:2], num_boxes, 5)
    places = lax.stop_gradient(decode_yolo_v1(outputs, num_boxes=num_boxes, image_size=(height, width)))
    places = places.reshape(b, rows * columns, num_boxes * 4)
    places = jnp.take_along_axis(places, cell[..., None], axis=1).reshape(*own.shape[:2], num_boxes, 4)

    iou = paired_box_iou(places, jnp.broadcast_to(boxes[:, :, None], places.shape))
    apart = jnp.square(lax.stop_gradient(said[..., :4]) - jnp.concatenate([offset, root], -1)[:, :, None]).sum(-1)
    responsible = jnp.where((iou > 0).any(-1), iou.argmax(-1), apart.argmin(-1))
    chosen = jax.nn.one_hot(responsible, num_boxes, dtype=said.dtype)
    mine = (said * chosen[..., None]).sum(2)
    goal = 1 - objectness_iou * (1 - (iou * chosen).sum(-1))
    sure = jax.nn.one_hot(jnp.where(truths.truth, batch["classes"], 0), d - 5 * num_boxes, dtype=said.dtype)

    busy = ((cell * num_boxes + responsible)[..., None] == jnp.arange(rows * columns * num_boxes)[None, None]) & claims[
        ..., None
    ]
    confidence = cells[..., : 5 * num_boxes].reshape(b, -1, 5)[..., 4]

    def over_truths(values: Array) -> Array:
        return jnp.where(claims, values, 0.0).sum(-1)

    return {
        "xy": coordinate_weight * over_truths(jnp.square(mine[..., :2] - offset).sum(-1)),
        "wh": coordinate_weight * over_truths(jnp.square(mine[..., 2:4] - root).sum(-1)),
        "objectness": objectness_weight * over_truths(jnp.square(mine[..., 4] - goal)),
        "no_object": no_object_weight * jnp.where(busy.any(1), 0.0, jnp.square(confidence)).sum(-1),
        "class": class_weight * over_truths(jnp.square(own[..., 5 * num_boxes :] - sure).sum(-1)),
    }
