"""The Oxford-IIIT pets: 37 breeds of cats and dogs, with masks of the animals.

`data=pets:PATH`: `images/Breed_name_12.jpg`, `annotations/trainval.txt` and `test.txt` (name, class from 1, species,
breed), `annotations/trimaps/*.png`, where 1 is the animal, 2 the background and 3, the border, void.

References:
  O. Parkhi et al., Cats and dogs, CVPR 2012.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxcv.data.dataset import Dataset
from jaxcv.data.example import Collection, Collector
from jaxcv.data.formats.image_folder import ClassFolders
from jaxcv.data.formats.mask_folders import Labels
from jaxcv.data.io.images import check_image
from jaxcv.data.io.text import find_folder, holds, join, read_lines, shown
from jaxcv.data.sources.class_folders import FolderImages
from jaxcv.data.sources.masked import IGNORE, MaskedImages, MaskExample, check_mask
from jaxcv.types import DataError

_TRIMAP = Labels(("background", "pet"), {1: 1, 2: 0, 3: IGNORE})
_LISTS = {"train": "trainval.txt", "test": "test.txt"}


def open_pets(folder: Path, *, image_size: int, channels: int = 3, on_error: str = "raise") -> tuple[Dataset, Dataset]:
    """The breeds: the train and the test split, uint8 [b s s c]. Files are read when first needed."""
    scan = partial(scan_breeds, folder, on_error == "skip")
    train, test = (Dataset(FolderImages(split, image_size, channels, scan), image_size) for split in _LISTS)
    return train, test


def open_pet_masks(
    folder: Path, *, image_size: int, channels: int = 3, on_error: str = "raise"
) -> tuple[Dataset, Dataset]:
    """The same with masks: `background`, `pet` and void at the border."""
    scan = partial(scan_pet_masks, folder, on_error == "skip")
    train, test = (Dataset(MaskedImages(split, image_size, channels, scan), image_size) for split in _LISTS)
    return train, test


class _Pet(NamedTuple):
    """One picture."""

    image: Path
    mask: Path
    index: int
    """Of its breed, from 0."""


def _collect(folder: Path, skip: bool) -> tuple[Collector, tuple[str, ...]]:
    """Examples of both splits, and the breeds."""
    find_folder(folder, "data=pets:PATH needs the folder with images and annotations")
    collector, names = Collector(folder, skip=skip), {}
    for split, name in _LISTS.items():
        file = folder / "annotations" / name
        if not file.is_file():
            raise DataError(f"annotations/{name} is missing; {holds(folder)}", file=folder)
        for line, text in read_lines(file):
            if not text.startswith("#"):
                with collector.faults_of(split):
                    refuse = partial(DataError, file=file, line=line)
                    collector.examples[split].append(_read(text, folder, names, refuse))
    if sorted(names) != list(range(len(names))):
        lacking = next(i for i in range(len(names)) if i not in names)
        raise DataError(f"no picture of class {lacking + 1}; classes are counted from 1", file=folder)
    return collector, tuple(name for _, name in sorted(names.items()))


def _read(text: str, folder: Path, names: dict[int, str], refuse: Callable[[str], DataError]) -> _Pet:
    """One line of a list."""
    words = text.split()
    if len(words) != 4 or not words[1].isdecimal() or not 1 <= int(words[1][:9]) <= 1_000:
        raise refuse(f"{shown(text)}, expected name, class from 1, species and breed; correct it")
    image = join(folder / "images", f"{words[0]}.jpg", folder)
    mask = join(folder / "annotations/trimaps", f"{words[0]}.png", folder)
    if image is None or mask is None or not image.is_file():
        raise refuse(f"images/{words[0][:80]}.jpg is missing; add it or take the line out")
    breed, index = words[0].rpartition("_")[0], int(words[1]) - 1
    if names.setdefault(index, breed) != breed:
        raise refuse(f"class {words[1]} is {shown(breed)}, elsewhere {shown(names[index])}; correct one")
    return _Pet(image, mask, index)


@cache
def scan_breeds(folder: Path, skip: bool) -> ClassFolders:
    """List the pictures of both splits."""
    collector, names = _collect(folder, skip)
    found = collector.finish(names, lambda pet: check_image(pet.image, thorough=True))
    files = {split: tuple(str(pet.image) for pet in pets) for split, pets in found.splits.items()}
    labels = {split: np.array([pet.index for pet in pets], np.int32) for split, pets in found.splits.items()}
    return ClassFolders(names, files, labels, found.notes)


@cache
def scan_pet_masks(folder: Path, skip: bool) -> Collection:
    """List the pictures and masks of both splits."""
    collector, _ = _collect(folder, skip)
    for pets in collector.examples.values():
        pets[:] = [MaskExample(pet.image, pet.mask, None, partial(_TRIMAP.read, pet.mask)) for pet in pets]
    return collector.finish(_TRIMAP.names, partial(check_mask, classes=len(_TRIMAP.names), thorough=True))
