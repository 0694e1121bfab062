"""Distances and similarities of vectors, such as embeddings: pairwise, or of vectors with the same index.

Distances are computed from differences. The usual |a|^2 + |b|^2 - 2 a.b cancels for close vectors, and may be negative
for equal ones. Gradients are finite everywhere, between equal vectors too.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_UNROLLED = 16
"""Coordinates added in one pass over the distances: with 16, as fast as a matrix product on a CPU."""
_SHORTEST = 1e-8
"""Lower bound of the length that a vector is divided by, as in torch."""


@jax.jit
def pairwise_squared_distances(a: Float[Array, "*b n d"], b: Float[Array, "*b m d"]) -> Float[Array, "*b n m"]:
    """Squared Euclidean distance of every vector of `a` from every vector of `b`.

    Args:
        a: `[..., n, d]`.
        b: `[..., m, d]`.

    Returns:
        `[..., n, m]`, at least 0, and 0 for equal vectors. Memory is O(n m), with gradients too.
    """
    return _squared_distances(a, b)


@jax.jit
def pairwise_distances(a: Float[Array, "*b n d"], b: Float[Array, "*b m d"]) -> Float[Array, "*b n m"]:
    """Euclidean distance of every vector of `a` from every vector of `b`.

    Args:
        a: `[..., n, d]`.
        b: `[..., m, d]`.

    Returns:
        `[..., n, m]`, at least 0. Equal vectors have distance 0 and gradient 0.
    """
    return _root(_squared_distances(a, b))


@jax.jit
def paired_squared_distances(a: Float[Array, "*n d"], b: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """Squared Euclidean distance of each vector of `a` from the vector of `b` with the same index.

    Args:
        a: `[..., d]`.
        b: `[..., d]`.

    Returns:
        `[...]`, at least 0.
    """
    return jnp.square(a - b).sum(-1)


@jax.jit
def paired_distances(a: Float[Array, "*n d"], b: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """Euclidean distance of each vector of `a` from the vector of `b` with the same index.

    Args:
        a: `[..., d]`.
        b: `[..., d]`.

    Returns:
        `[...]`, at least 0. Equal vectors have distance 0 and gradient 0.
    """
    return _root(jnp.square(a - b).sum(-1))


@jax.jit
def pairwise_cosine_similarity(a: Float[Array, "*b n d"], b: Float[Array, "*b m d"]) -> Float[Array, "*b n m"]:
    """Cosine of the angle between every vector of `a` and every vector of `b`.

    Args:
        a: `[..., n, d]`.
        b: `[..., m, d]`.

    Returns:
        `[..., n, m]` in [-1, 1] up to rounding; 0 for a vector of zeros.
    """
    return jnp.einsum("...nd,...md->...nm", _direction(a), _direction(b))


@jax.jit
def cosine_similarity(a: Float[Array, "*n d"], b: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """Cosine of the angle between each vector of `a` and the vector of `b` with the same index.

    Args:
        a: `[..., d]`.
        b: `[..., d]`.

    Returns:
        `[...]` in [-1, 1] up to rounding; 0 for a vector of zeros.

    References:
        torch's `cosine_similarity`.
    """
    return (_direction(a) * _direction(b)).sum(-1)


def _root(squares: Array) -> Array:
    some = squares > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, squares, 1.0)), 0.0)


def _direction(vectors: Array) -> Array:
    squares = jnp.square(vectors).sum(-1, keepdims=True)
    return vectors * lax.rsqrt(jnp.where(squares > _SHORTEST**2, squares, _SHORTEST**2))


# A custom gradient: automatic differentiation would save all differences, n m d numbers.
@jax.custom_vjp
def _squared_distances(a: Array, b: Array) -> Array:
    dimensions = a.shape[-1]
    passes = max(-(-dimensions // _UNROLLED), 1)
    pad = [(0, 0)] * (a.ndim - 2) + [(0, passes * _UNROLLED - dimensions), (0, 0)]
    # Coordinates first, so that neighbours in memory are neighbours in the result.
    a, b = (jnp.pad(jnp.swapaxes(x, -1, -2), pad) for x in (a, b))

    def add(i, total):
        rows, columns = (lax.dynamic_slice_in_dim(x, i * _UNROLLED, _UNROLLED, axis=-2) for x in (a, b))
        for k in range(_UNROLLED):
            total += jnp.square(rows[..., k, :, None] - columns[..., k, None, :])
        return total

    zeros = jnp.zeros((*a.shape[:-2], a.shape[-1], b.shape[-1]), a.dtype)
    return lax.fori_loop(0, passes, add, zeros)


def _squared_distances_forward(a, b):
    return _squared_distances(a, b), (a, b)


def _squared_distances_backward(saved, gradients):
    a, b = saved
    return 2 * _gradient_of_first(a, b, gradients), 2 * _gradient_of_first(b, a, jnp.swapaxes(gradients, -1, -2))


def _gradient_of_first(a, b, gradients):
    """[..., n, d]: sum over m of gradients[n, m] (a[n] - b[m]), from differences, as above."""
    others = jnp.swapaxes(b, -1, -2)[..., None, :, :]
    return (gradients[..., :, None, :] * (a[..., None] - others)).sum(-1)


_squared_distances.defvjp(_squared_distances_forward, _squared_distances_backward)
