"""COCO's JSON: boxes, masks and key points of the images it lists.

`data=coco:PATH`, a folder or one JSON file. Where the files lie: `annotations/instances_train2017.json` beside the
images in `train2017` (or `images/train2017`), as COCO has it; `train/_annotations.coco.json` among the images, as
exporters write it; or one file with the images beside it or in `images`. The split is the word train, val, valid,
validation or test in the name of the file or its folder; `val` comes before `test`. Where there is one file alone, a
fifth of the images is for testing, chosen by the SHA-256 of their names.

Classes are the categories in the order of their ids, without gaps. A category that no object has and of which all
others are kinds is no class: some exporters put such a parent first.

- Boxes: `bbox`, or the extent of the outline where there is none, by the rules of `boxed.clip_box`. `iscrowd` 1 is
  `ignored`, neither truth nor false alarm. An image without objects is an example too.
- Masks: outlines drawn by `shapes.draw`, class 0 `background`, crowds 255.
- Key points: each object that has some is an example, cut out of its image; see `pointed`.
"""

import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import cache, partial
from pathlib import Path

import numpy as np

from jaxcv.data.dataset import Dataset
from jaxcv.data.example import TEST_NAMES, Collection, Collector, split_word
from jaxcv.data.formats.coco_json import CocoFile, Entry, Picture, read_coco
from jaxcv.data.io.text import find_folder, holds, join, list_folder, list_names, shown
from jaxcv.data.outlines import IGNORE, draw, extent, read_shape
from jaxcv.data.sources.boxed import BoxedImages, Example, check_example, clip_box
from jaxcv.data.sources.masked import MaskedImages, MaskExample, check_mask
from jaxcv.types import DataError

_OTHERS = re.compile("(captions|panoptic|stuff|image_info|person_keypoints|instances)_")


def open_coco(
    path: Path, *, image_size: int, classes: tuple[str, ...] = (), on_error: str = "raise", hold_out: bool = True
) -> tuple[Dataset, Dataset]:
    """Open a COCO set for detection: the train and the test split. Files are read when first needed.

    Args:
      path: folder or JSON file; see the module.
      image_size: side of the square the images are squashed to, in pixels.
      classes: class names in order of their index; empty: all categories.
      on_error: `raise`, or `skip` images whose file or annotation is faulty.
      hold_out: of a set without a split of its own, whether a fifth is kept for testing; False: both hold everything.
    """
    scan = partial(scan_boxes, path, classes, on_error == "skip", hold_out)
    train, test = (Dataset(BoxedImages(split, image_size, scan), image_size) for split in ("train", "test"))
    return train, test


def open_coco_masks(
    path: Path, *, image_size: int, channels: int = 3, classes: tuple[str, ...] = (), on_error: str = "raise"
) -> tuple[Dataset, Dataset]:
    """The same set for semantic segmentation; class 0 is `background`."""
    scan = partial(scan_masks, path, classes, on_error == "skip")
    train, test = (Dataset(MaskedImages(split, image_size, channels, scan), image_size) for split in ("train", "test"))
    return train, test


@cache
def scan_boxes(path: Path, classes: tuple[str, ...], skip: bool, hold_out: bool) -> Collection:
    """Read every box of both splits."""
    collector, files, root = read_files(path, skip=skip, words="instances")
    names = class_names(files, classes, collector)
    for split, file in files.items():
        base = image_folder(file, root)
        for picture in file.pictures:
            with collector.faults_of(split):
                example = _boxes(picture, file, names, find_image(picture, base, root), partial(collector.count, split))
                collector.examples[split].append(example)
    if "test" not in files:
        collector.hold_out(lambda e: e.image.relative_to(root).as_posix(), hold_out=hold_out)
    return collector.finish(names, partial(check_example, thorough=True))


@cache
def scan_masks(path: Path, classes: tuple[str, ...], skip: bool) -> Collection:
    """Read every outline of both splits."""
    collector, files, root = read_files(path, skip=skip, words="instances")
    names = class_names(files, classes, collector)
    for split, file in files.items():
        base = image_folder(file, root)
        for picture in file.pictures:
            with collector.faults_of(split):
                image = find_image(picture, base, root)
                size = picture.size(image)
                shapes = []
                for entry in picture.annotations:
                    index, crowd = _class_of(entry, file, names), entry.flag("iscrowd")
                    shape = read_shape(entry.fields.get("segmentation"), size=size, refuse=entry.refuse)
                    shapes.append((shape, IGNORE if crowd else index + 1))
                collector.examples[split].append(MaskExample(image, file.file, size, partial(draw, shapes, size=size)))
    if len(names) >= IGNORE:
        raise DataError(f"{len(names)} classes, masks hold at most {IGNORE - 1}; name fewer with classes", file=root)
    if "test" not in files:
        collector.hold_out(lambda e: e.image.relative_to(root).as_posix())
    return collector.finish(("background", *names), partial(check_mask, classes=len(names) + 1, thorough=True))


