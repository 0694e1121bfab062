"""YOLO's labels: a text file for each image, a line for each object, all coordinates as fractions of the image.

`data=yolo:PATH`, a YAML file with `names`, `train` and `val` (else `test`), or the folder it lies in, or that folder's
parent. Where several such files are found, detection takes the one whose labels are boxes, segmentation the one whose
labels are polygons. Without any, `images` and `labels` are looked for, and class names in `classes.txt` or `obj.names`.

`train` and `val` name a folder of images, a text file that lists them, or several of these; they are looked for from
`path`, from the YAML file's folder, and from the folder above it. The labels of `images/a/1.jpg` are `labels/a/1.txt`,
beside the YAML file or beside `images`; else `1.txt` beside the image. Where `val` is not there, a fifth of the
images is for testing, chosen by the SHA-256 of their names.

A line is `class x y width height`, the centre first, or `class x0 y0 x1 y1 x2 y2 ...`, a polygon, of which detection
takes the extent. Boxes follow the rules of `boxed.clip_box`; a line that stands there twice counts once. An image
whose label file is empty or missing is an example without objects, unless the YAML file says
`skip_if_label_file_missing: true`; label files without an image are left out, with the objects in them. All of these
are counted. Two images that would share a label file, such as 1.jpg and 1.png, are refused.
"""

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcv.data.dataset import Dataset
from jaxcv.data.example import Collection, Collector
from jaxcv.data.formats.yolo_yaml import Description, describe
from jaxcv.data.io.images import check_image
from jaxcv.data.io.text import list_folder, list_names, read_lines, read_number, shown
from jaxcv.data.outlines import IGNORE, Shape, draw, read_polygon
from jaxcv.data.sources.boxed import BoxedImages, Example, check_example, clip_box
from jaxcv.data.sources.masked import MaskedImages, MaskExample, check_mask
from jaxcv.types import DataError


def open_yolo(
    path: Path, *, image_size: int, classes: tuple[str, ...] = (), on_error: str = "raise", hold_out: bool = True
) -> tuple[Dataset, Dataset]:
    """Open a YOLO set for detection: the train and the test split. Files are read when first needed.

    Args:
      path: folder or YAML file; see the module.
      image_size: side of the square the images are squashed to, in pixels.
      classes: class names in order of their index; empty: those of the YAML file in the order of their numbers.
      on_error: `raise`, or `skip` images whose file or labels are faulty.
      hold_out: of a set without a split of its own, whether a fifth is kept for testing; False: both hold everything.
    """
    scan = partial(scan_boxes, path, classes, on_error == "skip", hold_out)
    train, test = (Dataset(BoxedImages(split, image_size, scan), image_size) for split in ("train", "test"))
    return train, test


def open_yolo_masks(
    path: Path, *, image_size: int, channels: int = 3, classes: tuple[str, ...] = (), on_error: str = "raise"
) -> tuple[Dataset, Dataset]:
    """The same set for semantic segmentation, from its polygons; class 0 is `background`."""
    scan = partial(scan_masks, path, classes, on_error == "skip")
    train, test = (Dataset(MaskedImages(split, image_size, channels, scan), image_size) for split in ("train", "test"))
    return train, test


