"""COCO's JSON: boxes, masks and key points of the images it lists, checked entry by entry.

`data=coco:PATH`, a folder or one JSON file: `annotations/instances_train2017.json` beside the images in `train2017` (or
`images/train2017`), as COCO has it; `train/_annotations.coco.json` among the images, as exporters write it; or one file
with the images beside it or in `images`. The split is the word train, val, valid, validation or test in the name of the
file or its folder; `val` comes before `test`. Of one file alone a fifth is for testing, by the SHA-256 of the names.
`file_name` may name folders; where it is missing, as in LVIS, it is the end of `coco_url`.

Classes are the categories in the order of their ids, which are numbers or texts. A category that no object has and of
which all others are kinds is no class: some exporters put such a parent first.

- Boxes: `bbox`, or the extent of the outline where there is none. `iscrowd` 1 is `ignored`, neither truth nor false
  alarm. An image without objects is an example too.
- Masks: outlines drawn by `outlines.draw`, class 0 `background`, crowds 255.
- Key points: each object that has some is an example, the surroundings of its box; in files called `person_keypoints`
  first. `keypoints` holds x, y and a flag for each point, the middle of the first pixel being (0, 0): 0 where it is not
  annotated, 1 where it is hidden, 2 where it can be seen; hidden ones count as visible. Crowds, and objects none of
  whose points is annotated, are left out and counted. Points swap in mirror images by the category's names for them.

References:
  Lin et al., Microsoft COCO, https://arxiv.org/abs/1405.0312; the format: https://cocodataset.org/#format-data
"""

import re
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcv.data.collector import Collector
from jaxcv.data.example import MAX_BOXES, MAX_SIDE, NO_AREA, Example, Scan, Task, to_floats
from jaxcv.data.formats.kept import kept
from jaxcv.data.formats.mirrored import swap_by_names
from jaxcv.data.io.images import check_image, read_orientation
from jaxcv.data.io.paths import choose_files, find_file, find_folder, holds, join, list_files, list_folders, split_word
from jaxcv.data.io.text import Where, check_names, list_names, one_line, read_json, shown
from jaxcv.data.raw import Object, Raw
from jaxcv.errors import DataError

_OTHERS = re.compile("(captions|panoptic|stuff|image_info|person_keypoints|instances)_")
Id = int | str


@kept
def scan_coco(path: Path, task: Task, classes: tuple[str, ...], skip: bool, hold_out: bool = True) -> Scan:
    """Read every annotation of both splits; `task` is `boxes`, `mask` or `points`."""
    if path.is_file():
        root = path.parent.parent if path.parent.name == "annotations" else path.parent
        found, unused = {"train": path}, []
    else:
        root = find_folder(path, "data=coco:PATH needs a folder with annotation files, or one such file")
        files = [file for folder in (root, *list_folders(root, root)) for file in list_files(folder, root, ".json")]
        words = "person_keypoints_" if task == "points" else "instances_"
        ours = [file for file in files if file.name.startswith(words)]
        ours = ours or [file for file in files if not _OTHERS.match(file.name)]
        if not ours:
            raise DataError(f"no annotation file (.json) in it or one folder below; {holds(root)}", file=root)
        found, unused = choose_files(ours, root, "coco")
    files, collector = {split: read_coco(file) for split, file in found.items()}, Collector(root, skip=skip)
    if unused:
        collector.say("train", f"annotation files not used: {list_names(unused)}")
    names = () if task == "points" else classes or _class_names(files, collector)
    points = _point_names(files) if task == "points" else ()
    collector.swap = swap_by_names(points)
    for split, file in files.items():
        for stray in file.strays:
            with collector.faults_of(split):
                raise stray
        bases = image_folders(file, root)
        plain = PlainBoxes(file, {name: i for i, name in enumerate(names)}) if task == "boxes" else None
        for row, listed in enumerate(file.images):
            with collector.faults_of(split):
                image = find_image(listed, bases, root)
                if plain is not None and (example := plain.example(row, image)) is not None:
                    collector.examples[split].append(example)
                    continue
                size, objects = listed.size(image), []
                for entry in file.annotations_of(row):
                    if task != "points":
                        objects.append(_object(entry, task, file.names))
                    elif any(placed := _points(entry, len(points))):
                        points = points or ("",) * len(placed)
                        objects.append(Object(entry.where, points=placed, **_box(entry)))
                    else:
                        collector.count(split, "objects without key points left out", image.stem)
                group = image.name if task == "points" else ""
                raw = Raw(image, Where(file.file), size, objects, group, stated="width" in listed.fields)
                collector.examples[split].append(raw)
    names = collector.validate(task, names)
    if "test" not in files:
        collector.hold_out(really=hold_out)
    return collector.finish(names)


