"""Key points in tables and in `.pts` files.

`data=points:PATH`: a table (`.csv`), or a folder with one for each split. Each line is an image's file name and x, y of
each point in pixels, the middle of the first pixel being (0, 0); the first line may be a heading, whose `left_eye_x`
names a point. An empty pair of cells is a point that is not annotated. The images lie beside the table or one folder
below; an example is a whole image. The split is the word train, val, valid, validation or test in the table's name.

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
from pathlib import Path

from jaxcv.data.collector import Collector
from jaxcv.data.example import Scan
from jaxcv.data.formats.kept import kept
from jaxcv.data.formats.mirrored import swap_by_names
from jaxcv.data.io import paths
from jaxcv.data.io.images import check_image
from jaxcv.data.io.paths import find_file, find_folder, holds, list_files, list_folders, split_word
from jaxcv.data.io.text import Where, check_once, list_names, read_lines, read_number, read_text, shown
from jaxcv.data.raw import Object, Raw
from jaxcv.errors import DataError

_GROUPS = 5


@kept
def scan_tables(path: Path, skip: bool) -> Scan:
    """Read the tables of both splits."""
    if path.is_file():
        root, tables, unused = path.parent, {"train": path}, []
    else:
        root = find_folder(path, "data=points:PATH needs a table of key points (.csv), or a folder with one")
        if not (files := list_files(root, root, ".csv")):
            raise DataError(f"no table (.csv) in it; {holds(root)}", file=root)
        tables, unused = paths.choose_files(files, root, "points")
    collector = Collector(root, skip=skip)
    if unused:
        collector.say("train", f"tables not used: {list_names(unused)}")
    first: dict[str, Where] = {}
    for split, table in tables.items():
        rows, heading = _rows(table)
        collector.swap = swap_by_names(heading) if split == "train" else collector.swap
        folder = _image_folder(table, rows[0][1], root)
        for line, name, cells in rows:
            with collector.faults_of(split):
                where = Where(table, line)
                check_once(first, f"{folder}/{name}", where, f"image {shown(name)}")
                collector.examples[split].append(_row(where, name, cells, folder, root))
    return _finish(collector, "test" in tables)


@kept
def scan_pts(path: Path, skip: bool) -> Scan:
    """Read every `.pts` file of both splits."""
    find_folder(path, "data=pts:PATH needs a folder with .pts files")
    every = (file for folder in paths.walk(path, path) for file in list_files(folder, path, ".pts"))
    files = {file: split_word(file.parent.relative_to(path)) for file in every}
    if not files:
        raise DataError(f"no .pts file in it or below; {holds(path)}", file=path)
    collector = Collector(path, skip=skip)
    used = paths.choose_splits(files.values())
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


def _rows(table: Path) -> tuple[list[tuple[int, str, list[str]]], list[str]]:
    """Line, image name and cells of each row that is not empty but the heading, and what that calls the points."""
    reader = csv.reader(read_text(table).split("\n"))
    rows, names = [], []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((reader.line_num, cells[0].strip(), cells[1:]))
    except csv.Error as error:
        raise DataError(f"cannot be read as a table: {error}", file=table, line=reader.line_num) from None
    if rows and Path(rows[0][1]).suffix.lower() not in paths.ENDINGS:
        cells = [re.sub("[ _.-]*[xy]$", "", cell.strip(), flags=re.IGNORECASE) for cell in rows.pop(0)[2]]
        names = cells[0::2] if cells[0::2] == cells[1::2] else []
    if not rows:
        raise DataError("holds no line with an image's name and points", file=table)
    width = Counter(len(cells) for _, _, cells in rows).most_common(1)[0][0]
    if width < 2 or width % 2:
        found = f"{width} cells after the image's name"
        raise DataError(f"{found}, expected x and y of each point", file=table, line=rows[0][0])
    return rows, names if len(names) == width // 2 else []


def _image_folder(table: Path, name: str, root: Path) -> Path:
    """The folder, beside the table or one below, that has the first image; one named like the table's split first."""
    word = split_word(Path(table.stem))
    inside = sorted(list_folders(table.parent, root), key=lambda folder: split_word(Path(folder.name)) != word)
    return next((f for f in (table.parent, *inside) if find_file(f, name, root)), table.parent)


def _row(where: Where, name: str, cells: list[str], folder: Path, root: Path) -> Raw:
    if (image := find_file(folder, name, root)) is None:
        raise where.refuse(f"its image {shown(name)} is missing in {folder}")
    if len(cells) % 2:
        raise where.refuse(f"{len(cells)} cells after the image's name, expected x and y of each point")
    points: list[tuple[float, float] | None] = []
    for cell_x, cell_y in zip(cells[0::2], cells[1::2], strict=True):
        x, y = read_number(cell_x), read_number(cell_y)
        if (x is None or y is None) and (cell_x.strip() or cell_y.strip()):
            found = f"point {len(points)} is {shown(cell_x)}, {shown(cell_y)}"
            raise where.refuse(f"{found}, expected two numbers or nothing")
        points.append(None if x is None or y is None else (x + 0.5, y + 0.5))
    group = _without_number(image, root)
    return Raw(image, where, check_image(image), [Object(where, points=points)], group, whole=True, stated=False)


def _without_number(image: Path, root: Path) -> str:
    return re.sub("[_.-]?[0-9]+$", "", image.relative_to(root).with_suffix("").as_posix())


def _read_pts(file: Path, root: Path) -> Raw:
    lines, where = read_lines(file), Where(file)
    texts = [text for _, text in lines]
    if "{" not in texts or texts[-1] != "}":
        raise where.refuse("no points in braces, expected a line {, the points and a line }")
    start, points = texts.index("{"), []
    for number, text in lines[start + 1 : -1]:
        pair = [value for value in map(read_number, text.split()) if value is not None]
        if len(pair) != 2 or len(text.split()) != 2:
            raise Where(file, number).refuse(f"{shown(text)} where x and y of a point are expected")
        points.append((pair[0] - 0.5, pair[1] - 0.5))
    stated = next((text for text in texts[:start] if text.startswith("n_points:")), "")
    if stated.removeprefix("n_points:").strip() != str(len(points)):
        raise where.refuse(f"{shown(stated)}, but {len(points)} points in braces")
    image = paths.picture_of(file, root)
    beside = image.parent == file.parent
    group = _without_number(image, root) if beside else f"/{file.parent.parent.relative_to(root).as_posix()}"
    return Raw(image, where, check_image(image), [Object(where, points=points)], group, stated=False)
