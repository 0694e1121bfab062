"""Class folders: one folder a class, named after it, its pictures directly inside.

Layouts: `train/<class>/*` and beside it `val`, `valid`, `validation` or `test` with folders of the same names, of which
the first that has pictures is the test split; or `<class>/*` alone, with lists of splits or without, when a fifth of
each class is for testing, by the SHA-256 of `<class>/<file>`. A class folder may hold one folder `images` instead.

A test folder without class folders (ImageNet's `val`) has a list beside it or in it, a text or table such as `val.txt`,
`val_annotations.txt` or `LOC_val_solution.csv`: file name and class on each line, the class by name or by its index.
Lists of splits are `train.txt` and `val.txt` or `test.txt`, in PATH or in `meta` or `splits`: `<class>/<file>` on each
line, the ending left out or not; the class folders may lie in `images`.

Classes are the names of the training folders, sorted. The test split may lack some, but not add any. The folders of
ImageNet (n01440764 and so on) thus get the indices that its weights expect.

A picture is a file whose name ends like one, or any other whose contents are one. Files and folders whose name begins
with a dot or is `__MACOSX`, and files that are no pictures, are left out and counted.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jaxcv.data.collector import Collector
from jaxcv.data.example import Scan, check_class
from jaxcv.data.formats.kept import kept
from jaxcv.data.io.images import open_image
from jaxcv.data.io.paths import ENDINGS, TEST_NAMES, choose_splits, find_folder, held_out, list_files, list_folder
from jaxcv.data.io.text import Where, check_name, list_names, one_line, read_lines
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
        inside, held = _look_into(top.path / name, root), ""
        check_name(name, Where(inside.path))
        if not inside.pictures and inside.folders == ["images"]:
            top.left_out.extend(inside.left_out)
            inside, held = _look_into(inside.path / "images", root), "images/"
        if inside.folders:
            found = f"taken for a class, but holds folders ({list_names(inside.folders)}) and not pictures alone"
            raise DataError(f"{found}; is it data=folder:{inside.path}?", file=inside.path)
        if not inside.pictures:
            raise DataError("no picture in this class folder, expected one at least", file=inside.path)
        classes[name] = [f"{held}{file}" for file in inside.pictures]
        top.left_out.extend(inside.left_out)
    return classes


@kept
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
        flat = {name: _listed_classes(root, parts[name]) for name in parts if name != "train"}
        there = [name for name, part in parts.items() if flat.get(name) or _has_classes(part)]
        used = {split: parts[name] for split, name in choose_splits(there).items()}
        if not used:
            expected = (
                f"expected in train and in one of {', '.join(TEST_NAMES)}, or there a list of the pictures' classes"
            )
            raise DataError(f"class folders in {list_names(there)}, {expected}, or in data=folder:PATH", file=root)
        if unused := [name for name in top.folders if root / name not in [part.path for part in used.values()]]:
            collector.say("train", f"folders not used: {list_names(unused)}")
        for split, part in used.items():
            if split == "test" and (listed := flat[part.path.name.lower()]):
                collector.label(split, _label_listed(listed, index, collector))
                collector.say(
                    split, f"the classes of {part.path.name} are those of {next(iter(listed.values()))[1].file.name}"
                )
                continue
            classes = _read_classes(part, root)
            index = index or {name: i for i, name in enumerate(classes)}
            labels = {name: check_class(name, index, Where(part.path / name)) for name in classes}
            files = ((part.path / name / file, labels[name]) for name, found in classes.items() for file in found)
            collector.label(split, files)
            loose = part.left_out + part.pictures + (top.left_out + top.pictures if split == "train" else [])
            _count(collector, split, loose)
    else:
        lists = _split_lists(root)
        if lists and "images" in top.folders:
            top = _look_into(root / "images", root)
        elif lists:
            top.folders[:] = [name for name in top.folders if name not in ("meta", "splits")]
        classes = _read_classes(top, root)
        index = {name: i for i, name in enumerate(classes)}
        every = [(name, file) for name, files in classes.items() for file in files]
        test = {f for name, files in classes.items() for f in held_out(f"{name}/{file}" for file in files)}
        chosen = _read_lists(lists, every, collector) if lists else {}
        for split in collector.examples:
            part = [
                (n, f)
                for n, f in every
                if chosen.get(f"{n}/{f}", "") == split or (not lists and (f"{n}/{f}" in test) == (split == "test"))
            ]
            collector.label(split, ((top.path / name / file, index[name]) for name, file in part))
        _count(
            collector,
            "train",
            [*top.left_out, *top.pictures, *(f for n, f in every if lists and f"{n}/{f}" not in chosen)],
        )
        if not lists:
            collector.say("test", "no folders of splits: a fifth of each class, by the SHA-256 of class and file name")
    scan = collector.finish(index)
    if missing := {*range(len(index))} - {*scan.splits["train"].labels.tolist()}:  # pyright: ignore
        raise DataError(f"no image of class {scan.class_names[min(missing)]!r} is left for train", file=root)
    return scan


def _has_classes(part: _Folder) -> bool:
    """Whether the folders in a folder are classes, and not one folder of all its pictures."""
    return bool(part.folders) and part.folders != ["images"]


def _listed_classes(root: Path, part: _Folder) -> dict[str, tuple[str, Where, Path]]:
    """Of a folder of pictures without class folders, the class of each and where it stands; empty without a list."""
    if _has_classes(part):
        return {}
    pictures = _look_into(part.path / "images", root) if not part.pictures and part.folders else part
    by_name = {key: pictures.path / name for name in pictures.pictures for key in (name, Path(name).stem)}
    found: dict[str, tuple[str, Where, Path]] = {}
    for file in (f for folder in (part.path, root) for f in list_files(folder, root, ".txt", ".csv", ".tsv")):
        for line, text in read_lines(file) if by_name else []:
            name, word, *_ = [*re.split(r"[,;\s]+", text), "", ""]
            if (path := by_name.get(name.rpartition("/")[2])) is not None and word:
                found[str(path)] = (word, Where(file, line), path)
        if found:
            return found
    return {}


def _label_listed(
    listed: dict[str, tuple[str, Where, Path]], index: dict[str, int], collector: Collector
) -> Iterator[tuple[Path, int]]:
    for word, where, path in listed.values():
        with collector.faults_of("test"):
            if word in index or not word.isdecimal():
                yield path, check_class(word, index, where)
            elif int(word) < len(index):
                yield path, int(word)
            else:
                raise where.refuse(f"class {word[:20]}, expected a name, or an index from 0 to {len(index) - 1}")


def _split_lists(root: Path) -> dict[str, Path]:
    """The lists of the files of both splits; none without both."""
    for folder in (root, root / "meta", root / "splits"):
        there = {file.stem: file for file in list_files(folder, root, ".txt")} if folder.is_dir() else {}
        if used := choose_splits(there):
            return {split: there[word] for split, word in used.items()}
    return {}


def _read_lists(lists: dict[str, Path], every: list[tuple[str, str]], collector: Collector) -> dict[str, str]:
    """The split of each listed `<class>/<file>`."""
    known = {key: f"{n}/{f}" for n, f in every for key in (f"{n}/{f}", f"{n}/{Path(f).stem}")}
    found: dict[str, str] = {}
    for split, file in lists.items():
        for line, text in read_lines(file):
            with collector.faults_of(split):
                words = [text, text.split()[0], *("/".join(t.split("/")[-2:]) for t in (text, text.split()[0]))]
                if (name := next((known[word] for word in words if word in known), None)) is None:
                    raise Where(file, line).refuse(f"{one_line(text)} is no picture in a class folder")
                if found.setdefault(name, split) != split:
                    raise Where(file, line).refuse(f"{one_line(text)} is listed in both splits")
    return found


def _count(collector: Collector, split: str, left_out: list[str]) -> None:
    for name in sorted(left_out):
        collector.count(split, "other files left out", name)