class Entry(NamedTuple):
    """One JSON object of a file, read key by key."""

    fields: Mapping[str, Any]
    file: Path
    key: str  # of the list it stands in
    number: int

    @property
    def where(self) -> Where:
        """Where it stands."""
        return Where(self.file, entry=f"{self.key}[{self.number}]")

    def wrong(self, key: str, expected: str) -> DataError:
        """The fault of one key."""
        found = f"{key} is {shown(self.fields[key])}" if key in self.fields else f"has no {key}"
        return self.where.refuse(f"{found}, expected {expected}")

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

    def numbers(self, key: str, expected: str) -> list[float]:
        """A list of numbers, infinite and missing ones (NaN) among them."""
        if (values := to_floats(self.fields.get(key))) is None:
            raise self.wrong(key, expected)
        return values

    def flag(self, key: str) -> bool:
        """0 or 1; 0 where it is missing."""
        value = self.fields.get(key, 0)
        if value not in (0, 1) or isinstance(value, list | dict):
            raise self.wrong(key, "0 or 1")
        return bool(value)

    def file_name(self) -> str:
        """Of an image: as it says, or the last folder and name of its address, as LVIS has it."""
        url = self.fields.get("coco_url")
        if "file_name" not in self.fields and isinstance(url, str) and url.count("/") > 1:
            return "/".join(url.split("/")[-2:])
        return self.text("file_name")

    def size(self, image: Path) -> tuple[int, int]:
        """The keys width and height; where they are missing, from the header of the image file."""
        values = [self.fields.get(key) for key in ("width", "height")]
        if values == [None, None]:
            return check_image(image)
        for key, value in zip(("width", "height"), values, strict=True):
            number = value if isinstance(value, int | float) and not isinstance(value, bool) else 0
            if not 1 <= number <= MAX_SIDE or number != int(number):
                raise self.wrong(key, f"a whole number from 1 to {MAX_SIDE:,}")
        return int(values[0]), int(values[1])  # pyright: ignore


class CocoFile(NamedTuple):
    """What one file holds."""

    file: Path
    names: dict[Id, str]  # of the categories
    categories: list[Entry]
    images: list[Entry]
    annotations: list[dict[str, Any]]
    rows: list[list[int]]  # of each image its annotations
    strays: list[DataError]  # annotations that belong to no image of the file

    def annotations_of(self, row: int) -> list[Entry]:
        """Those of an image."""
        return [Entry(self.annotations[i], self.file, "annotations", i) for i in self.rows[row]]

    def unused_roots(self) -> set[str]:
        """Names of categories that no object has and of which all others are kinds."""
        ids = (each.get("category_id") for each in self.annotations)
        used = {key for key in ids if isinstance(key, int | str)}
        parents = {each.text("name"): shown(each.fields.get("supercategory")) for each in self.categories}
        unused = {name for key, name in self.names.items() if key not in used and len(parents) > 1}
        return {name for name in unused if {parents[each] for each in parents if each != name} == {shown(name)}}


