"""LabelMe's JSON, a file beside each image: boxes, masks and key points.

`data=labelme:PATH`, a folder with `.json` files at any depth. The image is `imagePath`, or has the same name, beside
the file or in a folder beside its own. The split is the word train, val, valid, validation or test in a folder's name;
where there is none, a fifth is for testing, by the SHA-256 of the names.

Classes are the labels of all shapes, sorted. Shapes of one label and `group_id` are one object. Detection takes the
extent of rectangles, circles and polygons, segmentation their areas, class 0 being `background`; key points are those
of the shapes that are points, whose labels are their names, and an example is a whole image. Shapes of other kinds are
left out and counted.

References:
  The format: https://github.com/wkentaro/labelme
"""

import math
from pathlib import Path
from typing import Any

from jaxcv.data.collector import Collector
from jaxcv.data.example import Scan, Task, to_floats
from jaxcv.data.formats.kept import kept
from jaxcv.data.formats.mirrored import swap_by_names
from jaxcv.data.io import paths
from jaxcv.data.io.images import check_image
from jaxcv.data.io.text import Where, check_name, read_json, shown
from jaxcv.data.raw import Object, Raw
from jaxcv.errors import DataError

_AREAS = ("rectangle", "polygon", "circle", "rotation")


@kept
def scan_labelme(folder: Path, task: Task, classes: tuple[str, ...], skip: bool, hold_out: bool = True) -> Scan:
    """Read every annotation of both splits; `task` is `boxes`, `mask` or `points`."""
    paths.find_folder(folder, "data=labelme:PATH needs a folder with .json files beside images")
    found = {file: paths.split_word(file.parent.relative_to(folder)) for each in paths.walk(folder, folder)
             for file in paths.list_files(each, folder, ".json")}  # fmt: skip
    if not found:
        raise DataError(f"no annotation (.json) in it or below; {paths.holds(folder)}", file=folder)
    collector = Collector(folder, skip=skip)
    splits = collector.splits(found.values())
    contents: dict[str, list[tuple[Path, dict[str, Any]]]] = {"train": [], "test": []}
    for file, word in found.items():
        if (split := splits.get(word)) is None:
            collector.count("train", "annotations in no folder of a split not used", file.name)
            continue
        with collector.faults_of(split):
            contents[split].append((file, _read(file)))
    wanted = ("point",) if task == "points" else _AREAS
    shapes = (shape for each in contents.values() for _, content in each for shape in content["shapes"])
    labels = tuple(sorted({shape["label"] for shape in shapes if shape["kind"] in wanted}))
    for split, each in contents.items():
        for file, content in each:
            with collector.faults_of(split):
                collector.examples[split].append(_raw(file, content, folder, labels, task, collector, split))
    collector.swap = swap_by_names(labels) if task == "points" else None
    names = collector.validate(task, () if task == "points" else classes or labels)
    if "test" not in splits.values():
        collector.hold_out(really=hold_out)
    return collector.finish(names)


def _read(file: Path) -> dict[str, Any]:
    """The content of a file, its shapes checked: each with `label`, `kind`, `points` and where it stands."""
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise DataError("is not LabelMe's: expected a JSON object with a list `shapes`", file=file)
    shapes = []
    for i, shape in enumerate(content["shapes"]):
        where = Where(file, entry=f"shapes[{i}]")
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise where.refuse(f"{shown(shape)}, expected an object with a text `label`")
        check_name(shape["label"], where)
        kind = shape.get("shape_type") or "polygon"
        points = shape.get("points")
        pairs = [to_floats(pair) for pair in points] if isinstance(points, list) else []
        if not pairs or any(pair is None or len(pair) != 2 for pair in pairs):
            raise where.refuse(f"points is {shown(points)}, expected pairs of numbers")
        group = shape.get("group_id")
        group = i if group is None or not isinstance(group, int | str) else f"group {group}"
        shapes.append({"label": shape["label"], "kind": kind, "points": pairs, "group": group, "where": where})
    return {**content, "shapes": shapes}


def _raw(
    file: Path,
    content: dict[str, Any],
    root: Path,
    labels: tuple[str, ...],
    task: Task,
    collector: Collector,
    split: str,
) -> Raw:
    said = content.get("imagePath")
    image = paths.picture_of(file, root, said if isinstance(said, str) else "")
    stated = content.get("imageWidth"), content.get("imageHeight")
    known = all(type(side) is int and side > 0 for side in stated)
    objects: dict[Any, Object] = {}
    placed: dict[str, tuple[float, float]] = {}
    for shape in content["shapes"]:
        if task == "points" and shape["kind"] == "point":
            if shape["label"] in placed:
                raise shape["where"].refuse(f"a second point {shown(shape['label'])}, expected one in an image")
            placed[shape["label"]] = (shape["points"][0][0], shape["points"][0][1])
        elif task != "points" and shape["kind"] in _AREAS:
            outline, key = [_outline(shape)], (shape["label"], shape["group"])
            before = objects[key].outline if key in objects else []
            objects[key] = Object(shape["where"], shape["label"], outline=[*before, *outline], written="the shape")
        else:
            collector.count(split, f"shapes of the kind {shown(shape['kind'])} left out", file.stem)
    found = list(objects.values())
    if task == "points":
        found = [Object(Where(file), points=[placed.get(label) for label in labels])] if placed else []
        if not found:
            collector.count(split, "images without key points left out", file.stem)
    size = (stated[0], stated[1]) if known else check_image(image)
    return Raw(image, Where(file), size, found, whole=True, stated=known)  # pyright: ignore[reportArgumentType]


def _outline(shape: dict[str, Any]) -> list[float]:
    """The polygon of a shape, as COCO has it."""
    points, where = shape["points"], shape["where"]
    if shape["kind"] in ("rectangle", "circle"):
        if shape["kind"] == "rectangle" and len(points) == 4:  # as newer ones have its corners
            return [value for pair in points for value in pair]
        if len(points) != 2:
            raise where.refuse(f"a {shape['kind']} of {len(points)} points, expected 2")
        (x0, y0), (x1, y1) = points
        if shape["kind"] == "rectangle":
            return [x0, y0, x1, y0, x1, y1, x0, y1]
        radius, steps = math.hypot(x1 - x0, y1 - y0), range(64)
        turns = [2 * math.pi * i / 64 for i in steps]
        return [value for t in turns for value in (x0 + radius * math.cos(t), y0 + radius * math.sin(t))]
    return [value for pair in points for value in pair]
