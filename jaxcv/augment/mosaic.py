"""Four pictures in one."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxcv.augment.moving import kept_boxes
from jaxcv.augment.randomness import PRNGKey, compiled_apart, uniform_rows
from jaxcv.ops import warp
from jaxcv.types import Batch, Scalar

_SMALLEST_SCALE = 0.05


@functools.partial(jax.jit, static_argnames=("max_boxes",))
def mosaic(
    key: PRNGKey,
    batch: Batch,
    *,
    probability: Scalar = 1.0,
    spread: Scalar = 0.5,
    min_visible: Scalar = 0.3,
    max_boxes: int | None = None,
) -> Batch:
    """Show parts of four pictures round a random centre: an example and the next three of the batch, which is shuffled.

    Each part is a window at a random position of its picture, at a scale between the smallest that fills the part and
    1, evenly on a log scale, so objects keep their shape and nothing is left empty; one resampling. Boxes are cut to
    their part, and count as in `warp`.

    Args:
        key: A random key.
        batch: `image` `[b, h, w, c]` float32 in [0, 1]; `boxes` `[b, m, 4]` xyxy in pixels, `valid` `[b, m]`,
            `classes` `[b, m]`, optionally `ignored` `[b, m]`; `mask` `[b, h, w]` is put together likewise. Other fields
            pass through.
        probability: Of making a mosaic of an example, in [0, 1]; the others keep picture and boxes.
        spread: The centre lies within this fraction of the sides, about the middle; from 0 to below 1.
        min_visible: Fraction of its area in [0, 1] that a truth must keep.
        max_boxes: Boxes of the output; by default 4m, which has room for all. If there are more, small ones go.

    Returns:
        The batch; its boxes are `[b, max_boxes, ...]`, truths first, the largest of them first.

    Raises:
        ValueError: The batch has `points`: of four pictures there would be four times as many.

    References:
        Bochkovskiy et al., YOLOv4, https://arxiv.org/abs/2004.10934, section 3.3 (no scales are given there).
    """
    if "points" in batch:
        raise ValueError("a mosaic of pictures with points is not defined: how many would it have?")
    image = batch["image"]
    b, h, w, _ = image.shape
    uniform = uniform_rows(key, b, 15)
    sides = jnp.asarray([w, h], jnp.float32)
    # Whole pixels: none straddles the seam.
    centre = jnp.round(sides[None] * (0.5 + spread * (uniform[:, 0:2] - 0.5)))

    # Four parts of each example, clockwise from the upper left: corner and sides in the output, [b, 4, 2].
    right, down = jnp.asarray([0.0, 1.0, 1.0, 0.0]), jnp.asarray([0.0, 0.0, 1.0, 1.0])
    second = jnp.stack([right, down], axis=-1)[None]
    corner = second * centre[:, None]
    extent = second * sides[None, None] + (1 - 2 * second) * centre[:, None]
    smallest = jnp.clip((extent / sides[None, None]).max(-1), _SMALLEST_SCALE, 1.0)
    scale = smallest ** (1 - uniform[:, 3:7])
    window = uniform[:, 7:15].reshape(b, 4, 2) * (sides[None, None] - extent / scale[..., None])

    # Those that stay: all of the output is the first part, all of its own picture.
    chosen = (uniform[:, 2] < probability)[:, None]
    whole = jnp.asarray([1.0, 0.0, 0.0, 0.0])[None]
    scale = jnp.where(chosen, scale, 1.0)
    corner, window = (jnp.where(chosen[..., None], part, 0.0) for part in (corner, window))
    extent = jnp.where(chosen[..., None], extent, whole[..., None] * sides[None, None])

    here = jnp.stack(jnp.meshgrid(*(jnp.arange(side, dtype=jnp.float32) + 0.5 for side in (w, h))), axis=-1)
    after = (here[None] > jnp.where(chosen, centre, sides[None])[:, None, None]).astype(jnp.int32)
    part = jnp.where(after[..., 1] == 0, after[..., 0], 3 - after[..., 0])
    rows = jnp.arange(b)[:, None, None]
    pictures = {name: batch[name] for name in ("image", "mask") if name in batch}

    def put_together(pictures: Batch) -> Batch:
        places = window[rows, part] + (here[None] - corner[rows, part]) / scale[rows, part][..., None]
        sources = (rows + part) % b
        out = {"image": warp(pictures["image"], places, sources=sources)}
        if "mask" in pictures:
            out["mask"] = warp(pictures["mask"][..., None], places, sources=sources, interpolation="nearest")[..., 0]
        return out

    out = compiled_apart(uniform, put_together, pictures)
    if "boxes" in batch:
        out |= _boxes(batch, corner, extent, window, scale, min_visible, max_boxes)
    return {**batch, **out}


def _boxes(
    batch: Batch, corner: Array, extent: Array, window: Array, scale: Array, min_visible: Scalar, max_boxes: int | None
) -> Batch:
    h, w = batch["image"].shape[1:3]
    names = [name for name in ("boxes", "valid", "classes", "ignored") if name in batch]
    # [b, 4 m, ...]: the boxes of the example and of the next three.
    four = {name: jnp.concatenate([jnp.roll(batch[name], -i, axis=0) for i in range(4)], 1) for name in names}
    m = batch["boxes"].shape[1]
    corner, extent, window = (jnp.repeat(part, m, axis=1) for part in (corner, extent, window))
    scale = jnp.repeat(scale, m, axis=1)[..., None]
    moved = [(four["boxes"][..., i : i + 2] - window) * scale + corner for i in (0, 2)]
    frames = jnp.concatenate([corner, corner + extent], axis=-1)
    four |= kept_boxes(four, jnp.concatenate(moved, -1), (h, w), min_visible=min_visible, frames=frames)
    # Rows that stand for nothing go last, with class 0 like all padding.
    seen = four["valid"] | four["ignored"] if "ignored" in four else four["valid"]
    if "classes" in four:
        four["classes"] = jnp.where(seen, four["classes"], 0)
    width, height = (four["boxes"][..., i + 2] - four["boxes"][..., i] for i in range(2))
    rank = jnp.where(four["valid"], 2.0 * w * h, 0.0) + width * height
    order = jnp.argsort(-rank, axis=1)[:, : 4 * m if max_boxes is None else max_boxes]
    return {
        name: jnp.take_along_axis(x, order.reshape(*order.shape, *(1,) * (x.ndim - 2)), 1) for name, x in four.items()
    }
