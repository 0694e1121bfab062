"""What metrics report of a whole test set: tables on the terminal and in the run's folder, pictures in its `previews/`.

The same report gives the same bytes.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxcv import show
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


def learning_curves(records: Sequence[Mapping[str, Any]], terms: Sequence[str]) -> Picture | None:
    """The records of a run as a picture: losses, test values, learning rates; None without a record.

    Args:
        records: of `metrics.jsonl`.
        terms: names of the test values that are losses.
    """

    def curve(split: str, name: str) -> tuple[list[float], list[float]]:
        found = [(r["step"], r[name]) for r in records if r["split"] == split and r.get(name) is not None]
        return [float(step) for step, _ in found], [float(value) for _, value in found]

    def names(split: str) -> list[str]:
        return list(dict.fromkeys(name for r in records if r["split"] == split for name in r))

    rates = [name for name in names("train") if name.partition("/")[0].startswith("learning_rate")]
    others = [name for name in names("test") if name not in ("step", "split", "time", *terms)]
    image = show.draw_learning_curves(
        {
            "loss": {split: curve(split, "loss") for split in ("train", "test")},
            "test": {name: curve("test", name) for name in others},
            "learning rate": {
                name.removeprefix("learning_rate").strip("_/") or "rate": curve("train", name) for name in rates
            },
        }
    )
    return None if image is None else Picture("learning_curves", image)


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
