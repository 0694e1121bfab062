"""COCO's JSON: boxes, masks and key points of the images it lists, checked entry by entry.

`data=coco:PATH`, a folder or one JSON file. Where the files lie: `annotations/instances_train2017.json` beside the
images in `train2017` (or `images/train2017`), as COCO has it; `train/_annotations.coco.json` among the images, as
exporters write it; or one file with the images beside it or in `images`. The split is the word train, val, valid,
validation or test in the name of the file or its folder; `val` comes before `test`. Where there is one file alone, a
fifth of the images is for testing, by the SHA-256 of their names.

Keys read: `images` (id, file_name, width, height), `categories` (id, name, supercategory, keypoints), `annotations`
(image_id, category_id, bbox, segmentation, iscrowd, keypoints). Ids are numbers or texts, in any order and with gaps.
A key, an id or a file that is given twice is refused. Classes are the categories in the order of their ids. A category
that no object has and of which all others are kinds is no class: some exporters put such a parent first.

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

from jaxcv.data.example import MAX_SIDE, Collector, Object, Raw, Scan, Task, to_floats
from jaxcv.data.io.images import check_image
from jaxcv.data.io.paths import choose_splits, find_folder, holds, join, list_folder, split_word
from jaxcv.data.io.text import Where, list_names, one_line, read_json, shown, wrong_name
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
        root, (found, unused) = path, _choose(path, "person_keypoints" if task == "points" else "instances")
    collector = Collector(root, skip=skip)
    files = {split: read_coco(file) for split, file in found.items()}
    if unused:
        collector.say("train", f"annotation files not used: {list_names(unused)}")
    names = () if task == "points" else classes or _class_names(files, collector)
    count = _count_points(files) if task == "points" else 0
    for split, file in files.items():
        for stray in file.strays:
            with collector.faults_of(split):
                raise stray
        base = _image_folder(file, root)
        for picture in file.pictures:
            with collector.faults_of(split):
                image, objects = _find_image(picture, base, root), []
                size = picture.size(image)
                for entry in picture.annotations:
                    if task == "points":
                        if entry.flag("iscrowd") or not any(_flags(entry)):
                            collector.count(split, "objects without key points left out", image.stem)
                            continue
                        count = count or len(entry.fields["keypoints"]) // 3
                    objects.append(_object(entry, task, file, count))
                group = image.name if task == "points" else ""
                collector.examples[split].append(Raw(image, Where(file.file), size, objects, group))
    collector.validate(task, names)
    if "test" not in files:
        collector.hold_out(really=hold_out)
    return collector.finish(("background", *names) if task == "mask" else names)


class Entry(NamedTuple):
    """One JSON object of a file, read key by key."""

    fields: Mapping[str, Any]
    where: Where

    def wrong(self, key: str, expected: str) -> DataError:
        """The fault of one key."""
        if key not in self.fields:
            return self.where.refuse(f"has no {key}, expected {expected}; add it")
        remedy = "" if ";" in expected else "; correct it"
        return self.where.refuse(f"{key} is {shown(self.fields[key])}, expected {expected}{remedy}")

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
        values = to_floats(self.fields.get(key))
        if values is None or count not in (None, len(values)):
            raise self.wrong(key, expected)
        return values

    def flag(self, key: str) -> bool:
        """0 or 1; 0 where it is missing."""
        value = self.fields.get(key, 0)
        if value not in (0, 1) or isinstance(value, list | dict):
            raise self.wrong(key, "0 or 1")
        return bool(value)


class Picture(NamedTuple):
    """An image as the file has it."""

    entry: Entry
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
    names: dict[Id, str]
    """Of the categories."""
    categories: list[Entry]
    pictures: list[Picture]
    strays: list[DataError]
    """Annotations that belong to no image of the file."""

    def unused_roots(self) -> set[str]:
        """Names of categories that no object has and of which all others are kinds."""
        ids = (annotation.fields.get("category_id") for each in self.pictures for annotation in each.annotations)
        used = {key for key in ids if isinstance(key, int | str)}
        parents = {each.text("name"): shown(each.fields.get("supercategory")) for each in self.categories}
        unused = {name for key, name in self.names.items() if key not in used and len(parents) > 1}
        return {name for name in unused if {parents[each] for each in parents if each != name} == {shown(name)}}


def read_coco(file: Path) -> CocoFile:
    """Read one file. What each annotation says is read by those who use it."""
    content = read_json(file)
    if not isinstance(content, dict):
        message = f"holds {shown(content)} where COCO has keys images, categories, annotations; is it the right file?"
        raise DataError(message, file=file)
    names: dict[Id, str] = {}
    categories = _entries(content, "categories", file)
    for entry in categories:
        key, name = entry.id("id"), entry.text("name")
        fault = wrong_name(name)
        if key in names:
            fault = f"id {shown(key)} is taken by {shown(names[key])}; give it another"
        elif name in names.values():
            fault = f"name {shown(name)} is given twice; rename one, or join them under one id"
        if fault:
            raise entry.where.refuse(fault)
        names[key] = name
    if not names:
        raise DataError("categories is empty, expected the classes; fetch the file again", file=file)
    pictures: dict[Id, Picture] = {}
    files: set[str] = set()
    for entry in _entries(content, "images", file):
        key, name = entry.id("id"), entry.text("file_name")
        if key in pictures:
            raise entry.where.refuse(f"id {shown(key)} is given twice; give one image another")
        if name in files:
            message = f"file_name {shown(name)} is given twice; join what belongs to one image under one id"
            raise entry.where.refuse(message)
        pictures[key] = Picture(entry, [])
        files.add(name)
    strays = []
    for entry in _entries(content, "annotations", file):
        key = entry.fields.get("image_id")
        if type(key) in (int, str) and key in pictures:
            pictures[key].annotations.append(entry)
        else:
            strays.append(entry.wrong("image_id", "the id of an image; add the image or take the annotation out"))
    return CocoFile(file, names, categories, list(pictures.values()), strays)


def _entries(content: Mapping[str, Any], key: str, file: Path) -> list[Entry]:
    found = content.get(key)
    if not isinstance(found, list):
        what = f"{key} is {shown(found)}" if key in content else f"has no key {key}"
        keys = one_line(", ".join(map(str, list(content)[:8])), length=80) or "none"
        raise DataError(f"{what}, expected COCO's list of them; mend it, the keys there are: {keys}", file=file)
    for i, fields in enumerate(found):
        if not isinstance(fields, dict):
            raise DataError(f"{key}[{i}] is {shown(fields)}, expected a JSON object; take it out", file=file)
    return [Entry(fields, Where(file, entry=f"{key}[{i}]")) for i, fields in enumerate(found)]


def _choose(folder: Path, words: str) -> tuple[dict[str, Path], list[str]]:
    """The annotation file of each split, and those not used; `words` is how COCO calls files of this kind."""
    find_folder(folder, "data=coco:PATH needs a folder with annotation files, or one such file")
    files: list[Path] = []
    for entry in list_folder(folder, folder):
        inside = list_folder(Path(entry.path), folder) if entry.is_dir() and entry.name[0] != "." else [entry]
        files += [Path(e.path) for e in inside if e.name.lower().endswith(".json") and e.is_file()]
    ours = [file for file in files if file.name.startswith(f"{words}_")]
    ours = ours or [file for file in files if not _OTHERS.match(file.name)]
    if not ours:
        raise DataError(f"no annotation file (.json) in it or one folder below; {holds(folder)}", file=folder)
    by_split: dict[str, list[Path]] = {}
    for file in ours:
        by_split.setdefault(split_word(file.relative_to(folder).with_suffix("")), []).append(file)
    chosen = {split: by_split[word] for split, word in choose_splits(by_split).items()}
    if len(ours) == 1:
        chosen = {"train": ours}
    if not chosen or any(len(candidates) > 1 for candidates in chosen.values()):
        names = list_names([str(file.relative_to(folder)) for file in ours])
        raise DataError(f"annotation files {names}: choose one with data=coco:{folder}/FILE", file=folder)
    used = {split: candidates[0] for split, candidates in chosen.items()}
    return used, [str(file.relative_to(folder)) for file in ours if file not in used.values()]


def _class_names(files: dict[str, CocoFile], collector: Collector) -> tuple[str, ...]:
    """Names of the classes, the same for both splits."""
    roots = set.intersection(*(file.unused_roots() for file in files.values()))
    listed = []
    for file in files.values():
        every = sorted(file.names.items(), key=lambda item: (isinstance(item[0], str), item[0]))
        listed.append([name for _, name in every if name not in roots])
        if odd := sorted(set(listed[-1]) ^ set(listed[0])):
            first = next(iter(files.values())).file.name
            raise DataError(f"category {shown(odd[0])} is not in both this file and {first}; add it", file=file.file)
    if roots:
        collector.say("train", f"category {list_names(sorted(roots))}, parent of all others, is no class")
    return tuple(listed[0])


def _image_folder(file: CocoFile, root: Path) -> Path:
    """Where the images of a file lie: the first likely folder that has one of the first few."""
    word = file.file.stem.rpartition("_")[2]
    split = split_word(file.file.relative_to(root).with_suffix(""))
    bases = [file.file.parent, file.file.parent / "images", root, root / "images"]
    bases += [root / part / name for name in (word, split) if name for part in ("", "images")]
    for base in bases:
        images = (join(base, picture.entry.text("file_name"), root) for picture in file.pictures[:5])
        if any(image is not None and image.is_file() for image in images):
            return base
    return bases[0]


def _find_image(picture: Picture, base: Path, root: Path) -> Path:
    """The image file of a picture. Raises DataError where it would lie outside the set, or is not there."""
    name = picture.entry.text("file_name")
    path = join(base, name, root)
    if path is None:
        raise picture.entry.wrong("file_name", f"the name of a file within {root}")
    if not path.is_file():
        message = f"its image {shown(name)} is missing in {base}; add the file or take the entry out"
        raise picture.entry.where.refuse(message)
    return path


def _object(entry: Entry, task: Task, file: CocoFile, count: int) -> Object:
    """What a task needs of an annotation."""
    each, fields = Object(entry.where, ignored=entry.flag("iscrowd")), entry.fields
    if task == "points":
        each = each._replace(points=_points(entry, count))
    else:
        if (key := entry.id("category_id")) not in file.names:
            expected = f"the id of a category; add it or take the annotation out of {file.file.name}"
            raise entry.wrong("category_id", expected)
        each = each._replace(name=file.names[key], outline=fields.get("segmentation"))
        if task == "mask" or (fields.get("bbox") in (None, []) and fields.get("segmentation")):
            return each
    if task == "points" and not fields.get("bbox"):
        return each
    x, y, width, height = entry.numbers("bbox", "a list of 4 numbers: x, y, width, height", count=4)
    written = f"bbox {x:g}, {y:g}, {width:g}, {height:g}"
    return each._replace(box=(x, y, x + width, y + height), written=written)


def _count_points(files: dict[str, CocoFile]) -> int:
    """Key points of an object, as the categories say; 0 where they do not."""
    listed = (entry.fields.get("keypoints") for file in files.values() for entry in file.categories)
    names = {tuple(map(str, each)) for each in listed if isinstance(each, list) and each}
    if len(names) > 1:
        raise DataError("categories with several sets of key points; keep one category", file=files["train"].file)
    return len(next(iter(names), ()))


def _flags(entry: Entry) -> list[float]:
    if entry.fields.get("keypoints") in (None, []):
        return []
    return entry.numbers("keypoints", "a list of x, y and a flag for each point")[2::3]


def _points(entry: Entry, count: int) -> list[tuple[float, float] | None]:
    expected = f"a list of x, y and a flag 0, 1 or 2 for each of {count} points"
    values = entry.numbers("keypoints", expected, count=3 * count)
    if not set(values[2::3]) <= {0, 1, 2}:
        raise entry.wrong("keypoints", expected)
    triples = zip(values[0::3], values[1::3], values[2::3], strict=True)
    return [(x + 0.5, y + 0.5) if flag else None for x, y, flag in triples]
