"""Augmentation of pictures with a class for every pixel."""

import functools

import jax
import jax.numpy as jnp

from jaxcv.augment.colors import recolored
from jaxcv.augment.geometry import crop, draw, still, warped
from jaxcv.augment.randomness import PRNGKey, uniform_rows
from jaxcv.augment.symmetries import transpose
from jaxcv.types import Batch, Scalar


@functools.partial(jax.jit, static_argnames=("size",))
def segmentation(
    key: PRNGKey,
    batch: Batch,
    *,
    flip: Scalar = 0.0,
    flip_vertical: Scalar = 0.0,
    transposed: Scalar | None = None,
    min_area: Scalar | None = None,
    max_ratio: Scalar | None = None,
    shift: Scalar | None = None,
    scale: Scalar | None = None,
    color: Scalar = 0.0,
    rotate: Scalar | None = None,
    shear: Scalar | None = None,
    elastic: Scalar | None = None,
    hue: Scalar | None = None,
    warp_probability: Scalar | None = None,
    size: tuple[int, int] | None = None,
) -> Batch:
    """Recolour, mirror, crop, shift, scale, rotate, shear and bend pictures; masks move with the pixels.

    Outside, the picture repeats its edge and the mask is 255, to be ignored. Options left at None cost nothing.

    Args:
        key: A random key.
        batch: `image` `[b, h, w, c]` float32 in [0, 1]; `mask` `[b, h, w]`. Other fields pass through, or move as in
            `warp`.
        flip: Probability of mirroring left and right, in [0, 1].
        flip_vertical: Probability of mirroring top and bottom, in [0, 1].
        transposed: Probability of exchanging rows and columns of the result, a square, in [0, 1].
        min_area: A window of between this fraction of the picture's area and all of it is shown, evenly; in (0, 1].
        max_ratio: The window's width by height is up to this many times the picture's, or that divided by this; at
            least 1.
        shift: Up to this fraction of the side, either way, along each axis.
        scale: The picture is shown at a factor in [1 / (1 + scale), 1 + scale] of its size, evenly on a log scale.
        color: Brightness, contrast and saturation are scaled by factors in [1 - color, 1 + color); at least 0.
        rotate: Up to this many degrees, either way.
        shear: Along x by up to this many degrees, either way; below 90.
        elastic: How near to folding the picture is bent, in [0, 1); see `warp`.
        hue: Up to this fraction of the colour circle, either way, in [0, 0.5].
        warp_probability: Of resampling a picture at all, in [0, 1]: the others keep their pixels as they are, so that
            training sees the sharpness and the noise of testing too. None: all are resampled.
        size: (height, width) in pixels of the part that is cut out of the result at a random position; None: all of it.

    Returns:
        The batch with the same shapes, but for `size`. At strength 0 the same pixels and classes.

    References:
        Ronneberger et al., U-Net, https://arxiv.org/abs/1505.04597, section 3.1.
    """
    uniform = draw(key, batch, elastic=elastic)
    if warp_probability is not None:
        chosen = uniform_rows(jax.random.fold_in(key, 3), len(uniform), 1) < warp_probability
        uniform = jnp.where(chosen, uniform, still(uniform))
    image = recolored(uniform[:, 5:9], batch["image"], brightness=color, contrast=color, saturation=color, hue=hue)
    batch = warped(
        uniform,
        {**batch, "image": image},
        flip=flip,
        flip_vertical=flip_vertical,
        min_area=min_area,
        max_ratio=max_ratio,
        shift=shift,
        scale=scale,
        rotate=rotate,
        shear=shear,
        elastic=elastic,
    )
    if size is not None:
        batch = crop(jax.random.fold_in(key, 1), batch, size=size)
    return batch if transposed is None else transpose(jax.random.fold_in(key, 2), batch, probability=transposed)
