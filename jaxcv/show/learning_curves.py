"""Values over the steps of a run: panels beside each other, drawn without a plotting library, which takes a second."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_COLORS = ["#4363d8", "#f58231", "#3cb44b", "#911eb4", "#e6194b", "#008080", "#9a6324", "#808000"]
_INK, _GRID = "#333333", "#e2e2e2"
_WIDTH, _HEIGHT = 460, 360
_LEFT, _RIGHT, _TOP, _BOTTOM, _ROW = 62, 14, 28, 40, 15
_ORDERS = 1.5
"""Powers of ten between the smallest and the largest value from which on an axis is logarithmic."""

Curve = tuple[Sequence[int | float], Sequence[int | float]]
"""Steps and values, `[n]` each."""


def draw_learning_curves(panels: Mapping[str, Mapping[str, Curve]]) -> Image.Image | None:
    """Panels beside each other, each with its curves by name.

    Values that are not finite are left out. The axis of a panel is logarithmic where its values are positive and far
    apart.

    Args:
        panels: title to curves.

    Returns:
        An RGB picture; the same values give the same pixels. None where no curve has a value.
    """
    known = {}
    for title, curves in panels.items():
        finite = {
            name: [(s, v) for s, v in zip(*curve, strict=True) if math.isfinite(v)] for name, curve in curves.items()
        }
        if found := {name: points for name, points in finite.items() if points}:
            known[title] = found
    if not known:
        return None
    page = Image.new("RGB", (_WIDTH * len(known), _HEIGHT), "white")
    for i, (title, curves) in enumerate(known.items()):
        _draw_panel(ImageDraw.Draw(page), _WIDTH * i, title, curves)
    return page


def _draw_panel(pen: Any, x: int, title: str, curves: Mapping[str, Sequence[tuple[int | float, int | float]]]) -> None:
    font = ImageFont.load_default(size=12)
    values = np.array([value for points in curves.values() for _, value in points])
    last = max(step for points in curves.values() for step, _ in points) or 1
    logarithmic = bool(values.min() > 0) and math.log10(values.max() / values.min()) > _ORDERS
    low, high, ticks = _scale(values, logarithmic)
    left, right, bottom = x + _LEFT, x + _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    top = _TOP + _ROW * len(curves)

    def position(step: int | float, value: int | float) -> tuple[float, float]:
        value = math.log10(value) if logarithmic else value
        return left + (right - left) * step / last, bottom - (bottom - top) * (value - low) / (high - low)

    for tick in ticks:
        y = position(0, tick)[1]
        pen.line([(left, y), (right, y)], fill=_GRID)
        pen.text((left - 6, y), f"{tick:.4g}", fill=_INK, font=font, anchor="rm")
    for i in range(5):
        at = position(last * i / 4, ticks[0])[0]
        pen.line([(at, top), (at, bottom)], fill=_GRID)
        pen.text((at, bottom + 6), f"{last * i / 4:,.0f}", fill=_INK, font=font, anchor="mt" if i < 4 else "rt")
    pen.text(((left + right) / 2, _HEIGHT - 4), "step", fill=_INK, font=font, anchor="ms")
    pen.text((left, 6), title + (", logarithmic" if logarithmic else ""), fill=_INK, font=font)
    colors = [_COLORS[i % len(_COLORS)] for i in range(len(curves))]
    for color, points in zip(colors, curves.values(), strict=True):
        line = [position(*point) for point in points]
        if len(line) > 1:
            pen.line(line, fill=color, width=2, joint="curve")
        for a, b in line if len(line) <= 12 else ():
            pen.ellipse([a - 3, b - 3, a + 3, b + 3], fill=color)
    for i, (color, (name, points)) in enumerate(zip(colors, curves.items(), strict=True)):
        text = f"{name}: {points[-1][1]:.4g}"
        pen.text((left, _TOP + _ROW * i - 4), text, fill=color, font=font)


def _scale(values: np.ndarray, logarithmic: bool) -> tuple[int | float, int | float, list[float]]:
    """The ends of the axis, as logarithms where it is logarithmic, and the values written at it."""
    if logarithmic:
        low, high = math.floor(math.log10(values.min())), math.ceil(math.log10(values.max()))
        every = max(1, (high - low) // 6)
        return low, high, [10.0**power for power in range(low, high + 1, every)]
    low, high = float(values.min()), float(values.max())
    low = 0.0 if 0 <= low <= 0.5 * high else low  # an axis from 0 unless that would flatten the curves
    rough = (high - low or abs(high) or 1.0) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(n for n in (1, 2, 5, 10) if n * power >= rough * (1 - 1e-9))
    first, end = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
    return first * step, end * step, [i * step for i in range(first, end + 1)]
