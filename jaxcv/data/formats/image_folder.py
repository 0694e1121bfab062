"""What lies in class folders: splits, classes, pictures, and what is left out.

Layouts: `train/<class>/*` and beside it `val`, `valid`, `validation` or `test` with folders of the same names; or
`<class>/*` alone. The test split is the first of those four that has class folders, so `val` comes before `test`:
checkpoints are compared by it, and a `test` folder is often meant for the last word, or has no classes. Without splits,
a fifth of each class is for testing: its first pictures in the order of the SHA-256 of `<class>/<file>`.

Classes are the names of the training folders, sorted. The test split may lack some, but not add any. The folders of
ImageNet (n01440764 and so on) thus get the indices that its weights expect.

A picture is a file whose name ends like one, or any other whose contents are one. Files and folders whose name begins
with a dot or is `__MACOSX`, and files that are no pictures, are left out and counted. A symbolic link that leads out of
the set is refused.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jaxcv.data.example import TEST_NAMES, find_faults
from jaxcv.data.io.images import check_image, open_image
from jaxcv.data.io.text import ENDINGS, find_folder, held_out, list_folder, list_names, wrong_name
from jaxcv.types import DataError

_SPLIT_FOLDERS = ("train", *TEST_NAMES)
_log = logging.getLogger(__name__)


class ClassFolders(NamedTuple):
    """Both splits, folders listed; no picture has been opened, unless faulty ones were to be skipped."""

    class_names: tuple[str, ...]
    files: Mapping[str, tuple[str, ...]]
    """Paths by split, sorted by class and name."""
    labels: Mapping[str, Int[np.ndarray, "n"]]
    notes: Mapping[str, list[str]]
    """How it was split, what was left out or skipped, by split."""


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
        inside = _look_into(folder / name, root)
        if inside.folders:
            message = f"taken for a class, but holds folders ({list_names(inside.folders)}) and not pictures alone"
            raise DataError(f"{message}; is it data=folder:{folder / name}?", file=folder / name)
        if not inside.pictures:
            raise DataError("no picture in this class folder; add some, or take the folder away", file=folder / name)
        if fault := wrong_name(name):
            raise DataError(fault, file=folder / name)
        classes[name] = inside.pictures
        left_out += inside.left_out
    return classes, left_out


@cache
def scan_folder(root: Path, skip: bool) -> ClassFolders:
    """List both splits; when skipping, leave out the pictures that cannot be decoded."""
    find_folder(root, "data=folder:PATH needs a folder of class folders")
    top = _look_into(root, root)
    if not top.folders:
        raise DataError(
            f"no class folders in it, one for each class; it holds {list_names(top.pictures + top.left_out)}", file=root
        )
    notes: dict[str, list[str]] = {"train": [], "test": []}
    parts = {name.lower(): _look_into(root / name, root) for name in top.folders if name.lower() in _SPLIT_FOLDERS}
    left_out = top.left_out + top.pictures
    if any(part.folders for part in parts.values()) or ("train" in parts and len(parts) > 1):
        names = {"train": "train", "test": _choose_test(root, parts)}
        places = {split: root / _spelt(name, top.folders) for split, name in names.items()}
        if unused := [name for name in top.folders if name.lower() not in names.values()]:
            notes["train"].append(f"folders not used: {list_names(unused)}")
        classes = {}
        for split, name in names.items():
            classes[split], others = _read_classes(places[split], parts[name].folders, root)
            notes[split] += _count(left_out + parts[name].left_out + parts[name].pictures + others)
            left_out = []
        _refuse_unknown(classes, places["test"])
    else:
        places = {"train": root, "test": root}
        every, others = _read_classes(root, top.folders, root)
        classes = _split(every)
        notes["train"] += _count(left_out + others)
        notes["test"].append("no folders of splits: a fifth of each class, by the SHA-256 of class and file name")
    return _collect(root, tuple(classes["train"]), classes, places, notes, skip)


def _spelt(name: str, folders: Sequence[str]) -> str:
    return next(folder for folder in folders if folder.lower() == name)


def _choose_test(root: Path, parts: Mapping[str, _Folder]) -> str:
    """Which folder is the test split."""
    there = [name for name in TEST_NAMES if name in parts]
    if "train" not in parts:
        raise DataError(f"class folders in {list_names(there)}, but there is no folder train", file=root)
    if not there:
        advice = f"add one of {', '.join(TEST_NAMES)}, or have a fifth chosen with data=folder:{root / 'train'}"
        raise DataError(f"a folder train, but none for testing: {advice}", file=root)
    chosen = next((name for name in there if parts[name].folders), None)
    if chosen is None or not parts["train"].folders:
        lacking = "train" if chosen else list_names(there)
        raise DataError(f"no class folders in {lacking}: a picture's class is the name of its folder", file=root)
    return chosen


def _refuse_unknown(classes: Mapping[str, Mapping[str, list[str]]], folder: Path) -> None:
    for name in classes["test"]:
        if name not in classes["train"]:
            near = get_close_matches(name, classes["train"], n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {list_names(list(classes['train']))}"
            raise DataError(f"class {name!r} is not in the training split; {hint}", file=folder / name)


def _split(classes: Mapping[str, list[str]]) -> dict[str, dict[str, list[str]]]:
    """A fifth of each class for testing, but never all of it."""
    splits: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for name, files in classes.items():
        chosen = held_out(f"{name}/{file}" for file in files)
        splits["train"][name] = [file for file in files if f"{name}/{file}" not in chosen]
        splits["test"][name] = [file for file in files if f"{name}/{file}" in chosen]
    return splits


def _collect(
    root: Path,
    names: tuple[str, ...],
    classes: Mapping[str, Mapping[str, list[str]]],
    places: Mapping[str, Path],
    notes: dict[str, list[str]],
    skip: bool,
) -> ClassFolders:
    """Paths and labels in a row, without the faulty ones when skipping."""
    files, labels = {}, {}
    index = {name: i for i, name in enumerate(names)}
    for split, found in classes.items():
        pairs = [(str(places[split] / name / file), index[name]) for name in found for file in found[name]]
        if skip:
            faults = list(find_faults([file for file, _ in pairs], lambda file: check_image(Path(file), thorough=True)))
            pairs = [pair for pair, fault in zip(pairs, faults, strict=True) if fault is None]
            if first := next((fault for fault in faults if fault is not None), None):
                count = len(faults) - len(pairs)
                notes[split].append(f"{count:,} faulty images skipped, the first: {first}")
                _log.warning("%s: %s: %d faulty images skipped, the first: %s", root, split, count, first)
        if not pairs:
            raise DataError(f"no image is left for {split}; add some", file=root)
        files[split] = tuple(file for file, _ in pairs)
        labels[split] = np.array([label for _, label in pairs], np.int32)
        if split == "train" and len(set(labels[split].tolist())) < len(names):
            empty = next(name for i, name in enumerate(names) if i not in labels[split])
            raise DataError(f"no image of class {empty!r} is left for train; add one", file=root)
    return ClassFolders(names, files, labels, notes)


def _count(names: list[str]) -> list[str]:
    return [f"{len(names):,} other files left out ({list_names(sorted(set(names)))})"] if names else []
