"""Sets whose pictures stand encoded in large files, record after record, and are read by number.

A reader gives `Stored`: records of each split as mappings, by the field names that its writers use. `fields_of` makes
of one what `sources.records` reads, whatever wrote it:

    image  jpg jpeg png webp img             the encoded bytes, or {"bytes": ...}
    label  labels fine_label cls class       a number, or the name of a class
    mask   annotation segmentation_mask seg  a picture of class numbers
    boxes  with classes                      xyxy in pixels
    objects                                  bbox (x, y, width, height in pixels, as COCO's) and category
    objects/bbox  objects/label              y0, x0, y1, x1 as fractions, as TFDS writes them
    points  keypoints                        x, y or x, y, visibility in pixels
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcv.data.example import Task, check_class
from jaxcv.data.io.images import open_any, upright_size
from jaxcv.data.io.kept import KeptScan
from jaxcv.data.io.paths import choose_splits, split_word
from jaxcv.data.io.text import Where, list_names, one_line
from jaxcv.errors import DataError

_NAMES = {
    "image": ("image", "img", "jpg", "jpeg", "png", "webp"),
    "label": ("label", "labels", "fine_label", "cls", "class"),
    "mask": ("mask", "annotation", "segmentation_mask", "seg.png", "mask.png", "seg", "label"),
    "points": ("points", "keypoints"),
}


class Stored(NamedTuple):
    """Both splits of a set."""

    splits: Mapping[str, Any]
    """Records by number, to be read by many threads."""
    names: tuple[str, ...]
    """Class names; empty: the labels are counted."""
    apart: bool = True
    """Whether the set has two splits; else both are the same records, of which every fifth is for testing."""
    kept: KeptScan | None = None
    """Set where the scan itself is kept."""


def by_split(files: Sequence[Path], root: Path) -> dict[str, list[Path]]:
    """Files by split, as their names say: `train` alone where they do not name two."""
    by_word: dict[str, list[Path]] = {}
    for file in sorted(files):
        by_word.setdefault(split_word(file.relative_to(root) if file != root else Path(file.name)), []).append(file)
    chosen = {split: by_word[word] for split, word in choose_splits(by_word).items()}
    return chosen or {"train": sorted(files)}


@dataclass(frozen=True, eq=False)
class StoredRecords:
    """One split, opened when something is asked."""

    scan: Callable[[], Stored]
    split: str
    task: Task
    thread_safe = True

    @property
    def _records(self) -> Any:
        stored = self.scan()
        return stored.splits[self.split if stored.apart else "train"]

    def __len__(self) -> int:
        return len(self._records)

    def choose(self, count: int) -> np.ndarray:
        """Which records are of this split."""
        fifth = np.arange(count) % 5 == 4
        return np.ones(count, np.bool_) if self.scan().apart else fifth == (self.split == "test")

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return fields_of(self._records[index], self.task, self._index)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Those that the set states; else its labels, counted."""
        stored = self.scan()
        if stored.names or self.task == "points":
            return stored.names
        labels = {label for records in stored.splits.values() for label in _labels(records, self.task)}
        if words := sorted(label for label in labels if isinstance(label, str)):
            return tuple(words)
        names = tuple(map(str, range(1 + max((int(label) for label in labels), default=-1))))
        if not names:
            raise DataError(f"no label is in it, for {self.task}", file=self.split)
        return names

    def labels(self) -> np.ndarray:
        """The class index of every record, the pictures not read."""
        found = _each(self._records, "label")
        return np.array([_number(_first(record, "label"), self._index) for record in found], np.int32)

    def box_classes(self) -> list[np.ndarray]:
        """The class index of each box of every record, the pictures not read."""
        found = (_objects(record)[1] for record in _each(self._records, "boxes"))
        return [np.array([_number(label, self._index) for label in labels], np.int32) for labels in found]

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.class_names)} if self.task in ("label", "boxes") else {}


def _labels(records: Any, task: Task) -> set[Any]:
    """Of all records; `records.labels(names)` where they are found without the pictures."""
    if task == "mask":
        raise DataError("its masks name no classes; expected classes.txt beside, a name a line", file="masks")
    found: set[Any] = set()
    for record in _each(records, task):
        label = _first(record, "label") if task == "label" else _objects(record)[1]
        found |= {_plain(value) for value in (label if task == "boxes" else [label])}
    return found


