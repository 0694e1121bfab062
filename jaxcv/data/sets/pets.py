"""The Oxford-IIIT pets: 37 breeds of cats and dogs, with masks of the animals.

`data=pets:PATH`: `images/Breed_name_12.jpg`, `annotations/trainval.txt` and `test.txt` (name, class from 1, species,
breed), `annotations/trimaps/*.png`, where 1 is the animal, 2 the background and 3, the border, void.

References:
  O. Parkhi et al., Cats and dogs, CVPR 2012.
"""

from functools import cache, partial
from pathlib import Path

from jaxcv.data.collector import Collector
from jaxcv.data.example import Example, Scan
from jaxcv.data.formats.mask_folders import Labels
from jaxcv.data.io.paths import find_file, find_folder, holds, join
from jaxcv.data.io.text import Where, read_lines, shown
from jaxcv.data.raw.outlines import IGNORE
from jaxcv.errors import DataError

_TRIMAP = Labels(("background", "pet"), {1: 1, 2: 0, 3: IGNORE})
_LISTS = {"train": "trainval.txt", "test": "test.txt"}


@cache
def scan_pets(folder: Path, masks: bool, skip: bool) -> Scan:
    """List the pictures of both splits, with their breeds, or with `masks` of the animals."""
    find_folder(folder, "data=pets:PATH needs the folder with images and annotations")
    collector, names = Collector(folder, skip=skip), {}
    for split, name in _LISTS.items():
        file = folder / "annotations" / name
        if not file.is_file():
            raise DataError(f"annotations/{name} is missing; {holds(folder)}", file=folder)
        for line, text in read_lines(file):
            if not text.startswith("#"):
                with collector.faults_of(split):
                    collector.examples[split].append(_read(text, folder, names, Where(file, line)))
    if lacking := {*range(len(names))} - names.keys():
        raise DataError(f"no picture of class {min(lacking) + 1}; classes are counted from 1", file=folder)
    if masks:
        return collector.finish(_TRIMAP.names)
    for split, pets in collector.examples.items():
        collector.label(split, ((pet.image, pet.label) for pet in pets))
    return collector.finish(name for _, name in sorted(names.items()))


def _read(text: str, folder: Path, names: dict[int, str], where: Where) -> Example:
    """One line of a list."""
    words = text.split()
    if len(words) != 4 or not words[1].isdecimal() or not 1 <= int(words[1][:9]) <= 1_000:
        raise where.refuse(f"{shown(text)}, expected name, class from 1, species and breed")
    image = find_file(folder / "images", f"{words[0]}.jpg", folder)
    mask = join(folder / "annotations/trimaps", f"{words[0]}.png", folder)
    if image is None or mask is None:
        raise where.refuse(f"images/{words[0][:80]}.jpg is missing")
    breed, index = words[0].rpartition("_")[0], int(words[1]) - 1
    if names.setdefault(index, breed) != breed:
        raise where.refuse(f"class {words[1]} is {shown(breed)}, elsewhere {shown(names[index])}")
    return Example(image, Where(mask), label=index, mask=partial(_TRIMAP.read, mask))
