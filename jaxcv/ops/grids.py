"""The grids of YOLO: outputs decoded to boxes, and boxes encoded as targets.

A network of output `[gh, gw, a, 5 + k]` divides its input image into gh x gw cells with `a` anchor boxes each; a
(cell, anchor box) pair is a slot. A slot holds t_x, t_y, t_w, t_h, the objectness logit and `k` class logits.
Networks with several grids (YOLOv3) return a tuple of such arrays, finest first.

Boxes and targets are at least float32, whatever the network computes in: half precision cannot hold coordinates.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxcv.ops.anchors import AnchorBoxes, match_anchor_boxes
from jaxcv.ops.boxes import widened

_LARGEST_LOG_SCALE = math.log(1000 / 16)
_SMALLEST_SIDE = 1e-6


YoloOutputs = Float[Array, "b gh gw a d"] | tuple[Float[Array, "b _ _ _ d"], ...]
"""Outputs of a network with anchor boxes: one grid, or several, finest first."""


def grids(outputs: YoloOutputs, anchor_boxes: AnchorBoxes) -> list[tuple[Array, Array]]:
    """Each grid with its anchor boxes, which are listed grid by grid.

    Raises:
        ValueError: If the number of anchor boxes is not that of the grids together.
    """
    every = outputs if isinstance(outputs, tuple) else (outputs,)
    anchors, pairs, start = jnp.asarray(anchor_boxes, jnp.float32), [], 0
    for grid in every:
        pairs.append((grid, anchors[start : start + grid.shape[-2]]))
        start += grid.shape[-2]
    if start != len(anchors):
        raise ValueError(f"{len(anchors)} anchor boxes for outputs that have {start} per cell, all grids together")
    return pairs


class GridTargets(NamedTuple):
    """The slot of each box, and the targets of that slot's outputs."""

    slot: Int[Array, "*b m"]
    """Index into the gh * gw * a slots, counted row by row, anchor boxes innermost."""
    offset: Float[Array, "*b m 2"]
    """(x, y) of the centre from the upper left corner of its cell, in cells: [0, 1]. Target of sigmoid(t_x, t_y)."""
    log_scale: Float[Array, "*b m 2"]
    """log of (width, height) over the anchor box's. Target of (t_w, t_h)."""


@functools.partial(jax.jit, static_argnames=("image_size",))
def decode_yolo(
    outputs: Float[Array, "*b gh gw a d"], anchor_boxes: Float[Array, "a 2"], *, image_size: tuple[int, int]
) -> Float[Array, "*b gh gw a 4"]:
    """The box that each slot predicts.

    Centre = (sigmoid(t_x, t_y) + cell) * stride, size = anchor box * exp(t_w, t_h). t_w and t_h are clipped at
    log(1000/16) so that boxes stay finite, as torchvision does in R-CNN; the paper has no bound.

    Args:
        outputs: `[..., gh, gw, a, 5 + k]`; only t_x, t_y, t_w, t_h are read.
        anchor_boxes: `[a, 2]` of (width, height) in pixels of the network's input.
        image_size: (height, width) of the network's input in pixels.

    Returns:
        `[..., gh, gw, a, 4]` xyxy in pixels, not clipped to the image.

    References:
        Redmon, Farhadi, YOLO9000, https://arxiv.org/abs/1612.08242, section 2, "Direct location prediction".
    """
    outputs, anchor_boxes = widened(outputs), widened(anchor_boxes)
    *batch, rows, columns, _, _ = outputs.shape
    stride_y, stride_x = image_size[0] / rows, image_size[1] / columns
    lead = (1,) * len(batch)
    row = jnp.arange(rows, dtype=outputs.dtype).reshape(*lead, rows, 1, 1)
    column = jnp.arange(columns, dtype=outputs.dtype).reshape(*lead, 1, columns, 1)
    widths, heights = (anchor_boxes[:, i].astype(outputs.dtype).reshape(*lead, 1, 1, -1) for i in range(2))
    x = (jax.nn.sigmoid(outputs[..., 0]) + column) * stride_x
    y = (jax.nn.sigmoid(outputs[..., 1]) + row) * stride_y
    half_w = widths * jnp.exp(jnp.minimum(outputs[..., 2], _LARGEST_LOG_SCALE)) / 2
    half_h = heights * jnp.exp(jnp.minimum(outputs[..., 3], _LARGEST_LOG_SCALE)) / 2
    return jnp.stack([x - half_w, y - half_h, x + half_w, y + half_h], axis=-1)


