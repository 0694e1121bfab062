"""Precision over recall of each class of a detector and in the mean, and F1 over the score."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

_NAMED = 10
Curves = Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, int]]
"""Of each class: recall, precision and score after each detection, best score first, each [n]; the count of targets."""


def draw_precision_recall(
    names: Sequence[str],
    curves: Curves,
    average_precisions: Sequence[float | None],
    *,
    threshold: float,
) -> Image.Image | None:
    """The curves of the classes that have targets and their mean, with a dot where the score is `threshold`.

    Args:
        names: of the classes; the ten with the most targets are in the legend.
        curves: of the classes.
        average_precisions: of each class.
        threshold: the score of the dots.

    Returns:
        None where no class has a target.
    """
    shown = [i for i, (*_, targets) in enumerate(curves) if targets]
    if not shown:
        return None
    canvas, axes = _axes()
    named = _named(curves, shown)
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
    if len(shown) > 1:
        recalls = np.linspace(0, 1, 101)
        mean = np.mean([_highest(*curves[i][:2], recalls) for i in shown], axis=0)
        value = np.mean([value for i in shown if (value := average_precisions[i]) is not None])
        axes.plot(recalls, mean, color="black", linewidth=2.6, label=f"mean ({value:.3f})")
    axes.set(xlabel="recall", ylabel="precision")
    axes.legend(loc="lower left", title="class (AP)")
    return _finished(canvas, axes, f"IoU 0.5; dots: score {threshold:.3f}")


def draw_f1(names: Sequence[str], curves: Curves, *, threshold: float) -> Image.Image | None:
    """F1, the harmonic mean of precision and recall, of the detections above each score; `threshold` is marked.

    Args:
        names: of the classes; the ten with the most targets are in the legend.
        curves: of the classes.
        threshold: the score at which F1 over all classes is largest.

    Returns:
        None where no class has a target.
    """
    shown = [i for i, (*_, targets) in enumerate(curves) if targets]
    if not shown:
        return None
    canvas, axes = _axes()
    named, scores = _named(curves, shown), np.linspace(0, 1, 201)
    right, detected = np.zeros(len(scores)), np.zeros(len(scores))
    for i in range(len(curves)):
        recall, _, mine, targets = curves[i]
        above = np.searchsorted(-mine, -scores, side="right")  # detections with at least that score
        hits = np.append(0.0, np.nan_to_num(recall) * targets)[above]
        right, detected = right + hits, detected + above
        if i in shown:
            f1 = 2 * hits / (above + targets)
            label = f"{names[i]} ({f1.max():.3f} at {scores[f1.argmax()]:.2f})" if i in named else None
            axes.plot(scores, f1, label=label, linewidth=1.6 if i in named else 0.6)
    f1 = 2 * right / (detected + sum(targets for *_, targets in curves))
    axes.plot(scores, f1, color="black", linewidth=2.6, label=f"all ({f1.max():.3f} at {threshold:.2f})")
    axes.axvline(threshold, color="black", linewidth=0.8, linestyle="--")
    axes.set(xlabel="score", ylabel="F1")
    axes.legend(loc="best", title="class (highest F1)", fontsize="small")
    return _finished(canvas, axes, "IoU 0.5; dashed: the score with the highest F1 of all")


def _highest(recall: np.ndarray, precision: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The highest precision at each recall or beyond it; 0 where it is not reached."""
    falling = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return falling[np.searchsorted(recall, at - 1e-9)]


def _named(curves: Curves, shown: Sequence[int]) -> list[int]:
    return sorted(shown, key=lambda i: -curves[i][3])[:_NAMED]


def _axes() -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5.5), dpi=110, layout="constrained")
    return FigureCanvasAgg(figure), figure.subplots()


def _finished(canvas: Any, axes: Any, title: str) -> Image.Image:
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_title(title)
    axes.grid(alpha=0.3)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
