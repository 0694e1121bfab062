"""One map moves everything: pixels, boxes, masks and points of a batch, by one resampling."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxcv.augment.randomness import compiled_apart
from jaxcv.ops import (
    affine_points,
    affine_positions,
    box_area,
    clip_boxes_to_image,
    elastic_positions,
    invert_affine,
    invert_elastic,
    resized_crop,
    warp,
)
from jaxcv.types import Batch, Scalar

IGNORE = 255
"""What masks hold where there is no truth."""
_STEPS_ALONG_A_SIDE = 8


def move(
    uniform: Float[Array, "b k"],
    batch: Batch,
    matrices: Float[Array, "b 2 3"],
    *,
    size: tuple[int, int] | None = None,
    upright: bool = False,
    in_place: bool = False,
    control: Float[Array, "b g g 2"] | None = None,
    fill: Scalar | None = None,
    min_visible: Scalar = 0.3,
    swap: tuple[int, ...] | None = None,
) -> Batch:
    """A batch through one map: an elastic one on the output, if any, then an affine one to the input.

    Args:
        uniform: Numbers of the examples; see `compiled_apart`.
        batch: `image` and any of `boxes` with `valid` (and `ignored`), `proposals`, `mask`, `pixel_weights`,
            `points` (with `visible`).
        matrices: `[b, 2, 3]` from (x, y, 1) in the output to (x, y) in the input, in pixels.
        size: (height, width) of the output; by default that of the input.
        upright: That no matrix rotates or shears: then rows and columns are resampled one after the other, faster.
        in_place: That every matrix mirrors or does nothing: then the pixels are those of the input.
        control: `[b, g, g, 2]` of `elastic_positions`, in pixels of the output.
        fill: What lies outside the picture; None repeats its edge. In masks it is 255.
        min_visible: Fraction of its area that a truth must keep.
        swap: For each point the one that it becomes in the mirror image.

    Returns:
        The batch. Boxes are the upright ones around what became of them.
    """
    b, h, w, _ = batch["image"].shape
    size = size or (h, w)

    def places() -> Array:
        if control is None:
            return affine_positions(matrices, size=size)
        bent = elastic_positions(control, size=size)
        return affine_points(bent.reshape(b, -1, 2), matrices).reshape(bent.shape)

    def resampled(image: Array) -> Array:
        if in_place and control is None:
            return _mirrored(image, matrices)
        if upright and control is None:
            return resized_crop(image, _windows(matrices, size), size=size, fill=fill)
        return warp(image, places(), fill=fill)

    out: Batch = {"image": compiled_apart(uniform, resampled, batch["image"])}
    for name, outside in (("mask", IGNORE), ("pixel_weights", 0)):
        if name in batch and in_place and control is None:
            out[name] = _mirrored(batch[name], matrices)
        elif name in batch:
            out[name] = warp(batch[name][..., None], places(), interpolation="nearest", fill=outside)[..., 0]

    inverse = invert_affine(matrices)

    def forward(points: Array) -> Array:
        moved = affine_points(points, inverse)
        return moved if control is None else invert_elastic(moved, control, image_size=size)

    if "points" in batch:
        mirrored = matrices[:, 0, 0] * matrices[:, 1, 1] < matrices[:, 0, 1] * matrices[:, 1, 0]
        out |= _moved_points(batch, forward, mirrored, size, swap)

    def around(boxes: Array) -> Array:
        # The sides of a box stay straight under an affine map: its corners are enough.
        outline = _outline(boxes, steps=1 if control is None else _STEPS_ALONG_A_SIDE)
        moved = forward(outline.reshape(b, -1, 2)).reshape(outline.shape)
        return jnp.concatenate([moved.min(-2), moved.max(-2)], -1)

    if "boxes" in batch:
        out |= kept_boxes(batch, around(batch["boxes"]), size, min_visible=min_visible)
    if "proposals" in batch:
        out["proposals"] = clip_boxes_to_image(around(batch["proposals"]), image_size=size)
    return {**batch, **out}


def kept_boxes(
    batch: Batch,
    whole: Float[Array, "b m 4"],
    size: tuple[int, int],
    *,
    min_visible: Scalar,
    frames: Float[Array, "b m 4"] | None = None,
) -> Batch:
    """Boxes cut to the picture, and which of them still count.

    Args:
        batch: `valid` `[b, m]` and perhaps `ignored` `[b, m]`.
        whole: `[b, m, 4]` where the boxes are now.
        size: (height, width) of the picture.
        min_visible: Fraction of its area that a truth must keep to stay one; else it is ignored, if that is known.
        frames: `[b, m, 4]` the part of the picture in which each box can be seen; by default all of it.

    Returns:
        `boxes`, `valid` and, where the batch has it, `ignored`; rows that are neither hold zeros.
    """
    boxes = clip_boxes_to_image(whole, image_size=size)
    if frames is not None:
        low, high = frames[..., :2], frames[..., 2:]
        boxes = jnp.concatenate([jnp.clip(boxes[..., :2], low, high), jnp.clip(boxes[..., 2:], low, high)], -1)
    area, visible = box_area(whole), box_area(boxes)
    valid = batch["valid"] & (visible > 0) & (visible >= min_visible * area)
    out: Batch = {"valid": valid}
    seen = valid
    if "ignored" in batch:
        out["ignored"] = (batch["ignored"] | batch["valid"]) & (visible > 0) & ~valid
        seen = valid | out["ignored"]
    return {**out, "boxes": jnp.where(seen[..., None], boxes, 0.0)}


def _mirrored(image: Array, matrices: Array) -> Array:
    """Pictures or masks `[b, h, w, ...]` with the axes flipped that a matrix flips."""
    for axis, row in ((2, 0), (1, 1)):
        turned = (matrices[:, row, row] < 0).reshape(-1, *[1] * (image.ndim - 1))
        image = jnp.where(turned, jnp.flip(image, axis), image)
    return image


def _windows(matrices: Array, size: tuple[int, int]) -> Array:
    """What an upright map shows: the position in the input of the output's two corners, xyxy."""
    x1, y1 = matrices[:, 0, 2], matrices[:, 1, 2]
    return jnp.stack([x1, y1, x1 + size[1] * matrices[:, 0, 0], y1 + size[0] * matrices[:, 1, 1]], -1)


