"""An image to draw onto, and the colours and names of classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

GREY, DARK = "#888888", "#444444"
SHORTER_SIDE = 256
"""About that of an image after enlargement, so that the writing fits."""
_COLORS = ["#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#f032e6", "#9a6324", "#808000", "#000075"]


def color_of(label: int) -> str:
    """Colour of a class: ten that are told apart well; beyond, round the colour circle by the golden angle."""
    return _COLORS[label] if 0 <= label < len(_COLORS) else f"hsl({label * 137 % 360}, 65%, {30 + label % 3 * 12}%)"


def name_of(label: int, class_names: Sequence[str]) -> str:
    """Name of a class; its index where it has none."""
    return class_names[label] if 0 <= label < len(class_names) else str(label)


class Canvas:
    """An RGB image, enlarged if small; what is drawn onto it is given in its pixels.

    Args:
        pixels: uint8 [h w c], c 1 or 3.
        exact: the shorter side becomes 256 pixels; else the image is enlarged by the whole factor that comes nearest.
    """

    def __init__(self, pixels: np.ndarray, *, exact: bool = False):
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
        factor = SHORTER_SIDE / min(image.size)
        factor = factor if exact else max(1, round(factor))
        size = round(image.width * factor), round(image.height * factor)
        self._image = image.resize(size, Image.Resampling.BILINEAR)
        self._factor = factor
        self._pen = ImageDraw.Draw(self._image)
        self._labels: list[tuple[Any, str, str]] = []
        self._font: Any = ImageFont.load_default(size=max(11, min(size) / 24))

    @property
    def image(self) -> Image.Image:
        """What is drawn so far; labels of boxes are on top of all boxes."""
        for label in self._labels:
            self._label(*label)
        self._labels.clear()
        return self._image

    def box(self, box: np.ndarray, text: str, color: str) -> None:
        """The outline of a box, xyxy, with its label; none where it is not finite. An inverted box has its corners."""
        corners = box.reshape(2, 2) * self._factor
        if np.isfinite(corners).all():
            low, high = corners.min(0), corners.max(0)
            width = max(1, round(min(self._image.size) / 150))
            self._pen.rectangle([tuple(low), tuple(high)], outline=color, width=width)
            self._labels.append((low, text, color))

    def outline(self, box: np.ndarray, color: str) -> None:
        """The outline of a box, xyxy, one pixel wide; none where it is not finite or has no area."""
        low, high = box.reshape(2, 2) * self._factor
        if np.isfinite(box).all() and (high > low).all():
            self._pen.rectangle([tuple(low), tuple(high)], outline=color)

    def points(self, points: np.ndarray, visible: np.ndarray) -> None:
        """Dots, (x, y) [p 2]; colours run round the circle by index: points that a flip has interchanged are seen."""
        radius = max(2, min(self._image.size) / 150)
        for i, (x, y) in enumerate(points * self._factor):
            if visible[i] and np.isfinite([x, y]).all():
                fill = f"hsl({300 * i // len(points)}, 100%, 50%)"
                self._pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill, outline="black")

    def mask(self, mask: np.ndarray, class_names: Sequence[str]) -> None:
        """Classes [h w] as a tint over the whole image, black where they are 255 (ignored), with a legend."""
        colors = np.array([ImageColor.getrgb(color_of(i)) for i in range(255)] + [(0, 0, 0)], np.uint8)
        self.tint(colors[mask])
        for row, label in enumerate(np.setdiff1d(mask, 255).tolist()):
            self.text(name_of(label, class_names), color_of(label), row=row)

    def tint(self, colors: np.ndarray) -> None:
        """Colours [h w 3] laid over the whole image, half transparent."""
        tint = Image.fromarray(colors).resize(self._image.size, Image.Resampling.NEAREST)
        self._image.paste(Image.blend(self._image, tint, 0.5))

    def text(self, text: str, color: str, *, row: int = 0) -> None:
        """A label at the left, rows counted from the top."""
        self._label((0, (row + 1) * (self._font.size + 3)), text, color)

    def title(self, text: str) -> None:
        """A label in the lower right corner."""
        self._label(self._image.size, text, DARK)

    def _label(self, corner: Any, text: str, color: str) -> None:
        """White writing on a filled strip above `corner`, moved inside the image."""
        width, height = self._pen.textlength(text, self._font) + 4, self._font.size + 3
        x = min(max(0, corner[0]), max(0, self._image.width - width))
        y = min(max(0, corner[1] - height), self._image.height - height)
        self._pen.rectangle([x, y, x + width, y + height], fill=color)
        self._pen.text((x + 2, y), text, fill="white", font=self._font)
