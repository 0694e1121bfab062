"""PASCAL VOC's XML, a file for each image, wherever its writers put it.

`data=voc:PATH`, or `data=voc:A+B` for several folders as one set (VOC 2007 and 2012). Two layouts, in PATH or up to two
folders below:

- `ImageSets/Main/*.txt` list the images, as in VOC and from CVAT. Splits are `trainval` and `test`, else `train` and
  `val`, else `train` and `test`; of one list alone, such as CVAT's `default`, a fifth is for testing. Of several
  folders one of which has `trainval` and `test`, the others give their `trainval` to training.
- No lists: every `.xml` counts, as labelImg, Roboflow and Kaggle's authors leave them. The split is the word train,
  val, valid, validation or test in the name of a folder; where there is none, a fifth is for testing.

The image of `a.xml` is `a.jpg` (or another ending) beside it, or in a folder beside its own (`JPEGImages`, `images`).
The size in `<size>` is checked; where it is missing or 0 it is the picture's.

Classes: the `classes` argument, else `classes.txt` in the folder (one a line), else the 20 of VOC when the files name
no other, else the names found, sorted. The last is guarded, for a mistyped name would quietly be a class of its own:
a name that only one annotation file has (of more than 20), or that only the test split has, is refused.

VOC counts pixels from 1 and includes the last one. As real edges of the box in pixels from 0 that is
`(xmin - 1, ymin - 1, xmax, ymax)`; where `xmax == xmin` or `ymax == ymin` its author drew no area, and it is dropped.
A corner written with a decimal point is an edge already and kept as it is. `difficult` 1 is `ignored`, neither truth
nor false alarm, as the VOC evaluation has it; `Unspecified` or empty is 0.

Masks: the images of `ImageSets/Segmentation` with the pictures of `SegmentationClass`, whose palette indices are the
classes, 0 the background; 255, the border of objects, is void.

References:
  M. Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010.
"""

import os
from collections.abc import Iterator
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from jaxcv.data.collector import Collector
from jaxcv.data.example import MAX_SIDE, Example, Scan
from jaxcv.data.formats.kept import kept
from jaxcv.data.formats.mask_folders import number_labels
from jaxcv.data.io import paths, text
from jaxcv.data.io.images import check_image
from jaxcv.data.io.paths import find_file, find_folder, holds, list_files, list_folders
from jaxcv.data.io.text import Where, list_names, one_line
from jaxcv.data.io.xml import Element, read_xml
from jaxcv.data.raw import Object, Raw
from jaxcv.errors import DataError

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_FEW_FILES = 20
_LISTS = [("trainval", "test"), *(("train", test) for test in paths.TEST_NAMES), ("trainval", "val")]


@kept
def scan_voc(path: Path, classes: tuple[str, ...], skip: bool, hold_out: bool = True) -> Scan:
    """Read every annotation of both splits."""
    roots = _find_roots(path, "Annotations", "Main")
    top = Path(os.path.commonpath(roots))
    collector = Collector(top, skip=skip)
    lists = _read_lists(roots, "Main", collector)
    for root in roots:
        how = _listed(root, lists[root], collector) if lists[root] else _everything(root, collector)
        for split, file in how:
            with collector.faults_of(split):
                collector.examples[split].append(_read_annotation(file, root))
    if not any(collector.examples.values()) and not any(collector.faults.values()):
        raise DataError(f"no annotation (.xml) in it or below; {holds(top)}", file=top)
    names = _class_names(top if len(roots) > 1 else roots[0], classes, collector.examples)
    collector.validate("boxes", names)
    if not collector.examples["test"] and not collector.faults["test"]:
        collector.hold_out(really=hold_out)
    return collector.finish(names)