@functools.partial(jax.jit, static_argnames=("grid_size", "image_size"))
def encode_yolo(
    boxes: Float[Array, "*b m 4"],
    anchor_boxes: Float[Array, "a 2"],
    *,
    grid_size: tuple[int, int],
    image_size: tuple[int, int],
) -> GridTargets:
    """Targets of each box: its slot is the cell of its centre, with the anchor box of the most similar shape.

    A centre on the right or lower edge of the image, or beyond any edge, belongs to the nearest cell, with the offset
    clipped to [0, 1].

    Args:
        boxes: `[..., m, 4]` xyxy in pixels. Widths and heights count as at least 1e-6, for finite targets.
        anchor_boxes: `[a, 2]` of (width, height) in pixels.
        grid_size: (gh, gw) cells.
        image_size: (height, width) of the network's input in pixels.

    Returns:
        Slot, offset and log scale of each box.

    References:
        Redmon, Farhadi, YOLO9000, https://arxiv.org/abs/1612.08242, section 2.
    """
    boxes, anchor_boxes = widened(boxes), widened(anchor_boxes)
    rows, columns = grid_size
    sizes = jnp.maximum(boxes[..., 2:] - boxes[..., :2], _SMALLEST_SIDE)
    x = (boxes[..., 0] + boxes[..., 2]) / 2 * (columns / image_size[1])
    y = (boxes[..., 1] + boxes[..., 3]) / 2 * (rows / image_size[0])
    column = jnp.clip(jnp.floor(x), 0, columns - 1)
    row = jnp.clip(jnp.floor(y), 0, rows - 1)
    anchor = match_anchor_boxes(sizes, anchor_boxes)
    cell = row.astype(jnp.int32) * columns + column.astype(jnp.int32)
    offset = jnp.clip(jnp.stack([x - column, y - row], axis=-1), 0.0, 1.0)
    chosen = jnp.maximum(anchor_boxes[anchor], _SMALLEST_SIDE)
    return GridTargets(cell * anchor_boxes.shape[0] + anchor, offset, jnp.log(sizes / chosen))


@functools.partial(jax.jit, static_argnames=("num_boxes", "image_size"))
def decode_yolo_v1(
    outputs: Float[Array, "*b gh gw d"], *, num_boxes: int, image_size: tuple[int, int]
) -> Float[Array, "*b gh gw num_boxes 4"]:
    """The boxes that each cell of YOLO v1 predicts.

    Centre = ((x, y) + cell) * stride; width and height are the image's times the square of the outputs, for the network
    predicts square roots.

    Args:
        outputs: `[..., gh, gw, 5 * num_boxes + k]`: for each box x, y (of the centre in the cell, in cells), the
            square roots of width and height (as fractions of the image's), its confidence; then the k class scores of
            the cell.
        num_boxes: Boxes in a cell.
        image_size: (height, width) of the network's input in pixels.

    Returns:
        `[..., gh, gw, num_boxes, 4]` xyxy in pixels, not clipped to the image.

    References:
        Redmon et al., You Only Look Once, https://arxiv.org/abs/1506.02640, sections 2 and 2.2.
    """
    outputs = widened(outputs)
    *batch, rows, columns, _ = outputs.shape
    boxes = outputs[..., : 5 * num_boxes].reshape(*batch, rows, columns, num_boxes, 5)
    lead = (1,) * len(batch)
    row = jnp.arange(rows, dtype=outputs.dtype).reshape(*lead, rows, 1, 1)
    column = jnp.arange(columns, dtype=outputs.dtype).reshape(*lead, 1, columns, 1)
    x = (boxes[..., 0] + column) * (image_size[1] / columns)
    y = (boxes[..., 1] + row) * (image_size[0] / rows)
    half_w, half_h = (jnp.square(boxes[..., 2 + i]) * image_size[1 - i] / 2 for i in range(2))
    return jnp.stack([x - half_w, y - half_h, x + half_w, y + half_h], axis=-1)
