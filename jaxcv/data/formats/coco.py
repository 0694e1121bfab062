"""COCO's JSON: boxes, masks and key points of the images it lists, checked entry by entry.

`data=coco:PATH`, a folder or one JSON file: `annotations/instances_train2017.json` beside the images in `train2017` (or
`images/train2017`), as COCO has it; `train/_annotations.coco.json` among the images, as exporters write it; or one file
with the images beside it or in `images`. The split is the word train, val, valid, validation or test in the name of the
file or its folder; `val` comes before `test`. Of one file alone a fifth is for testing, by the SHA-256 of the names.

Classes are the categories in the order of their ids, which are numbers or texts. A category that no object has and of
which all others are kinds is no class: some exporters put such a parent first.

- Boxes: `bbox`, or the extent of the outline where there is none. `iscrowd` 1 is `ignored`, neither truth nor false
  alarm. An image without objects is an example too.
- Masks: outlines drawn by `outlines.draw`, class 0 `background`, crowds 255.
- Key points: each object that has some is an example, the surroundings of its box; in files called `person_keypoints`
  first. `keypoints` holds x, y and a flag for each point, the middle of the first pixel being (0, 0): 0 where it is not
  annotated, 1 where it is hidden, 2 where it can be seen; hidden ones count as visible. Crowds, and objects none of
  whose points is annotated, are left out and counted.

References:
  Lin et al., Microsoft COCO, https://arxiv.org/abs/1405.0312; the format: https://cocodataset.org/#format-data
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jaxcv.data.example import MAX_SIDE, Collector, Scan, Task, to_floats
from jaxcv.data.io.images import check_image
from jaxcv.data.io.paths import choose_files, find_file, find_folder, holds, join, list_files, list_folders, split_word
from jaxcv.data.io.text import Where, check_names, list_names, one_line, read_json, shown
from jaxcv.data.raw import Object, Raw
from jaxcv.errors import DataError

_OTHERS = re.compile("(captions|panoptic|stuff|image_info|person_keypoints|instances)_")
Id = int | str


@cache
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
    count = _count_points(files) if task == "points" else 0
    for split, file in files.items():
        for stray in file.strays:
            with collector.faults_of(split):
                raise stray
        base = _image_folder(file, root)
        for listed, annotations in file.images:
            with collector.faults_of(split):
                image, objects = _find_image(listed, base, root), []
                size = listed.size(image)
                for entry in annotations:
                    if task != "points":
                        objects.append(_object(entry, task, file.names))
                    elif any(points := _points(entry, count)):
                        count = count or len(points)
                        objects.append(Object(entry.where, points=points, **_box(entry)))
                    else:
                        collector.count(split, "objects without key points left out", image.stem)
                group = image.name if task == "points" else ""
                collector.examples[split].append(Raw(image, Where(file.file), size, objects, group))
    names = collector.validate(task, names)
    if "test" not in files:
        collector.hold_out(really=hold_out)
    return collector.finish(names)


class Entry(NamedTuple):
    """One JSON object of a file, read key by key."""

    fields: Mapping[str, Any]
    where: Where

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
    images: list[tuple[Entry, list[Entry]]]  # each with its annotations
    strays: list[DataError]  # annotations that belong to no image of the file

    def unused_roots(self) -> set[str]:
        """Names of categories that no object has and of which all others are kinds."""
        ids = (entry.fields.get("category_id") for _, annotations in self.images for entry in annotations)
        used = {key for key in ids if isinstance(key, int | str)}
        parents = {each.text("name"): shown(each.fields.get("supercategory")) for each in self.categories}
        unused = {name for key, name in self.names.items() if key not in used and len(parents) > 1}
        return {name for name in unused if {parents[each] for each in parents if each != name} == {shown(name)}}


def read_coco(file: Path) -> CocoFile:
    """Read one file. What each annotation says is read by those who use it."""
    content = read_json(file)
    if not isinstance(content, dict):
        expected = "COCO has keys images, categories, annotations"
        raise DataError(f"holds {shown(content)} where {expected}", file=file)
    categories, images = (_by_id(_entries(content, key, file)) for key in ("categories", "images"))
    if not categories:
        raise DataError("categories is empty, expected the classes", file=file)
    names = check_names((entry.where, entry.text("name")) for entry in categories.values())
    found, named = {key: (entry, []) for key, entry in images.items()}, set()
    for entry in images.values():
        if (name := entry.text("file_name")) in named:
            raise entry.where.refuse(f"file_name {shown(name)} is given twice, expected one id for one image")
        named.add(name)
    strays = []
    for entry in _entries(content, "annotations", file):
        key = entry.fields.get("image_id")
        if type(key) in (int, str) and key in found:
            found[key][1].append(entry)
        else:
            strays.append(entry.wrong("image_id", "the id of an image"))
    ids = dict(zip(categories, names, strict=True))
    return CocoFile(file, ids, list(categories.values()), list(found.values()), strays)


def _entries(content: Mapping[str, Any], key: str, file: Path) -> list[Entry]:
    found = content.get(key)
    if not isinstance(found, list):
        what = f"{key} is {shown(found)}" if key in content else f"has no key {key}"
        keys = one_line(", ".join(map(str, list(content)[:8])), length=80) or "none"
        raise DataError(f"{what}, expected COCO's list of them; the keys there are: {keys}", file=file)
    for i, fields in enumerate(found):
        if not isinstance(fields, dict):
            raise DataError(f"{key}[{i}] is {shown(fields)}, expected a JSON object", file=file)
    return [Entry(fields, Where(file, entry=f"{key}[{i}]")) for i, fields in enumerate(found)]


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


def _image_folder(file: CocoFile, root: Path) -> Path:
    """Where the images of a file lie: the first likely folder that has one of the first few."""
    word = file.file.stem.rpartition("_")[2]
    split = split_word(file.file.relative_to(root).with_suffix(""))
    bases = [file.file.parent, file.file.parent / "images", root, root / "images"]
    bases += [root / part / name for name in (word, split) if name for part in ("", "images")]
    names = [entry.text("file_name") for entry, _ in file.images[:5]]
    return next((base for base in bases if any(find_file(base, name, root) for name in names)), bases[0])


def _find_image(entry: Entry, base: Path, root: Path) -> Path:
    """The image file of a picture. Raises DataError where it would lie outside the set, or is not there."""
    path = join(base, entry.text("file_name"), root)
    if path is None:
        raise entry.wrong("file_name", f"the name of a file within {root}")
    if not path.is_file():
        raise entry.where.refuse(f"its image {shown(entry.text('file_name'))} is missing in {base}")
    return path


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


def _count_points(files: dict[str, CocoFile]) -> int:
    """Key points of an object, as the categories say; 0 where they do not."""
    listed = (entry.fields.get("keypoints") for file in files.values() for entry in file.categories)
    names = {tuple(map(str, each)) for each in listed if isinstance(each, list) and each}
    if len(names) > 1:
        raise DataError("categories with several sets of key points, expected one", file=files["train"].file)
    return len(next(iter(names), ()))


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