@kept
def scan_voc_masks(path: Path, skip: bool) -> Scan:
    """List the pairs of both splits."""
    roots = _find_roots(path, "SegmentationClass", "Segmentation")
    labels = number_labels(("background", *VOC_CLASSES))
    collector = Collector(Path(os.path.commonpath(roots)), skip=skip)
    for root, lists in _read_lists(roots, "Segmentation", collector).items():
        if not lists:
            raise DataError(f"no ImageSets/Segmentation with lists of images; {holds(root)}", file=root)
        for split, ids in lists.items():
            for image_id, where in ids.items():
                with collector.faults_of(split):
                    image = paths.picture_called(image_id, root / "JPEGImages", root)
                    mask = find_file(root / "SegmentationClass", f"{image_id}.png", root)
                    if image is None or mask is None:
                        lacks = f"SegmentationClass/{image_id}.png" if image else f"JPEGImages/{image_id}.jpg"
                        raise where.refuse(f"{one_line(lacks)} is missing")
                    collector.examples[split].append(Example(image, Where(mask), mask=partial(labels.read, mask)))
    return collector.finish(labels.names)


def _find_roots(path: Path, needed: str, lists: str) -> list[Path]:
    """The folders of a set, each with `ImageSets` where it has lists."""
    several = "+" in str(path) and not path.exists()
    roots = []
    for part in [Path(name).expanduser() for name in str(path).split("+")] if several else [path]:
        find_folder(part, f"data=voc:PATH needs the folder with {needed} and JPEGImages")
        found = [part] if (part / "ImageSets").is_dir() or (part / needed).is_dir() else []
        found = found or sorted(p.parent for depth in ("*", "*/*") for p in part.glob(f"{depth}/ImageSets"))
        if len(found) > 1:
            joined = "+".join(map(str, found))
            raise DataError(f"several VOC folders: choose one, or take all with data=voc:{joined}", file=part)
        roots += found or [part]
    return roots


def _read_lists(roots: list[Path], kind: str, collector: Collector) -> dict[Path, dict[str, dict[str, Where]]]:
    """Of each folder the image names in its lists in ImageSets/`kind` by split, and where they stand."""
    there = {root: {file.stem.lower(): file for file in _list_files(root / "ImageSets" / kind, root)} for root in roots}
    own_test = [root for root, lists in there.items() if {"trainval", "test"} <= lists.keys()]
    found = {}
    for root, lists in there.items():
        pair = next((pair for pair in _LISTS if {*pair} <= lists.keys()), ())
        if own_test and root not in own_test and "trainval" in lists:
            pair = ("trainval",)
        pair = pair or [name for name in ("trainval", "train", "default", *lists) if name in lists][:1]
        known = {"train", *paths.TEST_NAMES} - ({"train", "val"} if "trainval" in pair else {*pair})
        if unused := sorted(known & lists.keys() - {*pair}):
            collector.say("train", f"lists of {root.name} not used: {list_names(unused)}; used: {list_names([*pair])}")
        found[root] = {split: _read_list(lists[name]) for split, name in zip(("train", "test"), pair, strict=False)}
        seen = found[root].get("train", {})
        for image_id, where in found[root].get("test", {}).items():
            text.check_once({image_id: seen.get(image_id, where)}, image_id, where, image_id)
    return found


def _list_files(folder: Path, root: Path) -> list[Path]:
    return list_files(folder, root, ".txt") if folder.is_dir() else []


def _read_list(file: Path) -> dict[str, Where]:
    found: dict[str, Where] = {}
    for line, image_id in text.read_lines(file):
        text.check_once(found, image_id, Where(file, line), image_id)
    if not found:
        raise DataError("the list is empty, expected the names of images", file=file)
    return found


def _listed(root: Path, lists: dict[str, dict[str, Where]], collector: Collector) -> Iterator[tuple[str, Path]]:
    """Split and annotation of each listed image."""
    folders = [folder for folder in list_folders(root, root) if list_files(folder, root, ".xml")] or [root]
    for split, ids in lists.items():
        for image_id, where in ids.items():
            with collector.faults_of(split):
                found = (find_file(folder, f"{image_id}.xml", root) for folder in folders)
                if (file := next(filter(None, found), None)) is None:
                    raise where.refuse(f"{folders[0].name}/{one_line(image_id)}.xml is missing")
                yield split, file


