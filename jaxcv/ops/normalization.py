"""Normalisation across channels: nothing is learnt. Images are NHWC."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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
