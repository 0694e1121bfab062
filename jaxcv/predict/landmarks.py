"""Predictions of landmarks: points in pixels."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.ops import soft_argmax
from jaxcv.types import Landmarks


@functools.partial(jax.jit, static_argnames=("image_size",))
def landmarks(outputs: Float[Array, "*b p 2"], *, image_size: tuple[int, int]) -> Landmarks:
    """Points by regression, in pixels.

    Args:
        outputs: `[..., p, 2]` of (x, y) as fractions of the image's width and height.
        image_size: (height, width) of the network's input in pixels.

    Returns:
        `points` `[..., p, 2]`, and `visible` `[..., p]`, all True.
    """
    size = jnp.asarray(image_size[::-1], jnp.float32).reshape((1,) * (outputs.ndim - 1) + (2,))
    return Landmarks(outputs.astype(jnp.float32) * size, jnp.ones(outputs.shape[:-1], bool))


@functools.partial(jax.jit, static_argnames=("image_size",))
def heatmaps(outputs: Float[Array, "*b h w p"], *, image_size: tuple[int, int]) -> Landmarks:
    """Points of heat maps, in pixels, by `ops.soft_argmax`.

    Args:
        outputs: `[..., h, w, p]` logits.
        image_size: (height, width) of the network's input in pixels.

    Returns:
        As `landmarks`.
    """
    return landmarks(soft_argmax(outputs.astype(jnp.float32)), image_size=image_size)
