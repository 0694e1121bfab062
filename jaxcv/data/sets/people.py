"""Pictures of many people or characters, few of each: to recognise them, or to tell whether two are the same.

`data=faces:PATH`: a folder for each person, pictures inside (ORL's s1 ... s40 of PGM files, LFW's names), the folders
in PATH or in the one folder in it. `data=omniglot:PATH`: `alphabet/characterNN/NNNN_MM.png` in PATH, or in the folders
`images_background`, `images_evaluation` and their parts in it; MM is the person who drew it, and ink becomes light on
dark. Both are in the order of the numbers in their names: 2.pgm before 10.pgm.

To recognise known ones (`apart` False), each class is in both splits: of a person a fifth of the pictures is for
testing, by the SHA-256 of `<person>/<file>`; of a character what every fifth person drew. To learn what makes two the
same (`apart` True), no class is in both: a fifth of the classes is for testing, by the SHA-256 of their names, or
Omniglot's evaluation part where both parts are there; or those that `unseen` names: a number, so many of the last ones,
or a name, the class or all characters of the alphabet.

References:
  B. Lake et al., Human-level concept learning through probabilistic program induction, Science, 2015.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

from jaxcv.data.collector import Collector
from jaxcv.data.example import Scan
from jaxcv.data.io.paths import find_folder, held_out, holds, list_folders, list_pictures, natural
from jaxcv.data.io.text import list_names, shown
from jaxcv.errors import DataError


@cache
def scan_faces(root: Path, apart: bool, skip: bool, unseen: str = "") -> Scan:
    """List the people of both splits."""
    needs = "data=faces:PATH needs a folder with a folder of pictures for each person"
    people = _people(find_folder(root, needs), root)
    if not people and len(inside := list_folders(root, root)) == 1:
        people = _people(inside[0], root)
    if not people:
        raise DataError(f"no folder of pictures in it; {needs}; {holds(root)}", file=root)
    if len(people) == 1:
        raise DataError(f"{next(iter(people))} is the only person in it, expected two or more", file=root)
    if apart:
        classes = choose_unseen(people, unseen, root) if unseen else held_out(people)
        by = f"unseen={unseen}" if unseen else "a fifth of people, by SHA-256"
        return _collect(root, people, lambda name, path: name in classes, by, skip)
    files = {name: held_out(f"{name}/{path.name}" for path in found) for name, found in people.items()}
    by = "a fifth of each person's pictures, by SHA-256"
    return _collect(root, people, lambda name, path: f"{name}/{path.name}" in files[name], by, skip)


def choose_unseen(names: Iterable[str], unseen: str, root: Path) -> set[str]:
    """The classes that a text names, see the module; at least one, and not all.

    Raises:
      DataError: there are not so many, or none of that name.
    """
    names = list(names)
    if unseen.isdecimal():
        chosen = names[max(0, len(names) - int(unseen[:9])) :] if int(unseen[:9]) else []
    else:
        chosen = [name for name in names if name == unseen or name.startswith(f"{unseen}/")]
    if not 0 < len(chosen) < len(names):
        groups = list(dict.fromkeys(name.rpartition("/")[0] or name for name in names))
        expected = f"a number from 1 to {len(names) - 1}, or one of {list_names(groups)}"
        raise DataError(
            f"unseen={shown(unseen)} leaves {len(chosen)} of {len(names)} for testing; expected {expected}", file=root
        )
    return set(chosen)


def _people(folder: Path, root: Path) -> dict[str, list[Path]]:
    found = {path.name: list(list_pictures(path, root).values()) for path in list_folders(folder, root)}
    return {name: found[name] for name in sorted(found, key=natural) if found[name]}


@cache
def scan_omniglot(root: Path, apart: bool, skip: bool, unseen: str = "") -> Scan:
    """List the characters of both splits."""
    find_folder(root, "data=omniglot:PATH needs the folder with images_background, or with alphabets")
    parts = {folder.name: folder for folder in list_folders(root, root) if folder.name.startswith("images_")}
    both = {name: parts[name] for name in ("images_background", "images_evaluation") if name in parts}
    characters: dict[str, list[Path]] = {}
    evaluation: set[str] = set()
    # Where both are there, their small parts are not in addition to them.
    for part, folder in (both if len(both) == 2 else parts or {"": root}).items():
        for alphabet in list_folders(folder, root):
            for name, pictures in _people(alphabet, root).items():
                if (character := f"{alphabet.name}/{name}") in characters:
                    raise DataError(f"{character} lies in several folders", file=pictures[0].parent)
                characters[character] = pictures
                evaluation |= {character} if part == "images_evaluation" else set()
    if not characters:
        raise DataError(f"no alphabet/character/*.png in it; {holds(root)}", file=root)
    if not apart:
        return _collect(root, characters, lambda _, path: _drawer(path) % 5 == 0, "what every fifth person drew", skip)
    classes, by = evaluation, "the characters of images_evaluation"
    if unseen:
        classes, by = choose_unseen(characters, unseen, root), f"unseen={unseen}"
    elif not evaluation or len(evaluation) == len(characters):
        classes, by = held_out(characters), "a fifth of the characters, by SHA-256"
    return _collect(root, characters, lambda name, _: name in classes, by, skip)


def _drawer(path: Path) -> int:
    match = re.fullmatch("[0-9]{1,9}_([0-9]{1,9})", path.stem)
    if match is None:
        raise DataError("the name of a drawing is NNNN_MM.png, of character NNNN by person MM", file=path)
    return int(match[1])


def _collect(
    root: Path, classes: Mapping[str, list[Path]], is_test: Callable[[str, Path], bool], by: str, skip: bool
) -> Scan:
    collector = Collector(root, skip=skip)
    every = [(is_test(name, path), path, i) for i, (name, found) in enumerate(classes.items()) for path in found]
    for split in collector.examples:
        collector.label(split, ((path, label) for test, path, label in every if test == (split == "test")))
    collector.say("test", by)
    return collector.finish(classes)
