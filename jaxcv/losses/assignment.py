"""The assignment of ground-truth boxes to the slots of YOLO's grids."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxcv.ops import box_area, encode_yolo, shape_iou
from jaxcv.types import Batch


class Truths(NamedTuple):
    """The ground-truth boxes of a batch, made finite."""

    boxes: Float[Array, "b m 4"]
    """Zeros where a coordinate was not finite."""
    area: Float[Array, "b m"]
    """Square pixels."""
    valid: Bool[Array, "b m"]
    """Which boxes are ground truth."""
    shield: Bool[Array, "b m"]
    """Ground truth and ignored boxes: slots that overlap one are not penalised for their objectness."""


class Assignment(NamedTuple):
    """The slot of each ground-truth box, and the targets of that slot."""

    slot: Int[Array, "b m"]
    """Index into the slots of all grids, one grid after the other."""
    assigned: Bool[Array, "b m"]
    """Ground-truth boxes that have their slot; of several with the same slot, the first."""
    offset: Float[Array, "b m 2"]
    """As in `ops.GridTargets`."""
    log_scale: Float[Array, "b m 2"]
    """As in `ops.GridTargets`."""


def truths_of(batch: Batch) -> Truths:
    """The ground truth among a batch's boxes: valid ones that are finite and have an area."""
    finite = jnp.isfinite(batch["boxes"]).all(-1)
    boxes = jnp.where(finite[..., None], batch["boxes"], 0.0).astype(jnp.float32)
    area = box_area(boxes)
    present = finite & (area > 0)
    valid = batch["valid"] & present
    shield = (valid | (batch["ignored"] & present)) if "ignored" in batch else valid
    return Truths(boxes, area, valid, shield)


def first_of_slot(slot: Int[Array, "b m"], valid: Bool[Array, "b m"]) -> Bool[Array, "b m"]:
    """Valid boxes whose slot is not that of an earlier valid box."""
    same = slot[:, :, None] == slot[:, None, :]
    earlier = jnp.tri(slot.shape[1], k=-1, dtype=bool)
    return valid & ~(same & earlier[None] & valid[:, None, :]).any(-1)


def assign(truths: Truths, grids: Sequence[tuple[Array, Array]], image_size: tuple[int, int]) -> Assignment:
    """Assign each ground-truth box to the anchor box of the most similar shape, in the cell of its centre.

    Args:
        truths: `[b, m]` boxes.
        grids: Outputs `[b, gh, gw, a, d]` and anchor boxes `[a, 2]` of each grid; of the outputs, only shapes are read.
        image_size: (height, width) of the network's input in pixels.
    """
    targets, fits, start = [], [], 0
    for outputs, anchors in grids:
        rows, columns, a = outputs.shape[1:4]
        target = encode_yolo(truths.boxes, anchors, grid_size=(rows, columns), image_size=image_size)
        targets.append(target._replace(slot=target.slot + start))
        fits.append(shape_iou(truths.boxes[..., 2:] - truths.boxes[..., :2], anchors).max(-1))
        start += rows * columns * a
    best, fit = targets[0], fits[0]
    for target, other in zip(targets[1:], fits[1:], strict=True):
        better = other > fit  # among equals the first grid
        best = type(best)(
            slot=jnp.where(better, target.slot, best.slot),
            offset=jnp.where(better[..., None], target.offset, best.offset),
            log_scale=jnp.where(better[..., None], target.log_scale, best.log_scale),
        )
        fit = jnp.where(better, other, fit)
    return Assignment(best.slot, first_of_slot(best.slot, truths.valid), best.offset, best.log_scale)


def assigned_slots(assignment: Assignment, count: int) -> Bool[Array, "b slots"]:
    """Which of `count` slots have a ground-truth box assigned."""
    number = jnp.arange(count, dtype=assignment.slot.dtype)
    return ((assignment.slot[:, :, None] == number[None, None]) & assignment.assigned[..., None]).any(1)
