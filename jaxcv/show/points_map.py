"""Points in the plane, such as embeddings along their two main directions, each in the colour of its class."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from jaxcv.show.canvas import color_of, name_of

_LISTED = 24
"""Classes in the legend, at most."""


def draw_map(points: np.ndarray, label: np.ndarray, class_names: Sequence[str]) -> Image.Image:
    """The points as a picture, x and y on the same scale, with a legend of the first 24 classes.

    Args:
        points: `[n, 2]`, at least one.
        label: class index of each, `[n]`.
        class_names: name of each class index.

    Returns:
        An RGB picture; the same points give the same pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 5.5), dpi=110, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    present = np.unique(label)
    for number, kind in enumerate(present.tolist()):
        x, y = points[label == kind].T
        name = name_of(kind, class_names) if number < _LISTED else None
        axes.scatter(x, y, s=18, color=_rgb(number), edgecolors="white", linewidths=0.4, label=name)
    axes.set(aspect="equal", adjustable="datalim", xticks=[], yticks=[])
    more = f"and {len(present) - _LISTED:,} more" if len(present) > _LISTED else None
    figure.legend(loc="outside right upper", fontsize=8, title=more)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _rgb(number: int) -> tuple[float, ...]:
    """The colour of a class as matplotlib takes it, which does not know hsl()."""
    from PIL import ImageColor

    return tuple(value / 255 for value in ImageColor.getrgb(color_of(number)))
