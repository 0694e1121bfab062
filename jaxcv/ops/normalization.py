"""Normalisation, over the batch and across channels. Images are NHWC."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxcv.ops.platform import on_cpu
from jaxcv.types import Scalar


@functools.partial(jax.jit, static_argnames=("size",))
def local_response_norm(
    images: Float[Array, "b h w c"], *, size: int = 5, alpha: Scalar = 1e-4, beta: Scalar = 0.75, k: Scalar = 2.0
) -> Float[Array, "b h w c"]:
    """Divide every activation by a power of the squared activations of neighbouring channels at its position.

    out[..., i] = images[..., i] / (k + alpha * sum over j of images[..., j]^2)^beta, j from i - size // 2 to
    i + (size - 1) // 2 where such channels exist. alpha is the paper's: torch and Caffe divide theirs by `size`.

    Args:
        images: `[b, h, w, c]`.
        size: Number n of channels summed over, the activation's own included.
        alpha: Weight of the sum of squares.
        beta: Exponent.
        k: Added to the divisor; must be positive where activations may all be zero.

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


@functools.partial(jax.jit, static_argnames=("relu",))
def batch_norm(
    x: Float[Array, "*b c"],
    scale: Float[Array, "c"],
    bias: Float[Array, "c"],
    *,
    epsilon: Scalar = 1e-5,
    relu: bool = False,
) -> tuple[Float[Array, "*b c"], Float[Array, "c"], Float[Array, "c"]]:
    """Batch normalisation by the statistics of the batch: mean 0, variance 1 per channel, then scale and bias.

    y = (x - mean) / sqrt(var + epsilon) * scale + bias.

    The gradient is explicit: dx = a dy + b (x - mean) + c with three numbers per channel, from two sums over the batch.
    Sums are at least float32.

    Args:
        x: `[..., c]`, any leading axes.
        scale: `[c]`.
        bias: `[c]`.
        epsilon: Added to the variance.
        relu: Apply a ReLU to y; on a CPU faster than a separate one, since the two gradients are computed together.

    Returns:
        y like x; mean `[c]` and variance `[c]` of the batch (divided by n, not n - 1), zeros for an empty one.

    References:
        Ioffe, Szegedy, Batch normalization, https://arxiv.org/abs/1502.03167, algorithm 1.
    """
    return _batch_norm(x, scale, bias, jnp.asarray(epsilon, _wide(x)), relu)


@jax.jit
def instance_norm(
    x: Float[Array, "*b h w c"], scale: Float[Array, "c"], bias: Float[Array, "c"], *, epsilon: Scalar = 1e-5
) -> Float[Array, "*b h w c"]:
    """Normalisation of every channel of every image by its own mean and variance, then scale and bias.

    y = (x - mean) / sqrt(var + epsilon) * scale + bias. Statistics are at least float32.

    Args:
        x: `[..., h, w, c]`.
        scale: `[c]`.
        bias: `[c]`.
        epsilon: Added to the variance.

    Returns:
        Like x.

    References:
        Ulyanov, Vedaldi, Lempitsky, Instance normalization, https://arxiv.org/abs/1607.08022, equation 2.
    """
    wide, count = x.astype(_wide(x)), max(x.shape[-3] * x.shape[-2], 1)
    centred = wide - wide.sum((-3, -2), keepdims=True) / count
    var = jnp.square(centred).sum((-3, -2), keepdims=True) / count
    factor = lax.rsqrt(var + epsilon) * _along(scale, x).astype(wide.dtype)
    return (centred * factor + _along(bias, x).astype(wide.dtype)).astype(x.dtype)


def _sums(*values: Array) -> list[Array]:
    return [v.sum(tuple(range(v.ndim - 1)), dtype=_wide(v)) for v in values]


def _wide(x: Array) -> jnp.dtype:
    return jnp.dtype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x.dtype


def _along(vector: Array, x: Array) -> Array:
    """[c] as [1 ... 1 c]."""
    return lax.expand_dims(vector, range(x.ndim - 1))


def _plain_statistics(x: Array) -> tuple[Array, Array]:
    """Mean and variance of every channel."""
    count = max(x.size // x.shape[-1], 1) if x.shape[-1] else 1
    wide = x.astype(_wide(x))
    mean = _sums(wide)[0] / count
    return mean, _sums(jnp.square(wide - _along(mean, x)))[0] / count


_statistics = on_cpu("batch_norm_statistics", _plain_statistics)


def _affine(x: Array, mean: Array, factor: Array, bias: Array) -> Array:
    """(x - mean) factor + bias, in the precision of x."""
    mean, factor, bias = (_along(vector, x).astype(x.dtype) for vector in (mean, factor, bias))
    return (x - mean) * factor + bias


def _cut(x: Array, dy: Array, mean: Array, factor: Array, bias: Array, relu: bool) -> Array:
    """The cotangents of the output of `_affine`; with `relu`, zero where that output is not positive."""
    wide = dy.astype(_wide(x))
    return jnp.where(_affine(x, mean, factor, bias) > 0, wide, jnp.zeros_like(wide)) if relu else wide


# Forward and gradient are jitted, so each is traced once for all layers of one shape.
@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _batch_norm(x: Array, scale: Array, bias: Array, epsilon: Array, relu: bool) -> tuple[Array, Array, Array]:
    return _batch_norm_forward(x, scale, bias, epsilon, relu)[0]


@functools.partial(jax.jit, static_argnums=(4,))
def _batch_norm_forward(x: Array, scale: Array, bias: Array, epsilon: Array, relu: bool) -> tuple[Any, Any]:
    mean, var = _statistics(x)
    inverse = lax.rsqrt(var + epsilon)
    y = _affine(x, mean, scale.astype(inverse.dtype) * inverse, bias)
    saved = x, scale, bias, mean, inverse
    return (jax.nn.relu(y) if relu else y, mean, var), saved


def _plain_gradient_sums(
    x: Array, dy: Array, mean: Array, factor: Array, bias: Array, *, relu: bool
) -> tuple[Array, Array]:
    """Sums of dy and of dy (x - mean) over all but the channels; with `relu` where y is positive."""
    wide, centred = _cut(x, dy, mean, factor, bias, relu), x.astype(_wide(x)) - _along(mean, x)
    total, product = _sums(wide, wide * centred)
    return total, product


_gradient_sums = on_cpu("batch_norm_sums", _plain_gradient_sums)


def _batch_norm_backward(relu: bool, saved: Any, cotangents: Any) -> tuple[Array, ...]:
    return _batch_norm_gradient(*saved, *cotangents, relu)


@functools.partial(jax.jit, static_argnums=(8,))
def _batch_norm_gradient(
    x: Array, scale: Array, bias: Array, mean: Array, inverse: Array, dy: Array, dmean: Array, dvar: Array, relu: bool
) -> tuple[Array, ...]:
    count = max(x.size // x.shape[-1], 1) if x.shape[-1] else 1
    factor = scale.astype(inverse.dtype) * inverse
    wide, centred = _cut(x, dy, mean, factor, bias, relu), x.astype(_wide(x)) - _along(mean, x)
    dbias, product = _gradient_sums(x, dy, mean, factor, bias.astype(factor.dtype), relu=relu)
    dscale = product * inverse
    depth = (2 * dvar - factor * inverse * dscale) / count
    shift = (dmean - factor * dbias) / count
    dx = wide * _along(factor, x) + centred * _along(depth, x) + _along(shift, x)
    depsilon = -0.5 * (inverse * factor * dscale).sum()
    return dx.astype(x.dtype), dscale.astype(scale.dtype), dbias.astype(scale.dtype), depsilon


_batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)
