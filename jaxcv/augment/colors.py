"""What colour things are: brightness, contrast, saturation, hue, and the main directions of a set's own colours."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.augment.randomness import PRNGKey, around_one, uniform_rows
from jaxcv.ops import adjust_colors, adjust_hue
from jaxcv.types import Batch, Scalar


@jax.jit
def colors(
    key: PRNGKey,
    batch: Batch,
    *,
    brightness: Scalar = 0.0,
    contrast: Scalar = 0.0,
    saturation: Scalar = 0.0,
    hue: Scalar | None = None,
) -> Batch:
    """Recolour pictures, each by factors of its own.

    Args:
        key: A random key.
        batch: `image` `[b, h, w, c]` float32 in [0, 1]. Other fields pass through.
        brightness: Brightness is scaled by a factor in [1 - brightness, 1 + brightness); at least 0.
        contrast: The distance from the picture's mean grey is, likewise.
        saturation: The distance of each pixel from its own grey is, likewise.
        hue: Up to this fraction of the colour circle, either way, in [0, 0.5]; None costs nothing.

    Returns:
        The batch with the same shapes, colours cut to [0, 1]. At strength 0 the same pixels.
    """
    uniform = uniform_rows(key, len(batch["image"]), 4)
    image = recolored(uniform, batch["image"], brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
    return {**batch, "image": image}


@jax.jit
def pca_colors(key: PRNGKey, batch: Batch, *, components: Float[Array, "3 3"], strength: Scalar = 0.1) -> Batch:
    """Shift all pixels of a picture by one random colour, along the directions in which the set's colours vary.

    Args:
        key: A random key.
        batch: `image` `[b, h, w, 3]` float32 in [0, 1]. Other fields pass through.
        components: `[3, 3]`, each row a direction as long as the standard deviation along it, from `principal_colors`.
        strength: Standard deviation of the factor of each row, at least 0.

    Returns:
        The batch with the same shapes, colours cut to [0, 1]. At strength 0 the same pixels.

    References:
        Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012, section 4.1. It
        multiplies by the eigenvalues, which are squares of colours; their roots are colours, and of the size in use.
    """
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(len(batch["image"])))
    factors = strength * jax.vmap(lambda one: jax.random.normal(one, (3,)))(keys)
    shifts = (factors[:, :, None] * components[None]).sum(1)
    return {**batch, "image": jnp.clip(batch["image"] + shifts[:, None, None], 0.0, 1.0)}


def recolored(
    uniform: Float[Array, "b 4"],
    image: Float[Array, "b h w c"],
    *,
    brightness: Scalar,
    contrast: Scalar,
    saturation: Scalar,
    hue: Scalar | None,
) -> Float[Array, "b h w c"]:
    """`colors` by numbers that were drawn already, in this order."""
    strengths = (brightness, contrast, saturation)
    image = adjust_colors(image, *(around_one(uniform[:, i], strength) for i, strength in enumerate(strengths)))
    return image if hue is None else adjust_hue(image, hue * (2 * uniform[:, 3] - 1))
