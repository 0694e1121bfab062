"""Losses: `loss(outputs, batch) -> {term: [b]}`, one value per example, float32, not reduced.

Masking, the mean over the batch and the sum over the terms happen in the training step. Options are keyword-only, and
float options may be tracers. Every loss is finite, gradient included, for an example without targets.

    content          style transfer: feature maps of the content picture
    contrastive      embeddings, over all pairs of the batch: `label`
    cross_entropy    softmax classification: `label`
    fast_rcnn        regions classified and refined: `boxes`, `classes`, `valid`
    faster_rcnn      the same, and anchor boxes made proposals
    hard_negative_cross_entropy  the same on the objects and the hardest background examples: `label`
    excitement       activation maximisation: pictures that excite units
    heatmaps         key points as heat maps: `points`, `visible`
    landmarks        key points as 2n numbers, squared or wing loss: `points`, `visible`
    localization     one object or none, log-loss or squared errors: `boxes`, `classes`, `valid`
    margin_cross_entropy  softmax over identities, ArcFace's and CosFace's margins: `label`
    pair_cross_entropy    whether two pictures are of one class: `label`, or `same`
    pixels           a class for each pixel: pixel_cross_entropy (the focal loss too) with dice or lovasz: `mask`
    style            style transfer: Gram matrices of the style pictures
    style_transfer   both, and total variation
    total_variation  differences of neighbouring pixels
    triplet          embeddings, on triplets mined in the batch: `label`
    yolo             detection on grids with anchor boxes: `boxes`, `classes`, `valid`
    yolo_v1          detection on a grid without anchor boxes
"""

from jaxcv.losses.classification import cross_entropy, hard_negative_cross_entropy
from jaxcv.losses.detection import yolo
from jaxcv.losses.embedding import contrastive, pair_cross_entropy, triplet
from jaxcv.losses.landmarks import heatmaps, landmarks
from jaxcv.losses.localization import localization
from jaxcv.losses.margins import margin_cross_entropy
from jaxcv.losses.regions import fast_rcnn, faster_rcnn
from jaxcv.losses.seeing import excitement
from jaxcv.losses.segmentation import dice, lovasz, pixel_cross_entropy, pixels
from jaxcv.losses.style import content, style, style_transfer, total_variation
from jaxcv.losses.yolo_v1 import yolo_v1

__all__ = [
    "content",
    "contrastive",
    "cross_entropy",
    "dice",
    "excitement",
    "fast_rcnn",
    "faster_rcnn",
    "hard_negative_cross_entropy",
    "heatmaps",
    "landmarks",
    "localization",
    "lovasz",
    "margin_cross_entropy",
    "pair_cross_entropy",
    "pixel_cross_entropy",
    "pixels",
    "style",
    "style_transfer",
    "total_variation",
    "triplet",
    "yolo",
    "yolo_v1",
]
