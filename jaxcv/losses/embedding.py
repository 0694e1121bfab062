"""Losses of embeddings: what shows the same thing lies close together, all else apart."""

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
    """Triplet loss on the hardest triplet of every example: the anchor must be nearer to its positive than to others.

    max(d(anchor, positive) - d(anchor, negative) + margin, 0), with the positive the farthest example of the anchor's
    class in the batch and the negative the nearest one of another. So a batch must hold several examples of a class,
    and several classes. Embeddings are taken as they are; FaceNet's have length one.

    Args:
        outputs: Embeddings `[b, d]`.
        batch: `label` `[b]`, integers; optionally `example_valid` `[b]`: what is padding takes no part.
        distance: d: `squared` |a - b|^2 as in FaceNet and the course; `euclidean` |a - b| as in Hermans et al. and
            torch's `TripletMarginLoss`, whose margin is 1; `cosine` 1 - cos(a, b), which gives
            max(cos(a, n) - cos(a, p) + margin, 0). (With the signs of a distance, as the course's notes have it, a
            similarity would be learnt the wrong way round.)
        margin: How much farther the negative must be. None: the soft margin ln(1 + exp(d_p - d_n)), which never
            stops pulling.

    Returns:
        `triplet`: values `[b]`, one an anchor, and weights `[b]`: 1, or 0 for an anchor without a positive or without
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

    # Looked for without gradient, then computed again for the triplets found: 2 b distances instead of b^2 have one.
    fixed = lax.stop_gradient(embeddings)
    if distance == "cosine":
        apart = 1 - pairwise_cosine_similarity(fixed, fixed)
    else:
        apart = pairwise_squared_distances(fixed, fixed)
    positive = embeddings[_least(jnp.where(positives, -apart, jnp.inf))]
    negative = embeddings[_least(jnp.where(negatives, apart, jnp.inf))]
    excess = _distances(embeddings, positive, distance) - _distances(embeddings, negative, distance)
    values = jax.nn.softplus(excess) if margin is None else jax.nn.relu(excess + margin)
    weights = valid & positives.any(1) & negatives.any(1)
    return {"triplet": (values, weights.astype(jnp.float32))}


def _least(values: Array) -> Array:
    """Place of the least value of each row, the first of equals.

    XLA's `argmin` on a CPU goes value by value: of 512 x 512 two of them take longer than all the rest of the loss.
    """
    count = values.shape[1]
    hit = values == values.min(1, keepdims=True, initial=jnp.inf)
    return jnp.where(hit, jnp.arange(count)[None], max(count - 1, 0)).min(1, initial=max(count - 1, 0))


def _distances(a: Array, b: Array, distance: Distance) -> Array:
    if distance == "cosine":
        return 1 - cosine_similarity(a, b)
    return paired_squared_distances(a, b) if distance == "squared" else paired_distances(a, b)
