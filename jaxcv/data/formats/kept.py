"""Scans kept for later processes, as few long arrays instead of many small objects; see `jaxcv.data.io.kept`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxcv.data.example import Example, LabelledFiles, Scan
from jaxcv.data.io.kept import kept_scan
from jaxcv.data.io.text import Where

_MANY = {"boxes": (4,), "classes": (), "ignored": (), "points": (2,), "visible": ()}
"""Fields of an example that are arrays of as many rows as it has boxes or points."""


def kept(scan: Callable[..., Scan]) -> Callable[..., Scan]:
    """A scan that is done once, and again only where something that it looked at has changed."""
    return kept_scan(scan, _pack, _unpack)


def _pack(scan: Scan) -> Any:
    splits = {split: _columns(examples) for split, examples in scan.splits.items()}
    return scan._replace(splits=splits)


def _columns(examples: Sequence[Example]) -> Any:
    if isinstance(examples, LabelledFiles):
        return examples
    arrays = {}
    for name, shape in _MANY.items():
        found = [getattr(example, name) for example in examples]
        arrays[name] = (
            np.concatenate([*found, np.zeros((0, *shape), getattr(Example(Path(), Where(Path())), name).dtype)]),
            np.cumsum([len(values) for values in found]),
        )
    where = [(str(e.where.file), e.where.line, e.where.entry) for e in examples]
    rest = [(e.size, e.label, e.region, e.group, e.mask) for e in examples]
    return [str(e.image) for e in examples], where, rest, arrays


def _unpack(scan: Scan) -> Scan:
    return scan._replace(splits={split: _examples(columns) for split, columns in scan.splits.items()})


def _examples(columns: Any) -> Sequence[Example]:
    if isinstance(columns, LabelledFiles):
        return columns
    images, wheres, rest, arrays = columns
    files: dict[str, Path] = {}
    parts = [np.split(values, ends[:-1]) if len(values) else [values] * len(images) for values, ends in arrays.values()]
    found = []
    for image, (file, line, entry), (size, label, region, group, mask), row in zip(
        images, wheres, rest, zip(*parts, strict=True), strict=True
    ):
        boxes, classes, ignored, points, visible = row
        if (path := files.get(file)) is None:
            path = files[file] = Path(file)
        where = Where(path, line, entry)
        found.append(
            Example(Path(image), where, size, label, boxes, classes, ignored, mask, region, points, visible, group)
        )
    return found
