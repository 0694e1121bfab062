"""Folders in the PASCAL VOC format: `Annotations/*.xml`, `JPEGImages/`, `ImageSets/Main/*.txt`.

Splits: train on `trainval` and test on `test` when both lists exist, else train on `train` and test on `val`.

Classes: the `classes` argument, else `classes.txt` in the folder (one a line), else the 20 of VOC when the files name
no other, else the names found, sorted. The last is guarded, for a mistyped name would quietly be a class of its own:
a name that only one annotation file has (of more than 20), or that only the test split has, is refused until the
classes are listed.

What becomes of the boxes is said in `voc_xml`. With `on_error="skip"` an example whose annotation or image is faulty
is left out, counted and reported; to know them all, every image is decoded once when the set is opened.

References:
  M. Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010.
"""

from collections import Counter
from difflib import get_close_matches
from functools import cache, partial
from pathlib import Path

import numpy as np

from jaxcv.data.dataset import Dataset
from jaxcv.data.example import Collection, Collector
from jaxcv.data.formats.mask_folders import number_labels
from jaxcv.data.formats.voc_xml import Annotation, read_annotation
from jaxcv.data.io.text import find_folder, holds, join, list_names, list_pictures, one_line, read_lines, read_names
from jaxcv.data.sources.boxed import BoxedImages, Example, check_example
from jaxcv.data.sources.masked import MaskedImages, MaskExample, check_mask
from jaxcv.types import DataError

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_FEW_FILES = 20


def open_voc(
    folder: Path, *, image_size: int, classes: tuple[str, ...] = (), on_error: str = "raise"
) -> tuple[Dataset, Dataset]:
    """Open a VOC folder: the train and the test split. Files are read when first needed.

    Args:
      folder: holds `Annotations`, `JPEGImages` and `ImageSets/Main`, or one such folder (VOCdevkit/VOC2007).
      image_size: side of the square the images are squashed to, in pixels.
      classes: class names in order of their index; empty: see the module.
      on_error: `raise` or `skip`.
    """
    read = partial(_scan, folder, classes, on_error == "skip")
    train, test = (Dataset(BoxedImages(split, image_size, read), image_size) for split in ("train", "test"))
    return train, test


def open_voc_masks(
    folder: Path, *, image_size: int, channels: int = 3, on_error: str = "raise"
) -> tuple[Dataset, Dataset]:
    """The images of `ImageSets/Segmentation` with the masks of `SegmentationClass`: background and the 20 classes.

    The masks' palette indices are the classes; 255, the border of objects, is void.
    """
    scan = partial(_scan_masks, folder, on_error == "skip")
    train, test = (Dataset(MaskedImages(split, image_size, channels, scan), image_size) for split in ("train", "test"))
    return train, test


@cache
def _scan(folder: Path, classes: tuple[str, ...], skip: bool) -> Collection:
    """Read every annotation of both splits."""
    root = _find_root(folder)
    images = _list_images(root)
    collector = Collector(root, skip=skip)
    found: dict[str, list[Annotation]] = {"train": [], "test": []}
    for split, (file, ids) in _read_lists(root, "Main").items():
        for image_id, line in ids.items():
            with collector.faults_of(split):
                found[split].append(_read_listed(root, image_id, file, line))
    names = _class_names(root, classes, found)
    for split, annotations in found.items():
        for annotation in annotations:
            with collector.faults_of(split):
                collector.examples[split].append(_example(annotation, names, images, root))
            collector.count(split, "zero-area boxes dropped", annotation.file.stem, annotation.dropped)
            collector.count(split, "boxes cut at the image border", annotation.file.stem, annotation.clipped)
    return collector.finish(names, partial(check_example, thorough=True))


@cache
def _scan_masks(folder: Path, skip: bool) -> Collection:
    """List the pairs of both splits."""
    root = _find_root(folder, "SegmentationClass", "Segmentation")
    images, masks = _list_images(root), list_pictures(root / "SegmentationClass", root)
    labels = number_labels(("background", *VOC_CLASSES))
    collector = Collector(root, skip=skip)
    for split, (file, ids) in _read_lists(root, "Segmentation").items():
        for image_id, line in ids.items():
            with collector.faults_of(split):
                image, mask = images.get(image_id), masks.get(f"{image_id}.png")
                if image is None or mask is None:
                    lacks = f"SegmentationClass/{image_id}.png" if image else f"JPEGImages/{image_id}.jpg"
                    message = f"{one_line(lacks)} is missing; add it or take the line out"
                    raise DataError(message, file=file, line=line)
                collector.examples[split].append(MaskExample(image, mask, None, partial(labels.read, mask)))
    return collector.finish(labels.names, partial(check_mask, classes=len(labels.names), thorough=True))


