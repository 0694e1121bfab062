"""One annotation file in COCO's JSON format, checked entry by entry: a fault is named by its place, `annotations[17]`.

Keys read: `images` (id, file_name, width, height), `categories` (id, name, supercategory, keypoints), `annotations`
(image_id, category_id, bbox, segmentation, iscrowd, keypoints). `info`, `licenses` and whatever else there is may be
missing. Ids are numbers or texts, in any order and with gaps, from 0 or from 1. A key, an id or a file that is given
twice is refused.

References:
  Lin et al., Microsoft COCO, https://arxiv.org/abs/1405.0312; the format: https://cocodataset.org/#format-data
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxcv.data.io.images import check_image
from jaxcv.data.io.text import MAX_SIDE, one_line, read_json, shown, wrong_name
from jaxcv.types import DataError

Id = int | str


class Entry:
    """One JSON object of a file, read key by key."""

    __slots__ = ("fields", "file", "place")

    def __init__(self, fields: Mapping[str, Any], file: Path, place: str):
        self.fields, self.file, self.place = fields, file, place

    def refuse(self, message: str) -> DataError:
        """The fault of this entry."""
        return DataError(f"{self.place}: {message}", file=self.file)

    def wrong(self, key: str, expected: str) -> DataError:
        """The fault of one key."""
        if key not in self.fields:
            return self.refuse(f"has no {key}, expected {expected}; add it")
        remedy = "" if ";" in expected else "; correct it"
        return self.refuse(f"{key} is {shown(self.fields[key])}, expected {expected}{remedy}")

    def id(self, key: str) -> Id:
        """A number or a text that others refer to."""
        value = self.fields.get(key)
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise self.wrong(key, "a whole number or a text")
        return value

    def text(self, key: str) -> str:
        """A text that is not empty."""
        value = self.fields.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, "a text")
        return value.strip()

    def numbers(self, key: str, expected: str, *, count: int | None = None) -> list[float]:
        """A list of `count` numbers, infinite and missing ones (NaN) among them."""
        values = floats(self.fields.get(key))
        if values is None or count not in (None, len(values)):
            raise self.wrong(key, expected)
        return values

    def flag(self, key: str) -> bool:
        """0 or 1; 0 where it is missing."""
        value = self.fields.get(key, 0)
        if value not in (0, 1) or isinstance(value, list | dict):
            raise self.wrong(key, "0 or 1")
        return bool(value)


def floats(values: Any) -> list[float] | None:
    """A list of numbers as floats; None where it is anything else."""
    if not isinstance(values, list) or not all(type(v) in (int, float) for v in values):
        return None
    try:
        return [float(v) for v in values]
    except OverflowError:  # a whole number of 400 digits
        return [math.inf if type(v) is int and abs(v) > 2**1000 else float(v) for v in values]


class Category(NamedTuple):
    """A class as the file has it."""

    name: str
    parent: str
    """Its supercategory; empty where none is given."""
    keypoints: tuple[str, ...]
    """Names of the key points of its objects."""


class Picture(NamedTuple):
    """An image as the file has it."""

    entry: Entry
    id: Id
    file_name: str
    annotations: list[Entry]

    def size(self, file: Path) -> tuple[int, int]:
        """Width and height as stated; where they are not, from the image file's header."""
        values = [self.entry.fields.get(key) for key in ("width", "height")]
        if values == [None, None]:
            return check_image(file)
        for key, value in zip(("width", "height"), values, strict=True):
            number = value if isinstance(value, int | float) and not isinstance(value, bool) else 0
            if not 1 <= number <= MAX_SIDE or number != int(number):
                raise self.entry.wrong(key, f"a whole number from 1 to {MAX_SIDE:,}")
        return int(values[0]), int(values[1])  # pyright: ignore


class CocoFile(NamedTuple):
    """What one file holds."""

    file: Path
    categories: dict[Id, Category]
    pictures: list[Picture]
    strays: list[DataError]
    """Annotations that belong to no image of the file."""

    def unused_roots(self) -> set[str]:
        """Names of categories that no object has and of which all others are kinds.

        Some exporters put such a category first, as a parent for the true classes.
        """
        used = {a.fields.get("category_id") for p in self.pictures for a in p.annotations if _hashable(a)}
        return {
            category.name
            for key, category in self.categories.items()
            if key not in used
            and len(self.categories) > 1
            and all(c.parent == category.name for k, c in self.categories.items() if k != key)
        }


def _hashable(entry: Entry) -> bool:
    return isinstance(entry.fields.get("category_id"), int | str)


def read_coco(file: Path) -> CocoFile:
    """Read one file. What each annotation says is checked by those who use it.

    Raises:
      DataError: broken JSON, a key that is missing or of the wrong kind, an id given twice.
    """
    content = read_json(file)
    if not isinstance(content, dict):
        message = f"holds {shown(content)} where COCO has keys images, categories, annotations; is it the right file?"
        raise DataError(message, file=file)
    categories: dict[Id, Category] = {}
    for entry in _entries(content, "categories", file):
        key, name = entry.id("id"), entry.text("name")
        if fault := wrong_name(name):
            raise entry.refuse(fault)
        if key in categories:
            raise entry.refuse(f"id {shown(key)} is taken by {shown(categories[key].name)}; give it another")
        if name in {category.name for category in categories.values()}:
            raise entry.refuse(f"name {shown(name)} is given twice; rename one, or join them under one id")
        parent, points = entry.fields.get("supercategory", ""), entry.fields.get("keypoints", [])
        points = tuple(map(str, points)) if isinstance(points, list) and all(type(p) is str for p in points) else ()
        categories[key] = Category(name, parent if isinstance(parent, str) else "", points)
    if not categories:
        raise DataError("categories is empty, expected the classes; fetch the file again", file=file)
    pictures: dict[Id, Picture] = {}
    files: set[str] = set()
    for entry in _entries(content, "images", file):
        key, name = entry.id("id"), entry.text("file_name")
        if key in pictures:
            raise entry.refuse(f"id {shown(key)} is given twice; give one image another")
        if name in files:
            raise entry.refuse(f"file_name {shown(name)} is given twice; join what belongs to one image under one id")
        pictures[key] = Picture(entry, key, name, [])
        files.add(name)
    strays = []
    for entry in _entries(content, "annotations", file):
        key = entry.fields.get("image_id")
        if type(key) in (int, str) and key in pictures:
            pictures[key].annotations.append(entry)
        else:
            strays.append(entry.wrong("image_id", "the id of an image; add the image or take the annotation out"))
    return CocoFile(file, categories, list(pictures.values()), strays)


def _entries(content: Mapping[str, Any], key: str, file: Path) -> list[Entry]:
    found = content.get(key)
    if not isinstance(found, list):
        what = f"{key} is {shown(found)}" if key in content else f"has no key {key}"
        keys = one_line(", ".join(map(str, list(content)[:8])), length=80) or "none"
        raise DataError(f"{what}, expected COCO's list of them; mend it, the keys there are: {keys}", file=file)
    for i, fields in enumerate(found):
        if not isinstance(fields, dict):
            raise DataError(f"{key}[{i}] is {shown(fields)}, expected a JSON object; take it out", file=file)
    return [Entry(fields, file, f"{key}[{i}]") for i, fields in enumerate(found)]
