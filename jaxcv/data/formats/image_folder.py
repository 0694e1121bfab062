"""Class folders: one folder a class, named after it, its pictures directly inside.

Layouts: `train/<class>/*` and beside it `val`, `valid`, `validation` or `test` with folders of the same names, of which
the first that has class folders is the test split; or `<class>/*` alone, of which a fifth of each class is for testing,
by the SHA-256 of `<class>/<file>`.

Classes are the names of the training folders, sorted. The test split may lack some, but not add any. The folders of
ImageNet (n01440764 and so on) thus get the indices that its weights expect.

A picture is a file whose name ends like one, or any other whose contents are one. Files and folders whose name begins
with a dot or is `__MACOSX`, and files that are no pictures, are left out and counted.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from jaxcv.data.example import Collector, Scan, check_class
from jaxcv.data.io.images import open_image
from jaxcv.data.io.paths import ENDINGS, TEST_NAMES, choose_splits, find_folder, held_out, list_folder
from jaxcv.data.io.text import Where, check_name, list_names
from jaxcv.errors import DataError


class _Folder(NamedTuple):
    """What a folder holds, sorted by name."""

    path: Path
    folders: list[str]
    pictures: list[str]
    left_out: list[str]


def _look_into(folder: Path, root: Path) -> _Folder:
    found = _Folder(folder, [], [], [])
    for entry in list_folder(folder, root):
        if entry.name.startswith((".", "__MACOSX")):
            found.left_out.append(entry.name)
        elif entry.is_dir():
            found.folders.append(entry.name)
        else:
            (found.pictures if _is_picture(Path(entry.path)) else found.left_out).append(entry.name)
    return found


def _is_picture(path: Path) -> bool:
    """By name; where the name says nothing, by contents."""
    if path.suffix.lower() in ENDINGS:
        return True
    try:
        with open_image(path):
            return True
    except DataError:
        return False


def _read_classes(top: _Folder, root: Path) -> dict[str, list[str]]:
    """File names by class; what was left out is added to that of the folder itself."""
    classes = {}
    for name in top.folders:
        inside = _look_into(top.path / name, root)
        check_name(name, Where(inside.path))
        if inside.folders:
            found = f"taken for a class, but holds folders ({list_names(inside.folders)}) and not pictures alone"
            raise DataError(f"{found}; is it data=folder:{inside.path}?", file=inside.path)
        if not inside.pictures:
            raise DataError("no picture in this class folder, expected one at least", file=inside.path)
        classes[name] = inside.pictures
        top.left_out.extend(inside.left_out)
    return classes


@cache
def scan_folder(root: Path, skip: bool) -> Scan:
    """List both splits; when skipping, leave out the pictures that cannot be decoded."""
    find_folder(root, "data=folder:PATH needs a folder of class folders")
    collector, top = Collector(root, skip=skip), _look_into(root, root)
    if not top.folders:
        held = list_names(top.pictures + top.left_out)
        raise DataError(f"no class folders in it, one for each class; it holds {held}", file=root)
    names = [name for name in top.folders if name.lower() in ("train", *TEST_NAMES)]
    parts = {name.lower(): _look_into(root / name, root) for name in names}
    index: dict[str, int] = {}
    if any(part.folders for part in parts.values()) or ("train" in parts and len(parts) > 1):
        there = [name for name, part in parts.items() if part.folders]
        used = {split: parts[name] for split, name in choose_splits(there).items()}
        if not used:
            expected = f"expected in train and in one of {', '.join(TEST_NAMES)}"
            raise DataError(f"class folders in {list_names(there)}, {expected}, or in data=folder:PATH", file=root)
        if unused := [name for name in top.folders if root / name not in [part.path for part in used.values()]]:
            collector.say("train", f"folders not used: {list_names(unused)}")
        for split, part in used.items():
            classes = _read_classes(part, root)
            index = index or {name: i for i, name in enumerate(classes)}
            labels = {name: check_class(name, index, Where(part.path / name)) for name in classes}
            files = ((part.path / name / file, labels[name]) for name, found in classes.items() for file in found)
            collector.label(split, files)
            loose = part.left_out + part.pictures + (top.left_out + top.pictures if split == "train" else [])
            _count(collector, split, loose)
    else:
        classes = _read_classes(top, root)
        index = {name: i for i, name in enumerate(classes)}
        every = [(name, file) for name, files in classes.items() for file in files]
        test = {name: held_out(f"{name}/{file}" for file in files) for name, files in classes.items()}
        for split in collector.examples:
            part = [(name, file) for name, file in every if (f"{name}/{file}" in test[name]) == (split == "test")]
            collector.label(split, ((root / name / file, index[name]) for name, file in part))
        _count(collector, "train", top.left_out + top.pictures)
        collector.say("test", "no folders of splits: a fifth of each class, by the SHA-256 of class and file name")
    scan = collector.finish(index)
    if missing := {*range(len(index))} - {*scan.splits["train"].labels.tolist()}:  # pyright: ignore
        raise DataError(f"no image of class {scan.class_names[min(missing)]!r} is left for train", file=root)
    return scan


def _count(collector: Collector, split: str, left_out: list[str]) -> None:
    for name in sorted(left_out):
        collector.count(split, "other files left out", name)