def _find_root(folder: Path, needed: str = "Annotations", lists: str = "Main") -> Path:
    find_folder(folder, f"data=voc:PATH needs the folder with {needed} and JPEGImages")
    roots = [folder] if (folder / needed).is_dir() else []
    roots = roots or sorted(p.parent for depth in ("*", "*/*") for p in folder.glob(f"{depth}/{needed}"))
    if not roots:
        raise DataError(f"no {needed} folder in it or below; {holds(folder)}", file=folder)
    if len(roots) > 1:
        raise DataError(f"several VOC folders: choose one of {', '.join(map(str, roots))}", file=folder)
    for part in ("JPEGImages", f"ImageSets/{lists}"):
        if not (roots[0] / part).is_dir():
            raise DataError(f"folder {part} is missing; {holds(roots[0])}", file=roots[0])
    return roots[0]


def _list_images(root: Path) -> dict[str, Path]:
    """Each image under its name with ending, and without where no other has the same."""
    paths = list_pictures(root / "JPEGImages", root)
    stems = Counter(path.stem for path in paths.values())
    return {path.stem: path for path in paths.values() if stems[path.stem] == 1} | paths


def _read_lists(root: Path, kind: str) -> dict[str, tuple[Path, dict[str, int]]]:
    """Of each split its list file in ImageSets/`kind`, and the image names in it with their lines."""
    folder = root / "ImageSets" / kind
    for train, test in (("trainval.txt", "test.txt"), ("train.txt", "val.txt")):
        if (folder / train).is_file() and (folder / test).is_file():
            break
    else:
        message = f"neither trainval.txt and test.txt nor train.txt and val.txt; {holds(folder)}"
        raise DataError(message, file=folder)
    seen: dict[str, str] = {}
    lists = {}
    for split, file in (("train", folder / train), ("test", folder / test)):
        ids = {}
        for number, image_id in read_lines(file):
            if image_id in seen:
                message = f"{image_id} stands also in {seen[image_id]}; an image belongs to one split, once"
                raise DataError(message, file=file, line=number)
            seen[image_id] = f"{file.name}:{number}"
            ids[image_id] = number
        if not ids:
            raise DataError("the list is empty; add the names of images", file=file)
        lists[split] = (file, ids)
    return lists


def _read_listed(root: Path, image_id: str, file: Path, line: int) -> Annotation:
    path = join(root / "Annotations", f"{image_id}.xml", root)
    if path is None or not path.is_file():
        message = f"Annotations/{one_line(image_id)}.xml is missing; add it or take the line out"
        raise DataError(message, file=file, line=line)
    return read_annotation(path)


def _class_names(root: Path, classes: tuple[str, ...], found: dict[str, list[Annotation]]) -> tuple[str, ...]:
    """The class list, by the rules of the module."""
    file = root / "classes.txt"
    if not classes and file.exists():
        classes = read_names(file)
    if classes:
        if len(set(classes)) < len(classes):
            twice = next(name for i, name in enumerate(classes) if name in classes[:i])
            raise DataError(f"class {twice!r} is listed twice in classes; take one out", file=root)
        return classes
    files: dict[str, list[tuple[Path, int]]] = {}
    in_train: set[str] = set()
    for split, annotations in found.items():
        for annotation in annotations:
            for name, line in dict(zip(reversed(annotation.names), reversed(annotation.lines), strict=True)).items():
                files.setdefault(name, []).append((annotation.file, line))
            in_train |= set(annotation.names) if split == "train" else set()
    if not files:
        raise DataError("no annotation holds an object; list the classes in classes.txt", file=root / "Annotations")
    if set(files) <= set(VOC_CLASSES):
        return VOC_CLASSES
    many = sum(map(len, found.values())) > _FEW_FILES
    for name, places in sorted(files.items()):
        alone, unseen = many and len(places) == 1, name not in in_train
        if not (alone or unseen):
            continue
        near = get_close_matches(name, [n for n in files if n != name and n in in_train], n=1, cutoff=0.5)
        where = "in this file alone" if alone else "in the test split alone"
        hint = f"did you mean {near[0]!r}? Correct it" if near else "correct it"
        message = f"class {name!r} stands {where}: {hint}, or list every class in {file} to keep it"
        raise DataError(message, file=places[0][0], line=places[0][1])
    return tuple(sorted(files))


def _example(annotation: Annotation, names: tuple[str, ...], images: dict[str, Path], root: Path) -> Example:
    """The annotation with class indices and its image."""
    for name, line in zip(annotation.names, annotation.lines, strict=True):
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            listed = ", ".join(names[:20]) + (" ..." if len(names) > 20 else "")
            raise DataError(f"class {name!r} is not in the list ({listed}){hint}", file=annotation.file, line=line)
    image = images.get(annotation.file.stem) or images.get(annotation.filename)
    if image is None:
        wanted = annotation.filename or f"{annotation.file.stem}.jpg"
        alike = list_names([name for name, path in images.items() if path.stem == annotation.file.stem])
        message = f"its image JPEGImages/{wanted} is missing; add the file or take the line out of ImageSets"
        if alike != "nothing":
            message = f"several images have its name, {alike}; keep one, or name it in <filename>"
        raise DataError(message, file=annotation.file)
    return Example(
        image=image,
        annotation=annotation.file,
        width=annotation.width,
        height=annotation.height,
        boxes=annotation.boxes,
        classes=np.array([names.index(name) for name in annotation.names], np.int32),
        ignored=np.array(annotation.difficult, np.bool_),
    )
