"""Folders in the PASCAL VOC format: `Annotations/*.xml`, `JPEGImages/`, `ImageSets/Main/*.txt`; or one inside PATH.

Splits: train on `trainval` and test on `test` when both lists exist, else train on `train` and test on `val`.

Classes: the `classes` argument, else `classes.txt` in the folder (one a line), else the 20 of VOC when the files name
no other, else the names found, sorted. The last is guarded, for a mistyped name would quietly be a class of its own:
a name that only one annotation file has (of more than 20), or that only the test split has, is refused.

VOC counts pixels from 1 and includes the last one. As real edges of the box in pixels from 0 that is
`(xmin - 1, ymin - 1, xmax, ymax)`; where `xmax == xmin` or `ymax == ymin` its author drew no area, and it is dropped.
`difficult` 1 is `ignored`, neither truth nor false alarm, as the VOC evaluation has it.

Masks: the images of `ImageSets/Segmentation` with the pictures of `SegmentationClass`, whose palette indices are the
classes, 0 the background; 255, the border of objects, is void.

References:
  M. Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010.
"""

import math
from collections import Counter
from difflib import get_close_matches
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from jaxcv.data.example import MAX_SIDE, Collector, Example, Object, Raw, Scan
from jaxcv.data.formats.mask_folders import number_labels
from jaxcv.data.io import text
from jaxcv.data.io.paths import find_file, find_folder, holds, list_pictures
from jaxcv.data.io.text import Where, list_names, one_line, shown
from jaxcv.errors import DataError

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_FEW_FILES = 20
_MAX_BYTES = 2**24


@cache
def scan_voc(folder: Path, classes: tuple[str, ...], skip: bool) -> Scan:
    """Read every annotation of both splits."""
    root = _find_root(folder, "Annotations", "Main")
    images, collector = _list_images(root), Collector(root, skip=skip)
    for split, ids in _read_lists(root, "Main").items():
        for image_id, where in ids.items():
            with collector.faults_of(split):
                path = find_file(root / "Annotations", f"{image_id}.xml", root)
                if path is None:
                    raise where.refuse(f"Annotations/{one_line(image_id)}.xml is missing")
                collector.examples[split].append(_read_annotation(path, images))
    names = _class_names(root, classes, collector.examples)
    collector.validate("boxes", names)
    return collector.finish(names)


@cache
def scan_voc_masks(folder: Path, skip: bool) -> Scan:
    """List the pairs of both splits."""
    root = _find_root(folder, "SegmentationClass", "Segmentation")
    images, masks = _list_images(root), list_pictures(root / "SegmentationClass", root)
    labels, collector = number_labels(("background", *VOC_CLASSES)), Collector(root, skip=skip)
    for split, ids in _read_lists(root, "Segmentation").items():
        for image_id, where in ids.items():
            with collector.faults_of(split):
                image, mask = images.get(image_id), masks.get(f"{image_id}.png")
                if image is None or mask is None:
                    lacks = f"SegmentationClass/{image_id}.png" if image else f"JPEGImages/{image_id}.jpg"
                    raise where.refuse(f"{one_line(lacks)} is missing")
                collector.examples[split].append(Example(image, Where(mask), mask=partial(labels.read, mask)))
    return collector.finish(labels.names)


def _find_root(folder: Path, needed: str, lists: str) -> Path:
    find_folder(folder, f"data=voc:PATH needs the folder with {needed} and JPEGImages")
    roots = [folder] if (folder / needed).is_dir() else []
    roots = roots or sorted(p.parent for depth in ("*", "*/*") for p in folder.glob(f"{depth}/{needed}"))
    if len(roots) != 1:
        several = f"several VOC folders: choose one of {', '.join(map(str, roots))}"
        raise DataError(several if roots else f"no {needed} folder in it or below; {holds(folder)}", file=folder)
    for part in ("JPEGImages", f"ImageSets/{lists}"):
        if not (roots[0] / part).is_dir():
            raise DataError(f"folder {part} is missing; {holds(roots[0])}", file=roots[0])
    return roots[0]


def _list_images(root: Path) -> dict[str, Path]:
    """Each image under its name with ending, and without where no other has the same."""
    paths = list_pictures(root / "JPEGImages", root)
    stems = Counter(path.stem for path in paths.values())
    return {path.stem: path for path in paths.values() if stems[path.stem] == 1} | paths


