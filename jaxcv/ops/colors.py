"""Hue. Brightness, contrast and saturation are in `jaxcv.ops.images`."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.jit
def adjust_hue(images: Float[Array, "b h w c"], shifts: Float[Array, " b"]) -> Float[Array, "b h w c"]:
    """Shift every pixel's hue, keeping its value and saturation (of HSV).

    Args:
        images: `[b, h, w, c]` in [0, 1]. Images with any other number of channels than three are returned unchanged.
        shifts: `[b]` in fractions of the colour circle, as in torchvision: 1/3 makes red green, 0 changes nothing.

    Returns:
        `[b, h, w, c]`.
    """
    if images.shape[-1] != 3:
        return images
    red, green, blue = (images[..., i] for i in range(3))
    most, least = jnp.maximum(jnp.maximum(red, green), blue), jnp.minimum(jnp.minimum(red, green), blue)
    chroma = most - least
    divisor = jnp.where(chroma > 0, chroma, 1.0).astype(images.dtype)
    sixths = jnp.where(
        most == red,
        (green - blue) / divisor,
        jnp.where(most == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    sixths = sixths + 6 * shifts[:, None, None]
    # Over the colour circle each channel is a trapezium: largest for two sixths, smallest for two, linear between.
    phase = sixths[..., None] + jnp.asarray([5, 3, 1], images.dtype)[None, None, None]
    phase = phase - 6 * jnp.floor(phase / 6)
    shifted = most[..., None] - chroma[..., None] * jnp.clip(jnp.minimum(phase, 4 - phase), 0, 1)
    # A shift of 0 returns the same bits.
    return jnp.where((shifts == 0)[:, None, None, None], images, shifted)
