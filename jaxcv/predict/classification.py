"""Predictions of classifiers."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.types import Classes


@jax.jit
def classes(outputs: Float[Array, "*b k"]) -> Classes:
    """The most probable class and the probability of each.

    Args:
        outputs: Logits `[..., k]`.

    Returns:
        `label` `[...]`, the lowest index among equals, and `scores` `[..., k]`, softmax in float32.
    """
    scores = jax.nn.softmax(outputs.astype(jnp.float32))
    return Classes(scores.argmax(-1), scores)
