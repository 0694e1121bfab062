"""Statistics of feature maps. Features are NHWC, `[..., h, w, c]`."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.ops.platform import on_cpu

_WIDE = 512
"""From so many channels on, computing three of the four blocks of the symmetric matrix is faster than all of it."""


@functools.partial(jax.jit, static_argnames=("normalize",))
def gram_matrix(features: Float[Array, "*b h w c"], *, normalize: bool = False) -> Float[Array, "*b c c"]:
    """Gram matrix: products of every two channels, summed over the positions.

    G[k, l] = sum over y, x of features[y, x, k] features[y, x, l].

    Args:
        features: `[..., h, w, c]`.
        normalize: Divide by h w c. The squared differences of two such matrices times 1/4 are the style loss of
            Gatys et al., whose factor is 1 / (2 h w c)^2.

    Returns:
        `[..., c, c]`, symmetric up to rounding; zeros if h or w is 0.

    References:
        Gatys, Ecker, Bethge, Image style transfer using convolutional neural networks, CVPR 2016, equation 3.
    """
    *lead, height, width, channels = features.shape
    gram = _gram(features.reshape(*lead, height * width, channels))
    return gram / max(height * width * channels, 1) if normalize else gram


@jax.custom_jvp
def _gram(rows: Array) -> Array:
    channels = rows.shape[-1]
    if channels < _WIDE:
        return _products(rows, rows)
    # Symmetric: the lower left block is the transpose of the upper right one.
    first, second = rows[..., : channels // 2], rows[..., channels // 2 :]
    upper = _products(first, rows)
    right = jnp.swapaxes(upper[..., channels // 2 :], -1, -2)
    return jnp.concatenate([upper, jnp.concatenate([right, _products(second, second)], axis=-1)], axis=-2)


@_gram.defjvp
def _(primals, tangents):
    # One product, and so one in reverse mode: automatic differentiation would take one for each factor.
    half = _products(tangents[0], primals[0])
    return _gram(primals[0]), half + jnp.swapaxes(half, -1, -2)


def _products(a: Array, b: Array) -> Array:
    product = on_cpu("products", _plain_products)
    for _ in a.shape[:-2]:
        product = jax.vmap(product)
    return product(a, b)


def _plain_products(a: Array, b: Array) -> Array:
    """[n c] by [n d]: [c d], sums over the n rows."""
    return a.T @ b
