"""Augmentation of pictures that have one label each, and of pairs of pictures."""

import jax

from jaxcv.augment import filters
from jaxcv.augment.colors import recolored
from jaxcv.augment.geometry import draw, warped
from jaxcv.augment.rand_augment import rand_augment
from jaxcv.augment.randomness import PRNGKey
from jaxcv.types import Batch, Scalar


@jax.jit
def images(
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
    randaugment: Scalar | None = None,
    blur: Scalar | None = None,
    gray: Scalar | None = None,
) -> Batch:
    """Recolour, mirror, shift, scale, rotate, shear and bend pictures, by one bilinear resampling.

    What lies outside the picture repeats its edge. Options left at None cost nothing; with mirroring alone nothing is
    resampled.

    Args:
        key: A random key.
        batch: `image` `[b, h, w, c]` float32 in [0, 1]; of pairs also `other`, likewise, which is changed by numbers of
            its own. Other fields pass through, or move as in `warp`.
        flip: Probability of mirroring left and right, in [0, 1].
        shift: Up to this fraction of the side, either way, along each axis.
        scale: The picture is shown at a factor in [1 / (1 + scale), 1 + scale] of its size, evenly on a log scale.
        color: Brightness, contrast and saturation are scaled by factors in [1 - color, 1 + color); at least 0.
        rotate: Up to this many degrees, either way.
        shear: Along x by up to this many degrees, either way; below 90.
        elastic: How near to folding the picture is bent, in [0, 1); see `warp`.
        hue: Up to this fraction of the colour circle, either way, in [0, 0.5].
        randaugment: Magnitude of `rand_augment`'s two operations, which then follow, in [0, 30].
        blur: Probability of `blur`, which then follows, in [0, 1].
        gray: Probability of `grayscale`, which then follows, in [0, 1].

    Returns:
        The batch with the same shapes. At strength 0 the same pixels.
    """
    uniform = draw(key, batch, elastic=elastic)
    image = recolored(uniform[:, 5:9], batch["image"], brightness=color, contrast=color, saturation=color, hue=hue)
    options = {"flip": flip, "shift": shift, "scale": scale, "rotate": rotate, "shear": shear, "elastic": elastic}
    out = warped(uniform, {**batch, "image": image}, **options)
    more = {"randaugment": randaugment, "blur": blur, "gray": gray}
    keys = [jax.random.fold_in(key, i) for i in (2, 3, 4)]  # 1 is for the other picture of a pair
    if randaugment is not None:
        out = rand_augment(keys[0], out, magnitude=randaugment)
    if blur is not None:
        out = filters.blur(keys[1], out, probability=blur)
    if gray is not None:
        out = filters.grayscale(keys[2], out, probability=gray)
    if "other" in batch:
        second = images(jax.random.fold_in(key, 1), {"image": batch["other"]}, color=color, hue=hue, **options, **more)
        out["other"] = second["image"]
    return out
