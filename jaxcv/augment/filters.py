"""Pictures blurred, and pictures without colours."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.augment.randomness import PRNGKey, uniform_rows
from jaxcv.types import Batch, Scalar


@functools.partial(jax.jit, static_argnames=("kernel_size",))
def blur(
    key: PRNGKey,
    batch: Batch,
    *,
    probability: Scalar = 0.5,
    min_sigma: Scalar = 0.1,
    max_sigma: Scalar = 2.0,
    kernel_size: int = 9,
) -> Batch:
    """Blur pictures by Gaussian kernels, each of a width of its own; beyond the picture lies its mirror image.

    Args:
        key: A random key.
        batch: `image` `[b, h, w, c]` float32 in [0, 1]. Other fields pass through.
        probability: Of blurring a picture, in [0, 1].
        min_sigma: Smallest standard deviation of a kernel in pixels, above 0.
        max_sigma: Largest one.
        kernel_size: Pixels to which kernels are cut, odd; a tenth of the side in the paper.

    Returns:
        The batch with the same shapes.

    References:
        Chen et al., A Simple Framework for Contrastive Learning, https://arxiv.org/abs/2002.05709, appendix A.
    """
    image = batch["image"]
    uniform = uniform_rows(key, len(image), 2)
    blurred = gaussian(image, min_sigma + (max_sigma - min_sigma) * uniform[:, 1], kernel_size)
    return {**batch, "image": jnp.where((uniform[:, 0] < probability)[:, None, None, None], blurred, image)}


@jax.jit
def grayscale(key: PRNGKey, batch: Batch, *, probability: Scalar = 0.2) -> Batch:
    """Take the colours out of pictures, which keep their channels.

    Args:
        key: A random key.
        batch: `image` `[b, h, w, c]` float32 in [0, 1]. Other fields pass through.
        probability: Of making a picture grey, in [0, 1].

    Returns:
        The batch with the same shapes.
    """
    image = batch["image"]
    chosen = uniform_rows(key, len(image), 1)[:, :, None, None] < probability
    return {**batch, "image": jnp.where(chosen, grays(image), image)}


def grays(image: Float[Array, "b h w c"]) -> Float[Array, "b h w 1"]:
    """Luma of three channels, as torchvision weighs them; of any other number the mean."""
    if image.shape[-1] != 3:
        return image.mean(-1, keepdims=True)
    return 0.2989 * image[..., :1] + 0.587 * image[..., 1:2] + 0.114 * image[..., 2:]


def gaussian(image: Float[Array, "b h w c"], sigma: Float[Array, " b"], size: int) -> Float[Array, "b h w c"]:
    """Each picture by a kernel of its own standard deviation, cut to `size` pixels."""
    distance = jnp.arange(size, dtype=sigma.dtype) - (size - 1) / 2
    weight = jnp.exp(-0.5 * (distance[None] / sigma[:, None]) ** 2)
    weight = weight / weight.sum(1, keepdims=True)
    return _along(_along(image, weight, 1), weight, 2)


def smoothed(image: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """The mean of three by three pixels."""
    thirds = jnp.full((len(image), 3), 1 / 3, image.dtype)
    return _along(_along(image, thirds, 1), thirds, 2)


def _along(image: Array, weight: Array, axis: int) -> Array:
    """Filtered along one axis by a row of weights for each picture."""
    size, side = weight.shape[1], image.shape[axis]
    padding: Sequence[tuple[int, int]] = [(size // 2, size // 2) if i == axis else (0, 0) for i in range(4)]
    padded = jnp.pad(image, padding, mode="reflect" if side > 1 else "edge")
    shifted = (jax.lax.slice_in_dim(padded, i, i + side, axis=axis) for i in range(size))
    return functools.reduce(jnp.add, (one * weight[:, i, None, None, None] for i, one in enumerate(shifted)))
