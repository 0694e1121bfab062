"""The confusion matrix as a picture: a row for each class of the targets, a column for each of the predictions.

Up to 30 classes every cell shows its count; up to 120 the rows and columns are named; with more they are numbered, and
with more than 1,000 each cell stands for several classes that follow one another.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw, ImageFont

_COUNTED, _NAMED, _MOST_CELLS = 30, 120, 1000
_RIGHT, _WRONG, _EMPTY, _INK = (25, 90, 165), (190, 30, 45), (232, 232, 232), (50, 50, 50)
_LONGEST_NAME = 24


def draw_confusion(target: Int[np.ndarray, "n"], prediction: Int[np.ndarray, "n"], names: Sequence[str]) -> Image.Image:
    """Draw how often examples of each class were predicted to be of each.

    Blue is right, red is wrong; the depth of a cell's colour is the square root of its fraction of the row, so that few
    mistakes can be seen, and at least a third where counts are not written. Grey rows have no example.

    Args:
        target: class index of each example.
        prediction: class index predicted for it; -1 (none) has a column of its own, where it occurs.
        names: of all classes.
    """
    k = len(names)
    cells = min(k, _MOST_CELLS)
    columns = cells + bool((prediction < 0).any())
    row, column = target * cells // k, np.where(prediction < 0, cells, prediction * cells // k)
    counts = np.bincount(row * columns + column, minlength=cells * columns).reshape(cells, columns)
    side = 44 if k <= 12 else 32 if k <= _COUNTED else 13 if k <= _NAMED else max(2, 1200 // cells)
    colors = _colors(counts, least=0.0 if k <= _COUNTED else 1 / 3)
    matrix = Image.fromarray(colors).resize((columns * side, cells * side), Image.Resampling.NEAREST)

    font = _font(14 if k <= _COUNTED else 11 if k <= _NAMED else 14)
    step = 1 if k <= _NAMED else _round_step(cells / 10)
    labels = {i: _shorten(names[i]) if k <= _NAMED else f"{i * k // cells:,}" for i in range(0, cells, step)}
    if columns > cells:
        labels[cells] = "(none)"
    margin = round(max(font.getlength(label) for label in labels.values())) + 14
    lines = [f"down: target, across: prediction; {k:,} class{'es' * (k > 1)}, {len(target):,} examples"]
    lines += ["blue: right, red: wrong; depth: square root of the fraction of the row"]
    if cells < k:
        lines.append(f"each cell stands for up to {-(-k // cells)} classes, and hides mistakes among them")
    heading = 8 + 19 * len(lines) + 6
    width = max(margin + matrix.width + 12, 16 + round(max(_font(14).getlength(line) for line in lines)))
    page = Image.new("RGB", (width, heading + margin + matrix.height + 12), "white")
    page.paste(matrix, (margin, heading + margin))
    pen = ImageDraw.Draw(page)
    for i, line in enumerate(lines):
        pen.text((8, 8 + 19 * i), line, fill=_INK, font=_font(14))
    for i, label in labels.items():
        middle = round((i + 0.5) * side)
        if i < cells:
            pen.text((margin - 6, heading + margin + middle), label, fill=_INK, font=font, anchor="rm")
        _write_upwards(page, (margin + middle, heading + margin - 6), label, font)
    pen.rectangle(
        [margin - 1, heading + margin - 1, margin + matrix.width, heading + margin + matrix.height], outline=_INK
    )
    if k <= _COUNTED:
        _write_counts(pen, counts, (margin, heading + margin), side)
    return page


def _fractions(counts: Int[np.ndarray, "r c"]) -> Float[np.ndarray, "r c"]:
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _colors(counts: Int[np.ndarray, "r c"], *, least: float) -> UInt8[np.ndarray, "r c 3"]:
    """One colour a cell; `least` is the depth of the faintest."""
    depth = np.where(counts > 0, np.maximum(np.sqrt(_fractions(counts)), least), 0.0)[..., None]
    full = np.full((*counts.shape, 3), _WRONG, np.float64)
    full[np.arange(len(counts)), np.arange(len(counts))] = _RIGHT
    colors = 255 + depth * (full - 255)
    colors[counts.sum(axis=1) == 0] = _EMPTY
    return np.round(colors).astype(np.uint8)


def _write_counts(pen: ImageDraw.ImageDraw, counts: np.ndarray, corner: tuple[int, int], side: int) -> None:
    fractions = _fractions(counts)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            text, size = f"{count}", side * 5 // 12
            while size > 6 and _font(size).getlength(text) > side - 4:
                size -= 1
            middle = (corner[0] + (column + 0.5) * side, corner[1] + (row + 0.5) * side)
            color = "white" if fractions[row, column] > 0.2 else _INK
            pen.text(middle, text, fill=color, font=_font(size), anchor="mm")


def _write_upwards(page: Image.Image, foot: tuple[int, int], text: str, font: Any) -> None:
    """Text that runs upwards from `foot`, centred on it."""
    height = round(font.size * 1.3)
    strip = Image.new("RGB", (round(font.getlength(text)) + 2, height), "white")
    ImageDraw.Draw(strip).text((0, height / 2), text, fill=_INK, font=font, anchor="lm")
    rotated = strip.transpose(Image.Transpose.ROTATE_90)
    page.paste(rotated, (foot[0] - rotated.width // 2, foot[1] - rotated.height))


def _shorten(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 2] + ".."


def _round_step(least: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50 ... that is at least `least`."""
    return next(step for power in range(9) for step in (10**power, 2 * 10**power, 5 * 10**power) if step >= least)


@cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size=size)
