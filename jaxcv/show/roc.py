"""The ROC curve of verification: false accepts on a logarithmic axis, since few are wanted."""

import numpy as np
from PIL import Image


def draw_roc(false_accepts: np.ndarray, true_accepts: np.ndarray, *, equal_error_rate: float) -> Image.Image:
    """The curve as a picture, false accept rates from 1e-4 to 1; the equal error rate is a dot.

    Args:
        false_accepts: rates `[n]`, rising.
        true_accepts: rates `[n]`, rising.
        equal_error_rate: of both errors.

    Returns:
        An RGB picture; the same rates give the same pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), dpi=110, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    axes.step(np.maximum(false_accepts, 1e-4), true_accepts, where="post")
    text = f"equal error rate {equal_error_rate:.4f}"
    axes.plot(max(equal_error_rate, 1e-4), 1 - equal_error_rate, "o", color="#333333", label=text)
    axes.set(xlabel="false accept rate", ylabel="true accept rate", xscale="log", xlim=(1e-4, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
