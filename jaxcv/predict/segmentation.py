"""Predictions of pixel classifiers."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.types import Masks


@jax.jit
def masks(outputs: Float[Array, "*b h w k"]) -> Masks:
    """The most probable class of each pixel, and its probability.

    Args:
        outputs: `[..., h, w, k]` logits, k at most 255.

    Returns:
        `label` `[..., h, w]` uint8, among equals the lowest; `score` `[..., h, w]`.
    """
    logits = outputs.astype(jnp.float32)
    score = jnp.exp(logits.max(-1) - jax.nn.logsumexp(logits, axis=-1))
    return Masks(jnp.argmax(logits, axis=-1).astype(jnp.uint8), score)
