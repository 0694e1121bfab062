"""Anchor boxes as shapes: clustered from a data set, and matched to boxes.

Anchor boxes, and the boxes compared with them, are (width, height) only; their IoU is that of boxes with the same
centre. Sizes in half precision are cast: results are at least float32.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxcv.ops.boxes import widened
from jaxcv.types import Scalar

AnchorBoxes = Float[ArrayLike, "a 2"] | tuple[tuple[Scalar, Scalar], ...]
"""`[a, 2]` of (width, height) in pixels of the network's input; as nested tuples it can be a module's attribute."""

_SMALLEST_AREA = 1e-12


@functools.partial(jax.jit, static_argnames=("k", "iterations"))
def kmeans_anchor_boxes(
    sizes: Float[Array, "n 2"], *, k: int, iterations: int = 100, valid: Bool[Array, " n"] | None = None
) -> Float[Array, "{k} 2"]:
    """Anchor boxes from box sizes, by k-means with the distance 1 - IoU.

    Deterministic: starts from `k` quantiles of the area and moves every centre to the mean of its members (Lloyd) until
    nothing changes. The mean does not always lower a 1 - IoU cost, so the best centres of all iterations are returned.
    A centre without members is not moved. With fewer than `k` different sizes some anchor boxes coincide; with no size
    at all each is 1 x 1.

    Args:
        sizes: `[n, 2]` of (width, height), any unit; sizes without area, infinite or NaN do not count.
        k: How many anchor boxes.
        iterations: Upper bound of the number of iterations.
        valid: `[n]`, which sizes count; by default all.

    Returns:
        `[k, 2]` of (width, height) in the same unit, smallest area first.

    References:
        Redmon, Farhadi, YOLO9000, https://arxiv.org/abs/1612.08242, section 2, "Dimension Clusters".
    """
    if sizes.shape[0] == 0:
        return jnp.ones((k, 2), widened(sizes).dtype)
    sizes = widened(sizes)
    counts = jnp.isfinite(sizes).all(-1) & (sizes.min(-1) > 0)
    counts = counts if valid is None else counts & valid
    sizes = jnp.where(counts[:, None], sizes, 1.0)
    weights = counts.astype(sizes.dtype)

    def assign(centres):
        iou = shape_iou(sizes, centres)
        return iou.argmax(-1), (weights * iou.max(-1)).sum()

    def proceed(carry):
        step, moved, *_ = carry
        return (step < iterations) & moved

    def lloyd(carry):
        step, _, centres, best_fit, best = carry
        nearest, fit = assign(centres)
        members = jax.nn.one_hot(nearest, k, dtype=sizes.dtype) * weights[:, None]
        total = members.sum(0)[:, None]
        means = jnp.where(total > 0, members.T @ sizes / jnp.maximum(total, 1.0), centres)
        better = fit > best_fit
        return (
            step + 1,
            jnp.any(means != centres),
            means,
            jnp.where(better, fit, best_fit),
            jnp.where(better, centres, best),
        )

    # Sizes that do not count go last, and the quantiles are taken over those that do.
    by_area = sizes[jnp.argsort(jnp.where(counts, sizes.prod(-1), jnp.inf))]
    middles = (jnp.arange(k, dtype=jnp.float32) + 0.5) / k * counts.sum().astype(jnp.float32)
    start = by_area[jnp.clip(middles.astype(jnp.int32), 0, sizes.shape[0] - 1)]
    none = jnp.asarray(-1.0, sizes.dtype)
    _, _, last, best_fit, best = lax.while_loop(proceed, lloyd, (0, jnp.asarray(True), start, none, start))
    centres = jnp.where(assign(last)[1] > best_fit, last, best)
    return centres[jnp.argsort(centres.prod(-1))]


@jax.jit
def match_anchor_boxes(sizes: Float[Array, "*n 2"], anchor_boxes: Float[Array, "a 2"]) -> Int[Array, "*n"]:
    """The anchor box of the most similar shape for each size: highest IoU with equal centres.

    Args:
        sizes: `[..., 2]` of (width, height).
        anchor_boxes: `[a, 2]` of (width, height), same unit.

    Returns:
        `[...]` index into `anchor_boxes`; the lowest among equals, 0 for a size without area.

    References:
        Redmon, Farhadi, YOLO9000, https://arxiv.org/abs/1612.08242, section 2.
    """
    return shape_iou(sizes, anchor_boxes).argmax(-1)


@jax.jit
def shape_iou(sizes: Float[Array, "*n 2"], anchor_boxes: Float[Array, "a 2"]) -> Float[Array, "*n a"]:
    """IoU of every size with every anchor box when their centres coincide.

    Args:
        sizes: `[..., 2]` of (width, height).
        anchor_boxes: `[a, 2]` of (width, height), same unit.

    Returns:
        `[..., a]` in [0, 1]; 0 for a size without area.
    """
    sizes, anchor_boxes = widened(sizes), widened(anchor_boxes)
    widths, heights = jnp.maximum(sizes[..., None, 0], 0.0), jnp.maximum(sizes[..., None, 1], 0.0)
    spread = (1,) * (sizes.ndim - 1)
    anchor_widths, anchor_heights = (anchor_boxes[:, i].reshape(*spread, -1) for i in range(2))
    intersection = jnp.minimum(widths, anchor_widths) * jnp.minimum(heights, anchor_heights)
    union = widths * heights + anchor_widths * anchor_heights - intersection
    fine = union > _SMALLEST_AREA
    return jnp.where(fine, intersection / jnp.where(fine, union, 1.0), 0.0)
