"""Pictures of predictions beside the truth, drawn by the type of the prediction; and of the truth alone."""

import math
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from jaxcv.types import Batch, Classes, Detections, Landmarks, Localization

_COLORS = ["#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#f032e6", "#9a6324", "#808000", "#000075"]
_CELL = 256
"""Shorter side of a picture on a sheet of truths."""


def sheet(shown: Sequence[tuple[Batch, Any]], class_names: Sequence[str], *, count: int) -> Image.Image | None:
    """A contact sheet of up to `count` examples, truth on the left of each pair and prediction on the right.

    Args:
        shown: batches and their predictions, numpy, padding rows removed.
        class_names: name of each class index.
        count: examples drawn.
    """
    pairs = []
    for batch, predictions in shown:
        for row in range(len(batch["image"])):
            if len(pairs) == count:
                break
            example = {name: array[row] for name, array in batch.items()}
            prediction = jax.tree.map(lambda array, row=row: array[row], predictions)
            if (truth := truth_of(prediction, example)) is None:
                return None
            picture = example["image"]
            pairs.append(
                [
                    draw(truth, picture, class_names, title="truth", minimum=0.0),
                    draw(prediction, picture, class_names, title="found"),
                ]
            )
    if not pairs:
        return None
    width, height = pairs[0][0].size
    columns = min(2, len(pairs))
    rows = -(-len(pairs) // columns)
    gap = 6
    page = Image.new("RGB", (columns * (2 * width + 3 * gap) + gap, rows * (height + gap) + gap), "white")
    for i, pair in enumerate(pairs):
        left = gap + (i % columns) * (2 * width + 3 * gap)
        for j, picture in enumerate(pair):
            page.paste(picture, (left + j * (width + gap), gap + (i // columns) * (height + gap)))
    return page


def truth_sheet(examples: Sequence[Batch], class_names: Sequence[str]) -> Image.Image:
    """A contact sheet, nearly square, of examples with everything that is known of them drawn.

    Args:
        examples: at least one, numpy, without batch axis.
        class_names: name of each class index.
    """
    cells = [draw_truth(example, class_names) for example in examples]
    columns, gap = math.ceil(math.sqrt(len(cells))), 4
    width, height = cells[0].size
    page = Image.new(
        "RGB", (columns * (width + gap) + gap, math.ceil(len(cells) / columns) * (height + gap) + gap), "white"
    )
    for i, cell in enumerate(cells):
        page.paste(cell, (gap + i % columns * (width + gap), gap + i // columns * (height + gap)))
    return page


def draw_truth(example: Batch, class_names: Sequence[str]) -> Image.Image:
    """One example with its truth: boxes (ignored ones grey), mask (to be ignored: black), points, label.

    Args:
        example: `image` uint8 [h w c] and any of `boxes` with `valid`, `classes`, `ignored`; `mask`; `points`,
            `visible`; `label`, an index or probabilities; `other`, a second picture, and `same`.
        class_names: name of each class index.
    """
    pixels = example["image"]
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
    factor = _CELL / min(image.size)
    size = round(image.width * factor), round(image.height * factor)
    image = image.resize(size, Image.Resampling.BILINEAR)
    pen, font = ImageDraw.Draw(image), _font(image)

    if "mask" in example:
        colors = np.array([ImageColor.getrgb(_color(i)) for i in range(255)] + [(0, 0, 0)], np.uint8)
        mask = Image.fromarray(colors[example["mask"]]).resize(size, Image.Resampling.NEAREST)
        image = Image.blend(image, mask, 0.5)
        pen = ImageDraw.Draw(image)
        for row, index in enumerate(sorted(set(example["mask"].ravel().tolist()) - {255})):
            _label(pen, (0, (row + 1) * (font.size + 3)), _name(index, class_names), _color(index), font, size)
    for row, box in enumerate(example.get("boxes", ())):
        ignored = bool("ignored" in example and example["ignored"][row])
        if not (example["valid"][row] or ignored):
            continue
        index = int(example["classes"][row]) if "classes" in example else 0
        color = "#888888" if ignored else _color(index)
        corners = box.reshape(2, 2) * factor
        pen.rectangle([tuple(corners[0]), tuple(corners[1])], outline=color, width=2)
        _label(pen, corners[0], _name(index, class_names), color, font, size)
    points = example.get("points", ())
    for i, point in enumerate(points):
        if "visible" in example and not example["visible"][i]:
            continue
        # Colours run round the circle by index: what changes places in a mirror can be seen.
        hue, (x, y), r = 300 * i // len(points), point * factor, max(2, _CELL // 100)
        pen.ellipse([x - r, y - r, x + r, y + r], fill=f"hsl({hue}, 100%, 50%)", outline="black")
    if "label" in example:
        label = example["label"]
        if label.ndim:
            shares = [i for i in np.argsort(-label)[:2].tolist() if label[i] > 0]
            text, index = " + ".join(f"{_name(i, class_names)} {label[i]:.2f}" for i in shares), shares[0]
        else:
            text, index = _name(int(label), class_names), int(label)
        _label(pen, (0, 0), text, _color(index), font, size)
    if "other" in example:
        pair = Image.new("RGB", (2 * image.width, image.height))
        pair.paste(image, (0, 0))
        pair.paste(draw_truth({"image": example["other"]}, class_names), (image.width, 0))
        text, color = ("same", _color(1)) if example["same"] else ("different", _color(0))
        _label(ImageDraw.Draw(pair), (0, 0), text, color, font, pair.size)
        return pair
    return image


def _name(index: int, class_names: Sequence[str]) -> str:
    return class_names[index] if index < len(class_names) else str(index)


def _color(index: int) -> str:
    """Ten that are told apart well; beyond, round the colour circle by the golden angle."""
    return _COLORS[index] if index < len(_COLORS) else f"hsl({index * 137 % 360}, 65%, {30 + index % 3 * 12}%)"


@singledispatch
def truth_of(prediction: Any, example: Batch) -> Any:
    """The truth of one example as a prediction of the same type; None for types that cannot be drawn."""
    return None


@truth_of.register
def _(prediction: Detections, example: Batch) -> Detections:
    valid = example["valid"]
    return Detections(example["boxes"], valid.astype(np.float32), example["classes"], valid)


@truth_of.register
def _(prediction: Classes, example: Batch) -> Classes:
    return Classes(example["label"], np.eye(len(prediction.scores), dtype=np.float32)[example["label"]])


@truth_of.register
def _(prediction: Localization, example: Batch) -> Localization:
    boxes = np.where(example["valid"][:, None], example["boxes"], 0)
    largest = int(((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).argmax())
    label = int(example["classes"][largest])
    scores = np.eye(len(prediction.scores), dtype=np.float32)[label]
    return Localization(np.array(example["valid"].any(), np.float32), boxes[largest], np.array(label), scores)


@truth_of.register
def _(prediction: Landmarks, example: Batch) -> Landmarks:
    return Landmarks(example["points"], example.get("visible", np.ones(len(example["points"]), bool)))


@singledispatch
def draw(
    prediction: Any,
    picture: np.ndarray,
    class_names: Sequence[str],
    *,
    title: str = "",
    minimum: float = 0.3,
    scale: tuple[float, float] = (1.0, 1.0),
) -> Image.Image:
    """One uint8 picture [h w c] with its prediction drawn onto it.

    Args:
        prediction: of this one picture.
        picture: in the pixels to be drawn on.
        class_names: name of each class index.
        title: a word in the corner.
        minimum: detections with a smaller score are left out.
        scale: from the prediction's pixels to those of the picture, x and y.
    """
    raise TypeError(f"no drawing is known for {type(prediction).__name__}")


@draw.register
def _(prediction: Detections, picture, class_names, *, title="", minimum=0.3, scale=(1.0, 1.0)) -> Image.Image:
    image, factor = _canvas(picture)
    pen, font = ImageDraw.Draw(image), _font(image)
    width = max(1, round(min(image.size) / 150))
    for box, score, label, valid in reversed(list(zip(*prediction, strict=True))):  # the best one on top
        if not valid or score < minimum:
            continue
        corners = box.reshape(2, 2) * np.array(scale) * factor
        color = _COLORS[int(label) % len(_COLORS)]
        pen.rectangle([tuple(corners[0]), tuple(corners[1])], outline=color, width=width)
        text = class_names[int(label)] if class_names else str(int(label))
        if title != "truth":
            text += f" {score:.2f}"
        _label(pen, corners[0], text, color, font, image.size)
    if title:
        _label(pen, (image.width - pen.textlength(title, font) - 4, image.height), title, "#444444", font, image.size)
    return image


@draw.register
def _(prediction: Classes, picture, class_names, *, title="", minimum=0.3, scale=(1.0, 1.0)) -> Image.Image:
    image, _ = _canvas(picture)
    pen, font = ImageDraw.Draw(image), _font(image)
    label = int(prediction.label)
    text = class_names[label] if class_names else str(label)
    if title != "truth":
        text += f" {prediction.scores[label]:.2f}"
    _label(pen, (0, 0), f"{title} {text}".strip(), _COLORS[label % len(_COLORS)], font, image.size)
    return image


@draw.register
def _(prediction: Localization, picture, class_names, *, title="", minimum=0.3, scale=(1.0, 1.0)) -> Image.Image:
    image, factor = _canvas(picture)
    pen, font = ImageDraw.Draw(image), _font(image)
    truth = title == "truth"
    text, color, corner = "no object", "#444444", np.zeros(2)
    if prediction.score > 0.5:
        label = int(prediction.label)
        text = class_names[label] if class_names else str(label)
        text += "" if truth else f" {prediction.scores[label]:.2f}"
        color = _COLORS[label % len(_COLORS)]
        corners = prediction.box.reshape(2, 2) * np.array(scale) * factor
        corner = corners[0]
        pen.rectangle([tuple(corners[0]), tuple(corners[1])], outline=color, width=max(1, round(min(image.size) / 150)))
    _label(pen, corner, text if truth else f"{text}, p_c {prediction.score:.2f}", color, font, image.size)
    if title:
        _label(pen, (image.width - pen.textlength(title, font) - 4, image.height), title, "#444444", font, image.size)
    return image


@draw.register
def _(prediction: Landmarks, picture, class_names, *, title="", minimum=0.3, scale=(1.0, 1.0)) -> Image.Image:
    image, factor = _canvas(picture)
    pen, font = ImageDraw.Draw(image), _font(image)
    radius = max(1.5, min(image.size) / 150)
    for i, (point, visible) in enumerate(zip(*prediction, strict=True)):
        x, y = point * np.array(scale) * factor
        if visible and np.isfinite([x, y]).all():
            fill = f"hsl({300 * i // len(prediction.points)}, 100%, 50%)"  # as in `draw_truth`: sides can be told apart
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill, outline="black")
    if title:
        _label(pen, (image.width - pen.textlength(title, font) - 4, image.height), title, "#444444", font, image.size)
    return image


def _canvas(picture: np.ndarray) -> tuple[Image.Image, int]:
    """The picture in RGB, small ones enlarged by a whole factor so that the writing fits."""
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).convert("RGB")
    factor = max(1, round(256 / min(image.size)))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BILINEAR), factor


def _font(image: Image.Image) -> Any:
    return ImageFont.load_default(size=max(11, min(image.size) / 24))


def _label(pen: ImageDraw.ImageDraw, corner: Any, text: str, color: str, font: Any, size: tuple[int, int]) -> None:
    """White writing on a filled strip above `corner`, moved inside the picture."""
    width, height = pen.textlength(text, font) + 4, font.size + 3
    x = min(max(0, corner[0]), max(0, size[0] - width))
    y = min(max(0, corner[1] - height), size[1] - height)
    pen.rectangle([x, y, x + width, y + height], fill=color)
    pen.text((x + 2, y), text, fill="white", font=font)
