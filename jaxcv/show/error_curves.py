"""Cumulative error curves: for each error, the fraction of examples that have at most that."""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_COLORS = ["#4363d8", "#f58231", "#3cb44b", "#911eb4"]
_INK, _GRID = "#333333", "#dddddd"
_WIDTH, _HEIGHT, _MARGIN = 520, 400, 48


def draw_error_curves(errors: Mapping[str, np.ndarray], *, threshold: float) -> Image.Image:
    """The curves as a picture, errors from 0 to twice the threshold, which is marked.

    Args:
        errors: Of each curve's examples, `[n]`, at least one, by the curve's name.
        threshold: The largest error that is no failure.

    Returns:
        An RGB picture; the same errors give the same pixels.
    """
    page = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=12)
    left, right, top, bottom = _MARGIN, _WIDTH - 16, 16, _HEIGHT - _MARGIN

    def position(error: float, fraction: float) -> tuple[float, float]:
        return left + (right - left) * error / (2 * threshold), bottom - (bottom - top) * fraction

    for i in range(5):
        fraction, error = i / 4, i / 2 * threshold
        pen.line([position(0.0, fraction), position(2 * threshold, fraction)], fill=_GRID)
        pen.line([position(error, 0.0), position(error, 1.0)], fill=_INK if i == 2 else _GRID)
        pen.text((left - 6, position(0.0, fraction)[1]), f"{fraction:.2f}", fill=_INK, font=font, anchor="rm")
        pen.text((position(error, 0.0)[0], bottom + 6), f"{error:.3g}", fill=_INK, font=font, anchor="mt")
    pen.text(((left + right) / 2, _HEIGHT - 8), "error, normalised", fill=_INK, font=font, anchor="ms")
    pen.text((left + 4, 2), "fraction of examples with at most this error", fill=_INK, font=font)
    for number, (name, values) in enumerate(errors.items()):
        color, steps, fraction = _COLORS[number % len(_COLORS)], [position(0.0, 0.0)], 0.0
        for i, error in enumerate(np.sort(values).tolist(), start=1):
            if error > 2 * threshold:
                break
            steps += [position(error, fraction), position(error, i / len(values))]
            fraction = i / len(values)
        steps.append(position(2 * threshold, fraction))
        pen.line(steps, fill=color, width=2)
        failed = np.mean(values > threshold)
        text = f"{name}: mean {np.mean(values):.4f}, above {threshold:.3g}: {100 * failed:.1f} %"
        pen.text(
            (right - 4, bottom - 20 - 16 * number),
            text,
            fill=color,
            font=font,
            anchor="rs",
            stroke_width=3,
            stroke_fill="white",
        )
    return page
