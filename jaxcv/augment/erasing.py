"""Parts of a picture taken away."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxcv.augment.randomness import PRNGKey, uniform_rows
from jaxcv.types import Batch, Scalar


@jax.jit
def cutout(key: PRNGKey, batch: Batch, *, side: Scalar = 0.5, probability: Scalar = 1.0, fill: Scalar = 0.5) -> Batch:
    """Cover a rectangle at a random position of each picture.

    Its centre lies anywhere in the picture, so part of it may lie outside, as in the paper. Labels of every kind stay.

    Args:
        key: A random key.
        batch: `image` `[b, h, w, c]` float32 in [0, 1]. Other fields pass through.
        side: Of the rectangle, as a fraction of the picture's, at least 0.
        probability: Of covering a picture, in [0, 1].
        fill: What covers it.

    Returns:
        The batch with the same shapes. At side 0 the same pixels.

    References:
        DeVries, Taylor, Improved Regularization of Convolutional Neural Networks with Cutout,
        https://arxiv.org/abs/1708.04552, section 3.2.
    """
    image = batch["image"]
    uniform = uniform_rows(key, len(image), 3)
    sides = jnp.where(uniform[:, 2:] < probability, side, 0.0)
    hidden = inside_rectangle(uniform[:, :2], jnp.broadcast_to(sides, (len(image), 2)), image.shape[1:3])
    return {**batch, "image": jnp.where(hidden[..., None], fill, image)}


def inside_rectangle(
    centre: Float[Array, "b 2"], sides: Float[Array, "b 2"], image_size: tuple[int, int]
) -> Bool[Array, "b h w"]:
    """The pixels whose centre lies in a rectangle; centre and sides (x, y) as fractions of the picture's."""
    within = []
    for axis, side in ((1, image_size[0]), (0, image_size[1])):
        position = (jnp.arange(side, dtype=jnp.float32) + 0.5) / side
        distance = jnp.abs(position[None] - centre[:, axis, None])
        within.append(distance < sides[:, axis, None] / 2)
    return within[0][:, :, None] & within[1][:, None, :]
