"""Key points in tables and in `.pts` files.

`data=points:PATH`: a table (`.csv`), or a folder with one for each split. Each line is an image's file name and x, y of
each point in pixels, the middle of the first pixel being (0, 0); the first line may be a heading. An empty pair of
cells is a point that is not annotated. The images lie beside the table or one folder below; an example is a whole
image. The split is the word train, val, valid, validation or test in the table's name.

`data=pts:PATH`: a folder with `.pts` files at any depth, the format of 300-W and 300-VW: `n_points: 68`, then x and y
of each point in braces, the middle of the first pixel being (1, 1). The image has the same name, beside it or in a
folder beside its own; an example is the surroundings of the points. The split is such a word in a folder's name.

Where there is one split, a fifth is for testing, by SHA-256. Images whose names are alike but for a number at the end
are taken for frames of one film and stay together, if that makes five groups at least; so do the images of a folder
that lies beside the folder of their points.
"""

import csv
import re
from collections import Counter
from functools import cache, partial
from pathlib import Path

from jaxcv.data.dataset import Dataset
from jaxcv.data.example import TEST_NAMES, Collection, Collector, split_word
from jaxcv.data.io.images import check_image
from jaxcv.data.io.text import (
    ENDINGS,
    find_folder,
    holds,
    join,
    list_folder,
    list_names,
    read_lines,
    read_number,
    read_text,
    shown,
)
from jaxcv.data.sources.pointed import PointedImages, PointExample, around, check_example, place_points, whole
from jaxcv.types import DataError

_DEPTH = 6
_GROUPS = 5


def open_points(path: Path, *, image_size: int, channels: int = 3, on_error: str = "raise") -> tuple[Dataset, Dataset]:
    """Open tables of key points: the train and the test split. Files are read when first needed.

    Args:
      path: folder or table; see the module.
      image_size: side of the square that images are resized to, in pixels.
      channels: 3 for RGB, 1 for grey.
      on_error: `raise`, or `skip` lines whose image or numbers are faulty.
    """
    scan = partial(scan_tables, path, on_error == "skip")
    train, test = (Dataset(PointedImages(split, image_size, channels, scan), image_size) for split in ("train", "test"))
    return train, test


def open_pts(path: Path, *, image_size: int, channels: int = 3, on_error: str = "raise") -> tuple[Dataset, Dataset]:
    """Open a folder of `.pts` files; arguments as for `open_points`."""
    scan = partial(scan_pts, path, on_error == "skip")
    train, test = (Dataset(PointedImages(split, image_size, channels, scan), image_size) for split in ("train", "test"))
    return train, test


@cache
def scan_tables(path: Path, skip: bool) -> Collection:
    """Read the tables of both splits."""
    if path.is_file():
        root, tables, unused = path.parent, {"train": path}, []
    else:
        root = find_folder(path, "data=points:PATH needs a table of key points (.csv), or a folder with one")
        files = [Path(e.path) for e in list_folder(root, root) if e.name.lower().endswith(".csv") and e.is_file()]
        tables, unused = _choose({file: split_word(Path(file.stem)) for file in files}, root)
    collector = Collector(root, skip=skip)
    if unused:
        collector.say("train", f"tables not used: {list_names(unused)}")
    places: dict[str, str] = {}
    for split, table in tables.items():
        folder = None
        for line, name, cells in _rows(table):
            with collector.faults_of(split):
                folder = folder or _image_folder(table, name, root)
                if (place := places.setdefault(f"{folder}/{name}", f"{table.name}:{line}")) != f"{table.name}:{line}":
                    message = f"image {shown(name)} stands also in {place}; an image is one example, take one out"
                    raise DataError(message, file=table, line=line)
                collector.examples[split].append(_row(table, line, name, cells, folder, root))
    return _finish(collector, "test" in tables)


