"""Two labelled pictures in one. The other one is the next of the batch, which comes shuffled.

Labels become probabilities: `label` `[b, k]` float32, as `losses.cross_entropy` takes them too.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.augment.erasing import inside_rectangle
from jaxcv.augment.randomness import PRNGKey, compiled_apart, uniform_rows
from jaxcv.types import Batch, Scalar


@functools.partial(jax.jit, static_argnames=("num_classes",))
def mixup(key: PRNGKey, batch: Batch, *, num_classes: int, alpha: Scalar = 0.2) -> Batch:
    """Blend each picture and its label with those of another example.

    Args:
        key: A random key.
        batch: `image` `[b, h, w, c]`; `label` `[b]` integers, or `[b, k]` probabilities. Other fields pass through.
        num_classes: k.
        alpha: The fraction of an example's own picture is drawn from Beta(alpha, alpha); at 0 it is 1.

    Returns:
        The batch with the same shapes, but `label` `[b, k]` float32.

    References:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, https://arxiv.org/abs/1710.09412, section 2.
    """
    uniform = uniform_rows(key, len(batch["image"]), 1)
    fraction = _beta(key, len(uniform), alpha)
    return {
        **batch,
        "image": compiled_apart(uniform, _blend, batch["image"], fraction[:, None, None, None]),
        "label": _blend(_probabilities(batch["label"], num_classes), fraction[:, None]),
    }


@functools.partial(jax.jit, static_argnames=("num_classes",))
def cutmix(key: PRNGKey, batch: Batch, *, num_classes: int, alpha: Scalar = 1.0) -> Batch:
    """Replace a rectangle of each picture by that of another example, and as large a fraction of its label.

    Args:
        key: A random key.
        batch: `image` `[b, h, w, c]`; `label` `[b]` integers, or `[b, k]` probabilities. Other fields pass through.
        num_classes: k.
        alpha: The fraction of the picture that stays is drawn from Beta(alpha, alpha), before the rectangle is cut to
            the picture; at 0 it is 1.

    Returns:
        The batch with the same shapes, but `label` `[b, k]` float32, by the pixels counted.

    References:
        Yun et al., CutMix, https://arxiv.org/abs/1905.04899, section 3.1 and appendix A.
    """
    image = batch["image"]
    fraction_key, position_key = jax.random.split(key)
    sides = jnp.sqrt(jnp.maximum(1 - _beta(fraction_key, len(image), alpha), 0.0))[:, None]
    uniform = uniform_rows(position_key, len(image), 2)
    other = inside_rectangle(uniform, jnp.broadcast_to(sides, (len(image), 2)), image.shape[1:3])
    stays = 1 - other.astype(jnp.float32).mean((1, 2))

    def patched(image: Array, other: Array) -> Array:
        return jnp.where(other[..., None], jnp.roll(image, -1, axis=0), image)

    return {
        **batch,
        "image": compiled_apart(uniform, patched, image, other),
        "label": _blend(_probabilities(batch["label"], num_classes), stays[:, None]),
    }


def _beta(key: PRNGKey, rows: int, alpha: Scalar) -> Float[Array, " b"]:
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(rows))
    positive = jnp.maximum(jnp.asarray(alpha, jnp.float32), 1e-3)
    # Beta is a gamma number over the sum of two; as logarithms, which small numbers of small alpha do not leave.
    pairs = jax.vmap(lambda one: jax.random.loggamma(one, positive, (2,)))(keys)
    return jnp.where(alpha > 0, jax.nn.sigmoid(pairs[:, 0] - pairs[:, 1]), 1.0)


def _blend(own: Array, fraction: Array) -> Array:
    # One product, and so one way to round: of two, XLA may merge either with the sum, and for other batches the other.
    return own + (1 - fraction) * (jnp.roll(own, -1, axis=0) - own)


def _probabilities(label: Array, num_classes: int) -> Float[Array, "b k"]:
    if jnp.issubdtype(label.dtype, jnp.floating):
        return label.astype(jnp.float32)
    return jax.nn.one_hot(label, num_classes, dtype=jnp.float32)
