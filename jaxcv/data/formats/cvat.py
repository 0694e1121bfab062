"""CVAT's own XML ("CVAT for images 1.1"): boxes, masks and key points of the images it lists.

`data=cvat:PATH`, `annotations.xml` or the folder it lies in; images lie in `images`, beside the file or in folders
below, by the names that the file gives. The split is the word train, val, valid, validation or test in `subset`; where
there is none, a fifth is for testing, by the SHA-256 of the names.

Classes are the labels that the file declares, in its order, as far as shapes can have them; without declarations those
of the shapes, sorted. Detection takes `box` (rotated ones by their extent) and `polygon` and `ellipse` by theirs,
segmentation the areas of `box`, `polygon`, `ellipse` and `mask`, class 0 being `background`; key points are those of
each `skeleton`, by their labels, or of each `points`. Shapes of other kinds are left out and counted.

References:
  The format: https://docs.cvat.ai/docs/manual/advanced/xml_format/
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from jaxcv.data.collector import Collector
from jaxcv.data.example import MAX_SIDE, Scan, Task
from jaxcv.data.formats.kept import kept
from jaxcv.data.formats.mirrored import swap_by_names
from jaxcv.data.io import paths, text
from jaxcv.data.io.text import Where, check_name, shown
from jaxcv.data.io.xml import Element, read_xml
from jaxcv.data.raw import Object, Raw
from jaxcv.data.raw.outlines import run_lengths
from jaxcv.errors import DataError

_SHAPES = {"boxes": ("box", "polygon", "ellipse", "mask"), "points": ("skeleton", "points")}
_SHAPES["mask"] = _SHAPES["boxes"]


@kept
def scan_cvat(path: Path, task: Task, classes: tuple[str, ...], skip: bool, hold_out: bool = True) -> Scan:
    """Read every annotation of both splits; `task` is `boxes`, `mask` or `points`."""
    if path.is_file():
        root, file = path.parent, path
    else:
        root = paths.find_folder(path, "data=cvat:PATH needs annotations.xml, or the folder it lies in")
        files = paths.list_files(root, root, ".xml")
        if len(files) != 1:
            raise DataError(
                f"{len(files)} files (.xml), expected annotations.xml alone; {paths.holds(root)}", file=root
            )
        file = files[0]
    top, collector = read_xml(file, "annotations", "CVAT", limit=2**31), Collector(root, skip=skip)
    images = top.all("image")
    if not images:
        raise DataError('no <image>, expected an export "CVAT for images 1.1"', file=file)
    words = [paths.split_word(Path(image.attribute("subset", ""))) for image in images]
    splits = collector.splits(words)
    bases = [base for base in (root / "images", root) if base.is_dir()]
    bases = [folder for base in bases for folder in paths.walk(base, root)]
    shapes = [shape for image in images for shape in image.all("*") if shape.xml.tag in _SHAPES[task]]
    used = {shape.attribute("label") for shape in shapes}
    points: tuple[str, ...] = ()
    if task == "points":
        parts = (part.attribute("label") for s in shapes if s.xml.tag == "skeleton" for part in s.all("points"))
        points = tuple(dict.fromkeys(parts))
    for image, word in zip(images, words, strict=True):
        if (split := splits.get(word)) is None:
            collector.count("train", "images of another subset not used", image.attribute("name"))
            continue
        with collector.faults_of(split):
            collector.examples[split].append(_raw(image, bases, root, task, points, collector, split))
    collector.swap = swap_by_names(points)
    declared = dict.fromkeys(each.one("name").text for each in _declared(top))
    names = tuple(name for name in declared if name in used) if used <= declared.keys() else tuple(sorted(used))
    names = collector.validate(task, () if task == "points" else classes or names)
    if "test" not in splits.values():
        collector.hold_out(really=hold_out)
    return collector.finish(names)


def _declared(top: Element) -> list[Element]:
    found = [each for meta in top.all("meta") for holder in meta.all("*") for each in holder.all("labels")]
    return [label for each in found for label in each.all("label")]


def _raw(
    image: Element, bases: list[Path], root: Path, task: Task, points: tuple[str, ...], collector: Collector, split: str
) -> Raw:
    name, (width, height) = image.attribute("name"), image.numbers("width", "height")
    found = next(filter(None, (paths.find_file(base, name, root) for base in bases)), None)
    if found is None:
        raise image.where.refuse(f"its image {shown(name)} is missing in {root}")
    if not all(1 <= side <= MAX_SIDE and side == int(side) for side in (width, height)):
        raise image.where.refuse(f"image size {width:g}x{height:g}, expected whole pixels up to {MAX_SIDE:,} a side")
    objects, size = [], (int(width), int(height))
    for shape in image.all("*"):
        if shape.xml.tag in _SHAPES[task]:
            label = check_name(shape.attribute("label"), shape.where)
            what: dict[str, Any] = {"points": _placed(shape, points)} if task == "points" else _area(shape, size)
            objects.append(Object(shape.where, label, **what))
        elif shape.xml.tag not in ("tag", "attribute"):
            collector.count(split, f"shapes of the kind {shape.xml.tag} left out", name)
    group = found.name if task == "points" else ""
    return Raw(found, Where(image.file, image.where.line), size, objects, group)


def _pairs(shape: Element) -> list[tuple[float, float]]:
    listed = [pair.split(",") for pair in shape.attribute("points").split(";") if pair.strip()]
    values = [[text.read_number(value.strip()) for value in pair] for pair in listed]
    if not values or any(len(pair) != 2 or None in pair for pair in values):
        raise shape.where.refuse(f"points is {shown(shape.attribute('points'))}, expected pairs x,y;x,y")
    return [(x, y) for x, y in values if x is not None and y is not None]


def _placed(shape: Element, names: tuple[str, ...]) -> list[tuple[float, float] | None]:
    if shape.xml.tag == "points":
        return list(_pairs(shape))
    parts = {part.attribute("label"): part for part in shape.all("points")}
    hidden = {label for label, part in parts.items() if part.attribute("outside", "0") == "1"}
    return [_pairs(parts[name])[0] if name in parts and name not in hidden else None for name in names]


def _area(shape: Element, size: tuple[int, int]) -> dict[str, Any]:
    """The box or the outline of a shape."""
    kind = shape.xml.tag
    if kind == "polygon":
        return {"outline": [[value for pair in _pairs(shape) for value in pair]], "written": "the polygon"}
    if kind == "ellipse":
        x, y, rx, ry = shape.numbers("cx", "cy", "rx", "ry")
        turns = [2 * math.pi * i / 64 for i in range(64)]
        corners = [(x + rx * math.cos(t), y + ry * math.sin(t)) for t in turns]
    elif kind == "mask":
        return {"outline": _mask(shape, size)}
    else:
        x0, y0, x1, y1 = shape.numbers("xtl", "ytl", "xbr", "ybr")
        x, y, corners = (x0 + x1) / 2, (y0 + y1) / 2, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    angle = text.read_number(shape.attribute("rotation", "0"))
    if angle is None or not math.isfinite(angle):
        raise shape.where.refuse(f"rotation is {shown(shape.attribute('rotation'))}, expected degrees")
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turned = [(x + (u - x) * cos - (v - y) * sin, y + (u - x) * sin + (v - y) * cos) for u, v in corners]
    polygon = [value for pair in (turned if angle else corners) for value in pair]
    if kind == "box" and not angle:
        written = f"box xtl={x0:g} ytl={y0:g} xbr={x1:g} ybr={y1:g}"
        return {"box": (x0, y0, x1, y1), "outline": [polygon], "written": written}
    xs, ys = polygon[0::2], polygon[1::2]
    return {"box": (min(xs), min(ys), max(xs), max(ys)), "outline": [polygon], "written": "its extent"}


def _mask(shape: Element, size: tuple[int, int]) -> dict[str, Any]:
    """A mask: runs row by row, outside first, of a part of the image."""
    values = [text.read_number(value.strip()) for value in shape.attribute("rle").split(",")]
    left, top, width, height = shape.numbers("left", "top", "width", "height")
    inside = all(value == int(value) for value in (left, top, width, height) if math.isfinite(value))
    runs = [int(value) for value in values if value is not None and 0 <= value <= MAX_SIDE**2]
    fits = inside and min(left, top) >= 0 and left + width <= size[0] and top + height <= size[1]
    if not fits or len(runs) < len(values) or sum(runs) != width * height:
        raise shape.where.refuse(f"runs of {sum(runs):,} pixels, expected {width:g}x{height:g} of them in its image")
    canvas = np.zeros((size[1], size[0]), np.bool_)
    part = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(int(height), int(width))
    canvas[int(top) : int(top + height), int(left) : int(left + width)] = part
    return run_lengths(canvas)
