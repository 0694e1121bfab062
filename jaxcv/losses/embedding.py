"""Losses of embeddings: examples of the same class close together, others apart."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxcv.ops import (
    cosine_similarity,
    paired_distances,
    paired_squared_distances,
    pairwise_cosine_similarity,
    pairwise_squared_distances,
)
from jaxcv.types import Batch, Scalar

Distance = Literal["squared", "euclidean", "cosine"]


def triplet(
    outputs: Float[Array, "b d"],
    batch: Batch,
    *,
    distance: Distance = "squared",
    margin: Scalar | None = 0.2,
) -> dict[str, tuple[Float[Array, " b"], Float[Array, " b"]]]:
    """Triplet loss with batch-hard mining: one triplet per anchor.

    max(d(anchor, positive) - d(anchor, negative) + margin, 0), with the positive the farthest example of the anchor's
    class in the batch and the negative the nearest one of another. So a batch must contain several classes, and several
    examples of each. Embeddings are not normalised here; FaceNet's have length one.

    Args:
        outputs: Embeddings `[b, d]`.
        batch: `label` `[b]`, integers; optionally `example_valid` `[b]`: False on padding, which does not count.
        distance: d: `squared` |a - b|^2 as in FaceNet; `euclidean` |a - b| as in Hermans et al. and
            torch's `TripletMarginLoss`, whose margin is 1; `cosine` 1 - cos(a, b), which gives
            max(cos(a, n) - cos(a, p) + margin, 0).
        margin: How much farther the negative must be. None: the soft margin ln(1 + exp(d_p - d_n)), whose gradient
            never vanishes.

    Returns:
        `triplet`: values `[b]`, one per anchor, and weights `[b]`: 1, or 0 for an anchor without a positive or without
        a negative.

    References:
        Schroff, Kalenichenko, Philbin, FaceNet, https://arxiv.org/abs/1503.03832, equation 3.
        Hermans, Beyer, Leibe, In defense of the triplet loss, https://arxiv.org/abs/1703.07737, equation 5.
    """
    embeddings, label = outputs.astype(jnp.float32), batch["label"]
    valid = batch["example_valid"] if "example_valid" in batch else jnp.ones(label.shape, bool)
    same = label[:, None] == label[None, :]
    other = ~jnp.eye(label.shape[0], dtype=bool)
    positives = same & other & valid[None, :]
    negatives = ~same & valid[None, :]

    # Triplets are mined without gradient; only their 2 b distances, not all b^2, are differentiated.
    fixed = lax.stop_gradient(embeddings)
    if distance == "cosine":
        apart = 1 - pairwise_cosine_similarity(fixed, fixed)
    else:
        apart = pairwise_squared_distances(fixed, fixed)
    positive = embeddings[_argmin(jnp.where(positives, -apart, jnp.inf))]
    negative = embeddings[_argmin(jnp.where(negatives, apart, jnp.inf))]
    excess = _distances(embeddings, positive, distance) - _distances(embeddings, negative, distance)
    values = jax.nn.softplus(excess) if margin is None else jax.nn.relu(excess + margin)
    weights = valid & positives.any(1) & negatives.any(1)
    return {"triplet": (values, weights.astype(jnp.float32))}


def _argmin(values: Array) -> Array:
    """Index of the smallest value of each row, the first of equals.

    XLA's `argmin` is not vectorised on a CPU: two of them over 512 x 512 take longer than the rest of the loss.
    """
    count = values.shape[1]
    hit = values == values.min(1, keepdims=True, initial=jnp.inf)
    return jnp.where(hit, jnp.arange(count)[None], max(count - 1, 0)).min(1, initial=max(count - 1, 0))


def _distances(a: Array, b: Array, distance: Distance) -> Array:
    if distance == "cosine":
        return 1 - cosine_similarity(a, b)
    return paired_squared_distances(a, b) if distance == "squared" else paired_distances(a, b)
