"""YOLO's labels: a text file for each image, a line for each object, all coordinates as fractions of the image.

`data=yolo:PATH`, a YAML file with `names`, `train` and `val` (else `test`), or the folder it lies in, or that folder's
parent. Where several such files are found, detection takes the one whose labels are boxes, segmentation the one whose
labels are polygons. Without any, `images` and `labels` are looked for, and class names in `classes.txt` or `obj.names`.

`train` and `val` name a folder of images, a text file that lists them, or several of these; they are looked for from
`path`, from the YAML file's folder, and from the folder above it; of a path of another machine the end is looked for.
The labels of `images/a/1.jpg` are `labels/a/1.txt`, beside the YAML file or beside `images`; else `1.txt` beside the
image. Where neither `val` nor `test` is there, a fifth of the images is for testing, by the SHA-256 of their names.

A line is `class x y width height`, the centre first, or `class x0 y0 x1 y1 x2 y2 ...`, a polygon (of four corners
where boxes are rotated), of which detection takes the extent; a line that stands there twice counts once. With
`kpt_shape: [n, d]` a line is a box and n points of x, y and, where d is 3, a flag as COCO's; without it 0 0 is a point
not annotated. Points swap in mirror images by `flip_idx`, else by the names in `kpt_names`.

An image whose label file is empty or missing is an example without objects, unless the YAML file says
`skip_if_label_file_missing: true`; label files without an image are left out, with the objects in them. All of these
are counted. Two images of one label file, such as 1.jpg and 1.png, are refused.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxcv.data.collector import Collector
from jaxcv.data.example import MAX_POINTS, Scan, Task
from jaxcv.data.formats.kept import kept
from jaxcv.data.formats.mirrored import swap_by_names
from jaxcv.data.io import paths, text
from jaxcv.data.io.images import check_image
from jaxcv.data.io.paths import find_file, find_folder, holds, list_files, list_folders
from jaxcv.data.io.text import Where, list_names, shown
from jaxcv.data.raw import Object, Raw
from jaxcv.errors import DataError


@kept
def scan_yolo(path: Path, task: Task, classes: tuple[str, ...], skip: bool, hold_out: bool = True) -> Scan:
    """Read every label of both splits; `task` is `boxes`, `mask` or `points`."""
    described = _describe(path, polygons=task == "mask")
    collector = Collector(described.root, skip=skip)
    names = classes or tuple(name for _, name in sorted(described.names.items()))
    owners: dict[Path, Path] = {}
    there: dict[Path, dict[str, Path]] = {}
    for split, images in described.images.items():
        for image in images:
            labels = described.labels(image)
            folder = labels.parent
            if folder not in there:  # also sees to it that no link there leads out
                found = list_files(folder, described.root, ".txt") if folder.is_dir() else []
                there[folder] = {paths.same_name(file.name): file for file in found}
            labels = there[folder].get(paths.same_name(labels.name), labels)
            if owners.setdefault(labels, image) != image:
                raise DataError(f"the labels of {owners[labels].name} too, for they have the same name", file=image)
            with collector.faults_of(split):
                if missing := paths.same_name(labels.name) not in there[folder]:
                    what = "left out" if described.leave_out else "taken as empty"
                    collector.count(split, f"images without a label file {what}", image.stem)
                    if described.leave_out:
                        continue
                size = check_image(image)
                every = [] if missing else list(_read_labels(labels, described))
                lines = {(name, values): where for where, name, values in reversed(every)}
                collector.count(split, "lines that stand there twice", labels.stem, len(every) - len(lines))
                objects = [_object(where, *key, size, task, described) for key, where in reversed(lines.items())]
                if task == "points" and (without := sum(not any(each.points) for each in objects)):
                    collector.count(split, "objects without key points left out", image.stem, without)
                    objects = [each for each in objects if any(each.points)]
                collector.examples[split].append(Raw(image, Where(labels), size, objects, stated=False))
    alone = [
        file for found in there.values() for file in found.values() if file.name != "classes.txt" and file not in owners
    ]
    for labels in alone:
        with collector.faults_of("train"):
            collector.count("train", "label files without an image left out", labels.stem)
            collector.count("train", "objects in them", labels.stem, len(text.read_lines(labels)))
    if both := len({*described.images["train"]} & {*described.images.get("test", [])}):
        collector.say("test", f"{both:,} images are in the training split too, as {described.file.name} says")
    if task == "points":
        names, collector.swap = (), described.swap()
    names = collector.validate(task, names)
    if described.missing:
        collector.say("test", described.missing)
    if "test" not in described.images:
        collector.hold_out(really=hold_out)
    return collector.finish(names)


def _read_labels(file: Path, described: "Description") -> Iterator[tuple[Where, str, tuple[float, ...]]]:
    """Of each line its class and its numbers: four of a box, or x and y of each point of a polygon; as fractions."""
    for number, line in text.read_lines(file):
        words, where = line.split(), Where(file, number)
        values = [value for value in map(text.read_number, words) if value is not None]
        if len(values) < len(words):
            wrong = next(word for word in words if text.read_number(word) is None)
            raise where.refuse(f"{shown(wrong)} where a number is expected")
        count, each = described.kpt_shape
        if len(values) != 5 + count * each if count else len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
            expected = "class x y width height, or class and x y of at least 3 points"
            if count:
                expected = f"{5 + count * each}: class x y width height and kpt_shape's {count} points of {each}"
            raise where.refuse(f"{len(values)} numbers, expected {expected}")
        if values[0] not in described.names:
            known = sorted(described.names)
            gaps = known != [*range(len(known))]
            expected = list_names([*map(str, known)]) if gaps else f"0 to {known[-1]}"
            raise where.refuse(f"class {words[0][:20]}, expected {expected}, as in {described.file}")
        flags = range(8, len(values) + 1, 3) if each == 3 else ()
        if flag := next((values[i - 1] for i in flags if values[i - 1] not in (0, 1, 2)), None):
            raise where.refuse(f"{flag:g} where the flag 0, 1 or 2 of a point is expected")
        if odd := next((value for value in values[1:] if not -1 <= value <= 2), None):  # not so either for NaN
            raise where.refuse(f"{odd:g} where fractions of the image from 0 to 1 are expected")
        yield where, described.names[int(values[0])], tuple(values[1:])


def _object(
    where: Where, name: str, values: tuple[float, ...], size: tuple[int, int], task: Task, described: "Description"
) -> Object:
    count, each = described.kpt_shape
    rest: tuple[float, ...] = values[4:] if count else ()
    values = values[:4] if count else values
    pixels = [value * size[i % 2] for i, value in enumerate(values)]
    if task == "mask":
        if len(values) == 4:
            raise where.refuse("a box where a mask needs a polygon: class x0 y0 x1 y1 x2 y2 ...")
        return Object(where, name, outline=[pixels])
    if len(values) == 4:
        x, y, width, height = pixels
        edges = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    else:
        edges = (min(pixels[0::2]), min(pixels[1::2]), max(pixels[0::2]), max(pixels[1::2]))
    written = "box " + " ".join(f"{value:g}" for value in values[:6])
    if task != "points":
        return Object(where, name, edges, written=written)
    if not count:
        raise where.refuse(f"no points, expected kpt_shape in {described.file.name} and lines with points")
    placed: list[Any] = [rest[i : i + each] for i in range(0, len(rest), each)]
    points = [(x * size[0], y * size[1]) if (flag[0] if flag else x or y) else None for x, y, *flag in placed]
    return Object(where, name, edges, points=points, written=written)


class Description(NamedTuple):
    """What a YAML file says, looked up."""

    file: Path
    root: Path  # all images lie in it
    names: dict[int, str]  # of the classes, by their number in the labels
    images: dict[str, list[Path]]  # by split; no `test` where there is none
    missing: str = ""  # what the file says of a test split that is not there; empty where it says nothing
    leave_out: bool = False  # whether images without a label file are left out
    kpt_shape: tuple[int, int] = (0, 2)  # points of an object, and numbers of each
    flip_idx: tuple[int, ...] = ()
    kpt_names: tuple[str, ...] = ()

    def swap(self) -> tuple[int, ...] | None:
        """Of each point the one it becomes in a mirror image, if the file says so."""
        return self.flip_idx or swap_by_names(self.kpt_names)

    def labels(self, image: Path) -> Path:
        """Where the label file of an image is, or would be."""
        parts = image.relative_to(self.root).parts[:-1]
        name = image.with_suffix(".txt").name
        if "images" in parts:
            position = len(parts) - 1 - parts[::-1].index("images")
            for base in (self.file.parent, self.root.joinpath(*parts[:position])):
                if (folder := base.joinpath("labels", *parts[position + 1 :])).is_dir():
                    return folder / name
        return image.with_name(name)

    def has_polygons(self) -> bool | None:
        """Whether the first object is a polygon; None where there is no object."""
        for labels in map(self.labels, self.images["train"]):
            if labels.is_file() and (words := text.read_text(labels).split("\n", 1)[0].split()):
                return len(words) > 5
        return None


def _describe(path: Path, *, polygons: bool) -> Description:
    """The YAML file to go by, read; of several the one whose labels are polygons, or boxes."""
    if path.is_file():
        return _read_description(path, text.read_yaml(path))
    find_folder(path, "data=yolo:PATH needs a YAML file, or a folder with one, or with images and labels")
    for group in ([path], list_folders(path, path)):
        contents = {file: text.read_yaml(file) for f in group for file in list_files(f, path, ".yaml", ".yml")}
        named = {file: content for file, content in contents.items() if "names" in content or "nc" in content}
        found = {file: content for file, content in named.items() if isinstance(content.get("train"), str | list)}
        if not found and len(named) == 1:  # no set of another kind either: what it lacks is said
            found = named
        described = [_read_description(file, content) for file, content in found.items()]
        chosen = [each for each in described if len(found) == 1 or each.has_polygons() is polygons]
        if len(chosen) == 1:
            return chosen[0]
        if found:
            names = list_names([str(file.relative_to(path)) for file in found])
            raise DataError(f"several descriptions, {names}: choose one with data=yolo:{path}/FILE", file=path)
    if not (path / "images").is_dir():
        raise DataError(f"neither a YAML file with names and train nor a folder images; {holds(path)}", file=path)
    listed = next((path / name for name in ("classes.txt", "obj.names") if (path / name).exists()), None)
    if listed is None:
        expected = "expected a YAML file with names and train, or classes.txt with a name on each line"
        raise DataError(f"no class names, {expected}; {holds(path)}", file=path)
    parts = {folder.name: folder for folder in list_folders(path / "images", path)}
    used = {split: parts[word] for split, word in paths.choose_splits(parts).items()} or {"train": path / "images"}
    images = {split: _pictures(folder, path) for split, folder in used.items()}
    return Description(listed, path, dict(enumerate(text.read_names(listed))), images)


def _pictures(folder: Path, root: Path) -> list[Path]:
    return [file for each in paths.walk(folder, root) for file in paths.list_pictures(each, root).values()]


def _read_description(file: Path, content: Mapping[Any, Any]) -> Description:
    listed, count = content.get("names"), content.get("nc")
    if listed is None and isinstance(count, int) and 0 < count <= 10_000:
        listed = [str(i) for i in range(count)]
    names = text.numbered_names(listed, file, most=2**31)
    if count is not None and (type(count) is not int or count != len(names)):
        raise DataError(f"nc is {shown(count)}, but names has {len(names)}", file=file)
    start = str(content.get("path") or "")
    for root in (file.parent, file.parent.parent):  # images may also lie beside the folder of the YAML file
        if train := _find(content.get("train"), file, root, start) if "train" in content else []:
            break
    else:
        found = f"train is {shown(content.get('train'))}, and no images are there"
        raise DataError(f"{found}, expected their folder, seen from this file's", file=file)
    images, missing = {"train": train}, []
    for key in paths.TEST_NAMES:
        if content.get(key) and "test" not in images:
            if found := _find(content[key], file, root, start):
                images["test"] = found
                if found == train and content[key] != content.get("train"):
                    raise DataError(
                        f"train and {key} both lead to {found[0].parent}, expected one folder each", file=file
                    )
            else:
                missing.append(f"{key}: {shown(content[key])} of {file.name} is not there")
    how = {"leave_out": str(content.get("skip_if_label_file_missing")).lower() == "true", **_points(content, file)}
    return Description(file, root, names, images, "; ".join(missing), **how)


def _points(content: Mapping[Any, Any], file: Path) -> dict[str, Any]:
    """What a YAML file says of key points."""
    if (shape := content.get("kpt_shape")) is None:
        return {}
    whole = isinstance(shape, list) and len(shape) == 2 and all(type(value) is int for value in shape)
    if not whole or not 1 <= shape[0] <= MAX_POINTS or shape[1] not in (2, 3):
        raise DataError(f"kpt_shape is {shown(shape)}, expected the number of points, and 2 or 3", file=file)
    flip = content.get("flip_idx") or []
    if not isinstance(flip, list) or (flip and sorted(flip, key=str) != sorted(range(shape[0]), key=str)):
        raise DataError(f"flip_idx is {shown(flip)}, expected each of 0 to {shape[0] - 1} once", file=file)
    names = content.get("kpt_names") or []
    names = next(iter(names.values()), []) if isinstance(names, dict) else names
    named = names if isinstance(names, list) and len(names) == shape[0] else []
    return {"kpt_shape": tuple(shape), "flip_idx": tuple(flip), "kpt_names": tuple(map(str, named))}


def _find(entries: Any, file: Path, root: Path, start: str) -> list[Path]:
    """The images that an entry such as `train` names, as far as they lie in `root`."""
    images: list[Path] = []
    for entry in entries if isinstance(entries, list) else [entries]:
        if not isinstance(entry, str):
            raise DataError(f"train or val is {shown(entry)}, expected a folder of images", file=file)
        for name in _spellings(start, entry):
            found = paths.join(file.parent if root == file.parent else root, name, root)
            if found is not None and found.is_dir():
                images += _pictures(found, root)
                break
            if found is not None and found.is_file() and found.suffix == ".txt":
                images += _listed(found, root)
                break
    return images


def _spellings(start: str, entry: str) -> list[str]:
    """Where a set may have a folder that its YAML file calls so, seen from its own: the likeliest first."""
    bare = re.sub(r"^([A-Za-z]:)?/+|^(\.\./)+", "", entry.replace("\\", "/"))
    parts = bare.split("/")
    away = re.match("([A-Za-z]:)?[\\\\/]", entry)  # perhaps on another machine, and its end is the set's
    ends = ["/".join(parts[i:]) for i in range(1, len(parts))] if away else []
    ends = [end for end in ends if "/" in end or paths.split_word(Path(end))]  # not any folder called images
    return [f"{start}/{entry}", entry, bare, *ends] if start else [entry, bare, *ends]


def _listed(file: Path, root: Path) -> list[Path]:
    lines: dict[Path, Where] = {}
    for number, name in text.read_lines(file):
        found = (find_file(folder, each, root) for folder in (file.parent, root) for each in _spellings("", name))
        image, where = next(filter(None, found), None), Where(file, number)
        if image is None:
            raise where.refuse(f"{text.one_line(name)} is missing, or lies outside {root}")
        text.check_once(lines, image, where, text.one_line(name))
    return list(lines)
