"""Precision over recall of each class of a detector."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

_NAMED = 10


def draw_precision_recall(
    names: Sequence[str],
    curves: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, int]],
    average_precisions: Sequence[float | None],
    *,
    threshold: float,
) -> Image.Image | None:
    """The curves of the classes that have targets, with a dot where the score is `threshold`.

    Args:
        names: of the classes; the ten with the most targets are in the legend.
        curves: of each class: recall, precision and score after each detection, best score first, each [n]; and the
            number of targets.
        average_precisions: of each class.
        threshold: the score of the dots.

    Returns:
        None where no class has a target.
    """
    shown = [i for i, (*_, targets) in enumerate(curves) if targets]
    if not shown:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5.5), dpi=110, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    named = sorted(shown, key=lambda i: -curves[i][3])[:_NAMED]
    for i in shown:
        recall, precision, scores, _ = curves[i]
        label = f"{names[i]} ({average_precisions[i]:.3f})" if i in named else None
        start = precision[0] if len(precision) else 0.0
        line = axes.plot(
            np.append(0.0, recall), np.append(start, precision), label=label, linewidth=1.6 if i in named else 0.6
        )[0]
        above = int((scores >= threshold).sum())
        if above and i in named:
            axes.plot(recall[above - 1], precision[above - 1], "o", color=line.get_color())
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_title(f"IoU 0.5; dots: score {threshold:.3f}")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", title="class (AP)")
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