class Line(NamedTuple):
    """One object."""

    file: Path
    number: int
    """Of the line, from 1."""
    index: int
    """Of the class among the set's."""
    values: list[float]
    """Four of a box, or x and y of each point of a polygon; as fractions."""

    def refuse(self, message: str) -> DataError:
        """The fault of this line."""
        return DataError(message, file=self.file, line=self.number)

    def corners(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Its box x0, y0, x1, y1 in pixels."""
        if len(self.values) == 4:
            x, y, width, height = self.values
            edges = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        else:
            xs, ys = self.values[0::2], self.values[1::2]
            edges = (min(xs), min(ys), max(xs), max(ys))
        return edges[0] * size[0], edges[1] * size[1], edges[2] * size[0], edges[3] * size[1]


@cache
def scan_boxes(path: Path, classes: tuple[str, ...], skip: bool, hold_out: bool) -> Collection:
    """Read every label of both splits."""

    def example(image: Path, labels: Path, lines: list[Line], size: tuple[int, int], count: Any) -> Example:
        boxes, indices = [], []
        for line in lines:
            written = "box " + " ".join(f"{value:g}" for value in line.values[:6])
            clipped = clip_box(line.corners(size), size=size, written=written, refuse=line.refuse)
            if clipped is None:
                count("zero-area boxes dropped", image.stem)
                continue
            if clipped[1]:
                count("boxes cut at the image border", image.stem)
            boxes.append(clipped[0])
            indices.append(line.index)
        edges = np.array(boxes, np.float32).reshape(-1, 4)
        return Example(image, labels, *size, edges, np.array(indices, np.int32), np.zeros(len(boxes), np.bool_))

    collector, names = _scan(path, classes, skip, hold_out, example, polygons=False)
    return collector.finish(names, partial(check_example, thorough=True))


@cache
def scan_masks(path: Path, classes: tuple[str, ...], skip: bool) -> Collection:
    """Read every polygon of both splits."""

    def example(image: Path, labels: Path, lines: list[Line], size: tuple[int, int], count: Any) -> MaskExample:
        shapes = []
        for line in lines:
            if len(line.values) == 4:
                raise line.refuse("a box where a mask needs a polygon: class x0 y0 x1 y1 x2 y2 ...")
            pixels = [value * size[i % 2] for i, value in enumerate(line.values)]
            shapes.append((Shape([read_polygon(pixels, size=size, refuse=line.refuse)], []), line.index + 1))
        return MaskExample(image, labels, size, partial(draw, shapes, size=size))

    collector, names = _scan(path, classes, skip, True, example, polygons=True)
    if len(names) >= IGNORE:
        raise DataError(f"{len(names)} classes, masks hold at most {IGNORE - 1}; name fewer with classes", file=path)
    return collector.finish(("background", *names), partial(check_mask, classes=len(names) + 1, thorough=True))


def _scan(
    path: Path, classes: tuple[str, ...], skip: bool, hold_out: bool, example: Callable[..., Any], *, polygons: bool
) -> tuple[Collector, tuple[str, ...]]:
    """Examples of both splits made by `example`, and the class names."""
    described = describe(path, polygons=polygons)
    collector = Collector(described.root, skip=skip)
    names = classes or tuple(name for _, name in sorted(described.names.items()))
    if len(set(names)) < len(names):
        raise DataError(f"class {shown(max(names, key=names.count))} is listed twice; rename one", file=described.file)
    owners: dict[Path, Path] = {}
    there: dict[Path, set[str]] = {}
    for split, images in described.images.items():
        for image in images:
            labels = described.labels(image)
            folder = labels.parent
            if folder not in there:  # also sees to it that no link there leads out
                found = list_folder(folder, described.root) if folder.is_dir() else []
                there[folder] = {entry.name for entry in found if entry.name.endswith(".txt")}
            if owners.setdefault(labels, image) != image:
                message = f"the labels of {owners[labels].name} too, for they have the same name; keep one"
                raise DataError(message, file=image)
            with collector.faults_of(split):
                if labels.name not in there[folder]:
                    what = "left out" if described.leave_out else "taken as empty"
                    collector.count(split, f"images without a label file {what}", image.stem)
                    if described.leave_out:
                        continue
                lines = list(_read_labels(labels, described, names)) if labels.name in there[folder] else []
                if twice := len(lines) - len(lines := _once(lines)):
                    collector.count(split, "lines that stand there twice", labels.stem, twice)
                size = check_image(image)
                found = example(image, labels, lines, size, partial(collector.count, split))
                collector.examples[split].append(found)
    alone = [folder / name for folder, found in there.items() for name in sorted(found) if name != "classes.txt"]
    for labels in (path for path in alone if path not in owners):
        with collector.faults_of("train"):
            collector.count("train", "label files without an image left out", labels.stem)
            collector.count("train", "objects in them", labels.stem, len(read_lines(labels)))
    both = len({*described.images["train"]} & {*described.images.get("test", [])})
    if both:
        collector.say("test", f"{both:,} images are in the training split too, as {described.file.name} says")
    if "test" not in described.images:
        if described.missing:
            collector.say("test", described.missing)
        collector.hold_out(lambda e: e.image.relative_to(described.root).as_posix(), hold_out=hold_out)
    return collector, names


def _once(lines: list[Line]) -> list[Line]:
    return list({(line.index, *line.values): line for line in reversed(lines)}.values())[::-1]


def _read_labels(file: Path, described: Description, names: tuple[str, ...]) -> Iterator[Line]:
    indices = {number: names.index(name) for number, name in described.names.items() if name in names}
    for number, text in read_lines(file):
        words = text.split()
        line = Line(file, number, 0, [])
        values = [value for value in map(read_number, words) if value is not None]
        if len(values) < len(words):
            wrong = next(word for word in words if read_number(word) is None)
            raise line.refuse(f"{shown(wrong)} where a number is expected; correct it")
        if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
            expected = "class x y width height, or class and x y of at least 3 points"
            raise line.refuse(f"{len(values)} numbers, expected {expected}; correct the line or take it out")
        if values[0] not in described.names:
            known = f"0 to {len(described.names) - 1}" if 0 in described.names else list_names([*map(str, indices)])
            raise line.refuse(f"class {words[0][:20]}, expected {known}; correct it or name it in {described.file}")
        name = described.names[int(values[0])]
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {list_names(names)}"
            raise line.refuse(f"class {shown(name)} is not in the list; {hint}")
        if odd := next((value for value in values[1:] if not -1 <= value <= 2), None):  # not so either for NaN
            raise line.refuse(f"{odd:g} where fractions of the image from 0 to 1 are expected; divide by its size")
        yield line._replace(index=indices[int(values[0])], values=values[1:])
