"""What metrics report of a whole test set: tables on the terminal and in the run's folder, pictures in its `previews/`.

The same report gives the same bytes.
"""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from jaxcv.train.console import Reporter
from jaxcv.types import Picture, Table


def write(items: Sequence[Table | Picture], folder: Path | None, reporter: Reporter, *, suffix: str = "") -> list[Path]:
    """Print the tables that have a title, and write what has a name.

    Args:
        items: tables and pictures, in any order.
        folder: of the run; None writes no files.
        reporter: prints.
        suffix: of the file names, before their endings.

    Returns:
        The files written.
    """
    files = []
    for item in items:
        if isinstance(item, Table) and item.title:
            reporter.show(item)
        if folder is not None and item.name:
            is_table = isinstance(item, Table)
            files.append(folder / (f"{item.name}{suffix}.csv" if is_table else f"previews/{item.name}{suffix}.png"))
            replace_file(files[-1], _csv(item) if is_table else _png(item))
    if files:
        reporter.say(f"report: {', '.join(map(str, files))}")
    return files


def _csv(table: Table) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.columns)
    for row in table.rows:
        writer.writerow(["" if cell is None else f"{cell:.6f}" if isinstance(cell, float) else cell for cell in row])
    return file.getvalue().encode()


def _png(picture: Picture) -> bytes:
    file = io.BytesIO()
    picture.image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole: a kill leaves the old one or the new one."""
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
