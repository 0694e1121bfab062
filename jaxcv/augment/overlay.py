"""Two pictures with boxes laid over each other."""

import jax
import jax.numpy as jnp

from jaxcv.augment.randomness import PRNGKey, compiled_apart, uniform_rows
from jaxcv.types import Batch, Scalar


@jax.jit
def mixup_boxes(key: PRNGKey, batch: Batch, *, probability: Scalar = 1.0, fraction: Scalar = 0.5) -> Batch:
    """Blend each picture with the next of the batch, which is shuffled; the boxes of both are truths.

    Args:
        key: A random key.
        batch: `image` `[b, h, w, c]`; `boxes` `[b, m, 4]` xyxy in pixels, `valid` `[b, m]`, `classes` `[b, m]`,
            optionally `ignored` `[b, m]`. Other fields pass through.
        probability: Of blending an example, in [0, 1]; the others keep picture and boxes.
        fraction: The own picture's fraction is drawn evenly between this and 1 - this; in [0, 0.5], 0.5: always halves.

    Returns:
        The batch; its boxes are `[b, 2m, ...]`, the own ones first.

    References:
        Zhang et al., Bag of Freebies for Training Object Detection Neural Networks, https://arxiv.org/abs/1902.04103,
        section 3.1. Shares near one half there too, from Beta(1.5, 1.5); losses are not weighted by them here.
    """
    image = batch["image"]
    uniform = uniform_rows(key, len(image), 2)
    chosen = uniform[:, 0] < probability
    own = jnp.where(chosen, fraction + (1 - 2 * fraction) * uniform[:, 1], 1.0)[:, None, None, None]

    def blend(image: jax.Array, own: jax.Array) -> jax.Array:
        return own * image + (1 - own) * jnp.roll(image, -1, axis=0)

    fields = {name: batch[name] for name in ("boxes", "valid", "classes", "ignored") if name in batch}
    both = {}
    for name, value in fields.items():
        keep = chosen.reshape(-1, *(1,) * (value.ndim - 1))
        other = jnp.where(keep, jnp.roll(value, -1, axis=0), jnp.zeros_like(value))
        both[name] = jnp.concatenate([value, other], axis=1)
    return {**batch, **both, "image": compiled_apart(uniform, blend, image, own)}