def _choose(words: dict[Path, str], root: Path) -> tuple[dict[str, Path], list[str]]:
    by_word = {word: file for file, word in words.items()}
    test = next((word for word in TEST_NAMES if word in by_word), None)
    if len(words) == 1:
        used = {"train": next(iter(words))}
    elif len(by_word) == len(words) and "train" in by_word and test:
        used = {"train": by_word["train"], "test": by_word[test]}
    elif words:
        names = list_names([file.name for file in words])
        raise DataError(f"tables {names}: choose one with data=points:{root}/FILE", file=root)
    else:
        raise DataError(f"no table (.csv) in it; {holds(root)}", file=root)
    return used, [file.name for file in words if file not in used.values()]


def _rows(table: Path) -> list[tuple[int, str, list[str]]]:
    """Line, image name and cells of each row that is not empty, the heading left out."""
    reader = csv.reader(read_text(table).split("\n"))
    rows = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((reader.line_num, cells[0].strip(), cells[1:]))
    except csv.Error as error:
        raise DataError(f"cannot be read as a table: {error}; mend it", file=table, line=reader.line_num) from None
    if rows and Path(rows[0][1]).suffix.lower() not in ENDINGS:
        rows = rows[1:]
    if not rows:
        raise DataError("holds no line with an image's name and points; fetch it again", file=table)
    width = Counter(len(cells) for _, _, cells in rows).most_common(1)[0][0]
    if width < 2 or width % 2:
        message = f"{width} cells after the image's name, expected x and y of each point"
        raise DataError(f"{message}; take other columns out", file=table, line=rows[0][0])
    return rows


def _image_folder(table: Path, name: str, root: Path) -> Path:
    """The folder, beside the table or one below, that has the first image; one named like the table's split first."""
    inside = [Path(e.path) for e in list_folder(table.parent, root) if e.is_dir() and e.name[0] != "."]
    word = split_word(Path(table.stem))
    inside.sort(key=lambda folder: split_word(Path(folder.name)) != word)
    for folder in (table.parent, *inside):
        image = join(folder, name, root)
        if image is not None and image.is_file():
            return folder
    return table.parent


def _row(table: Path, line: int, name: str, cells: list[str], folder: Path, root: Path) -> PointExample:
    refuse = partial(DataError, file=table, line=line)
    image = join(folder, name, root)
    if image is None or not image.is_file():
        raise refuse(f"its image {shown(name)} is missing in {folder}; add the file or take the line out")
    if len(cells) % 2:
        raise refuse(f"{len(cells)} cells after the image's name, expected x and y of each point; correct the line")
    values: list[tuple[float, float] | None] = []
    for x, y in zip(cells[0::2], cells[1::2], strict=True):
        if not x.strip() and not y.strip():
            values.append(None)
            continue
        pair = read_number(x), read_number(y)
        if pair[0] is None or pair[1] is None:
            what = f"point {len(values)} is {shown(x)}, {shown(y)}"
            raise refuse(f"{what}, expected two numbers or nothing; correct it")
        values.append((pair[0] + 0.5, pair[1] + 0.5))
    size = check_image(image)
    points, visible = place_points(values, size=size, refuse=refuse)
    return PointExample(image, table, line, size, whole(size), points, visible, _without_number(image, root))


def _without_number(image: Path, root: Path) -> str:
    name = image.relative_to(root).with_suffix("").as_posix()
    return re.sub("[_.-]?[0-9]+$", "", name)


@cache
def scan_pts(path: Path, skip: bool) -> Collection:
    """Read every `.pts` file of both splits."""
    find_folder(path, "data=pts:PATH needs a folder with .pts files")
    files = {file: split_word(file.parent.relative_to(path)) for file in _walk(path, path, _DEPTH)}
    if not files:
        raise DataError(f"no .pts file in it or below; {holds(path)}", file=path)
    collector = Collector(path, skip=skip)
    test = next((word for word in TEST_NAMES if word in files.values()), None)
    splits = (
        {"train": "train", test: "test"}
        if test and "train" in files.values()
        else dict.fromkeys(files.values(), "train")
    )
    for file, word in files.items():
        if (split := splits.get(word)) is None:
            collector.count("train", "files in no folder of a split not used", str(file.relative_to(path)))
            continue
        with collector.faults_of(split):
            collector.examples[split].append(_read_pts(file, path))
    return _finish(collector, "test" in splits.values())


