"""One PASCAL VOC annotation file, read with the line of every element, so that a fault can be pointed at.

VOC counts pixels from 1 and includes the last one. As real edges of the box in pixels from 0 that is
`(xmin - 1, ymin - 1, xmax, ymax)`. Rules for what stands in the file:

- `xmax == xmin` or `ymax == ymin`: no area as its author drew it; dropped, counted.
- `xmax < xmin` or `ymax < ymin`: corners swapped; an error.
- partly outside the image: cut at its border, counted when by more than a pixel (many tools count from 0).
- wholly outside the image: an error.
- what there must be one of, such as `bndbox`, stands there twice: an error.
- `difficult` 1: kept apart as `ignored`, neither truth nor false alarm, as the VOC evaluation has it.

The XML is not trusted: entities and external references are refused (defusedxml).
"""

import math
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax import SAXParseException
from xml.sax.handler import ContentHandler

import numpy as np
from jaxtyping import Float

from jaxcv.data.io.text import MAX_SIDE, one_line, read_bytes, read_number, read_text, shown, wrong_name
from jaxcv.data.sources.boxed import far_outside
from jaxcv.types import DataError

_MAX_BYTES = 2**24


class Annotation(NamedTuple):
    """What one file says."""

    file: Path
    filename: str
    """The image's name as written; empty when it is not."""
    width: int
    height: int
    names: list[str]
    """Class of each box."""
    lines: list[int]
    """Line of each box's class name."""
    boxes: Float[np.ndarray, "n 4"]
    """xyxy edges in pixels of the image, inside it."""
    difficult: list[bool]
    dropped: int
    """Boxes without area that were left out."""
    clipped: int
    """Boxes that were cut at the border by more than a pixel."""


class _Element:
    __slots__ = ("children", "line", "parts", "tag")

    def __init__(self, tag: str, line: int):
        self.tag, self.line, self.parts, self.children = tag, line, [], []

    @property
    def text(self) -> str:
        """What stands in it, without space around it."""
        return "".join(self.parts).strip()

    def find(self, tag: str) -> "_Element | None":
        return next((child for child in self.children if child.tag == tag), None)


class _Builder(ContentHandler):
    """Makes elements of what a parser reports; the parser knows the line."""

    def __init__(self, parser: Any):
        super().__init__()
        self.root = _Element("", 0)
        self._open = [self.root]
        self._parser = parser

    def startElement(self, name, attrs):  # noqa: N802, D102
        element = _Element(name, self._parser.getLineNumber())
        self._open[-1].children.append(element)
        self._open.append(element)

    def endElement(self, name):  # noqa: N802, D102
        self._open.pop()

    def characters(self, content):  # noqa: D102
        self._open[-1].parts.append(content)


def _parse(file: Path) -> _Element:
    from defusedxml import DefusedXmlException, sax

    parser = sax.make_parser()
    builder = _Builder(parser)
    parser.setContentHandler(builder)
    data = read_bytes(file, limit=_MAX_BYTES)
    try:
        parser.feed(data)
        parser.close()
    except SAXParseException as error:
        if "invalid token" in error.getMessage():  # most often an encoding that the file does not state
            read_text(file)
        message = f"broken XML: {one_line(error.getMessage())}; mend the tag"
        raise DataError(message, file=file, line=error.getLineNumber()) from None
    except DefusedXmlException as error:
        message = f"XML with entities or external references is refused ({one_line(error)}); take them out"
        raise DataError(message, file=file) from None
    except (OSError, ValueError, LookupError) as error:
        raise DataError(f"cannot be read: {one_line(error)}; save it as UTF-8", file=file) from None
    root = builder.root.children[0]
    if root.tag != "annotation":
        message = f"<{one_line(root.tag)}> where VOC has <annotation>; is it the right file?"
        raise DataError(message, file=file, line=root.line)
    return root


def _required(parent: _Element, tag: str, file: Path) -> _Element:
    found = parent.find(tag)
    if found is None:
        raise DataError(f"<{parent.tag}> has no <{tag}>; add it", file=file, line=parent.line)
    if (other := next((e for e in parent.children if e.tag == tag and e is not found), None)) is not None:
        raise DataError(f"<{parent.tag}> has a second <{tag}>; keep one", file=file, line=other.line)
    return found


def _number(parent: _Element, tag: str, file: Path) -> float:
    element = _required(parent, tag, file)
    value = read_number(element.text)
    if value is None or not math.isfinite(value):
        message = f"<{tag}> is {shown(element.text)}, expected a number; correct it"
        raise DataError(message, file=file, line=element.line)
    return value


def _flag(parent: _Element, tag: str, file: Path) -> bool:
    return parent.find(tag) is not None and _number(parent, tag, file) != 0


def read_annotation(file: Path) -> Annotation:
    """Read one VOC annotation.

    Args:
      file: the XML file.

    Raises:
      DataError: missing or broken file, missing element, not a number, an impossible size or box; names the line.
    """
    root = _parse(file)
    size = _required(root, "size", file)
    width, height = _number(size, "width", file), _number(size, "height", file)
    if not all(1 <= side <= MAX_SIDE and side == int(side) for side in (width, height)):
        expected = f"expected at least 1x1 and at most {MAX_SIDE:,} whole pixels a side; correct it"
        raise DataError(f"image size {width:g}x{height:g}, {expected}", file=file, line=size.line)
    filename = root.find("filename")
    names, lines, boxes, difficult, dropped, clipped = [], [], [], [], 0, 0
    for element in root.children:
        if element.tag != "object":
            continue
        name = _required(element, "name", file)
        if fault := wrong_name(name.text):
            raise DataError(fault, file=file, line=name.line)
        box = _required(element, "bndbox", file)
        x0, y0, x1, y1 = (_number(box, tag, file) for tag in ("xmin", "ymin", "xmax", "ymax"))
        written = f"box xmin={x0:g} ymin={y0:g} xmax={x1:g} ymax={y1:g}"
        if x1 < x0 or y1 < y0:
            raise DataError(f"{written}: the corners are swapped; correct it", file=file, line=box.line)
        if x1 == x0 or y1 == y0:
            dropped += 1
            continue
        if far_outside((x0, y0, x1, y1), (width, height)):
            message = f"{written} reaches far out of the {width:g}x{height:g} image; correct it or take the box out"
            raise DataError(message, file=file, line=box.line)
        edges = (max(x0 - 1, 0.0), max(y0 - 1, 0.0), min(x1, width), min(y1, height))
        if edges[0] >= edges[2] or edges[1] >= edges[3]:
            message = f"{written} lies outside the {width:g}x{height:g} image; correct it or take the box out"
            raise DataError(message, file=file, line=box.line)
        clipped += x0 < 0 or y0 < 0 or x1 > width + 1 or y1 > height + 1
        names.append(name.text)
        lines.append(name.line)
        boxes.append(edges)
        difficult.append(_flag(element, "difficult", file))
    return Annotation(
        file=file,
        filename="" if filename is None else filename.text,
        width=int(width),
        height=int(height),
        names=names,
        lines=lines,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        difficult=difficult,
        dropped=dropped,
        clipped=clipped,
    )