class PlainBoxes:
    """The boxes of a file, checked all at once: of the images in which nothing is to be said about any of them.

    A million objects, each looked at on its own, take a minute; those in doubt go through `Collector` like any other.
    """

    def __init__(self, file: CocoFile, index: Mapping[str, int]):
        self._file, every = file, file.annotations
        self._order = np.array([i for row in file.rows for i in row], np.int64)
        counts = np.array([len(row) for row in file.rows], np.int64)
        self._ends = np.cumsum(counts)
        shapes = [(each.fields.get("width"), each.fields.get("height")) for each in file.images]
        known = [type(w) is int and type(h) is int and 1 <= min(w, h) and max(w, h) <= MAX_SIDE for w, h in shapes]
        sizes = np.array([shape if good else (1, 1) for shape, good in zip(shapes, known, strict=True)], np.float64)
        self._plain = np.array(known, np.bool_) & (counts <= MAX_BOXES)
        labels = {key: index.get(name, -1) for key, name in file.names.items()}
        try:
            ids, crowds = [each["category_id"] for each in every], [each.get("iscrowd", 0) for each in every]
            listed = [each["bbox"] for each in every]
            numbers = {*map(type, chain.from_iterable(listed))} <= {int, float}
            sound = numbers and {*map(type, ids)} <= {int, str} and {*map(type, crowds)} <= {int}
            boxes = np.array(listed, np.float64).reshape(-1, 4)[self._order]
            classes = np.array([labels.get(key, -1) for key in ids], np.int32)[self._order]
            ignored = np.array(crowds, np.int64)[self._order]
        except (KeyError, TypeError, ValueError, OverflowError):
            self._plain[:] = False
            return
        if not sound:
            self._plain[:] = False
            return
        low, most = boxes[:, :2], np.repeat(sizes.reshape(-1, 2), counts, axis=0)
        high = low + boxes[:, 2:]
        inside = (low >= -1).all(1) & (high <= most + 1).all(1) & (classes >= 0) & ((ignored == 0) | (ignored == 1))
        low, high = np.maximum(low, 0), np.minimum(high, most)
        inside &= (boxes[:, 2:] >= NO_AREA).all(1) & (high - low >= NO_AREA).all(1)  # not so either for NaN
        doubtful = np.repeat(np.arange(len(counts)), counts)[~inside]
        self._plain[doubtful] = False
        self._boxes = np.concatenate([low, high], axis=1).astype(np.float32)
        self._classes: Any = classes
        self._ignored: Any = ignored == 1

    def example(self, row: int, image: Path) -> Example | None:
        """An image with its boxes; None where they must be looked at one by one."""
        if not self._plain[row] or (self._file.rows[row] and read_orientation(image) > 1):
            return None
        fields, end = self._file.images[row].fields, self._ends[row]
        part = slice(end - len(self._file.rows[row]), end)
        found: Any = {"boxes": self._boxes[part], "classes": self._classes[part], "ignored": self._ignored[part]}
        return Example(image, Where(self._file.file), (fields["width"], fields["height"]), **found)


def read_coco(file: Path) -> CocoFile:
    """Read one file. What each annotation says is read by those who use it."""
    content = read_json(file)
    if not isinstance(content, dict):
        expected = "COCO has keys images, categories, annotations"
        raise DataError(f"holds {shown(content)} where {expected}", file=file)
    categories, images = (
        _by_id([Entry(fields, file, key, i) for i, fields in enumerate(_entries(content, key, file))])
        for key in ("categories", "images")
    )
    if not categories:
        raise DataError("categories is empty, expected the classes", file=file)
    names = check_names((entry.where, entry.text("name")) for entry in categories.values())
    named = set()
    for entry in images.values():
        if (name := entry.file_name()) in named:
            raise entry.where.refuse(f"file_name {shown(name)} is given twice, expected one id for one image")
        named.add(name)
    annotations, rows, strays = _entries(content, "annotations", file), {key: [] for key in images}, []
    for i, fields in enumerate(annotations):
        key = fields.get("image_id")
        if type(key) in (int, str) and key in rows:
            rows[key].append(i)
        else:
            strays.append(Entry(fields, file, "annotations", i).wrong("image_id", "the id of an image"))
    ids = dict(zip(categories, names, strict=True))
    every = [*categories.values()], [*images.values()]
    return CocoFile(file, ids, *every, annotations, [*rows.values()], strays)


def _entries(content: Mapping[str, Any], key: str, file: Path) -> list[dict[str, Any]]:
    found = content.get(key)
    if not isinstance(found, list):
        what = f"{key} is {shown(found)}" if key in content else f"has no key {key}"
        keys = one_line(", ".join(map(str, list(content)[:8])), length=80) or "none"
        raise DataError(f"{what}, expected COCO's list of them; the keys there are: {keys}", file=file)
    if not {*map(type, found)} <= {dict}:
        i = next(i for i, fields in enumerate(found) if not isinstance(fields, dict))
        raise DataError(f"{key}[{i}] is {shown(found[i])}, expected a JSON object", file=file)
    return found


