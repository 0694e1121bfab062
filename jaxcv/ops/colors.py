"""Hue: the one change of colour that is not linear in the pixels. Brightness and its kin are in `jaxcv.ops.images`."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.jit
def adjust_hue(images: Float[Array, "b h w c"], shifts: Float[Array, " b"]) -> Float[Array, "b h w c"]:
    """Turn every pixel's hue, keeping its value and saturation (of HSV).

    Args:
        images: `[b, h, w, c]` in [0, 1]. Pictures of other than three channels have no hue and stay as they are.
        shifts: `[b]` in fractions of the colour circle, as in torchvision: 1/3 makes red green, 0 leaves the picture.

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
    # Along the circle each channel is a trapezium: full for two sixths, empty for two, and ramps between.
    place = sixths[..., None] + jnp.asarray([5, 3, 1], images.dtype)[None, None, None]
    place = place - 6 * jnp.floor(place / 6)
    turned = most[..., None] - chroma[..., None] * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)
    # A shift of nothing leaves the bits.
    return jnp.where((shifts == 0)[:, None, None, None], images, turned)
