"""Augmentation of pictures that have one label each."""

import math

import jax
import jax.numpy as jnp

from jaxcv.augment.randomness import PRNGKey, around_one, uniform_rows
from jaxcv.ops import adjust_colors, affine
from jaxcv.types import Batch, Scalar


@jax.jit
def images(
    key: PRNGKey,
    batch: Batch,
    *,
    flip: Scalar = 0.0,
    shift: Scalar = 0.0,
    rotate: Scalar = 0.0,
    scale: Scalar = 0.0,
    color: Scalar = 0.0,
) -> Batch:
    """Mirror, shift, rotate, scale and recolour pictures, by one bilinear resampling about the centre.

    What lies outside the picture repeats its edge.

    Args:
        key: A random key.
        batch: `image` `[b, h, w, c]` float32 in [0, 1]. Other fields pass through.
        flip: Probability of mirroring left and right, in [0, 1].
        shift: Up to this share of the side, either way, along each axis.
        rotate: Up to this many degrees, either way.
        scale: The picture is shown at a factor in [1 / (1 + scale), 1 + scale] of its size, evenly on a log scale.
        color: Brightness, contrast and saturation are scaled by factors in [1 - color, 1 + color); at least 0.

    Returns:
        The batch with the same shapes. At strength 0 the same pixels.
    """
    pictures = batch["image"]
    b, height, width, _ = pictures.shape
    uniform = uniform_rows(key, b, 8)
    signed = 2 * uniform - 1

    angle = rotate * (math.pi / 180) * signed[:, 0]
    zoom = jnp.exp(-jnp.log1p(scale) * signed[:, 1])
    mirror = jnp.where(uniform[:, 2] < flip, -1.0, 1.0)
    cos, sin = jnp.cos(angle) * zoom, jnp.sin(angle) * zoom
    # Output to input: centre to the origin, mirror, rotate and scale, back to the centre, shift.
    x_axis, y_axis = jnp.stack([cos * mirror, sin * mirror], -1), jnp.stack([-sin, cos], -1)
    linear = jnp.stack([x_axis, y_axis], axis=-1)
    centre = jnp.asarray([width / 2, height / 2], jnp.float32)
    moved = shift * signed[:, 3:5] * 2 * centre[None]
    offset = centre[None] + moved - (linear * centre[None, None]).sum(-1)
    matrices = jnp.concatenate([linear, offset[..., None]], axis=-1)

    pictures = adjust_colors(pictures, *(around_one(uniform[:, i], color) for i in (5, 6, 7)))
    return {**batch, "image": affine(pictures, matrices)}
