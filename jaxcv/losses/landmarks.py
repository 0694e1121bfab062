"""Losses of landmarks: `(outputs, batch) -> {term: [b]}`, float32, unreduced.

`batch` has `points` [b p 2] in pixels and optionally `visible` [b p]: points that are not visible do not count, and an
example without a visible point has loss 0. Errors are in pixels of the network's input.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.ops import gaussian_heatmaps, soft_argmax
from jaxcv.types import Batch, Scalar

Form = Literal["wing", "mse"]


def landmarks(
    outputs: Float[Array, "b p 2"],
    batch: Batch,
    *,
    form: Form = "wing",
    width: Scalar = 10.0,
    curvature: Scalar = 2.0,
) -> dict[str, Float[Array, " b"]]:
    """The mean over coordinates and visible points of a loss of the error x in pixels.

    - `mse`: x².
    - `wing`: width log(1 + |x| / curvature) where |x| < width, else |x| - C with C = width - width log(1 + width /
      curvature), which makes it continuous. It weighs small errors more than L1 and L2.

    Args:
        outputs: `[b, p, 2]` of (x, y) as fractions of the image's width and height.
        batch: `image` `[b, h, w, c]`, read for its size only; `points` `[b, p, 2]` in pixels; optionally
            `visible` `[b, p]`.
        form: "wing" or "mse".
        width: The paper's w, in pixels; above 0. Its 10 is for pictures of 256 pixels.
        curvature: The paper's epsilon, in pixels; above 0.

    Returns:
        `points` `[b]`.

    Raises:
        ValueError: If `form` is neither.

    References:
        Feng et al., Wing loss for robust facial landmark localisation, https://arxiv.org/abs/1711.06753, equation 5.
    """
    if form not in ("wing", "mse"):
        raise ValueError(f"form={form!r}: expected 'wing' or 'mse'")
    height, image_width = batch["image"].shape[1:3]
    seen = _visible(batch)
    size = jnp.asarray([[[image_width, height]]], jnp.float32)
    errors = jnp.where(seen[..., None], outputs.astype(jnp.float32) * size - batch["points"], 0.0)
    if form == "mse":
        values = jnp.square(errors)
    else:
        x = jnp.abs(errors)
        constant = width - width * jnp.log1p(width / curvature)
        values = jnp.where(x < width, width * jnp.log1p(x / curvature), x - constant)
    return {"points": _mean(values.mean(-1), seen)}


def heatmaps(
    outputs: Float[Array, "b h w p"],
    batch: Batch,
    *,
    form: Form = "wing",
    width: Scalar = 10.0,
    curvature: Scalar = 2.0,
    sigma: Scalar = 1.0,
    heatmap_weight: Scalar = 1.0,
) -> dict[str, Float[Array, " b"]]:
    """`landmarks` of the soft-argmax of each map, and the cross-entropy of the map with a Gaussian around its target.

    The mean position alone does not determine the shape of a map; the Gaussian, of standard deviation `sigma`, is a
    regulariser. (The paper's is the Jensen-Shannon divergence from the same Gaussian.)

    Args:
        outputs: `[b, h, w, p]` logits.
        batch: As for `landmarks`: `points` `[b, p, 2]` in pixels, optionally `visible` `[b, p]`.
        form: As for `landmarks`.
        width: As for `landmarks`.
        curvature: As for `landmarks`.
        sigma: Standard deviation of the Gaussian, in cells of the map; above 0.
        heatmap_weight: Factor of `heatmap`.

    Returns:
        `points` and `heatmap`, each `[b]`, the second times its weight.

    Raises:
        ValueError: As `landmarks`.

    References:
        Nibali et al., Numerical coordinate regression with convolutional neural networks,
        https://arxiv.org/abs/1801.07372, section 3.3.
    """
    outputs = outputs.astype(jnp.float32)
    height, image_width = batch["image"].shape[1:3]
    seen = _visible(batch)
    size = jnp.asarray([[[image_width, height]]], jnp.float32)
    target = gaussian_heatmaps(
        jnp.where(seen[..., None], batch["points"], 0.0) / size, size=outputs.shape[1:3], sigma=sigma
    )
    entropy = -(target * jax.nn.log_softmax(outputs, axis=(1, 2))).sum((1, 2))
    points = landmarks(soft_argmax(outputs), batch, form=form, width=width, curvature=curvature)
    return {**points, "heatmap": heatmap_weight * _mean(entropy, seen)}


def _visible(batch: Batch) -> Array:
    points = batch["points"]
    return batch["visible"] if "visible" in batch else jnp.ones(points.shape[:2], bool)


def _mean(values: Array, seen: Array) -> Array:
    return jnp.where(seen, values, 0.0).sum(-1) / jnp.maximum(seen.sum(-1), 1).astype(jnp.float32)
