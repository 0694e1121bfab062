"""Normalisation, over the batch and across channels. Images are NHWC."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxcv.native import kernels
from jaxcv.types import Scalar


@functools.partial(jax.jit, static_argnames=("size",))
def local_response_norm(
    images: Float[Array, "b h w c"], *, size: int = 5, alpha: Scalar = 1e-4, beta: Scalar = 0.75, k: Scalar = 2.0
) -> Float[Array, "b h w c"]:
    """Every activation divided by the strength of its neighbours in the channels at the same place.

    out[..., i] = images[..., i] / (k + alpha * sum over j of images[..., j]^2)^beta, j from i - size // 2 to
    i + (size - 1) // 2 as far as there are channels. The paper's alpha: torch and Caffe divide theirs by `size`.

    Args:
        images: `[b, h, w, c]`.
        size: Number n of neighbouring channels, the own one among them.
        alpha: Weight of the sum of squares.
        beta: Exponent.
        k: Keeps the divisor from zero; must be positive where values may all be zero.

    Returns:
        `[b, h, w, c]`.

    References:
        Krizhevsky, Sutskever, Hinton, ImageNet classification with deep convolutional neural networks, NeurIPS 2012,
        section 3.3.
    """
    channels = images.shape[-1]
    around = ((0, 0), (0, 0), (0, 0), (size // 2, (size - 1) // 2))
    squares = jnp.pad(jnp.square(images), around)
    total = functools.reduce(jnp.add, [squares[..., i : i + channels] for i in range(size)])
    return images / (k + alpha * total) ** beta


@jax.jit
def batch_norm(
    x: Float[Array, "*b c"], scale: Float[Array, "c"], bias: Float[Array, "c"], *, epsilon: Scalar = 1e-5
) -> tuple[Float[Array, "*b c"], Float[Array, "c"], Float[Array, "c"]]:
    """Every channel to mean 0 and variance 1 over the batch and all places, then scaled and shifted.

    y = (x - mean) / sqrt(var + epsilon) * scale + bias.

    The gradient is the explicit one, dx = a dy + b (x - mean) + c with three numbers a channel, from two sums over the
    batch. Sums are float32 also where x has less.

    Args:
        x: `[..., c]`, anything in front.
        scale: `[c]`.
        bias: `[c]`.
        epsilon: Keeps the divisor from zero.

    Returns:
        y like x; mean `[c]` and variance `[c]` of the batch, divided by its size n, not n - 1. Of nothing, zeros.

    References:
        Ioffe, Szegedy, Batch normalization, https://arxiv.org/abs/1502.03167, algorithm 1.
    """
    return _batch_norm(x, scale, bias, jnp.asarray(epsilon, _wide(x)))


def _sums(*values: Array) -> list[Array]:
    return [v.sum(tuple(range(v.ndim - 1)), dtype=_wide(v)) for v in values]


def _wide(x: Array) -> jnp.dtype:
    return jnp.dtype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x.dtype


def _along(vector: Array, x: Array) -> Array:
    """[c] as [1 .. 1 c]."""
    return lax.expand_dims(vector, range(x.ndim - 1))


def _statistics(x: Array, epsilon: Array) -> tuple[Array, Array, Array]:
    count = max(x.size // x.shape[-1], 1) if x.shape[-1] else 1
    wide = x.astype(_wide(x))
    mean = _sums(wide)[0] / count
    var = _sums(jnp.square(wide - _along(mean, x)))[0] / count
    return mean, var, lax.rsqrt(var + epsilon)


# The gradient is traced once for all layers of one shape.
@jax.custom_vjp
def _batch_norm(x: Array, scale: Array, bias: Array, epsilon: Array) -> tuple[Array, Array, Array]:
    return _batch_norm_forward(x, scale, bias, epsilon)[0]


@jax.jit
def _batch_norm_forward(x: Array, scale: Array, bias: Array, epsilon: Array) -> tuple[Any, Any]:
    mean, var, inverse = _statistics(x, epsilon)
    centred = x - _along(mean, x).astype(x.dtype)
    factor = scale.astype(inverse.dtype) * inverse
    y = centred * _along(factor, x).astype(x.dtype) + _along(bias, x).astype(x.dtype)
    return (y, mean, var), (x, scale, mean, inverse)


_LARGE = 1 << 16
"""Values from which on one pass of a kernel is worth its call."""


def _slope_sums(x: Array, dy: Array, mean: Array) -> tuple[Array, Array]:
    """Sums of dy and of dy (x - mean) over all but the channels."""

    def plain(x: Array, dy: Array, mean: Array) -> tuple[Array, Array]:
        wide = dy.astype(_wide(x))
        total, product = _sums(wide, wide * (x.astype(_wide(x)) - _along(mean, x)))
        return total, product

    if x.dtype != jnp.float32 or x.size < _LARGE or not kernels.ready():
        return plain(x, dy, mean)
    rows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, x.shape[-1])
    return kernels.call("batch_norm_sums", plain, *rows, mean)


def _batch_norm_backward(saved: Any, slopes: Any) -> tuple[Array, ...]:
    return _batch_norm_gradient(*saved, *slopes)


@jax.jit
def _batch_norm_gradient(
    x: Array, scale: Array, mean: Array, inverse: Array, dy: Array, dmean: Array, dvar: Array
) -> tuple[Array, ...]:
    count = max(x.size // x.shape[-1], 1) if x.shape[-1] else 1
    wide, centred = dy.astype(_wide(x)), x.astype(_wide(x)) - _along(mean, x)
    dbias, product = _slope_sums(x, dy, mean)
    dscale = product * inverse
    factor = scale.astype(inverse.dtype) * inverse
    depth = (2 * dvar - factor * inverse * dscale) / count
    shift = (dmean - factor * dbias) / count
    dx = wide * _along(factor, x) + centred * _along(depth, x) + _along(shift, x)
    depsilon = -0.5 * (inverse * factor * dscale).sum()
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(scale.dtype), depsilon


_batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)