def _everything(root: Path, collector: Collector) -> Iterator[tuple[str, Path]]:
    """Split and annotation of every image that has one; the others are counted."""
    files = {f: paths.split_word(f.parent.relative_to(root)) for d in paths.walk(root, root)
             for f in list_files(d, root, ".xml")}  # fmt: skip
    splits = collector.splits(files.values())
    described: dict[Path, set[str]] = {}
    for file, word in files.items():
        described.setdefault(file.parent, set()).add(paths.stem(file))
        if word in splits:
            yield splits[word], file
        else:
            collector.count("train", "annotations in no folder of a split not used", str(file.relative_to(root)))
    for folder, known in described.items():
        beside = [where for where in paths.folders_beside(folder, root) if paths.pictures_by_stem(where, root)][:1]
        for picture in (found[0] for f in beside for name, found in paths.pictures_by_stem(f, root).items()
                        if name not in known):  # fmt: skip
            split = splits.get(paths.split_word(folder.relative_to(root)), "train")
            collector.count(split, "images without an annotation left out", picture.name)


def _class_names(root: Path, classes: tuple[str, ...], found: dict[str, list[Raw]]) -> tuple[str, ...]:
    """The class list, by the rules of the module."""
    file = root / "classes.txt"
    if classes or file.exists():
        return classes or text.read_names(file)
    first: dict[str, dict[Path, Where]] = {}
    for raw in (raw for raws in found.values() for raw in raws):
        for each in raw.objects:
            first.setdefault(each.name, {}).setdefault(raw.where.file, each.named or each.where)
    if not first:
        raise DataError("no annotation holds an object; list the classes in classes.txt", file=root)
    if set(first) <= set(VOC_CLASSES):
        return VOC_CLASSES
    in_train = {each.name for raw in found["train"] for each in raw.objects}
    many = sum(map(len, found.values())) > _FEW_FILES
    for name, places in sorted(first.items()):
        alone = many and len(places) == 1
        if alone or name not in in_train:
            near = get_close_matches(name, in_train - {name}, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? Correct it" if near else "correct it"
            stands = f"in {'this file' if alone else 'the test split'} alone"
            message = f"class {name!r} stands {stands}: {hint}, or list every class in {file} to keep it"
            raise next(iter(places.values())).refuse(message)
    return tuple(sorted(first))


def _read_annotation(file: Path, root: Path) -> Raw:
    """Read one XML file of a set. Raises DataError, with the line of the fault."""
    annotation, objects = read_xml(file, "annotation", "VOC"), []
    filename = next((each.text for each in annotation.all("filename")), "")
    image = paths.picture_of(file, root, filename)
    size = _size(annotation)
    for element in annotation.all("object"):
        name, box = element.one("name"), element.one("bndbox")
        text.check_name(name.text, name.where)
        x0, y0, x1, y1 = (box.number(tag) for tag in ("xmin", "ymin", "xmax", "ymax"))
        written = f"box xmin={x0:g} ymin={y0:g} xmax={x1:g} ymax={y1:g}"
        if x0 < x1 and y0 < y1:  # the number of the first pixel, where the box has an area
            x0, y0 = (v if "." in box.one(tag).text else v - 1 for v, tag in ((x0, "xmin"), (y0, "ymin")))
        difficult = next((each.text.lower() for each in element.all("difficult")), "")
        ignored = difficult not in ("", "unspecified") and element.number("difficult") != 0
        objects.append(
            Object(box.where, name.text, (x0, y0, x1, y1), ignored=ignored, written=written, named=name.where)
        )
    return Raw(image, Where(file), size or check_image(image), objects, stated=size is not None)


def _size(annotation: Element) -> tuple[int, int] | None:
    """The size that is stated; None where it is missing or 0."""
    if not annotation.all("size"):
        return None
    size = annotation.one("size")
    width, height = size.number("width"), size.number("height")
    if 0 in (width, height):
        return None
    if not all(1 <= side <= MAX_SIDE and side == int(side) for side in (width, height)):
        expected = f"expected at least 1x1 and at most {MAX_SIDE:,} whole pixels a side"
        raise size.where.refuse(f"image size {width:g}x{height:g}, {expected}")
    return int(width), int(height)
