"""Predictions of networks that compare pictures, and decisions by a threshold: verification and recognition."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxcv.ops import cosine_similarity
from jaxcv.types import Embeddings, Scalar, Similarities

_GROUP = 128
"""Neighbours in a gallery of which first only the best is looked at."""


@jax.jit
def embeddings(outputs: Float[Array, "*b d"]) -> Embeddings:
    """Vectors of length one.

    Args:
        outputs: Vectors `[..., d]` of any length.

    Returns:
        `vectors` `[..., d]`, float32; zeros stay zeros.
    """
    x = outputs.astype(jnp.float32)
    squares = jnp.square(x).sum(-1, keepdims=True)
    return Embeddings(x * lax.rsqrt(jnp.maximum(squares, 1e-16)))


@jax.jit
def similarities(outputs: Float[Array, "*b n"]) -> Similarities:
    """Probabilities of showing the same.

    Args:
        outputs: Logits `[..., n]`, of each picture with n others.

    Returns:
        `scores` `[..., n]`, float32.
    """
    return Similarities(jax.nn.sigmoid(outputs.astype(jnp.float32)))


@jax.jit
def verify(
    embedding_a: Float[Array, "*b d"], embedding_b: Float[Array, "*b d"], threshold: Scalar
) -> Bool[Array, "*b"]:
    """Whether two embeddings are of the same identity: their cosine is at least the threshold.

    For vectors of length one, a squared Euclidean distance of at most 2 - 2 `threshold`.

    Args:
        embedding_a: `[..., d]`.
        embedding_b: `[..., d]`.
        threshold: Smallest cosine, such as `threshold_at` chooses.

    Returns:
        `[...]` bool; False where a number is NaN.
    """
    return cosine_similarity(embedding_a, embedding_b) >= threshold


@jax.jit
def threshold_at(
    scores: Float[Array, " n"], same: Bool[Array, " n"], *, false_accept_rate: Scalar = 0.01
) -> Float[Array, ""]:
    """The smallest threshold at which no more than this fraction of pairs of two identities are taken for one.

    Args:
        scores: Similarities `[n]` of validation pairs, larger the more alike.
        same: Whether each pair is of one identity, `[n]`.
        false_accept_rate: In [0, 1).

    Returns:
        A score; pairs of this one and above are accepted. Above all of two identities where the rate allows none; the
        smallest score where there is no such pair.
    """
    scores = scores.astype(jnp.float32)
    count = (~same).sum()
    allowed = jnp.floor(false_accept_rate * count.astype(jnp.float32) + 1e-4).astype(jnp.int32)
    impostors = jnp.sort(jnp.where(same, -jnp.inf, scores), descending=True)
    first = jnp.take(jnp.append(impostors, -jnp.inf), jnp.minimum(allowed, scores.shape[0]))
    lowest = scores.min(initial=jnp.inf)
    return jnp.where(allowed < count, jnp.nextafter(first, jnp.inf), lowest)


@functools.partial(jax.jit, static_argnames=("k", "block"))
def search(
    queries: Float[Array, "q d"], gallery: Float[Array, "n d"], *, k: int = 1, block: int = 8_192
) -> tuple[Float[Array, "q k"], Int[Array, "q k"]]:
    """The k vectors of a gallery with the largest products with each query, block after block.

    Exact. Of each block the products are computed and the best k kept, so that memory is O(q block) beside the gallery.
    Within a block only the best of every 128 neighbours is compared first: the k best lie in the k groups of the best.

    Args:
        queries: `[q, d]`, of length one for cosines.
        gallery: `[n, d]`, likewise; n at least 1.
        k: How many, at least 1.
        block: Vectors of one block.

    Returns:
        Products `[q, k]`, the largest first, -inf beyond n; and indices `[q, k]` into the gallery, -1 beyond n.
    """
    count = gallery.shape[0]
    block = -(-min(block, count) // _GROUP) * _GROUP
    starts = jnp.arange(-(-count // block)) * block

    def best_of(start: Array) -> tuple[Array, Array]:
        # The last block begins earlier, so that it is whole, if the gallery is as large as one.
        first = jnp.minimum(start, max(count - block, 0))
        part = lax.dynamic_slice_in_dim(gallery, first, min(block, count))
        scores = jnp.einsum("qd,nd->qn", queries, part, preferred_element_type=jnp.float32)
        fresh = jnp.arange(scores.shape[1]) + first >= start
        scores = jnp.where(fresh[None], scores, -jnp.inf)
        scores = jnp.pad(scores, ((0, 0), (0, block - scores.shape[1])), constant_values=-jnp.inf)
        groups = scores.reshape(len(queries), -1, _GROUP)
        _, chosen = lax.top_k(groups.max(-1), min(k, groups.shape[1]))
        candidates = jnp.take_along_axis(groups, chosen[..., None], axis=1).reshape(len(queries), -1)
        values, position = lax.top_k(candidates, min(k, candidates.shape[1]))
        group = jnp.take_along_axis(chosen, position // _GROUP, axis=1)
        return values, group * _GROUP + position % _GROUP + first

    def merge(best: tuple[Array, Array], start: Array) -> tuple[tuple[Array, Array], None]:
        values, indices = (jnp.concatenate(pair, axis=1) for pair in zip(best, best_of(start), strict=True))
        values, position = lax.top_k(values, k)
        return (values, jnp.take_along_axis(indices, position, axis=1)), None

    none = jnp.full((len(queries), k), -jnp.inf, jnp.float32), jnp.full((len(queries), k), -1, jnp.int32)
    (values, indices), _ = lax.scan(merge, none, starts)
    return values, jnp.where(values > -jnp.inf, indices, -1)


@jax.jit
def recognize(
    embedding: Float[Array, "*b d"], gallery: Float[Array, "n d"], threshold: Scalar
) -> tuple[Int[Array, "*b"], Float[Array, "*b"]]:
    """The most similar vector of a gallery, or nobody.

    Args:
        embedding: `[..., d]`, of length one.
        gallery: `[n, d]`, of length one; one enrolled picture a row, n at least 1.
        threshold: Smallest cosine that is accepted.

    Returns:
        Its row `[...]`, -1 for nobody: below the threshold, or not a number; and its cosine `[...]`.
    """
    flat = embedding.reshape(-1, embedding.shape[-1])
    scores, rows = search(flat, gallery)
    rows = jnp.where(scores[:, 0] >= threshold, rows[:, 0], -1)
    return rows.reshape(embedding.shape[:-1]), scores[:, 0].reshape(embedding.shape[:-1])