def _walk(folder: Path, root: Path, depth: int) -> list[Path]:
    found = []
    for entry in list_folder(folder, root):
        if entry.is_dir() and depth and entry.name[0] != ".":
            found += _walk(Path(entry.path), root, depth - 1)
        elif entry.name.lower().endswith(".pts"):
            found.append(Path(entry.path))
    return found


def _read_pts(file: Path, root: Path) -> PointExample:
    lines = read_lines(file)
    texts = [text for _, text in lines]
    if "{" not in texts or texts[-1] != "}":
        raise DataError("no points in braces, expected a line {, the points and a line }; fetch it again", file=file)
    start = texts.index("{")
    stated = next((text for text in texts[:start] if text.startswith("n_points:")), "")
    values: list[tuple[float, float] | None] = []
    for number, text in lines[start + 1 : -1]:
        pair = [value for value in map(read_number, text.split()) if value is not None]
        if len(pair) != 2 or len(text.split()) != 2:
            message = f"{shown(text)} where x and y of a point are expected; correct it"
            raise DataError(message, file=file, line=number)
        values.append((pair[0] - 0.5, pair[1] - 0.5))
    if stated.removeprefix("n_points:").strip() != str(len(values)):
        message = f"{shown(stated)}, but {len(values)} points in braces; correct one of them"
        raise DataError(message, file=file)
    image, beside = _image_of(file, root)
    size = check_image(image)
    points, visible = place_points(values, size=size, refuse=partial(DataError, file=file))
    known = points[visible]
    if not len(known):
        raise DataError("no point lies inside its image; take the file out", file=file)
    box = (*known.min(0).tolist(), *known.max(0).tolist())
    group = _without_number(image, root) if beside else f"/{file.parent.parent.relative_to(root).as_posix()}"
    return PointExample(image, file, None, size, around(box), points, visible, group)


def _image_of(file: Path, root: Path) -> tuple[Path, bool]:
    """The image of a `.pts` file, and whether it lies beside it."""
    folders = [file.parent]
    if file.parent != root:
        folders += [Path(e.path) for e in list_folder(file.parent.parent, root) if e.is_dir()]
    for folder in folders:
        names = [e.name for e in list_folder(folder, root) if Path(e.name).stem == file.stem]
        names = [name for name in names if Path(name).suffix.lower() in ENDINGS]
        if len(names) > 1:
            raise DataError(f"several images have its name, {list_names(names)}; keep one", file=file)
        if names:
            return folder / names[0], folder == file.parent
    raise DataError(f"no image {file.stem} beside it or in a folder beside its own; add it or take it out", file=file)


def _finish(collector: Collector, has_test: bool) -> Collection:
    """The collection, every example with as many points as most have."""
    for split, examples in collector.examples.items():
        every = [len(e.points) for found in collector.examples.values() for e in found]
        usual = Counter(every).most_common(1)[0][0] if every else 0
        for example in [e for e in examples if len(e.points) != usual]:
            with collector.faults_of(split):
                message = f"{len(example.points)} points, expected {usual} as elsewhere; correct it or take it out"
                raise DataError(message, file=example.annotation, line=example.line)
        examples[:] = [e for e in examples if len(e.points) == usual]
    if not has_test:
        groups = {example.group for example in collector.examples["train"]}
        if len(groups) >= _GROUPS or (len(groups) > 1 and all(group[0] == "/" for group in groups)):
            collector.hold_out(lambda example: example.group, by="of the film, or of the name without its number")
        else:
            collector.hold_out(lambda example: example.image.relative_to(collector.root).as_posix())
    return collector.finish((), partial(check_example, thorough=True))
