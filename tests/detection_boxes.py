"""Images of a few boxes for the tests of metrics, as the metrics see them."""

import numpy as np

from jaxcv.metrics.image_boxes import ImageBoxes


def boxes_of(truths, detections):
    """Truths (box, class) or (box, class, "ignored"), detections (box, class, score)."""
    return ImageBoxes(
        np.asarray([t[0] for t in truths], np.float32).reshape(-1, 4),
        np.asarray([t[1] for t in truths], np.int32),
        np.asarray([len(t) > 2 for t in truths], bool),
        np.asarray([d[0] for d in detections], np.float32).reshape(-1, 4),
        np.asarray([d[2] for d in detections], np.float32),
        np.asarray([d[1] for d in detections], np.int32),
    )
