"""Predictions: a network's raw outputs -> `Classes`, `Detections` and so on; pure, and of fixed shape.

The same function serves evaluation, previews, prediction and export. Jitted; options are keyword-only.

    classes          logits -> label and probabilities
    embeddings       vectors -> vectors of length one
    heatmaps         heat maps -> points
    landmarks        2n numbers -> points
    localization     p_c, box and logits -> one box or none
    masks            logits of pixels -> a class for each
    rcnn             regions, their class logits and box deltas -> boxes, scores, classes
    recognize        an embedding and a gallery -> who it is, or nobody
    search           the most similar vectors of a large gallery
    similarities     logits of pairs -> probabilities of showing the same
    peaks            activations -> the largest of each unit, and where
    sliding_windows  logits of windows -> boxes, scores, classes
    stylised         a picture that was made -> its pixels
    views seen combined  several views of an image, mirrored or of other sizes -> one prediction
    threshold_at     scores of validation pairs -> the threshold for a rate of false accepts
    verify           two embeddings -> whether they are of one identity
    yolo             grids with anchor boxes -> boxes, scores, classes
    yolo_v1          the grid of YOLO v1 -> boxes, scores, classes
"""

from jaxcv.predict.classification import classes
from jaxcv.predict.detection import yolo, yolo_v1
from jaxcv.predict.embedding import embeddings, recognize, search, similarities, threshold_at, verify
from jaxcv.predict.landmarks import heatmaps, landmarks
from jaxcv.predict.localization import localization
from jaxcv.predict.regions import rcnn
from jaxcv.predict.seeing import peaks
from jaxcv.predict.segmentation import masks
from jaxcv.predict.style import stylised
from jaxcv.predict.views import View, combined, seen, views
from jaxcv.predict.windows import sliding_windows

__all__ = [
    "View",
    "classes",
    "combined",
    "embeddings",
    "heatmaps",
    "landmarks",
    "localization",
    "masks",
    "peaks",
    "rcnn",
    "recognize",
    "search",
    "seen",
    "similarities",
    "sliding_windows",
    "stylised",
    "threshold_at",
    "verify",
    "views",
    "yolo",
    "yolo_v1",
]
