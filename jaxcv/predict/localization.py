"""Predictions of localization: one box per image, or none."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.ops import box_convert, clip_boxes_to_image
from jaxcv.types import Localization


@functools.partial(jax.jit, static_argnames=("image_size",))
def localization(outputs: Float[Array, "*b d"], *, image_size: tuple[int, int]) -> Localization:
    """Predictions of a network trained with `losses.localization`: p_c, the box in pixels, and the classes.

    Args:
        outputs: `[..., 5 + n]`, raw: p_c, b_x, b_y, b_h, b_w, c_1 .. c_n.
        image_size: (height, width) of the network's input in pixels.

    Returns:
        `score` `[...]`, p_c in [0, 1]; `box` `[..., 4]` xyxy, clipped to the image (empty where width or height is not
        positive); `label` `[...]`, the most probable class, the lowest index among equals; `scores` `[..., n]`, the
        softmax. Box and classes are meaningful where p_c is above 0.5.
    """
    outputs = outputs.astype(jnp.float32)
    height, width = image_size
    x, y, h, w = (outputs[..., i] for i in range(1, 5))
    box = box_convert(
        jnp.stack([x * width, y * height, w * width, h * height], axis=-1), source="cxcywh", target="xyxy"
    )
    scores = jax.nn.softmax(outputs[..., 5:])
    return Localization(
        score=jax.nn.sigmoid(outputs[..., 0]),
        box=clip_boxes_to_image(box, image_size=image_size),
        label=scores.argmax(-1),
        scores=scores,
    )
