"""What a one-stage detector is trained on: several pictures in one, then one resampling of the result."""

import functools

import jax

from jaxcv.augment.detection import detection
from jaxcv.augment.mosaic import mosaic as four_in_one
from jaxcv.augment.overlay import mixup_boxes
from jaxcv.augment.randomness import PRNGKey
from jaxcv.types import Batch, Scalar


@functools.partial(jax.jit, static_argnames=("size",))
def detector(
    key: PRNGKey,
    batch: Batch,
    *,
    mosaic: Scalar | None = None,
    mixup: Scalar | None = None,
    flip: Scalar = 0.0,
    flip_vertical: Scalar = 0.0,
    crop: Scalar = 0.0,
    color: Scalar = 0.0,
    size: tuple[int, int] | None = None,
) -> Batch:
    """Put four pictures into one and lay two over each other, each perhaps, then mirror, crop, zoom and recolour.

    Args:
        key: A random key.
        batch: `image` `[b, h, w, c]` float32 in [0, 1]; `boxes` `[b, m, 4]` xyxy in pixels, `classes` `[b, m]`, `valid`
            `[b, m]`, optionally `ignored` `[b, m]`. Other fields pass through.
        mosaic: Probability of `mosaic`, in [0, 1], with room for 2m boxes; None costs nothing.
        mixup: Probability of `mixup_boxes`, in [0, 1]; None costs nothing.
        flip: Probability of mirroring left and right, in [0, 1].
        flip_vertical: Probability of mirroring top and bottom, in [0, 1].
        crop: As in `detection`.
        color: As in `detection`.
        size: (height, width) of the new pictures in pixels; by default those of the old ones.

    Returns:
        The batch; m is larger where pictures are put together.

    References:
        Bochkovskiy et al., YOLOv4, https://arxiv.org/abs/2004.10934, section 3.3; Zhang et al., Bag of Freebies for
        Training Object Detection Neural Networks, https://arxiv.org/abs/1902.04103, section 3.1.
    """
    keys = jax.random.split(key, 3)
    m = batch["boxes"].shape[1]
    if mosaic is not None:
        batch = four_in_one(keys[1], batch, probability=mosaic, max_boxes=2 * m)
    if mixup is not None:
        batch = mixup_boxes(keys[2], batch, probability=mixup)
    return detection(keys[0], batch, flip=flip, flip_vertical=flip_vertical, crop=crop, color=color, size=size)