def _by_id(entries: list[Entry]) -> dict[Id, Entry]:
    found: dict[Id, Entry] = {}
    for entry in entries:
        if (key := entry.id("id")) in found:
            raise entry.where.refuse(f"id {shown(key)} is given twice, first to {found[key].where.entry}")
        found[key] = entry
    return found


def _class_names(files: dict[str, CocoFile], collector: Collector) -> tuple[str, ...]:
    """Names of the classes, the same for both splits."""
    roots = set.intersection(*(file.unused_roots() for file in files.values()))
    listed = []
    for file in files.values():
        every = sorted(file.names.items(), key=lambda item: (isinstance(item[0], str), item[0]))
        listed.append([name for _, name in every if name not in roots])
        if odd := sorted(set(listed[-1]) ^ set(listed[0])):
            first = next(iter(files.values())).file.name
            raise DataError(f"category {shown(odd[0])} is not in both this file and {first}", file=file.file)
    if roots:
        collector.say("train", f"category {list_names(sorted(roots))}, parent of all others, is no class")
    return tuple(listed[0])


def image_folders(file: CocoFile, root: Path) -> list[Path]:
    """Where the images of a file may lie, the likeliest first."""
    word = file.file.stem.rpartition("_")[2]
    split = split_word(file.file.relative_to(root).with_suffix(""))
    bases = [file.file.parent, file.file.parent / "images", root, root / "images"]
    bases += [root / part / name for name in (word, split) if name for part in ("", "images")]
    first = [entry.file_name() for entry in file.images[:5]]
    return sorted(bases, key=lambda base: not any(find_file(base, name, root) for name in first))


def find_image(entry: Entry, bases: list[Path], root: Path) -> Path:
    """The image file of a picture. Raises DataError where it would lie outside the set, or is not there."""
    name = entry.file_name()
    for base in bases:
        if (path := find_file(base, name, root)) is not None:
            return path
    if join(bases[0], name, root) is None:
        raise entry.wrong("file_name", f"the name of a file within {root}")
    raise entry.where.refuse(f"its image {shown(name)} is missing in {bases[0]}")


def _object(entry: Entry, task: Task, names: dict[Id, str]) -> Object:
    """The box or the outline of an annotation."""
    ignored, outline = entry.flag("iscrowd"), entry.fields.get("segmentation")
    if (key := entry.id("category_id")) not in names:
        raise entry.wrong("category_id", "the id of a category")
    needed = task == "boxes" and not outline
    box = {} if task == "mask" else _box(entry, needed=needed)
    return Object(entry.where, names[key], outline=outline, ignored=ignored, **box)


def _box(entry: Entry, *, needed: bool = False) -> dict[str, Any]:
    """The fields of an object's box, none where it has none."""
    if not needed and entry.fields.get("bbox") in (None, []):
        return {}
    expected = "a list of 4 numbers: x, y, width, height"
    if len(values := entry.numbers("bbox", expected)) != 4:
        raise entry.wrong("bbox", expected)
    x, y, width, height = values
    return {"box": (x, y, x + width, y + height), "written": f"bbox {x:g}, {y:g}, {width:g}, {height:g}"}


def _point_names(files: dict[str, CocoFile]) -> tuple[str, ...]:
    """What the categories call the key points of an object; empty where they do not."""
    listed = (entry.fields.get("keypoints") for file in files.values() for entry in file.categories)
    names = {tuple(map(str, each)) for each in listed if isinstance(each, list) and each}
    if len(names) > 1:
        raise DataError("categories with several sets of key points, expected one", file=files["train"].file)
    return next(iter(names), ())


def _points(entry: Entry, count: int) -> list[tuple[float, float] | None]:
    """The `count` points of an annotation, as many as there are where it is 0; none of a crowd."""
    if entry.flag("iscrowd") or entry.fields.get("keypoints") in (None, []):
        return []
    expected = f"a list of x, y and a flag 0, 1 or 2 for each of {count or 'its'} points"
    values = entry.numbers("keypoints", expected)
    if len(values) % 3 or len(values) // 3 != (count or len(values) // 3) or not set(values[2::3]) <= {0, 1, 2}:
        raise entry.wrong("keypoints", expected)
    triples = zip(values[0::3], values[1::3], values[2::3], strict=True)
    return [(x + 0.5, y + 0.5) if flag else None for x, y, flag in triples]
