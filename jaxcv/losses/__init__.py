"""Losses: `loss(outputs, batch) -> {term: [b]}`, one value an example, float32, not reduced.

Masking, the mean over the batch and the sum over the terms happen in the training step. Options are keyword-only, and
float options may be tracers. Every loss is finite, gradient included, for an example with nothing to learn from.

    cross_entropy    softmax classification: `label`
    triplet          embeddings, on the hardest triplets of the batch: `label`
    yolo             detection on grids with anchor boxes: `boxes`, `classes`, `valid`
    yolo_v1          detection on a grid without anchor boxes
"""

from jaxcv.losses.classification import cross_entropy
from jaxcv.losses.detection import yolo
from jaxcv.losses.embedding import triplet
from jaxcv.losses.yolo_v1 import yolo_v1

__all__ = ["cross_entropy", "triplet", "yolo", "yolo_v1"]
