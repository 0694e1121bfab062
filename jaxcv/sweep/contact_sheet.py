"""What the trials of a sweep made, on one page: for experiments that make pictures."""

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from jaxcv.sweep.outcomes import Row, varied

_LONGEST, _CAPTION, _GAP = 480, 20, 6


def draw(rows: Sequence[Row], path: Path) -> Path | None:
    """Write a page with the newest preview of every trial, in the order of their numbers, with its values above it.

    Args:
        rows: of the trials. A row of the page has as many of them as the last hyperparameter that varies has values.
        path: of the page.

    Returns:
        `path`; None where no trial has animated previews (`Experiment.animate`).
    """
    names, cells = varied(rows), []
    for row in sorted(rows, key=lambda row: row.number):
        previews = row.folder / "previews" if row.folder else Path()
        if row.folder and (previews / "progress.gif").exists() and (pages := sorted(previews.glob("step_*.png"))):
            caption = ", ".join(f"{name}={row.overrides[name]}" for name in names if name in row.overrides)
            cells.append(_cell(pages[-1], caption or f"trial {row.number}"))
    if not cells:
        return None
    last = len({repr(row.overrides.get(names[-1])) for row in rows}) if names else 1
    columns = last if len(cells) % last == 0 else math.ceil(math.sqrt(len(cells)))
    width, height = (max(size) + _GAP for size in zip(*(cell.size for cell in cells), strict=True))
    page = Image.new("RGB", (columns * width + _GAP, math.ceil(len(cells) / columns) * height + _GAP), "white")
    for i, cell in enumerate(cells):
        page.paste(cell, (_GAP + i % columns * width, _GAP + i // columns * height))
    page.save(path)
    return path


def _cell(preview: Path, caption: str) -> Image.Image:
    with Image.open(preview) as image:
        image = image.convert("RGB")
        image.thumbnail((_LONGEST, _LONGEST))
    cell = Image.new("RGB", (image.width, image.height + _CAPTION), "white")
    ImageDraw.Draw(cell).text((2, 2), caption, fill="black", font=ImageFont.load_default(size=13))
    cell.paste(image, (0, _CAPTION))
    return cell
