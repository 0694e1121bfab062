"""Augmentation of pictures with boxes."""

import functools

import jax
import jax.numpy as jnp

from jaxcv.augment.colors import recolored
from jaxcv.augment.geometry import about_centre, bend, compose, draw, mirror, window_matrix
from jaxcv.augment.moving import move
from jaxcv.augment.randomness import PRNGKey
from jaxcv.types import Batch, Scalar

_COLUMNS = 12


@functools.partial(jax.jit, static_argnames=("size",))
def detection(
    key: PRNGKey,
    batch: Batch,
    *,
    flip: Scalar = 0.0,
    flip_vertical: Scalar = 0.0,
    crop: Scalar = 0.0,
    color: Scalar = 0.0,
    min_visible: Scalar = 0.3,
    rotate: Scalar | None = None,
    shear: Scalar | None = None,
    elastic: Scalar | None = None,
    hue: Scalar | None = None,
    size: tuple[int, int] | None = None,
) -> Batch:
    """Mirror, crop, zoom, rotate, shear, bend and recolour pictures; boxes move with the pixels.

    A window whose four sides lie up to `crop` / 2 of the picture's side inside or outside the picture's is stretched to
    the picture's size, by one bilinear resampling: random scale, position and aspect ratio at once, as darknet does it.
    What lies outside the picture is grey, 0.5. Options left at None cost nothing.

    A box becomes the upright box around what became of it, cut to the picture. One that keeps less than `min_visible`
    of its area in it is no truth any more (`valid` False); if the batch has `ignored` and some of it can still be seen,
    it is ignored instead. Boxes around rotated boxes are wider than the object: rotate by little.

    Args:
        key: A random key.
        batch: `image` `[b, h, w, c]` float32 in [0, 1]; `boxes` `[b, m, 4]` xyxy in pixels, `valid` `[b, m]`,
            optionally `ignored` `[b, m]`. Other fields pass through, or move as in `warp`.
        flip: Probability of mirroring left and right, in [0, 1].
        flip_vertical: Probability of mirroring top and bottom, in [0, 1].
        crop: The picture is shown at between 1 / (1 + crop) and 1 / (1 - crop) of its size, moved by up to crop / 2 of
            it; from 0 to below 1 (counts as 0.9 above that).
        color: Brightness, contrast and saturation are scaled by factors in [1 - color, 1 + color); at least 0.
        min_visible: Fraction of its area in [0, 1] that a truth must keep.
        rotate: Up to this many degrees, either way.
        shear: Along x by up to this many degrees, either way; below 90.
        elastic: How near to folding the picture is bent, in [0, 1); see `warp`.
        hue: Up to this fraction of the colour circle, either way, in [0, 0.5].
        size: (height, width) of the new pictures in pixels; by default those of the old ones. Training at several
            sizes wants an augmentation for each; see `Experiment.augment`.

    Returns:
        The batch with the same shapes, but for `size`. At strength 0 the same pixels and boxes; rows that are neither
        truth nor ignored hold zeros.

    References:
        Redmon, Farhadi, YOLO9000, https://arxiv.org/abs/1612.08242, section 2 ("Training for detection").
    """
    h, w = batch["image"].shape[1:3]
    size = size or (h, w)
    uniform = draw(key, batch, elastic=elastic, columns=_COLUMNS)
    sides = jnp.asarray([w, h, w, h], jnp.float32)
    moved = jnp.minimum(crop, 0.9) / 2 * (2 * uniform[:, 0:4] - 1)
    matrices = window_matrix((jnp.asarray([0.0, 0.0, 1.0, 1.0])[None] + moved) * sides[None], size)
    upright = rotate is None and shear is None
    if not upright:
        still = jnp.full_like(uniform[:, 0], 0.5)
        turned = jnp.stack([uniform[:, 9], still, uniform[:, 10], still, still], axis=-1)
        matrices = compose(matrices, about_centre(turned, size, rotate=rotate, shear=shear))
    matrices = mirror(matrices, uniform[:, 4] < flip, size)
    matrices = mirror(matrices, uniform[:, 11] < flip_vertical, size, vertical=True)
    image = recolored(uniform[:, 5:9], batch["image"], brightness=color, contrast=color, saturation=color, hue=hue)
    return move(
        uniform,
        {**batch, "image": image},
        matrices,
        size=size,
        upright=upright,
        control=None if elastic is None else bend(uniform[:, _COLUMNS:], elastic, size),
        fill=0.5,
        min_visible=min_visible,
    )
