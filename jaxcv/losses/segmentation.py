"""Losses of pixel classifiers: `(outputs, batch) -> {term: (values, weights)}`, float32, unreduced.

Pixels whose `mask` is 255 are void: they have weight 0, and neither value nor gradient of anything depends on what is
predicted for them.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxcv.types import Batch, Scalar

VOID = 255

Weighted = tuple[Float[Array, "b *hw"], Float[Array, "b *hw"]]


def pixel_cross_entropy(
    outputs: Float[Array, "b h w k"],
    batch: Batch,
    *,
    class_weights: tuple[float, ...] = (),
    focus: Scalar | None = None,
) -> dict[str, Weighted]:
    """Softmax cross-entropy of each pixel, in nats; with `focus` the focal loss.

    The trainer takes the weighted mean over all pixels of the batch, as torch's `cross_entropy` with `weight` and
    `ignore_index=255` does.

    Args:
        outputs: Logits `[b, h, w, k]`.
        batch: `mask` `[b, h, w]`, classes in [0, k) or 255; perhaps `pixel_weights` `[b, h, w]`, at least 0.
        class_weights: Of each class, at least 0; () for equal ones.
        focus: gamma of the factor (1 - p)^gamma on each pixel's loss, at least 0; p is the target's probability.

    Returns:
        `cross_entropy`: values `[b, h, w]` and weights `[b, h, w]`, the class's times the pixel's, 0 where void.

    Raises:
        ValueError: If there is not one weight for each class.

    References:
        Long et al., Fully convolutional networks, https://arxiv.org/abs/1411.4038, section 4.
        Ronneberger et al., U-Net, https://arxiv.org/abs/1505.04597, equation 1 (weights).
        Lin et al., Focal loss, https://arxiv.org/abs/1708.02002, equation 4.
    """
    logits, target, known = _known(outputs, batch)
    values = optax.softmax_cross_entropy_with_integer_labels(logits, target)
    if focus is not None:
        # 1 - p from the other classes' logits, so that it does not cancel; clipped, for the gradient of a power at 0.
        values = jnp.clip(-jnp.expm1(-values), 1e-7, 1.0) ** focus * values
    weights = known.astype(jnp.float32)
    if class_weights:
        if len(class_weights) != logits.shape[-1]:
            raise ValueError(f"{len(class_weights)} class weights for {logits.shape[-1]} classes")
        weights = weights * jnp.asarray(class_weights, jnp.float32)[target]
    if "pixel_weights" in batch:
        weights = weights * batch["pixel_weights"].astype(jnp.float32)
    return {"cross_entropy": (values, weights)}


def pixels(
    outputs: Float[Array, "b h w k"],
    batch: Batch,
    *,
    class_weights: tuple[float, ...] = (),
    focus: Scalar | None = None,
    region: Literal["", "dice", "lovasz"] = "",
    region_weight: Scalar = 1.0,
) -> dict[str, Weighted]:
    """Cross-entropy of each pixel, and a term that compares whole regions.

    Args:
        outputs: Logits `[b, h, w, k]`.
        batch: As for `pixel_cross_entropy`.
        class_weights: As there.
        focus: As there.
        region: The loss `dice` or `lovasz` that is added, or "" for none.
        region_weight: Its factor.

    Returns:
        `cross_entropy`, and perhaps `dice` or `lovasz`, as those give them.
    """
    terms = pixel_cross_entropy(outputs, batch, class_weights=class_weights, focus=focus)
    if region:
        values, weights = (dice(outputs, batch) if region == "dice" else lovasz(outputs, batch))[region]
        terms[region] = (region_weight * values, weights)
    return terms


def dice(outputs: Float[Array, "b h w k"], batch: Batch, *, smooth: Scalar = 1.0) -> dict[str, Weighted]:
    """One minus the soft Dice coefficient of each class that an image shows.

    1 - (2 sum p t + smooth) / (sum p + sum t + smooth), over the pixels that are not void, p the class's probability
    and t 1 where the pixel is of the class. Milletari et al. square p and t in the denominator.

    Args:
        outputs: Logits `[b, h, w, k]`.
        batch: `mask` `[b, h, w]`, classes in [0, k) or 255.
        smooth: Added above and below, above 0: pixels.

    Returns:
        `dice`: values `[b, k]` and weights `[b, k]`, 0 for classes of which the image has no pixel.

    References:
        Milletari et al., V-Net, https://arxiv.org/abs/1606.04797, section 3.
    """
    p, t = _probabilities(outputs, batch)
    common, total = jnp.sum(p * t, axis=(1, 2)), jnp.sum(p + t, axis=(1, 2))
    return {"dice": (1 - (2 * common + smooth) / (total + smooth), t.any(axis=(1, 2)).astype(jnp.float32))}


def lovasz(outputs: Float[Array, "b h w k"], batch: Batch) -> dict[str, Weighted]:
    """Lovász-softmax: the convex extension of 1 - IoU of each class that an image shows, at its errors |t - p|.

    Args:
        outputs: Logits `[b, h, w, k]`.
        batch: `mask` `[b, h, w]`, classes in [0, k) or 255.

    Returns:
        `lovasz`: values `[b, k]` and weights `[b, k]`, 0 for classes of which the image has no pixel.

    References:
        Berman et al., The Lovász-softmax loss, https://arxiv.org/abs/1705.08790, equations 9 and 11, algorithm 1.
    """
    p, t = _probabilities(outputs, batch)
    b, k = p.shape[0], p.shape[-1]
    p, t = (x.reshape(b, -1, k).swapaxes(1, 2) for x in (p, t))

    def one(p: Array, t: Array) -> Array:
        errors = jnp.abs(t - p)
        order = jnp.argsort(-errors)
        errors, t = errors[order], t[order]
        union = t.sum() + jnp.cumsum(1 - t)
        jaccard = 1 - (t.sum() - jnp.cumsum(t)) / jnp.maximum(union, 1.0)
        return jnp.sum(errors * jnp.diff(jaccard, prepend=0.0))  # of void pixels the error is 0: last, and no part

    return {"lovasz": (jax.vmap(jax.vmap(one))(p, t), t.any(axis=2).astype(jnp.float32))}


def _known(outputs: Array, batch: Batch) -> tuple[Array, Array, Array]:
    """Logits, zeros where void; targets, class 0 there; and where there is a target."""
    known = batch["mask"] != VOID
    logits = jnp.where(known[..., None], outputs.astype(jnp.float32), 0.0)
    return logits, jnp.where(known, batch["mask"], 0).astype(jnp.int32), known


def _probabilities(outputs: Array, batch: Batch) -> tuple[Any, Array]:
    """Probabilities and targets `[b, h, w, k]`, both zeros where void."""
    logits, target, known = _known(outputs, batch)
    known = known[..., None].astype(jnp.float32)
    return jax.nn.softmax(logits) * known, jax.nn.one_hot(target, logits.shape[-1]) * known
