"""Losses of classifiers: `(outputs, batch) -> {term: [b]}`, float32, unreduced."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxcv.types import Batch, Scalar


def cross_entropy(
    outputs: Float[Array, "b k"] | tuple[Float[Array, "b k"], tuple[Float[Array, "b k"], ...]],
    batch: Batch,
    *,
    label_smoothing: Scalar = 0.0,
    auxiliary_weight: Scalar = 0.3,
) -> dict[str, Float[Array, " b"]]:
    """Softmax cross-entropy, in nats.

    Args:
        outputs: Logits `[b, k]`; or those and a tuple of the logits `[b, k]` of auxiliary heads.
        batch: `label` `[b]`, integers in [0, k); or `[b, k]`, probabilities (mixup, CutMix).
        label_smoothing: Fraction of the target's probability spread evenly over all classes, in [0, 1].
        auxiliary_weight: Factor of each auxiliary head's loss (GoogLeNet: 0.3).

    Returns:
        `cross_entropy` `[b]`, and with auxiliary heads `auxiliary` `[b]`, the sum of their losses times the weight.

    References:
        Szegedy et al., Going deeper with convolutions, https://arxiv.org/abs/1409.4842, section 5 (auxiliary heads).
        Szegedy et al., Rethinking the Inception Architecture, https://arxiv.org/abs/1512.00567, section 7 (smoothing).
    """
    logits, auxiliary = outputs if isinstance(outputs, tuple) else (outputs, ())
    terms = {"cross_entropy": _cross_entropy(logits, batch, label_smoothing)}
    if auxiliary:
        losses = jnp.stack([_cross_entropy(head, batch, label_smoothing) for head in auxiliary])
        terms["auxiliary"] = auxiliary_weight * losses.sum(axis=0)
    return terms


def hard_negative_cross_entropy(
    outputs: Float[Array, "b k"],
    batch: Batch,
    *,
    ratio: Scalar = 3.0,
    background: int = 0,
) -> dict[str, tuple[Float[Array, " b"], Float[Array, " b"]]]:
    """Softmax cross-entropy of the objects and of the hardest background examples of the batch.

    For classifiers of windows or proposals, nearly all of which are background and easy: only the background examples
    of the largest losses count.

    Args:
        outputs: Logits `[b, k]`.
        batch: `label` `[b]`, integers in [0, k).
        ratio: Background examples per object of the batch, at most; a batch without objects counts as one with one.
        background: Index of the background class.

    Returns:
        `cross_entropy`: values `[b]`, and weights `[b]`, 1 or 0. Among equal losses the first count.

    References:
        Liu et al., SSD: Single Shot MultiBox Detector, https://arxiv.org/abs/1512.02325, section 2.2, "hard negative
        mining"; ratio 3.
        Shrivastava, Gupta, Girshick, Training Region-based Object Detectors with Online Hard Example Mining,
        https://arxiv.org/abs/1604.03540.
        Sung, Poggio, Example-based learning for view-based human face detection, 1998 (bootstrapping).
    """
    values = _cross_entropy(outputs, batch, 0.0)
    negative = batch["label"] == background
    if "example_valid" in batch:
        negative &= batch["example_valid"]
    order = jnp.argsort(jnp.where(negative, -values, jnp.inf))
    position = jnp.zeros_like(order).at[order].set(jnp.arange(order.size))
    objects = jnp.sum(batch["label"] != background)
    hard = position.astype(jnp.float32) < ratio * jnp.maximum(objects, 1).astype(jnp.float32)
    return {"cross_entropy": (values, (~negative | hard).astype(jnp.float32))}


def _cross_entropy(logits: Array, batch: Batch, label_smoothing: Scalar) -> Array:
    logits = logits.astype(jnp.float32)
    label = batch["label"]
    mixed = jnp.issubdtype(label.dtype, jnp.floating)
    of = optax.softmax_cross_entropy if mixed else optax.softmax_cross_entropy_with_integer_labels
    plain = of(logits, label)
    # Cross-entropy is linear in the target: the uniform part is minus the mean log-probability.
    even = optax.softmax_cross_entropy(logits, jnp.full_like(logits, 1 / logits.shape[-1]))
    return (1 - label_smoothing) * plain + label_smoothing * even
