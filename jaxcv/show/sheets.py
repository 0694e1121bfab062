"""Many images on one page."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from PIL import Image

from jaxcv.show.canvas import Canvas
from jaxcv.show.example import draw_example
from jaxcv.show.prediction import draw_error, render, target_of
from jaxcv.types import Batch


def sheet(shown: Sequence[tuple[Batch, Any]], class_names: Sequence[str], *, count: int) -> Image.Image | None:
    """A page of up to `count` examples, each the target on the left and the prediction on the right.

    Types with a `draw_error` have the image alone before these, and the error after them.

    Args:
        shown: batches and their predictions, numpy, padding rows removed.
        class_names: name of each class index.
        count: examples drawn.

    Returns:
        None without an example, or where predictions of this type have no target to compare with.
    """
    pairs = []
    for batch, predictions in shown:
        for row in range(min(len(batch["image"]), count - len(pairs))):
            example = {name: array[row] for name, array in batch.items()}
            prediction = jax.tree.map(lambda array, row=row: array[row], predictions)
            if (target := target_of(prediction, example)) is None:
                return None
            left = render(target, example["image"], class_names, title="target", minimum=0.0, scores=False)
            right = render(prediction, example["image"], class_names, title="prediction")
            plain, error = (Canvas(example["image"]) for _ in range(2))
            if draw_error(prediction, target, error):
                plain.title("image")
                error.title("error")
                pairs.append((_beside(plain.image, left), _beside(right, error.image)))
            else:
                pairs.append((left, right))
    return paired_page(pairs)


def paired_page(pairs: Sequence[tuple[Image.Image, Image.Image]]) -> Image.Image | None:
    """A page of pairs of images, all of one size, two pairs in a row; None without a pair."""
    if not pairs:
        return None
    gap = 6
    cells = [_beside(*pair) for pair in pairs]
    return _page(cells, columns=min(2, len(cells)), gap=gap, between=gap)


def animation(pages: Sequence[Path], *, seconds: float = 0.4) -> bytes:
    """A GIF of image files of one size, one after the other; the last one stays three times as long."""
    frames = []
    for page in pages:
        with Image.open(page) as image:
            frames.append(image.convert("RGB").quantize(128, dither=Image.Dither.FLOYDSTEINBERG))
    file, duration = io.BytesIO(), [round(1000 * seconds)] * (len(frames) - 1) + [round(3000 * seconds)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=duration, loop=0)
    return file.getvalue()


def _beside(left: Image.Image, right: Image.Image, gap: int = 6) -> Image.Image:
    both = Image.new("RGB", (left.width + gap + right.width, left.height), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + gap, 0))
    return both


def example_sheet(examples: Sequence[Batch], class_names: Sequence[str]) -> Image.Image:
    """A page, nearly square, of examples with everything that is known of them drawn.

    Args:
        examples: at least one, numpy, without batch axis.
        class_names: name of each class index.
    """
    cells = [draw_example(example, class_names) for example in examples]
    return _page(cells, columns=math.ceil(math.sqrt(len(cells))), gap=4)


def row(images: Sequence[Image.Image]) -> Image.Image:
    """Images of one size beside each other."""
    return _page(images, columns=len(images), gap=6)


def _page(cells: Sequence[Image.Image], *, columns: int, gap: int, between: int = 0) -> Image.Image:
    """Cells of one size in rows; `between` is added to the gap beside each."""
    width, height = cells[0].width + gap + between, cells[0].height + gap
    page = Image.new("RGB", (columns * width + gap, math.ceil(len(cells) / columns) * height + gap), "white")
    for i, cell in enumerate(cells):
        page.paste(cell, (gap + i % columns * width, gap + i // columns * height))
    return page
