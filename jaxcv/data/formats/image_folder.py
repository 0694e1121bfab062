"""Class folders: one folder a class, named after it, its pictures directly inside.

Layouts: `train/<class>/*` and beside it `val`, `valid`, `validation` or `test` with folders of the same names; or
`<class>/*` alone. The test split is the first of those four that has class folders, so `val` comes before `test`:
checkpoints are compared by it, and a `test` folder is often meant for the last word, or has no classes. Without splits,
a fifth of each class is for testing, by the SHA-256 of `<class>/<file>`.

Classes are the names of the training folders, sorted. The test split may lack some, but not add any. The folders of
ImageNet (n01440764 and so on) thus get the indices that its weights expect.

A picture is a file whose name ends like one, or any other whose contents are one. Files and folders whose name begins
with a dot or is `__MACOSX`, and files that are no pictures, are left out and counted. A symbolic link that leads out of
the set is refused.
"""

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jaxcv.data.example import Collector, LabelledFiles, Scan, check_class
from jaxcv.data.io.images import open_image
from jaxcv.data.io.paths import ENDINGS, TEST_NAMES, choose_splits, find_folder, held_out, list_folder
from jaxcv.data.io.text import Where, list_names, wrong_name
from jaxcv.errors import DataError


class _Folder(NamedTuple):
    """What a folder holds, sorted by name."""

    folders: list[str]
    pictures: list[str]
    left_out: list[str]


def _look_into(folder: Path, root: Path) -> _Folder:
    found = _Folder([], [], [])
    for entry in list_folder(folder, root):
        if entry.name.startswith((".", "__MACOSX")):
            found.left_out.append(entry.name)
            continue
        kind = found.folders if entry.is_dir() else found.pictures if _is_picture(entry.path) else found.left_out
        kind.append(entry.name)
    return found


def _is_picture(path: str) -> bool:
    """By name; where the name says nothing, by contents."""
    if os.path.splitext(path)[1].lower() in ENDINGS:
        return True
    try:
        with open_image(Path(path)):
            return True
    except DataError:
        return False


def _read_classes(folder: Path, names: Sequence[str], root: Path) -> tuple[dict[str, list[str]], list[str]]:
    """File names by class, and what was left out."""
    classes, left_out = {}, []
    for name in names:
        inside, fault = _look_into(folder / name, root), wrong_name(name)
        if inside.folders:
            fault = f"taken for a class, but holds folders ({list_names(inside.folders)}) and not pictures alone"
            fault = f"{fault}; is it data=folder:{folder / name}?"
        elif not inside.pictures:
            fault = "no picture in this class folder; add some, or take the folder away"
        if fault:
            raise DataError(fault, file=folder / name)
        classes[name] = inside.pictures
        left_out += inside.left_out
    return classes, left_out


@cache
def scan_folder(root: Path, skip: bool) -> Scan:
    """List both splits; when skipping, leave out the pictures that cannot be decoded."""
    find_folder(root, "data=folder:PATH needs a folder of class folders")
    collector, top = Collector(root, skip=skip), _look_into(root, root)
    if not top.folders:
        held = list_names(top.pictures + top.left_out)
        raise DataError(f"no class folders in it, one for each class; it holds {held}", file=root)
    split_names = ("train", *TEST_NAMES)
    parts = {name.lower(): _look_into(root / name, root) for name in top.folders if name.lower() in split_names}
    left_out = top.left_out + top.pictures
    if any(part.folders for part in parts.values()) or ("train" in parts and len(parts) > 1):
        names = _choose(root, parts)
        if unused := [name for name in top.folders if name.lower() not in names.values()]:
            collector.say("train", f"folders not used: {list_names(unused)}")
        index: dict[str, int] = {}
        for split, name in names.items():
            folder = root / next(each for each in top.folders if each.lower() == name)
            classes, others = _read_classes(folder, parts[name].folders, root)
            index = index or {name: i for i, name in enumerate(classes)}
            pairs = [(name, file) for name, files in classes.items() for file in files]
            labels = [check_class(name, index, Where(folder / name)) for name, _ in pairs]
            collector.examples[split] = LabelledFiles((str(folder / name / file) for name, file in pairs), labels)
            _count(collector, split, left_out + parts[name].left_out + parts[name].pictures + others)
            left_out = []
    else:
        classes, others = _read_classes(root, top.folders, root)
        index = {name: i for i, name in enumerate(classes)}
        chosen = {name: held_out(f"{name}/{file}" for file in files) for name, files in classes.items()}
        every = [(name, file) for name, files in classes.items() for file in files]
        for split in collector.examples:
            part = [(n, file) for n, file in every if (f"{n}/{file}" in chosen[n]) == (split == "test")]
            paths = (str(root / name / file) for name, file in part)
            collector.examples[split] = LabelledFiles(paths, (index[name] for name, _ in part))
        _count(collector, "train", left_out + others)
        collector.say("test", "no folders of splits: a fifth of each class, by the SHA-256 of class and file name")
    scan = collector.finish(index)
    if missing := {*range(len(index))} - {*scan.splits["train"].labels.tolist()}:  # pyright: ignore
        raise DataError(f"no image of class {scan.class_names[min(missing)]!r} is left for train; add one", file=root)
    return scan


def _choose(root: Path, parts: Mapping[str, _Folder]) -> dict[str, str]:
    """Which folders are the splits."""
    there = [name for name in TEST_NAMES if name in parts]
    if "train" not in parts:
        raise DataError(f"class folders in {list_names(there)}, but there is no folder train", file=root)
    if not there:
        advice = f"add one of {', '.join(TEST_NAMES)}, or have a fifth chosen with data=folder:{root / 'train'}"
        raise DataError(f"a folder train, but none for testing: {advice}", file=root)
    if not (chosen := choose_splits(name for name, part in parts.items() if part.folders)):
        lacking = list_names(there) if not any(parts[name].folders for name in there) else "train"
        raise DataError(f"no class folders in {lacking}: a picture's class is the name of its folder", file=root)
    return chosen


def _count(collector: Collector, split: str, names: list[str]) -> None:
    if names:
        collector.say(split, f"{len(names):,} other files left out ({list_names(sorted(set(names)))})")
