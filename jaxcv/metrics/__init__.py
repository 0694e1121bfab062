"""Metrics: one number over a whole data set, from predictions and batches, on the host in numpy.

A `Metric` says what to keep of each batch, how to turn all of it into named values, and which of them it is.

    accuracy                  fraction of images whose best class is right: `Classes`, `label`
    top_k_accuracy            ... whose right class is among the k best
    few_shot                  N-way k-shot accuracy: `Embeddings` or `Similarities`, `label`
    identification            who it is, by one enrolled picture each: `Embeddings`, `label`
    localization              of one object or none: `Localization`, `boxes`, `classes`, `valid`
    landmark_error            normalised mean error, failures, area under the curve: `Landmarks`, `points`, `visible`
    recall_at                 is one of the k most similar of the same identity: `Embeddings`, `label`
    verification              the same or not, ROC, EER, LFW's accuracy: `Embeddings` or `Similarities`, `label`
    segmentation              mean IoU, Dice, accuracy over pixels: `Masks`, `mask`
    rand                      V_rand of connected regions: `Masks`, `mask`
    coco_average_precision    COCO's AP, AP50, AP75, by size: `Detections`, `boxes`, `classes`, `valid`
    top_patches               images that excite units most, as a figure: `predict.peaks`
    voc_average_precision     PASCAL VOC's, all-point and 11-point: the same
"""

from jaxcv.metrics.classification import accuracy, top_k_accuracy
from jaxcv.metrics.detection import coco_average_precision
from jaxcv.metrics.identification import few_shot, identification, recall_at
from jaxcv.metrics.landmarks import landmark_error
from jaxcv.metrics.localization import localization
from jaxcv.metrics.metric import Metric
from jaxcv.metrics.seeing import top_patches
from jaxcv.metrics.segmentation import rand, segmentation
from jaxcv.metrics.verification import verification
from jaxcv.metrics.voc import voc_average_precision

__all__ = [
    "Metric",
    "accuracy",
    "coco_average_precision",
    "few_shot",
    "identification",
    "landmark_error",
    "localization",
    "rand",
    "recall_at",
    "segmentation",
    "top_k_accuracy",
    "top_patches",
    "verification",
    "voc_average_precision",
]
