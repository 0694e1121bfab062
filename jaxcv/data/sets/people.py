"""Pictures of many people or characters, few of each: to recognise them, or to tell whether two are the same.

`data=faces:PATH`: a folder for each person, pictures inside (ORL's s1 ... s40 of PGM files, LFW's names), the folders
in PATH or in the one folder in it. `data=omniglot:PATH`: `alphabet/characterNN/NNNN_MM.png` in PATH, or in the folders
`images_background`, `images_evaluation` and their parts in it; MM is the person who drew it, and ink becomes light on
dark. Both are in the order of the numbers in their names: 2.pgm before 10.pgm.

To recognise known ones (`apart` False), each class is in both splits: of a person a fifth of the pictures is for
testing, by the SHA-256 of `<person>/<file>`; of a character what every fifth person drew. To learn what makes two the
same (`apart` True), no class is in both: a fifth of the classes is for testing, by the SHA-256 of their names, or
Omniglot's evaluation part where both parts are there.
"""

import re
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxcv.data.dataset import Dataset
from jaxcv.data.example import Collector
from jaxcv.data.formats.image_folder import ClassFolders
from jaxcv.data.io.images import check_image
from jaxcv.data.io.text import find_folder, held_out, holds, list_folder, list_pictures, natural
from jaxcv.data.sources.class_folders import FolderImages
from jaxcv.types import DataError


def open_faces(
    folder: Path, *, image_size: int, channels: int = 3, apart: bool = False, on_error: str = "raise"
) -> tuple[Dataset, Dataset]:
    """Open a folder of people: the train and the test split. Files are read when first needed.

    Args:
      folder: see the module.
      image_size: side of the square that the middle of each picture is resized to, in pixels.
      channels: 3 for RGB, 1 for grey.
      apart: whether no person is in both splits.
      on_error: `raise`, or `skip` faulty pictures: to know them all, each is decoded once when the set is opened.
    """
    scan = partial(scan_faces, folder, apart, on_error == "skip")
    train, test = (
        Dataset(FolderImages(split, image_size, channels, scan, test_share=1.0, apart=apart), image_size)
        for split in ("train", "test")
    )
    return train, test


def open_omniglot(
    folder: Path, *, image_size: int, channels: int = 1, apart: bool = False, on_error: str = "raise"
) -> tuple[Dataset, Dataset]:
    """Open Omniglot: the train and the test split; arguments as for `open_faces`.

    References:
      B. Lake et al., Human-level concept learning through probabilistic program induction, Science, 2015.
    """
    scan = partial(scan_omniglot, folder, apart, on_error == "skip")
    train, test = (
        Dataset(
            FolderImages(split, image_size, channels, scan, test_share=1.0, apart=apart, inverted=True),
            image_size,
            mirrors=False,
        )
        for split in ("train", "test")
    )
    return train, test


class _Picture(NamedTuple):
    """One of a class."""

    image: Path
    label: int


@cache
def scan_faces(root: Path, apart: bool, skip: bool) -> ClassFolders:
    """List the people of both splits."""
    needs = "data=faces:PATH needs a folder with a folder of pictures for each person"
    folder = find_folder(root, needs)
    people = _people(folder, root)
    if not people and len(inside := [e for e in list_folder(root, root) if e.is_dir() and e.name[0] != "."]) == 1:
        people = _people(Path(inside[0].path), root)
    if not people:
        raise DataError(f"no folder of pictures in it; {needs}; {holds(root)}", file=root)
    test = {path for name, found in people.items() for path in _chosen(name, found, apart, held_out(people))}
    by = "people" if apart else "each person's pictures"
    return _collect(root, people, test, f"a fifth of {by}, by SHA-256", skip)


def _people(folder: Path, root: Path) -> dict[str, list[Path]]:
    names = sorted((e.name for e in list_folder(folder, root) if e.is_dir() and e.name[0] != "."), key=natural)
    found = {name: list(list_pictures(folder / name, root).values()) for name in names}
    return {name: pictures for name, pictures in found.items() if pictures}


def _chosen(name: str, found: list[Path], apart: bool, classes: set[str]) -> list[Path]:
    """The test pictures of a person."""
    if apart:
        return found if name in classes else []
    files = held_out(f"{name}/{path.name}" for path in found)
    return [path for path in found if f"{name}/{path.name}" in files]


@cache
def scan_omniglot(root: Path, apart: bool, skip: bool) -> ClassFolders:
    """List the characters of both splits."""
    find_folder(root, "data=omniglot:PATH needs the folder with images_background, or with alphabets")
    tops = {e.name: Path(e.path) for e in list_folder(root, root) if e.is_dir() and e.name[0] != "."}
    parts = {name: path for name, path in tops.items() if name.startswith("images_")} or {"": root}
    if {"images_background", "images_evaluation"} <= parts.keys():  # their small parts are not in addition to them
        parts = {name: path for name, path in parts.items() if name in ("images_background", "images_evaluation")}
    characters: dict[str, list[Path]] = {}
    evaluation: set[str] = set()
    for part, folder in parts.items():
        for alphabet in (e for e in list_folder(folder, root) if e.is_dir() and e.name[0] != "."):
            for name, pictures in _people(Path(alphabet.path), root).items():
                if (character := f"{alphabet.name}/{name}") in characters:
                    raise DataError(f"{character} lies in several folders; keep one", file=pictures[0].parent)
                characters[character] = pictures
                evaluation |= {character} if part == "images_evaluation" else set()
    if not characters:
        raise DataError(f"no alphabet/character/*.png in it; {holds(root)}", file=root)
    classes, by = evaluation, "the characters of images_evaluation"
    if not evaluation or len(evaluation) == len(characters):
        classes, by = held_out(characters), "a fifth of the characters, by SHA-256"
    if not apart:
        by = "what every fifth person drew"
    test: set[Path] = set()
    for name, found in characters.items():
        test |= {path for path in found if (name in classes if apart else _drawer(path) % 5 == 0)}
    return _collect(root, characters, test, by, skip)


def _drawer(path: Path) -> int:
    match = re.fullmatch("[0-9]{1,9}_([0-9]{1,9})", path.stem)
    if match is None:
        raise DataError("the name of a drawing is NNNN_MM.png, of character NNNN by person MM; rename it", file=path)
    return int(match[1])


def _collect(root: Path, classes: Mapping[str, list[Path]], test: set[Path], by: str, skip: bool) -> ClassFolders:
    collector = Collector(root, skip=skip)
    for label, found in enumerate(classes.values()):
        for path in found:
            collector.examples["test" if path in test else "train"].append(_Picture(path, label))
    collector.say("test", by)
    collected = collector.finish(classes, lambda picture: check_image(picture.image, thorough=True))
    files = {split: tuple(str(picture.image) for picture in found) for split, found in collected.splits.items()}
    labels = {split: np.array([p.label for p in found], np.int32) for split, found in collected.splits.items()}
    return ClassFolders(collected.class_names, files, labels, {split: list(n) for split, n in collected.notes.items()})
