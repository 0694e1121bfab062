"""Key points in COCO's JSON: each object that has some is an example, the surroundings of its box.

`keypoints` holds x, y and a flag for each point, the middle of the first pixel being (0, 0): 0 where it is not
annotated, 1 where it is hidden, 2 where it can be seen; hidden ones have a place and count as visible. Crowds, and
objects none of whose points is annotated, are left out and counted. Files and splits are found as in `coco`, those
called `person_keypoints` first.
"""

from functools import cache, partial
from pathlib import Path

from jaxcv.data.dataset import Dataset
from jaxcv.data.example import Collection
from jaxcv.data.formats.coco import find_image, image_folder, read_files
from jaxcv.data.formats.coco_json import Entry
from jaxcv.data.sources.pointed import PointedImages, PointExample, around, check_example, place_points
from jaxcv.types import DataError


def open_coco_points(
    path: Path, *, image_size: int, channels: int = 3, on_error: str = "raise"
) -> tuple[Dataset, Dataset]:
    """Open a COCO set of key points: the train and the test split; arguments as for `points.open_points`."""
    scan = partial(scan_keypoints, path, on_error == "skip")
    train, test = (Dataset(PointedImages(split, image_size, channels, scan), image_size) for split in ("train", "test"))
    return train, test


@cache
def scan_keypoints(path: Path, skip: bool) -> Collection:
    """Read the key points of both splits."""
    collector, files, root = read_files(path, skip=skip, words="person_keypoints")
    names: set[tuple[str, ...]] = {c.keypoints for file in files.values() for c in file.categories.values()} - {()}
    if len(names) > 1:
        raise DataError("categories with several sets of key points; keep one category", file=files["train"].file)
    count = len(next(iter(names), ()))
    for split, file in files.items():
        base = image_folder(file, root)
        for picture in file.pictures:
            with collector.faults_of(split):
                image = find_image(picture, base, root)
                size, found = picture.size(image), []
                for entry in picture.annotations:
                    if entry.flag("iscrowd") or not any(_flags(entry)):
                        collector.count(split, "objects without key points left out", image.stem)
                        continue
                    count = count or len(entry.fields["keypoints"]) // 3
                    found.append(_object(entry, file.file, image, size, count))
                collector.examples[split] += found
    if "test" not in files:
        collector.hold_out(lambda example: example.group)
    return collector.finish((), partial(check_example, thorough=True))


def _flags(entry: Entry) -> list[float]:
    if entry.fields.get("keypoints") in (None, []):
        return []
    return entry.numbers("keypoints", "a list of x, y and a flag for each point")[2::3]


def _object(entry: Entry, file: Path, image: Path, size: tuple[int, int], count: int) -> PointExample:
    expected = f"a list of x, y and a flag 0, 1 or 2 for each of {count} points"
    values = entry.numbers("keypoints", expected, count=3 * count)
    if not set(values[2::3]) <= {0, 1, 2}:
        raise entry.wrong("keypoints", expected)
    places = zip(values[0::3], values[1::3], values[2::3], strict=True)
    placed = [(x + 0.5, y + 0.5) if flag else None for x, y, flag in places]
    points, visible = place_points(placed, size=size, refuse=entry.refuse)
    if entry.fields.get("bbox"):
        x, y, width, height = entry.numbers("bbox", "a list of 4 numbers: x, y, width, height", count=4)
        if not (0 < width <= 2 * size[0] and 0 < height <= 2 * size[1] and abs(x) <= size[0] and abs(y) <= size[1]):
            raise entry.refuse(
                f"bbox {x:g}, {y:g}, {width:g}, {height:g} in an image of {size[0]}x{size[1]}; correct it"
            )
        box = (x, y, x + width, y + height)
    elif visible.any():
        known = points[visible]
        box = (*known.min(0).tolist(), *known.max(0).tolist())
    else:
        raise entry.refuse("no key point lies inside the image; take the annotation out")
    return PointExample(image, file, None, size, around(box), points, visible, image.name)
