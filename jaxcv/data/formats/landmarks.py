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
from functools import cache
from pathlib import Path

from jaxcv.data.example import Collector, Object, Raw, Scan
from jaxcv.data.io.images import check_image
from jaxcv.data.io.paths import (
    ENDINGS,
    choose_splits,
    find_folder,
    holds,
    join,
    list_folder,
    list_folders,
    split_word,
    walk,
)
from jaxcv.data.io.text import Where, list_names, read_lines, read_number, read_text, shown
from jaxcv.errors import DataError

_GROUPS = 5


@cache
def scan_tables(path: Path, skip: bool) -> Scan:
    """Read the tables of both splits."""
    if path.is_file():
        root, tables, unused = path.parent, {"train": path}, []
    else:
        root = find_folder(path, "data=points:PATH needs a table of key points (.csv), or a folder with one")
        tables, unused = _choose(root)
    collector = Collector(root, skip=skip)
    if unused:
        collector.say("train", f"tables not used: {list_names(unused)}")
    first: dict[str, str] = {}
    for split, table in tables.items():
        folder = None
        for line, name, cells in _rows(table):
            with collector.faults_of(split):
                folder, where = folder or _image_folder(table, name, root), Where(table, line)
                stands = f"{table.name}:{line}"
                if (other := first.setdefault(f"{folder}/{name}", stands)) != stands:
                    message = f"image {shown(name)} stands also in {other}; an image is one example, take one out"
                    raise where.refuse(message)
                collector.examples[split].append(_row(where, name, cells, folder, root))
    return _finish(collector, "test" in tables)


@cache
def scan_pts(path: Path, skip: bool) -> Scan:
    """Read every `.pts` file of both splits."""
    find_folder(path, "data=pts:PATH needs a folder with .pts files")
    every = (Path(e.path) for folder in walk(path, path) for e in list_folder(folder, path) if not e.is_dir())
    files = {file: split_word(file.parent.relative_to(path)) for file in every if file.suffix.lower() == ".pts"}
    if not files:
        raise DataError(f"no .pts file in it or below; {holds(path)}", file=path)
    collector = Collector(path, skip=skip)
    used = choose_splits(files.values())
    splits = {word: split for split, word in used.items()} or dict.fromkeys(files.values(), "train")
    for file, word in files.items():
        if (split := splits.get(word)) is None:
            collector.count("train", "files in no folder of a split not used", str(file.relative_to(path)))
            continue
        with collector.faults_of(split):
            collector.examples[split].append(_read_pts(file, path))
    return _finish(collector, bool(used))


def _finish(collector: Collector, has_test: bool) -> Scan:
    groups, by = {raw.group for raw in collector.examples["train"]}, "of the film, or of the name without its number"
    if len(groups) < _GROUPS and not (len(groups) > 1 and all(group[0] == "/" for group in groups)):
        collector.examples["train"] = [raw._replace(group="") for raw in collector.examples["train"]]
        by = "of the name"
    collector.validate("points", ())
    if not has_test:
        collector.hold_out(by=by)
    return collector.finish(())


def _choose(root: Path) -> tuple[dict[str, Path], list[str]]:
    """The table of each split, and those not used."""
    files = [Path(e.path) for e in list_folder(root, root) if e.name.lower().endswith(".csv") and e.is_file()]
    by_word = {split_word(Path(file.stem)): file for file in files}
    used = {split: by_word[word] for split, word in choose_splits(by_word).items()}
    if len(files) == 1:
        used = {"train": files[0]}
    if not files:
        raise DataError(f"no table (.csv) in it; {holds(root)}", file=root)
    if not used or len(by_word) < len(files):
        names = list_names([file.name for file in files])
        raise DataError(f"tables {names}: choose one with data=points:{root}/FILE", file=root)
    return used, [file.name for file in files if file not in used.values()]


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
    word = split_word(Path(table.stem))
    inside = sorted(list_folders(table.parent, root), key=lambda folder: split_word(Path(folder.name)) != word)
    for folder in (table.parent, *inside):
        image = join(folder, name, root)
        if image is not None and image.is_file():
            return folder
    return table.parent


def _row(where: Where, name: str, cells: list[str], folder: Path, root: Path) -> Raw:
    image = join(folder, name, root)
    if image is None or not image.is_file():
        raise where.refuse(f"its image {shown(name)} is missing in {folder}; add the file or take the line out")
    if len(cells) % 2:
        what = f"{len(cells)} cells after the image's name, expected x and y of each point"
        raise where.refuse(f"{what}; correct the line")
    points: list[tuple[float, float] | None] = []
    for x, y in zip(cells[0::2], cells[1::2], strict=True):
        pair = read_number(x), read_number(y)
        if pair[0] is not None and pair[1] is not None:
            points.append((pair[0] + 0.5, pair[1] + 0.5))
        elif not x.strip() and not y.strip():
            points.append(None)
        else:
            what = f"point {len(points)} is {shown(x)}, {shown(y)}"
            raise where.refuse(f"{what}, expected two numbers or nothing; correct it")
    group = _without_number(image, root)
    return Raw(image, where, check_image(image), [Object(where, points=points)], group, whole=True)


def _without_number(image: Path, root: Path) -> str:
    return re.sub("[_.-]?[0-9]+$", "", image.relative_to(root).with_suffix("").as_posix())


def _read_pts(file: Path, root: Path) -> Raw:
    lines, where = read_lines(file), Where(file)
    texts = [text for _, text in lines]
    if "{" not in texts or texts[-1] != "}":
        raise where.refuse("no points in braces, expected a line {, the points and a line }; fetch it again")
    start = texts.index("{")
    stated = next((text for text in texts[:start] if text.startswith("n_points:")), "")
    points = []
    for number, text in lines[start + 1 : -1]:
        pair = [value for value in map(read_number, text.split()) if value is not None]
        if len(pair) != 2 or len(text.split()) != 2:
            raise Where(file, number).refuse(f"{shown(text)} where x and y of a point are expected; correct it")
        points.append((pair[0] - 0.5, pair[1] - 0.5))
    if stated.removeprefix("n_points:").strip() != str(len(points)):
        raise where.refuse(f"{shown(stated)}, but {len(points)} points in braces; correct one of them")
    image = _image_of(file, root)
    beside = image.parent == file.parent
    group = _without_number(image, root) if beside else f"/{file.parent.parent.relative_to(root).as_posix()}"
    return Raw(image, where, check_image(image), [Object(where, points=points)], group)


def _image_of(file: Path, root: Path) -> Path:
    """The image of a `.pts` file."""
    beside = list_folders(file.parent.parent, root) if file.parent != root else []
    for folder in (file.parent, *beside):
        names = [e.name for e in list_folder(folder, root) if Path(e.name).stem == file.stem]
        names = [name for name in names if Path(name).suffix.lower() in ENDINGS]
        if len(names) > 1:
            raise DataError(f"several images have its name, {list_names(names)}; keep one", file=file)
        if names:
            return folder / names[0]
    raise DataError(f"no image {file.stem} beside it or in a folder beside its own; add it or take it out", file=file)
