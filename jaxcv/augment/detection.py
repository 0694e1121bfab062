"""Augmentation of pictures with boxes."""

import jax
import jax.numpy as jnp

from jaxcv.augment.randomness import PRNGKey, around_one, uniform_rows
from jaxcv.ops import adjust_colors, box_area, boxes_in_window, clip_boxes_to_image, resized_crop
from jaxcv.types import Batch, Scalar


@jax.jit
def detection(
    key: PRNGKey,
    batch: Batch,
    *,
    flip: Scalar = 0.0,
    crop: Scalar = 0.0,
    color: Scalar = 0.0,
    min_visible: Scalar = 0.3,
) -> Batch:
    """Mirror, crop, zoom and recolour pictures; boxes move with the pixels.

    A window whose four sides lie up to `crop` / 2 of the picture's side inside or outside the picture's is stretched to
    the picture's size, by one bilinear resampling: random scale, place and aspect ratio at once, as darknet does it.
    What lies outside the picture is grey, 0.5.

    Boxes are clipped to the picture. One that keeps less than `min_visible` of its area in it is no truth any more
    (`valid` False); if the batch has `ignored` and some of it can still be seen, it is ignored instead.

    Args:
        key: A random key.
        batch: `image` `[b, h, w, c]` float32 in [0, 1]; `boxes` `[b, m, 4]` xyxy in pixels, `valid` `[b, m]`,
            optionally `ignored` `[b, m]`. Other fields pass through.
        flip: Probability of mirroring left and right, in [0, 1].
        crop: The picture is shown at between 1 / (1 + crop) and 1 / (1 - crop) of its size, moved by up to crop / 2 of
            it; from 0 to below 1 (counts as 0.9 above that).
        color: Brightness, contrast and saturation are scaled by factors in [1 - color, 1 + color); at least 0.
        min_visible: Share of its area in [0, 1] that a truth must keep.

    Returns:
        The batch with the same shapes. At strength 0 the same pixels and boxes; rows that are neither truth nor
        ignored hold zeros.

    References:
        Redmon, Farhadi, YOLO9000, https://arxiv.org/abs/1612.08242, section 2 ("Training for detection").
    """
    images = batch["image"]
    b, height, width, _ = images.shape
    uniform = uniform_rows(key, b, 8)

    sides = jnp.asarray([width, height, width, height], jnp.float32)
    moved = jnp.minimum(crop, 0.9) / 2 * (2 * uniform[:, 0:4] - 1)
    windows = (jnp.asarray([0.0, 0.0, 1.0, 1.0])[None] + moved) * sides[None]
    mirrored = windows[:, jnp.asarray([2, 1, 0, 3])]
    windows = jnp.where(uniform[:, 4:5] < flip, mirrored, windows)

    images = adjust_colors(images, *(around_one(uniform[:, i], color) for i in (5, 6, 7)))
    whole = boxes_in_window(batch["boxes"], windows, size=(height, width))
    boxes = clip_boxes_to_image(whole, image_size=(height, width))
    area, visible = box_area(whole), box_area(boxes)
    shown = (visible > 0) & (visible >= min_visible * area)
    valid = batch["valid"] & shown
    seen = valid
    out = {}
    if "ignored" in batch:
        out["ignored"] = (batch["ignored"] | batch["valid"]) & (visible > 0) & ~valid
        seen = valid | out["ignored"]
    boxes = jnp.where(seen[..., None], boxes, 0.0)
    return {**batch, **out, "image": resized_crop(images, windows, fill=0.5), "boxes": boxes, "valid": valid}