def _outline(boxes: Array, *, steps: int) -> Array:
    """`4 * steps` points round each box, its corners among them: `[b, m, 4 * steps, 2]`."""
    x1, y1, x2, y2 = (boxes[..., i, None] for i in range(4))
    fraction = (jnp.arange(steps, dtype=boxes.dtype) / steps)[None, None]
    right, down = x1 + fraction * (x2 - x1), y1 + fraction * (y2 - y1)
    left, up = x2 - fraction * (x2 - x1), y2 - fraction * (y2 - y1)
    x = jnp.concatenate([right, jnp.broadcast_to(x2, right.shape), left, jnp.broadcast_to(x1, right.shape)], -1)
    y = jnp.concatenate([jnp.broadcast_to(y1, down.shape), down, jnp.broadcast_to(y2, down.shape), up], -1)
    return jnp.stack([x, y], axis=-1)


def _moved_points(
    batch: Batch,
    forward: Callable[[Array], Array],
    mirrored: Bool[Array, " b"],
    size: tuple[int, int],
    swap: tuple[int, ...] | None,
) -> Batch:
    points, visible = forward(batch["points"]), batch.get("visible")
    if swap is not None:
        if sorted(swap) != list(range(points.shape[1])):
            raise ValueError(f"swap is no order of the {points.shape[1]} points of this batch: {swap}")
        order = jnp.asarray(swap)
        points = jnp.where(mirrored[:, None, None], points[:, order], points)
        if visible is not None:
            visible = jnp.where(mirrored[:, None], visible[:, order], visible)
    if visible is None:
        return {"points": points}
    limits = jnp.asarray([size[1], size[0]], points.dtype)[None, None]
    inside = ((points >= 0) & (points <= limits)).all(-1)
    return {"points": points, "visible": jnp.where(inside, visible, jnp.zeros_like(visible))}