def read_files(path: Path, *, skip: bool, words: str) -> tuple[Collector, dict[str, CocoFile], Path]:
    """The annotation files by split, read, and the folder that all images must lie in.

    Args:
      path: folder or file.
      skip: whether faults are counted instead of raised.
      words: how COCO calls files of this kind: `instances` or `person_keypoints`.
    """
    if path.is_file():
        root = path.parent.parent if path.parent.name == "annotations" else path.parent
        found, unused = {"train": path}, []
    else:
        root = path
        found, unused = _choose(path, words)
    collector = Collector(root, skip=skip)
    files = {split: read_coco(file) for split, file in found.items()}
    for split, file in files.items():
        for stray in file.strays:
            with collector.faults_of(split):
                raise stray
    if unused:
        collector.say("train", f"annotation files not used: {list_names(unused)}")
    return collector, files, root


def _choose(folder: Path, words: str) -> tuple[dict[str, Path], list[str]]:
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
    test = next((name for name in TEST_NAMES if name in by_split), None)
    chosen = {"train": by_split.get("train", []), "test": by_split[test]} if test and "train" in by_split else {}
    if len(ours) == 1:
        chosen = {"train": ours}
    if not chosen or any(len(candidates) > 1 for candidates in chosen.values()):
        names = list_names([str(file.relative_to(folder)) for file in ours])
        raise DataError(f"annotation files {names}: choose one with data=coco:{folder}/FILE", file=folder)
    used = {split: candidates[0] for split, candidates in chosen.items()}
    return used, [str(file.relative_to(folder)) for file in ours if file not in used.values()]


def class_names(files: dict[str, CocoFile], classes: tuple[str, ...], collector: Collector) -> tuple[str, ...]:
    """Names of the classes, the same for both splits."""
    roots = set.intersection(*(file.unused_roots() for file in files.values()))
    listed = [[c.name for _, c in _sorted(file) if c.name not in roots] for file in files.values()]
    for file, names in zip(files.values(), listed, strict=True):
        if set(names) != set(listed[0]):
            odd = sorted(set(names) ^ set(listed[0]))
            first = next(iter(files.values())).file.name
            raise DataError(f"category {shown(odd[0])} is not in both this file and {first}; add it", file=file.file)
    if roots:
        collector.say("train", f"category {list_names(sorted(roots))}, parent of all others, is no class")
    if len(set(classes)) < len(classes):
        raise DataError(f"classes={classes}: a class is listed twice; take one out", file=collector.root)
    return classes or tuple(listed[0])


def _sorted(file: CocoFile) -> list:
    return sorted(file.categories.items(), key=lambda item: (isinstance(item[0], str), item[0]))


def image_folder(file: CocoFile, root: Path) -> Path:
    """Where the images of a file lie: the first likely folder that has one of the first few."""
    word = file.file.stem.rpartition("_")[2]
    split = split_word(file.file.relative_to(root).with_suffix(""))
    bases = [file.file.parent, file.file.parent / "images", root, root / "images"]
    bases += [root / part / name for name in (word, split) if name for part in ("", "images")]
    for base in bases:
        for picture in file.pictures[:5]:
            image = join(base, picture.file_name, root)
            if image is not None and image.is_file():
                return base
    return bases[0]


def find_image(picture: Picture, base: Path, root: Path) -> Path:
    """The image file of a picture. Raises DataError where it would lie outside the set, or is not there."""
    path = join(base, picture.file_name, root)
    if path is None:
        raise picture.entry.wrong("file_name", f"the name of a file within {root}")
    if not path.is_file():
        message = f"its image {shown(picture.file_name)} is missing in {base}; add the file or take the entry out"
        raise picture.entry.refuse(message)
    return path


def _class_of(entry: Entry, file: CocoFile, names: tuple[str, ...]) -> int:
    key = entry.id("category_id")
    if key not in file.categories:
        raise entry.wrong("category_id", f"the id of a category; add it or take the annotation out of {file.file.name}")
    name = file.categories[key].name
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {list_names(names)}"
        raise entry.refuse(f"class {shown(name)} is not in the list; {hint}")
    return names.index(name)


def _boxes(
    picture: Picture, file: CocoFile, names: tuple[str, ...], image: Path, count: Callable[[str, str], None]
) -> Example:
    size = picture.size(image)
    boxes, classes, crowds = [], [], []
    for entry in picture.annotations:
        index, crowd = _class_of(entry, file, names), entry.flag("iscrowd")
        if entry.fields.get("bbox") in (None, []) and entry.fields.get("segmentation"):
            shape = read_shape(entry.fields["segmentation"], size=size, refuse=entry.refuse)
            edges, written = extent(shape, size=size), "the extent of its outline"
        else:
            x, y, width, height = entry.numbers("bbox", "a list of 4 numbers: x, y, width, height", count=4)
            edges, written = (x, y, x + width, y + height), f"bbox {x:g}, {y:g}, {width:g}, {height:g}"
        clipped = clip_box(edges, size=size, written=written, refuse=entry.refuse)
        if clipped is None:
            count("zero-area boxes dropped", image.stem)
            continue
        if clipped[1]:
            count("boxes cut at the image border", image.stem)
        boxes.append(clipped[0])
        classes.append(index)
        crowds.append(crowd)
    return Example(
        image=image,
        annotation=file.file,
        width=size[0],
        height=size[1],
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        classes=np.array(classes, np.int32),
        ignored=np.array(crowds, np.bool_),
    )
