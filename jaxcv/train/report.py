"""What a run shows at its end beyond its metrics, by the type of its predictions.

For `Classes`: how often each class is right, and what it is taken for instead, as a table on the terminal,
`per_class.csv` and `previews/confusion.png` in the run's folder; and the pictures that metrics draw. The same outcomes
give the same bytes.
"""

import csv
import io
import os
from collections.abc import Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from PIL import Image
from rich.markup import escape
from rich.table import Table

from jaxcv.train import confusion
from jaxcv.train.console import Reporter
from jaxcv.types import Batch, Classes

_SHOWN, _WORST = 20, 10


class Outcomes(NamedTuple):
    """What became of some examples."""

    truth: Int[np.ndarray, "n"]
    found: Int[np.ndarray, "n"]
    """The most probable class; -1 where a score was NaN, which is no answer."""
    rank: Int[np.ndarray, "n"]
    """How many classes come before the right one, the lower index first among equals; huge where there is no answer."""
    classes: int
    """How many there are."""


class Picture(NamedTuple):
    """What a metric drew of the whole set."""

    name: str
    """Of its file in `previews/`, without ending."""
    image: Image.Image


class ClassRow(NamedTuple):
    """How one class fares; None where there is nothing to divide by."""

    name: str
    examples: int
    precision: float | None
    """Share of the examples found to be of this class that are."""
    recall: float | None
    """Share of the examples of this class that were found to be."""
    f1: float | None
    """Their harmonic mean."""
    confused_with: str
    """The other class that its examples were most often taken for, the first among equals; empty where none was."""
    times: int


@singledispatch
def outcomes_of(predictions: Any, batch: Batch) -> list[Outcomes]:
    """What to keep of a batch for the report: one entry, or nothing for types without a report.

    Args:
        predictions: of the model.
        batch: as numpy arrays, padding removed.
    """
    return []


@outcomes_of.register
def _(predictions: Classes, batch: Batch) -> list[Outcomes]:
    scores, truth = np.asarray(predictions.scores), np.asarray(batch.get("label", ()))
    if scores.ndim != 2 or truth.shape != scores.shape[:1]:
        return []
    own = np.take_along_axis(scores, truth[:, None], axis=1)
    ahead = (scores > own) | ((scores == own) & (np.arange(scores.shape[1])[None] < truth[:, None]))
    answered = ~np.isnan(scores).any(axis=1)
    kept = Outcomes(
        truth=truth.astype(np.int64),
        found=np.where(answered, predictions.label, -1).astype(np.int64),
        rank=np.where(answered, ahead.sum(axis=1), np.iinfo(np.int64).max),
        classes=scores.shape[1],
    )
    return [kept]


def write_report(
    outcomes: Sequence[Outcomes | Picture],
    class_names: Sequence[str],
    folder: Path | None,
    reporter: Reporter,
    *,
    suffix: str = "",
) -> list[Path]:
    """Print the report of a whole test set, and write its files.

    Args:
        outcomes: what `outcomes_of` gave for the batches, in a row, and pictures.
        class_names: name of each class index; missing ones are called by their number.
        folder: of the run; None writes no files.
        reporter: prints.
        suffix: of the file names, before their endings.

    Returns:
        The files written, none for predictions without a report.
    """
    files = []
    for picture in (x for x in outcomes if isinstance(x, Picture)):
        if folder is not None:
            files.append(folder / "previews" / f"{picture.name}{suffix}.png")
            replace_file(files[-1], _png(picture.image))
            reporter.say(f"{picture.name}: {files[-1]}")
    outcomes = [x for x in outcomes if isinstance(x, Outcomes)]
    return files + (_write_classes(outcomes, class_names, folder, reporter, suffix) if outcomes else [])


def _write_classes(
    outcomes: Sequence[Outcomes], class_names: Sequence[str], folder: Path | None, reporter: Reporter, suffix: str
) -> list[Path]:
    every = Outcomes(
        truth=np.concatenate([part.truth for part in outcomes]),
        found=np.concatenate([part.found for part in outcomes]),
        rank=np.concatenate([part.rank for part in outcomes]),
        classes=max(part.classes for part in outcomes),
    )
    names = [class_names[i] if i < len(class_names) else str(i) for i in range(every.classes)]
    rows = per_class(every, names)
    files = []
    if folder is not None:
        files = [folder / f"per_class{suffix}.csv", folder / "previews" / f"confusion{suffix}.png"]
        replace_file(files[0], _csv(rows))
        replace_file(files[1], _png(confusion.draw(every.truth, every.found, names)))
    if not reporter.quiet:
        _print(every, rows, files, reporter)
    return files


def per_class(outcomes: Outcomes, names: Sequence[str]) -> list[ClassRow]:
    """One row a class, in the order of `names`."""
    truth, found, k = outcomes.truth, outcomes.found, len(names)
    examples, right = np.bincount(truth, minlength=k), np.bincount(truth[truth == found], minlength=k)
    claimed = np.bincount(found[found >= 0], minlength=k)
    wrong = (found >= 0) & (found != truth)
    pairs, counts = np.unique(truth[wrong] * k + found[wrong], return_counts=True)
    most: dict[int, tuple[int, int]] = {}
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        if count > most.get(pair // k, (0, 0))[1]:
            most[pair // k] = (pair % k, count)
    return [
        ClassRow(
            name=name,
            examples=int(examples[i]),
            precision=_share(right[i], claimed[i]),
            recall=_share(right[i], examples[i]),
            f1=_share(2 * right[i], examples[i] + claimed[i]),
            confused_with=names[most[i][0]] if i in most else "",
            times=most[i][1] if i in most else 0,
        )
        for i, name in enumerate(names)
    ]


def _share(part: np.integer, whole: np.integer) -> float | None:
    return float(part / whole) if whole else None


def _csv(rows: Sequence[ClassRow]) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["class", "examples", "precision", "recall", "f1", "most_confused_with", "times"])
    for row in rows:
        writer.writerow(["" if cell is None else f"{cell:.6f}" if isinstance(cell, float) else cell for cell in row])
    return file.getvalue().encode()


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole: a kill leaves the old one or the new one."""
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _print(outcomes: Outcomes, rows: Sequence[ClassRow], files: Sequence[Path], reporter: Reporter) -> None:
    shown, title = rows, "class by class"
    if len(rows) > _SHOWN:
        tested = [row for row in rows if row.f1 is not None and row.examples]
        shown = sorted(tested, key=lambda row: row.f1 or 0.0)[:_WORST]
        title = f"the {len(shown)} of {len(rows):,} classes with the lowest F1"
    table = Table("class", title=title, title_justify="left")
    for column in ("examples", "precision", "recall", "F1"):
        table.add_column(column, justify="right")
    table.add_column("most confused with")
    for row in shown:
        figures = ("-" if value is None else f"{value:.3f}" for value in (row.precision, row.recall, row.f1))
        other = f"{row.confused_with} ({row.times:,})" if row.times else ""
        table.add_row(escape(row.name), f"{row.examples:,}", *figures, escape(other))
    reporter.console.print(table)
    count = len(outcomes.rank)
    for k in (1, 5) if outcomes.classes > 5 else (1,):
        within = int((outcomes.rank < k).sum())
        reporter.say(f"top-{k} accuracy {within / max(1, count):.4f} ({within:,} of {count:,})")
    if unanswered := int((outcomes.found < 0).sum()):
        reporter.warn(
            f"{unanswered:,} examples have scores that are not numbers: they count as found to be of no class"
        )
    if files:
        reporter.say(f"every class: {files[0]}, and their confusion: previews/{files[1].name}")


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
