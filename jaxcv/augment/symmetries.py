"""The eight symmetries of the square: transpositions, and classes that are turned and mirrored to give new ones."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxcv.types import Batch, Scalar


@jax.jit
def transpose(key: Array, batch: Batch, *, probability: Scalar = 0.5) -> Batch:
    """Exchange rows and columns; with mirroring both ways these are all eight symmetries of the square, exactly.

    Args:
        key: a PRNG key.
        batch: `image` `[b s s c]`, square, and perhaps `mask` and `pixel_weights` `[b s s]`. Other fields pass
            through.
        probability: of an example being transposed, in [0, 1].

    Returns:
        The batch with its images and masks, some of them transposed.

    Raises:
        ValueError: the images are not square.
    """
    _refuse_oblong(batch["image"])
    whether = jax.random.bernoulli(key, probability, (len(batch["image"]), 1, 1))
    moved = {n: batch[n].swapaxes(1, 2) for n in ("image", "mask", "pixel_weights") if n in batch}
    return batch | {n: jnp.where(whether if x.ndim == 3 else whether[..., None], x, batch[n]) for n, x in moved.items()}


def _refuse_oblong(images: Array) -> None:
    if images.shape[1] != images.shape[2]:
        raise ValueError(f"images of {images.shape[1]}x{images.shape[2]}: only squares have these symmetries")


@jax.jit
def class_symmetries(key: Array, batch: Batch, *, probability: Scalar = 1.0) -> Batch:
    """Turn by a quarter, a half or three quarters, or mirror, all examples of a class alike; each class its own way.

    A character that is turned or mirrored is another character, so there are eight times as many: for losses that
    compare the examples of one batch (pairs, triplets), which do not mind that a label means another one elsewhere.

    Args:
        key: a PRNG key.
        batch: `image` `[b s s c]`, square, and `label` `[b]`.
        probability: of a class being given one of the eight symmetries of the square, the identity among them.

    Returns:
        The batch with its images turned and mirrored.

    Raises:
        ValueError: the images are not square.

    References:
        Santoro et al., Meta-learning with memory-augmented neural networks, 2016, section 4.2 (turned characters as
        new classes); mirror images are added here.
    """
    images = batch["image"]
    _refuse_oblong(images)

    def drawn(label: Array) -> Array:
        which, whether = jax.random.split(jax.random.fold_in(key, label))
        return jax.random.bernoulli(which, 0.5, (3,)) & jax.random.bernoulli(whether, probability)

    transposed, turned, mirrored = (x.reshape(-1, 1, 1, 1) for x in jax.vmap(drawn)(batch["label"]).T)
    images = jnp.where(transposed, images.swapaxes(1, 2), images)
    images = jnp.where(turned, images[:, ::-1], images)
    return {**batch, "image": jnp.where(mirrored, images[:, :, ::-1], images)}
