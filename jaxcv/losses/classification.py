"""Losses of classifiers: `(outputs, batch) -> {term: [b]}`, float32, unreduced."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxcv.types import Batch, Scalar


def cross_entropy(
    outputs: Float[Array, "b k"], batch: Batch, *, label_smoothing: Scalar = 0.0
) -> dict[str, Float[Array, " b"]]:
    """Softmax cross-entropy, in nats.

    Args:
        outputs: Logits `[b, k]`.
        batch: `label` `[b]`, integers in [0, k).
        label_smoothing: Share of the probability spread evenly over all classes, in [0, 1].

    Returns:
        `cross_entropy` `[b]`.

    References:
        Szegedy et al., Rethinking the Inception Architecture, https://arxiv.org/abs/1512.00567, section 7 (smoothing).
    """
    logits = outputs.astype(jnp.float32)
    plain = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    # Cross-entropy is linear in the target: the uniform part is minus the mean log-probability.
    even = optax.softmax_cross_entropy(logits, jnp.full_like(logits, 1 / logits.shape[-1]))
    return {"cross_entropy": (1 - label_smoothing) * plain + label_smoothing * even}
