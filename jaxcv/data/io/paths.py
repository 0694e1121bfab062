"""Folders of unknown origin: what lies where, which split it belongs to, and what leads out of the set.

A file named by another must lie within the set: no absolute path, no `..`, no symbolic link that leads out.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

from jaxcv.data.io.kept import cache_folder as cache_folder  # for whoever keeps files beside
from jaxcv.data.io.kept import record
from jaxcv.data.io.text import list_names, one_line
from jaxcv.errors import DataError, UserError

ENDINGS = frozenset(".jpg .jpeg .jpe .jfif .png .gif .bmp .webp .pgm .ppm .pbm .pnm .tif .tiff".split())  # of images
TEST_NAMES = ("val", "valid", "validation", "test")
"""Names of the split to test on, the preferred first: a set's `test` is often meant for the last word."""
FRACTION = 0.2  # of the examples, held out for testing where a set has no split of its own
_IMAGES = re.compile("(?:.*[_-])?(?:jpeg)?(?:image|img|picture|photo)s?")
_NO_IMAGES = re.compile("segmentation|mask|panoptic")
_DEPTH = 6  # no true set is deeper; links inside may lead in a circle
_missing: dict[Path, Callable[[], None]] = {}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raises UserError in place of OSError: `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def sklearn_file(*parts: str) -> Path:
    """A data file of the installed scikit-learn, which would take a second to import. Raises UserError: none there."""
    spec = find_spec("sklearn")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        file = Path(folder, "datasets", *parts)
        if file.is_file():
            return file
    raise UserError(f"{'/'.join(parts)} of scikit-learn is needed, which is not installed: pip install scikit-learn")


def fetch_when_missing(folder: Path, fetch: Callable[[], None]) -> None:
    """Have `find_folder` call `fetch`, which makes `folder`, if it is not there when a reader needs it."""
    _missing[folder] = fetch


def find_folder(folder: Path, needs: str) -> Path:
    """The folder. `needs` says what for, as in `data=voc:PATH needs ...`. Raises DataError: no such folder."""
    look_anew()
    if folder in _missing:
        _missing[folder]()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "no such folder"
        raise DataError(f"{what}; {needs}", file=folder)
    return folder


def list_folder(folder: Path, root: Path) -> list[os.DirEntry[str]]:
    """What a folder holds, by name. Raises DataError: unreadable, or a symbolic link that leads out of `root`."""
    record([str(folder)])
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=folder) from None
    for entry in found:
        if entry.is_symlink():
            check_inside(Path(entry.path), root)
    return found


def list_folders(folder: Path, root: Path) -> list[Path]:
    """The folders in a folder, by name; hidden ones left out."""
    return [Path(entry.path) for entry in list_folder(folder, root) if entry.is_dir() and entry.name[0] != "."]


def list_files(folder: Path, root: Path, *endings: str) -> list[Path]:
    """What in a folder has a name that ends so, in small letters; in the order of the names."""
    return [Path(entry.path) for entry in list_folder(folder, root) if entry.name.lower().endswith(endings)]


def list_pictures(folder: Path, root: Path) -> dict[str, Path]:
    """The image files of a folder by name, in the order of the numbers in their names; hidden ones left out."""
    names = [e.name for e in list_folder(folder, root) if e.name[0] != "." and Path(e.name).suffix.lower() in ENDINGS]
    return {name: folder / name for name in sorted(names, key=natural)}


def walk(folder: Path, root: Path, *, leave_out: str = "$^", depth: int = _DEPTH) -> Iterator[Path]:
    """A folder and those below it, without hidden ones and those whose name, in small letters, is `leave_out`."""
    yield folder
    for inside in list_folders(folder, root) if depth else []:
        if not re.fullmatch(leave_out, inside.name.lower()):
            yield from walk(inside, root, leave_out=leave_out, depth=depth - 1)


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts `2.png` before `10.png`."""
    parts = re.split(r"([0-9]+)", name)
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part)


@lru_cache(maxsize=16)
def _real(root: str) -> str:
    return os.path.realpath(root)


def leads_inside(path: Path, root: Path) -> bool:
    """Whether a path, its links followed, lies within the folder `root`."""
    try:
        inside, found = _real(str(root)).rstrip(os.sep) + os.sep, os.path.realpath(path)
        return f"{found}{os.sep}".startswith(inside) and not os.path.islink(found)  # a link still: they go in a circle
    except (OSError, ValueError):  # a name that cannot be one
        return False


def check_inside(path: Path, root: Path) -> None:
    """Raises DataError: a symbolic link that leads out of `root`."""
    if not leads_inside(path, root):
        raise DataError(f"a symbolic link that leads out of {root}; put the files themselves there", file=path)


def join(folder: Path, name: str, root: Path) -> Path | None:
    """The file `name`, as an annotation spells it, seen from `folder`; None where it would lie outside `root`."""
    if not name or "\0" in name or len(name) > 1000 or re.match("[A-Za-z]:", name):
        return None
    path = folder / name.replace("\\", "/")
    return path if leads_inside(path, root) else None


def same_name(name: str) -> str:
    """What two spellings of a file's name have in common: composed letters, and the ending in small ones."""
    stem, dot, ending = unicodedata.normalize("NFC", name).rpartition(".")
    return f"{stem}{dot}{ending.lower()}"


def stem(path: Path) -> str:
    """The name of a file without its ending, in composed letters."""
    return unicodedata.normalize("NFC", path.stem)


@cache
def files_in(folder: Path, root: Path) -> dict[str, Path]:
    """The files of a folder by `same_name`, and by their own names; none where there is no such folder in `root`."""
    if not leads_inside(folder, root) or not folder.is_dir():
        return {}
    own = {entry.name: Path(entry.path) for entry in list_folder(folder, root) if entry.is_file()}
    return {same_name(name): path for name, path in own.items()} | own


def find_file(folder: Path, name: str, root: Path) -> Path | None:
    """The file `name`, as an annotation spells it, seen from `folder`; None where there is none within `root`."""
    if not name or "\0" in name or len(name) > 1000 or re.match("[A-Za-z]:", name):
        return None
    above, _, last = name.replace("\\", "/").rpartition("/")
    files = files_in(folder / above if above or name[0] != "/" else Path("/"), root)
    return files.get(last) or files.get(same_name(last))


@cache
def pictures_by_stem(folder: Path, root: Path) -> dict[str, list[Path]]:
    """The image files of a folder by their `stem`."""
    found: dict[str, list[Path]] = {}
    for path in list_pictures(folder, root).values():
        found.setdefault(stem(path), []).append(path)
    return found


@cache
def folders_beside(folder: Path, root: Path) -> tuple[Path, ...]:
    """Where pictures of annotations in `folder` may lie: there, and likewise in folders beside it or those above it.

    Beside `annotations/a` that is `annotations/b`, and `images/a`; folders called after pictures come first.
    """
    found, above = [folder], folder
    while above != root:
        beside = [each / folder.relative_to(above) for each in list_folders(above.parent, root) if each != above]
        found += sorted(filter(Path.is_dir, beside), key=lambda path: not _of_images(path.relative_to(root)))
        above = above.parent
    return tuple(each for each in found if not _NO_IMAGES.search(each.name.lower()))


def _of_images(path: Path) -> bool:
    return any(_IMAGES.fullmatch(part.lower()) for part in path.parts)


def picture_called(name: str, folder: Path, root: Path) -> Path | None:
    """The only image in a folder that is called so, without its ending; None where there is none, or several."""
    found = pictures_by_stem(folder, root).get(unicodedata.normalize("NFC", name), [])
    return found[0] if len(found) == 1 else None


def picture_of(file: Path, root: Path, said: str = "") -> Path:
    """The image of an annotation file: called as it, or as it `said`, in a folder of `folders_beside`.

    Raises:
      DataError: there is none, or several have its name and it did not say which.
    """
    name = said.replace("\\", "/").rpartition("/")[2]
    for folder in folders_beside(file.parent, root):
        found = pictures_by_stem(folder, root).get(stem(file), [])
        exact = [path for path in found if same_name(path.name) == same_name(name)]
        if len(exact or found) == 1:
            return (exact or found)[0]
        if found:
            names = list_names([path.name for path in found])
            raise DataError(f"several images have its name, {names}, expected one", file=file)
    for folder in folders_beside(file.parent, root) if name else ():
        if (path := find_file(folder, name, root)) is not None and path.suffix.lower() in ENDINGS:
            return path
    beside = folders_beside(file.parent, root)
    folder = next((f for f in beside if f != file.parent and _of_images(f.relative_to(root))), None)
    missing = f"{'' if folder is None else f'{folder.relative_to(root)}/'}{one_line(said) or f'{file.stem}.jpg'}"
    raise DataError(f"its image {missing} is missing", file=file)


def look_anew() -> None:
    """Forget what was listed: a scan that begins looks at the folders again."""
    for listed in (files_in, pictures_by_stem, folders_beside):
        listed.cache_clear()


def holds(folder: Path) -> str:
    """What a folder holds, for a message."""
    return f"the folder holds {list_names(sorted(p.name for p in folder.iterdir()))}"


def split_word(path: Path) -> str:
    """The split that a path speaks of, `train` or one of `TEST_NAMES`; empty where it speaks of none.

    The last part with one such word counts, as in `train2017`, `images_val`, `trainannot`, `training` and `testset`.
    """
    for part in reversed(path.parts):
        words = {*re.findall(f"(?<![a-z])(train|{'|'.join(TEST_NAMES)})(?:ing|set|annot)?(?![a-z])", part.lower())}
        if len(words) == 1:
            return words.pop()
    return ""


def choose_splits(words: Iterable[str]) -> dict[str, str]:
    """Of the words that `split_word` gave, `train` and the first of `TEST_NAMES`; empty where it is not both."""
    words = set(words)
    test = next((word for word in TEST_NAMES if word in words), None)
    return {"train": "train", "test": test} if test and "train" in words else {}


def choose_files(files: list[Path], root: Path, kind: str) -> tuple[dict[str, Path], list[str]]:
    """The annotation file of each split, `train` alone where there is one file, and the names of those not used.

    Raises:
      DataError: files that name no two splits, or several of one; says how to choose one of a `kind` of set.
    """
    by_word: dict[str, list[Path]] = {}
    for file in files:
        by_word.setdefault(split_word(file.relative_to(root).with_suffix("")), []).append(file)
    chosen = {split: by_word[word] for split, word in choose_splits(by_word).items()}
    chosen = {"train": files} if len(files) == 1 else chosen
    names = [str(file.relative_to(root)) for file in files]
    if not chosen or any(len(each) > 1 for each in chosen.values()):
        raise DataError(f"several files, {list_names(names)}: choose one with data={kind}:{root}/FILE", file=root)
    used = {split: each[0] for split, each in chosen.items()}
    return used, [name for name in names if root / name not in used.values()]


def held_out(names: Iterable[str]) -> set[str]:
    """The names whose SHA-256, as a fraction of the largest, is below `FRACTION`: another name moves none of them.

    Of two names and more at least one is held out, that of the least hash, and at least one is not.
    """
    marks = sorted((hashlib.sha256(os.fsencode(name)).digest(), name) for name in set(names))
    limit = int(FRACTION * 2**64).to_bytes(8)
    count = sum(mark[:8] < limit for mark, _ in marks)
    return {name for _, name in marks[: min(max(count, 1), len(marks) - 1)]}
