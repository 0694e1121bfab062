"""Augmentation: pure `(key, batch) -> batch` on the device, inside the training step.

Jitted; strengths are keyword-only and may be tracers; strength 0 leaves the batch as it is. Every example draws from a
key of its own. What marks a place in the picture moves with the picture.

    detection    pictures with boxes: mirror, crop and zoom, colour
    images       pictures with a label: mirror, shift, rotate, scale, colour
"""

from jaxcv.augment.classification import images
from jaxcv.augment.detection import detection

__all__ = ["detection", "images"]
