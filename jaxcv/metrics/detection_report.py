"""What the run of a detector shows at its end: each class, curves, confusions, the images with the most mistakes."""

import numpy as np
from PIL import Image

from jaxcv import show
from jaxcv.metrics.detection_outcomes import IOU, DetectionOutcomes, WorstImage, detection_outcomes
from jaxcv.metrics.image_boxes import ImageBoxes
from jaxcv.types import Batches, Detections, Picture, Table

_COLUMNS = ("class", "truths", "detections", "precision", "recall", "voc_average_precision")


def detection_report(batches: list[list[ImageBoxes]], data: Batches) -> list[Table | Picture]:
    """`per_class`; `precision_recall`, `f1_by_score`, `confusion` and `worst`, of these pictures what the set defines.

    Args:
        batches: what `collect_boxes` gave for each batch.
        data: the set, for its class names and the worst images.
    """
    names = data.class_names
    outcomes = detection_outcomes(batches, names)
    known = [(row.average_precision, row) for row in outcomes.rows if row.average_precision is not None]
    tables = show.class_tables(
        _COLUMNS,
        outcomes.rows,
        worst_first=[row for _, row in sorted(known, key=lambda pair: pair[0])],
        by="AP",
        note=f" at score {outcomes.threshold:.3f}, IoU {IOU}",
    )
    values = [row.average_precision for row in outcomes.rows]
    counted = (outcomes.target, outcomes.prediction, [*names, "background"])
    pictures = {
        "precision_recall": show.draw_precision_recall(names, outcomes.curves, values, threshold=outcomes.threshold),
        "f1_by_score": show.draw_f1(names, outcomes.curves, threshold=outcomes.threshold),
        "confusion": show.draw_confusion(*counted) if len(outcomes.target) else None,
        "worst": _worst_images(outcomes, data),
    }
    return [*tables, *(Picture(name, image) for name, image in pictures.items() if image is not None)]


def _worst_images(outcomes: DetectionOutcomes, data: Batches) -> Image.Image | None:
    """Targets beside predictions, with the counts of mistakes."""
    rows, batch, number, pairs = data.spec["image"].shape[0], {}, -1, []
    for worst in outcomes.worst:
        if worst.index // rows != number:
            number = worst.index // rows
            batch = data.batch(number)
        pairs.append(_pair(worst, batch["image"][worst.index % rows], data, outcomes.threshold))
    return show.paired_page(pairs)


def _pair(worst: WorstImage, pixels: np.ndarray, data: Batches, minimum: float) -> tuple[Image.Image, Image.Image]:
    boxes, names = worst.boxes, data.class_names
    kept, every = ~boxes.ignored, np.ones(len(boxes.scores), bool)
    target = Detections(boxes.truths, kept.astype(np.float32), boxes.truth_classes, kept)
    prediction = Detections(boxes.detections, boxes.scores, boxes.detected_classes, every)
    mistakes = f"{worst.index}: {worst.missed} missed, {worst.false} false"
    return (
        show.render(target, pixels, names, title="target", minimum=0.0, scores=False),
        show.render(prediction, pixels, names, title=mistakes, minimum=minimum),
    )
