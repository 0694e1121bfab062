"""Predictions: a network's raw outputs -> `Classes` or `Detections`, pure and of fixed shape.

One function serves evaluation, previews, prediction from the command line, and export. Jitted; options keyword-only.

    classes          logits -> label and probabilities
    sliding_windows  logits of windows -> boxes, scores, classes
    yolo             grid with anchor boxes -> boxes, scores, classes
"""

from jaxcv.predict.classification import classes
from jaxcv.predict.detection import sliding_windows, yolo

__all__ = ["classes", "sliding_windows", "yolo"]
