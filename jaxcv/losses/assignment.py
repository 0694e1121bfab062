"""Which slot of YOLO's grids answers for which truth."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxcv.ops import box_area, encode_yolo, shape_iou
from jaxcv.types import Batch


class Truths(NamedTuple):
    """The boxes of a batch that count, made finite."""

    boxes: Float[Array, "b m 4"]
    """Zeros where a coordinate was not finite."""
    area: Float[Array, "b m"]
    truth: Bool[Array, "b m"]
    shield: Bool[Array, "b m"]
    """Truths, and boxes that are to be ignored."""


class Assignment(NamedTuple):
    """Where each truth belongs and what should stand there."""

    slot: Int[Array, "b m"]
    """Index into the slots of all grids, one grid after the other."""
    claims: Bool[Array, "b m"]
    """Truths that got their slot."""
    offset: Float[Array, "b m 2"]
    log_scale: Float[Array, "b m 2"]


def truths_of(batch: Batch) -> Truths:
    """What counts of a batch's boxes: valid ones that are finite and have an area."""
    finite = jnp.isfinite(batch["boxes"]).all(-1)
    boxes = jnp.where(finite[..., None], batch["boxes"], 0.0).astype(jnp.float32)
    area = box_area(boxes)
    present = finite & (area > 0)
    truth = batch["valid"] & present
    shield = (truth | (batch["ignored"] & present)) if "ignored" in batch else truth
    return Truths(boxes, area, truth, shield)


def first_claims(slot: Int[Array, "b m"], truth: Bool[Array, "b m"]) -> Bool[Array, "b m"]:
    """Truths that no earlier truth has taken the slot of."""
    same = slot[:, :, None] == slot[:, None, :]
    earlier = jnp.tri(slot.shape[1], k=-1, dtype=bool)
    return truth & ~(same & earlier[None] & truth[:, None, :]).any(-1)


def assign(truths: Truths, grids: Sequence[tuple[Array, Array]], image_size: tuple[int, int]) -> Assignment:
    """Give each truth the anchor box of the most similar shape, and of that one's grid the cell of its centre.

    Args:
        truths: Of the batch.
        grids: Outputs `[b, gh, gw, a, d]` and anchor boxes `[a, 2]` of each grid; only shapes of outputs are read.
        image_size: (height, width) of the network's input in pixels.
    """
    places, fits, start = [], [], 0
    for outputs, anchors in grids:
        rows, columns, a = outputs.shape[1:4]
        place = encode_yolo(truths.boxes, anchors, grid_size=(rows, columns), image_size=image_size)
        places.append(place._replace(slot=place.slot + start))
        fits.append(shape_iou(truths.boxes[..., 2:] - truths.boxes[..., :2], anchors).max(-1))
        start += rows * columns * a
    best, fit = places[0], fits[0]
    for place, other in zip(places[1:], fits[1:], strict=True):
        better = other > fit  # among equals the first grid
        best = type(best)(
            slot=jnp.where(better, place.slot, best.slot),
            offset=jnp.where(better[..., None], place.offset, best.offset),
            log_scale=jnp.where(better[..., None], place.log_scale, best.log_scale),
        )
        fit = jnp.where(better, other, fit)
    return Assignment(best.slot, first_claims(best.slot, truths.truth), best.offset, best.log_scale)


def claimed_slots(assignment: Assignment, count: int) -> Bool[Array, "b slots"]:
    """Which of so many slots are some truth's."""
    number = jnp.arange(count, dtype=assignment.slot.dtype)
    return ((assignment.slot[:, :, None] == number[None, None]) & assignment.claims[..., None]).any(1)