def _read_lists(root: Path, kind: str) -> dict[str, dict[str, Where]]:
    """Of each split the image names in its list in ImageSets/`kind`, and where they stand."""
    folder, seen, lists = root / "ImageSets" / kind, {}, {}
    pairs = (("trainval.txt", "test.txt"), ("train.txt", "val.txt"))
    pair = next((pair for pair in pairs if all((folder / name).is_file() for name in pair)), None)
    if pair is None:
        raise DataError(f"neither trainval.txt and test.txt nor train.txt and val.txt; {holds(folder)}", file=folder)
    for split, name in zip(("train", "test"), pair, strict=True):
        lists[split] = {}
        for line, image_id in text.read_lines(folder / name):
            where = lists[split][image_id] = Where(folder / name, line)
            text.check_once(seen, image_id, where, image_id)
        if not lists[split]:
            raise DataError("the list is empty, expected the names of images", file=folder / name)
    return lists


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
        raise DataError("no annotation holds an object; list the classes in classes.txt", file=root / "Annotations")
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


class _Element(NamedTuple):
    """One element of a file, which has its line as the attribute `line`."""

    xml: ElementTree.Element
    file: Path

    @property
    def where(self) -> Where:
        return Where(self.file, int(self.xml.attrib["line"]))

    @property
    def text(self) -> str:
        return (self.xml.text or "").strip()

    def all(self, tag: str) -> list["_Element"]:
        return [_Element(each, self.file) for each in self.xml.findall(tag)]

    def one(self, tag: str) -> "_Element":
        found = self.all(tag)
        if not found:
            raise self.where.refuse(f"<{self.xml.tag}> has no <{tag}>")
        if len(found) > 1:
            raise found[1].where.refuse(f"<{self.xml.tag}> has a second <{tag}>, expected one")
        return found[0]

    def number(self, tag: str) -> float:
        element = self.one(tag)
        value = text.read_number(element.text)
        if value is None or not math.isfinite(value):
            raise element.where.refuse(f"<{tag}> is {shown(element.text)}, expected a number")
        return value


def _parse(file: Path) -> _Element:
    """The tree of a file. It is not trusted: entities and external references are refused."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser

    class Builder(ElementTree.TreeBuilder):
        def start(self, tag: Any, attrs: Any, /) -> ElementTree.Element:
            return super().start(tag, {"line": str(parser.parser.CurrentLineNumber)})

    parser: Any = DefusedXMLParser(target=Builder(), forbid_dtd=False)
    data = text.read_bytes(file, limit=_MAX_BYTES)
    try:
        parser.feed(data)
        root = _Element(parser.close(), file)
    except ElementTree.ParseError as error:
        if "invalid token" in str(error):  # most often an encoding that the file does not state
            text.read_text(file)
        raise DataError(f"broken XML: {one_line(error).partition(':')[0]}", file=file, line=error.position[0]) from None
    except DefusedXmlException as error:
        message = f"XML with entities or external references is refused ({one_line(error)})"
        raise DataError(message, file=file) from None
    except (OSError, ValueError, LookupError) as error:
        raise DataError(f"cannot be read: {one_line(error)}", file=file) from None
    if root.xml.tag != "annotation":
        raise root.where.refuse(f"<{one_line(root.xml.tag)}> where VOC has <annotation>")
    return root


def _read_annotation(file: Path, images: dict[str, Path]) -> Raw:
    """Read one XML file; `images` are those of the set by name. Raises DataError, with the line of the fault."""
    root = _parse(file)
    size, objects = root.one("size"), []
    width, height = size.number("width"), size.number("height")
    if not all(1 <= side <= MAX_SIDE and side == int(side) for side in (width, height)):
        expected = f"expected at least 1x1 and at most {MAX_SIDE:,} whole pixels a side"
        raise size.where.refuse(f"image size {width:g}x{height:g}, {expected}")
    for element in root.all("object"):
        name, box = element.one("name"), element.one("bndbox")
        text.check_name(name.text, name.where)
        x0, y0, x1, y1 = (box.number(tag) for tag in ("xmin", "ymin", "xmax", "ymax"))
        first = int(x0 < x1 and y0 < y1)  # the number of the first pixel, where the box has an area
        difficult = bool(element.all("difficult")) and element.number("difficult") != 0
        written = f"box xmin={x0:g} ymin={y0:g} xmax={x1:g} ymax={y1:g}"
        edges = (x0 - first, y0 - first, x1, y1)
        objects.append(Object(box.where, name.text, edges, ignored=difficult, written=written, named=name.where))
    filename = next((each.text for each in root.all("filename")), "")
    image = images.get(file.stem) or images.get(filename)
    if image is None:
        alike = list_names([name for name, path in images.items() if path.stem == file.stem])
        several = f"several images have its name, {alike}, expected one, or its name in <filename>"
        missing = f"its image JPEGImages/{one_line(filename) or f'{file.stem}.jpg'} is missing"
        raise DataError(missing if alike == "nothing" else several, file=file)
    return Raw(image, Where(file), (int(width), int(height)), objects)
