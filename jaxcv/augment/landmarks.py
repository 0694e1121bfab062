"""Augmentation of pictures with points."""

import functools

import jax

from jaxcv.augment.colors import recolored
from jaxcv.augment.geometry import draw, warped
from jaxcv.augment.randomness import PRNGKey
from jaxcv.types import Batch, Scalar

FACE_68 = (
    *range(16, -1, -1),  # jaw
    *range(26, 16, -1),  # brows
    *range(27, 31),  # ridge of the nose
    *range(35, 30, -1),  # nostrils
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),  # eyes
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),  # outer lips
    *(64, 63, 62, 61, 60, 67, 66, 65),  # inner lips
)
"""`swap` of the 68 points of a face (300-W, iBUG, Multi-PIE), counted from 0."""

COCO_17 = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
"""`swap` of COCO's 17 key points of a person, counted from 0."""


@functools.partial(jax.jit, static_argnames=("swap",))
def landmarks(
    key: PRNGKey,
    batch: Batch,
    *,
    flip: Scalar = 0.0,
    shift: Scalar | None = None,
    scale: Scalar | None = None,
    color: Scalar = 0.0,
    rotate: Scalar | None = None,
    shear: Scalar | None = None,
    elastic: Scalar | None = None,
    hue: Scalar | None = None,
    swap: tuple[int, ...] | None = None,
) -> Batch:
    """Recolour, mirror, shift, scale, rotate, shear and bend pictures; points move with the pixels.

    What lies outside the picture repeats its edge. Options left at None cost nothing.

    Args:
        key: A random key.
        batch: `image` `[b, h, w, c]` float32 in [0, 1]; `points` `[b, p, 2]` of (x, y) in pixels, perhaps `visible`
            `[b, p]`. Other fields pass through, or move as in `warp`.
        flip: Probability of mirroring left and right, in [0, 1].
        shift: Up to this fraction of the side, either way, along each axis.
        scale: The picture is shown at a factor in [1 / (1 + scale), 1 + scale] of its size, evenly on a log scale.
        color: Brightness, contrast and saturation are scaled by factors in [1 - color, 1 + color); at least 0.
        rotate: Up to this many degrees, either way.
        shear: Along x by up to this many degrees, either way; below 90.
        elastic: How near to folding the picture is bent, in [0, 1); see `warp`.
        hue: Up to this fraction of the colour circle, either way, in [0, 0.5].
        swap: For each point the one that it becomes in the mirror image, a left eye that of the right: `FACE_68`,
            `COCO_17`. None: points have no sides.

    Returns:
        The batch with the same shapes. Points outside the picture stay where they are, and are not `visible`.
    """
    uniform = draw(key, batch, elastic=elastic)
    image = recolored(uniform[:, 5:9], batch["image"], brightness=color, contrast=color, saturation=color, hue=hue)
    return warped(
        uniform,
        {**batch, "image": image},
        flip=flip,
        shift=shift,
        scale=scale,
        rotate=rotate,
        shear=shear,
        elastic=elastic,
        swap=swap,
    )
