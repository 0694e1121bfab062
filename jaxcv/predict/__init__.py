"""Predictions: a network's raw outputs -> `Classes` or `Detections`, pure and of fixed shape.

One function serves evaluation, previews, prediction from the command line, and export. Jitted; options keyword-only.

    classes    logits -> label and probabilities
    yolo       grids with anchor boxes -> boxes, scores, classes
    yolo_v1    the first YOLO's grid -> boxes, scores, classes
"""

from jaxcv.predict.classification import classes
from jaxcv.predict.detection import yolo, yolo_v1

__all__ = ["classes", "yolo", "yolo_v1"]
