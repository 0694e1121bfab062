"""Region proposals from a segmentation of the picture, on the host: what R-CNN and Fast R-CNN look at.

A proposer is a function of one uint8 image [h w 3] to boxes [n 4], xyxy in whole pixels, best first.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from jaxcv.errors import UserError

Proposer = Callable[[UInt8[np.ndarray, "h w 3"]], Float[np.ndarray, "n 4"]]

DARK, LIGHT, CONTRAST = (60, 80, 100), (150, 170, 190), (20, 40, 60, 80)
"""Thresholds of `components`, in 255ths."""
_SMALLEST, _LARGEST = 1 / 32, 0.8
"""Height and width of a component that is proposed, as a fraction of the picture's."""
_SAME = 0.8
"""IoU from which on two components count as one."""


def components(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "n 4"]:
    """Connected components of all that is darker or lighter than several thresholds, or than its surroundings.

    Those that many thresholds find come first, as the stable regions of Matas et al., Robust wide baseline stereo from
    maximally stable extremal regions, BMVC 2002. For objects of one shade, such as writing; takes some milliseconds.
    """
    from scipy import ndimage

    dark, light = (channels.astype(np.float32) for channels in (image.max(-1), image.min(-1)))
    around = max(image.shape[0] // 4, 3)
    masks = [dark < t for t in DARK] + [light > t for t in LIGHT]
    for shade, sign in ((light, 1), (dark, -1)):
        difference = sign * (shade - ndimage.uniform_filter(shade, around))
        masks += [difference > t for t in CONTRAST]
    height, width = image.shape[:2]
    found = []
    for mask in masks:
        labels: Any = ndimage.label(mask, np.ones((3, 3)))
        for rows, columns in ndimage.find_objects(labels[0]):
            found.append((columns.start, rows.start, columns.stop, rows.stop))
    boxes = np.array(found, np.float32).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    fits = (
        (sides[:, 1] >= _SMALLEST * height)
        & (sides[:, 0] >= 2)
        & (sides <= [_LARGEST * width, _LARGEST * height]).all(-1)
    )
    return _stable(boxes[fits])


def _stable(boxes: np.ndarray) -> np.ndarray:
    """Boxes that are not nearly the same as another, those that most others are nearly the same as first."""
    corners = np.maximum(boxes[:, None, :2], boxes[None, :, :2]), np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    both = np.clip(corners[1] - corners[0], 0, None).prod(-1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    same = both >= _SAME * (area[:, None] + area[None] - both)
    kept, gone = [], np.zeros(len(boxes), bool)
    for i in np.lexsort((-area, -same.sum(1))):
        if not gone[i]:
            kept.append(i)
            gone |= same[i]
    return boxes[kept]


def selective_search(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "n 4"]:
    """Neighbouring segments merged from the most similar on; every segment on the way is a proposal.

    Uijlings et al., Selective search for object recognition, IJCV 2013, OpenCV's fast form; up to a second a picture.

    Raises:
        UserError: OpenCV's contributed modules are not installed.
    """
    try:
        from cv2 import ximgproc  # pyright: ignore[reportMissingImports]

        search = ximgproc.segmentation.createSelectiveSearchSegmentation()
    except (ImportError, AttributeError) as error:
        raise UserError(
            "proposals=selective_search needs OpenCV's contributed modules: pip install 'jaxcv-research[rcnn]', "
            "without another OpenCV beside it; or use proposals=components"
        ) from error
    search.setBaseImage(np.ascontiguousarray(image[..., ::-1]))
    search.switchToSelectiveSearchFast()
    found = np.asarray(search.process(), np.float32).reshape(-1, 4)
    return np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=-1)


PROPOSERS: dict[str, Proposer] = {"components": components, "selective_search": selective_search}
