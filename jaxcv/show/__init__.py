"""What a person is shown of data, predictions and metrics: pictures, tables, records for other programs.

**A type of prediction** is a file with four or five functions, each registered by `functools.singledispatch` for the
type of its first argument, the prediction for one image:

    target_of(prediction, example) -> prediction      the target of an example as a prediction of the same type
    draw(prediction, canvas, class_names, ...)        the prediction drawn onto a `Canvas`
    table(prediction, title, class_names, ...)        its rows for a terminal
    record(prediction, class_names, ...) -> dict      its fields for JSON
    in_pixels(prediction, placement) -> prediction    the same in the pixels of a picture; only where pixels are meant
    draw_error(prediction, target, canvas) -> bool    optional: where it is wrong

    classes  detections  embeddings  landmarks  localization  masks  stylised

A new type is a new file and its line among the imports below. An experiment of somebody else's may register its own.
A type without `target_of` gets no previews; one without `draw` or `table` is refused by `render` or `table`; without
`record`, its fields are recorded as they are. Everything else here and in the rooms that use it calls these, and
knows no type:

    prediction      the five functions, and `render`: an image with a prediction on it
    sheets          `sheet`: targets beside predictions, the previews of a run; `example_sheet`: examples alone;
                    `animation`: pages one after the other, as a GIF
    explanations    `draw_explanation`: what a classifier's answer depends on, beside the image
    example         `draw_example`: an image with all that its example holds; it needs no prediction
    canvas          `Canvas`: boxes, points, masks and labels on an image; colours and names of classes

**Reports** are `Table`s and `Picture`s (`jaxcv.types`), which metrics make with the functions here and the trainer
writes. These functions take plain arrays and names, so metrics know this room and not the other way round:

    class_tables    a row a class: the whole as a file; on a terminal, of many classes the worst
    draw_confusion, draw_precision_recall, draw_f1, draw_error_curves, draw_map, draw_patches, draw_roc, paired_page,
    draw_learning_curves

Everything runs on the host. Predictions and examples are numpy arrays without batch axis, class names may be fewer than
classes (the others are called by their index), and the same arguments give the same pixels. Boxes and points are in
pixels of the image shown: of the network's input, or of a picture after `in_pixels`.
"""

from jaxcv.show import (  # noqa: F401 (each registers its type)
    classes,
    detections,
    embeddings,  # noqa: F401 (each registers its type)
    landmarks,
    localization,
    masks,
    stylised,
)
from jaxcv.show.canvas import Canvas, color_of, name_of
from jaxcv.show.class_tables import class_tables
from jaxcv.show.confusion import draw_confusion
from jaxcv.show.error_curves import draw_error_curves
from jaxcv.show.example import draw_example
from jaxcv.show.explanations import draw_explanation
from jaxcv.show.learning_curves import draw_learning_curves
from jaxcv.show.masks import palette_mask
from jaxcv.show.patches import crop_patch, draw_patches
from jaxcv.show.points_map import draw_map
from jaxcv.show.precision_recall import draw_f1, draw_precision_recall
from jaxcv.show.prediction import draw, draw_error, in_pixels, record, render, table, target_of
from jaxcv.show.roc import draw_roc
from jaxcv.show.sheets import animation, example_sheet, paired_page, sheet

__all__ = [
    "Canvas",
    "animation",
    "class_tables",
    "color_of",
    "crop_patch",
    "draw",
    "draw_confusion",
    "draw_error",
    "draw_error_curves",
    "draw_example",
    "draw_explanation",
    "draw_f1",
    "draw_learning_curves",
    "draw_map",
    "draw_patches",
    "draw_precision_recall",
    "draw_roc",
    "example_sheet",
    "in_pixels",
    "name_of",
    "paired_page",
    "palette_mask",
    "record",
    "render",
    "sheet",
    "table",
    "target_of",
]