def _each(records: Any, task: Task) -> Iterator[Mapping[str, Any]]:
    """All records, without their pictures where these need not be read. Raises DataError: its number, what is wrong."""
    for i, found in enumerate(
        records.labels() if hasattr(records, "labels") else map(records.__getitem__, range(len(records)))
    ):
        try:
            _first(found, "label") if task == "label" else _objects(found)
        except (ValueError, KeyError) as error:
            raise DataError(one_line(error), file=f"record {i}") from None
        yield found


def _number(label: Any, index: Mapping[str, int]) -> int:
    """A label, or the name of one, as a class index."""
    label = _plain(label)
    return check_class(label, index, Where(Path("record"))) if isinstance(label, str) else label


def _plain(label: Any) -> Any:
    """A label as a number or a text."""
    if isinstance(label, bytes):
        label = label.decode("utf-8", "replace").strip()
        return int(label) if label.isdecimal() else label
    return label if isinstance(label, str) else int(np.asarray(label).reshape(()))


def _first(record: Mapping[str, Any], what: str) -> Any:
    name = next((name for name in _NAMES[what] if name in record), None)
    if name is None:
        raise ValueError(f"keys {one_line(', '.join(map(str, record)), length=80)}, expected {_NAMES[what][0]}")
    return record[name]


def _objects(record: Mapping[str, Any], size: Callable[[], tuple[int, int]] = lambda: (1, 1)) -> tuple[Any, Any]:
    """Boxes xyxy in pixels, and their labels."""
    if "boxes" in record:
        return record["boxes"], record.get("classes", record.get("labels", ()))
    if "objects/bbox" in record:
        y0, x0, y1, x1 = np.asarray(record["objects/bbox"], np.float64).reshape(-1, 4).T
        labels = record.get("objects/label", ())  # one object's stands alone
        several = isinstance(labels, list | tuple | np.ndarray)
        return np.stack([x0, y0, x1, y1], 1) * np.tile(size(), 2), labels if several else [labels]
    objects = record.get("objects")
    if objects is None:
        raise ValueError(f"keys {one_line(', '.join(map(str, record)), length=80)}, expected boxes or objects")
    if isinstance(objects, Sequence):
        objects = {key: [each[key] for each in objects] for key in (objects[0] if objects else ("bbox", "category"))}
    labels = next((objects[key] for key in ("category", "label", "class", "category_id") if key in objects), ())
    boxes = np.asarray(objects["bbox"], np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1), labels


def fields_of(record: Mapping[str, Any], task: Task, index: Mapping[str, int]) -> dict[str, Any]:
    """What `Records.read_record` takes, of a record of any writer. Raises ValueError: a field is missing."""
    found = {"image": _first(record, "image")}
    if isinstance(found["image"], Mapping):
        found["image"] = found["image"].get("bytes") or found["image"].get("path")

    def size() -> tuple[int, int]:
        with open_any(found["image"]) as image:
            return upright_size(image)

    if task == "label":
        found["label"] = _number(_first(record, "label"), index)
    elif task == "mask":
        found["mask"] = _first(record, "mask")
    elif task == "boxes":
        boxes, labels = _objects(record, size)
        found |= {"boxes": boxes, "classes": [_number(label, index) for label in labels]}
        if (crowd := record.get("ignored", record.get("objects/is_crowd"))) is not None:
            found["ignored"] = crowd
    else:
        points = np.asarray(_first(record, "points"), np.float64)
        if points.ndim == 1 or points.shape[-1] not in (2, 3):
            points = points.reshape(-1, 2 if "visible" in record or points.size % 3 else 3)
        found |= {"points": points[:, :2].tolist(), "visible": record.get("visible", np.ones(len(points)))}
        if points.shape[-1] == 3:
            found["visible"] = points[:, 2] > 0
    return found


def none_there(root: Path, what: str) -> DataError:
    """That a set has none of the files that it is made of."""
    there = list_names(sorted(p.name for p in root.iterdir())) if root.is_dir() else "no such folder"
    return DataError(f"no {what} in it: {there}", file=root)
