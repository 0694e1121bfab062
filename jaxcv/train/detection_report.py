"""What a detector's run shows at its end beyond its metrics: its classes, curves, confusions and worst images.

Files in the run's folder: `per_class.csv`, and in `previews` `precision_recall.png`, `confusion.png` and `worst.png`.
The same report gives the same bytes.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.markup import escape
from rich.table import Table

from jaxcv.train import confusion, preview
from jaxcv.train.console import Reporter
from jaxcv.train.report import replace_file
from jaxcv.types import Batches, Detections

_SHOWN, _GAP = 20, 6


def write_detection_report(
    report: Any, data: Batches, folder: Path | None, reporter: Reporter, *, suffix: str = ""
) -> list[Path]:
    """Print the table of classes, and write the files.

    Args:
        report: what the metric made of the whole set: `rows`, `curves`, `truth`, `found`, `threshold`, `worst`.
        data: the set, for the worst images.
        folder: of the run; None writes no files.
        reporter: prints.
        suffix: of the file names, before their endings.

    Returns:
        The files written.
    """
    names, files = data.class_names, []
    if folder is not None:
        pictures = {"precision_recall": _curves(report), "confusion": None, "worst": _worst_sheet(report, data)}
        if len(report.truth):
            pictures["confusion"] = confusion.draw(report.truth, report.found, [*names, "background"])
        files.append(folder / f"per_class{suffix}.csv")
        replace_file(files[0], _csv(report))
        for name, picture in pictures.items():
            if picture is not None:
                content = io.BytesIO()
                picture.save(content, "PNG")
                files.append(folder / "previews" / f"{name}{suffix}.png")
                replace_file(files[-1], content.getvalue())
    if not reporter.quiet:
        _print(report, files, reporter)
    return files


def _csv(report: Any) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["class", "truths", "detections", "precision", "recall", "voc_average_precision"])
    for row in report.rows:
        writer.writerow(["" if cell is None else f"{cell:.6f}" if isinstance(cell, float) else cell for cell in row])
    return file.getvalue().encode()


def _print(report: Any, files: Sequence[Path], reporter: Reporter) -> None:
    rows = report.rows
    title = f"class by class at score {report.threshold:.3f}, IoU 0.5"
    if len(rows) > _SHOWN:
        there = [row for row in rows if row.average_precision is not None]
        rows = sorted(there, key=lambda row: row.average_precision)[: _SHOWN // 2]
        title = f"the {len(rows)} of {len(report.rows):,} classes with the lowest AP, " + title.partition(" class ")[2]
    table = Table("class", title=title, title_justify="left")
    for column in ("truths", "found", "precision", "recall", "AP (VOC)"):
        table.add_column(column, justify="right")
    for row in rows:
        figures = ("-" if v is None else f"{v:.3f}" for v in (row.precision, row.recall, row.average_precision))
        table.add_row(escape(row.name), f"{row.truths:,}", f"{row.detections:,}", *figures)
    reporter.console.print(table)
    if files:
        reporter.say(f"every class: {files[0]}; curves, confusions and the worst images: previews/")


def _curves(report: Any) -> Image.Image | None:
    """Precision over recall of each class, the ten of the most truths by name; a point where the threshold is."""
    shown = [(row, curve) for row, curve in zip(report.rows, report.curves, strict=True) if curve.truths]
    if not shown:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5.5), dpi=110, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    named = sorted(shown, key=lambda pair: -pair[1].truths)[:10]
    for row, curve in shown:
        known = any(row is other for other, _ in named)
        label = f"{row.name} ({row.average_precision:.3f})" if known else None
        recall, precision = np.append(0.0, curve.recall), np.append(curve.precision[:1], curve.precision)
        if not len(precision):
            recall, precision = np.zeros(1), np.zeros(1)
        lines = axes.plot(recall[: len(precision)], precision, label=label, linewidth=1.6 if known else 0.6)
        above = int((curve.scores >= report.threshold).sum())
        if above and known:
            axes.plot(curve.recall[above - 1], curve.precision[above - 1], "o", color=lines[0].get_color())
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_title(f"IoU 0.5; dots: score {report.threshold:.3f}")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", title="class (AP)")
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _worst_sheet(report: Any, data: Batches) -> Image.Image | None:
    """The images with the most mistakes, truth beside what was found, with their counts."""
    cells, batches = [], {}
    rows = data.spec["image"].shape[0]
    for worst in report.worst:
        number = worst.index // rows
        if number not in batches:
            batches = {number: data.batch(number)}
        picture, boxes = batches[number]["image"][worst.index % rows], worst.boxes
        truth = Detections(boxes.truths, (~boxes.ignored).astype(np.float32), boxes.truth_classes, ~boxes.ignored)
        found = Detections(boxes.detections, boxes.scores, boxes.detected_classes, np.ones(len(boxes.scores), bool))
        title = f"{worst.index}: {worst.missed} missed, {worst.false} false"
        pair = [
            preview.draw(truth, picture, data.class_names, title="truth", minimum=0.0),
            preview.draw(found, picture, data.class_names, title=title, minimum=report.threshold),
        ]
        cell = Image.new("RGB", (2 * pair[0].width + _GAP, pair[0].height), "white")
        for i, half in enumerate(pair):
            cell.paste(half, (i * (half.width + _GAP), 0))
        cells.append(cell)
    if not cells:
        return None
    width, height = cells[0].size
    page = Image.new("RGB", (2 * width + 5 * _GAP, -(-len(cells) // 2) * (height + _GAP) + _GAP), "white")
    for i, cell in enumerate(cells):
        page.paste(cell, (_GAP + i % 2 * (width + 3 * _GAP), _GAP + i // 2 * (height + _GAP)))
    return page
