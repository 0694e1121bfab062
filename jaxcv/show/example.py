"""One example with all that it holds, which needs no prediction: for the sheet of training examples."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from jaxcv.show.canvas import GREY, Canvas, color_of, name_of
from jaxcv.types import Batch


def draw_example(example: Batch, class_names: Sequence[str]) -> Image.Image:
    """One example with its targets: boxes (ignored ones grey), mask (ignored pixels black), points, label.

    Args:
        example: `image` uint8 [h w c] and any of `boxes` with `valid`, `classes`, `ignored`; `mask`; `points`,
            `visible`; `label`, an index or probabilities; `other`, a second image, and `same`.
        class_names: name of each class index.
    """
    beside = [example[name] for name in ("image", "other") if name in example]
    canvas = Canvas(np.concatenate(beside, axis=1), exact=True)
    if "mask" in example:
        canvas.mask(example["mask"], class_names)
    for row, box in enumerate(example.get("boxes", ())):
        ignored = bool("ignored" in example and example["ignored"][row])
        if example["valid"][row] or ignored:
            label = int(example["classes"][row]) if "classes" in example else 0
            canvas.box(box, name_of(label, class_names), GREY if ignored else color_of(label))
    if "points" in example:
        canvas.points(example["points"], example.get("visible", np.ones(len(example["points"]), bool)))
    if "label" in example:
        label = example["label"]
        if label.ndim:
            largest = [i for i in np.argsort(-label)[:2].tolist() if label[i] > 0]
            text, label = " + ".join(f"{name_of(i, class_names)} {label[i]:.2f}" for i in largest), largest[0]
        else:
            text = name_of(int(label), class_names)
        canvas.text(text, color_of(int(label)))
    if "other" in example:
        canvas.text(*(("same", color_of(1)) if example["same"] else ("different", color_of(0))))
    return canvas.image
