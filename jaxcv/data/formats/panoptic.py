"""COCO's panoptic JSON and PNG: each pixel the number of a segment, each segment a category.

`data=panoptic:PATH`, a folder with `annotations/panoptic_train2017.json`, `panoptic_val2017.json`, for each a folder of
PNGs that is called so (`annotations/panoptic_train2017`), and the images in `train2017` (or `images/train2017`). A
pixel of red, green and blue belongs to the segment `red + 256 green + 65536 blue`; 0 is void, 255 in the mask.

Classes are all categories, things and stuff, in the order of their ids; there is no background.

References:
  A. Kirillov et al., Panoptic segmentation, https://arxiv.org/abs/1801.00868; https://cocodataset.org/#format-data
"""

from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jaxcv.data.collector import Collector
from jaxcv.data.example import Example, Scan
from jaxcv.data.formats.coco import CocoFile, Entry, find_image, image_folders, read_coco
from jaxcv.data.formats.kept import kept
from jaxcv.data.io import paths
from jaxcv.data.io.images import read_colors
from jaxcv.data.io.text import list_names, shown
from jaxcv.data.raw.frames import check_frame
from jaxcv.data.raw.outlines import IGNORE
from jaxcv.errors import DataError


@kept
def scan_panoptic(path: Path, skip: bool) -> Scan:
    """Read the segments of both splits."""
    if path.is_file():
        root = path.parent.parent if path.parent.name == "annotations" else path.parent
        found, unused = {"train": path}, []
    else:
        root = paths.find_folder(path, "data=panoptic:PATH needs a folder with panoptic_*.json, or one such file")
        folders = (root, *paths.list_folders(root, root))
        files = [
            file for folder in folders for file in paths.list_files(folder, root, ".json") if "panoptic" in file.name
        ]
        if not files:
            raise DataError(f"no panoptic*.json in it or one folder below; {paths.holds(root)}", file=root)
        found, unused = paths.choose_files(files, root, "panoptic")
    collector, files = Collector(root, skip=skip), {split: read_coco(file) for split, file in found.items()}
    if unused:
        collector.say("train", f"annotation files not used: {list_names(unused)}")
    names: tuple[str, ...] = ()
    for split, file in files.items():
        ids = sorted(file.names, key=lambda key: (isinstance(key, str), key))
        listed = tuple(file.names[key] for key in ids)
        if names not in ((), listed) or len(listed) > IGNORE:
            raise DataError(
                f"{len(listed)} categories, expected the same in both files, at most {IGNORE}", file=file.file
            )
        names, index = listed, {key: i for i, key in enumerate(ids)}
        bases = image_folders(file, root)
        for row, entry in enumerate(file.images):
            with collector.faults_of(split):
                image = find_image(entry, bases, root)
                if len(own := file.annotations_of(row)) != 1:
                    raise entry.where.refuse(f"{len(own)} annotations, expected one with its segments")
                mask, table = _mask_of(own[0], file, root), _segments(own[0], index)
                check_frame(image, mask)
                read = partial(read_segments, mask, table)
                collector.examples[split].append(Example(image, own[0].where, entry.size(image), mask=read))
    if "test" not in files:
        collector.hold_out()
    return collector.finish(names)


def _mask_of(entry: Entry, file: CocoFile, root: Path) -> Path:
    name = entry.text("file_name")
    for folder in (file.file.with_suffix(""), root / file.file.stem, file.file.parent, root / "masks"):
        if (found := paths.find_file(folder, name, root)) is not None:
            return found
    raise entry.where.refuse(f"its picture {shown(name)} is missing in {file.file.with_suffix('')}")


def _segments(entry: Entry, index: dict[int | str, int]) -> tuple[tuple[int, int], ...]:
    """The class of each segment."""
    listed, found = entry.fields.get("segments_info"), {}
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise entry.wrong("segments_info", "a list of segments")
    for i, fields in enumerate(listed):
        segment = Entry(fields, entry.file, f"{entry.key}[{entry.number}].segments_info", i)
        number, category = segment.id("id"), segment.id("category_id")
        if not isinstance(number, int) or not 0 < number < 2**24:
            raise segment.wrong("id", "a number from 1 below 2^24")
        if category not in index:
            raise segment.wrong("category_id", "the id of a category")
        found[number] = index[category]
    return tuple(found.items())


def read_segments(mask: Path, table: tuple[tuple[int, int], ...]) -> UInt8[np.ndarray, "h w"]:
    """Class index of each pixel. Raises DataError: a segment that is not listed."""
    codes = read_colors(mask)
    numbers, inverse = np.unique(codes, return_inverse=True)
    classes = dict(table) | {0: IGNORE}
    if (unknown := next((n for n in numbers.tolist() if n not in classes), None)) is not None:
        y, x = np.argwhere(codes == unknown)[0].tolist()
        raise DataError(f"segment {unknown} at x={x} y={y} is not in its segments_info", file=mask)
    return np.array([classes[n] for n in numbers.tolist()], np.uint8)[inverse].reshape(codes.shape)
