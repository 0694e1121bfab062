"""What metrics report, on the terminal and in the folder of a run."""

import csv
import dataclasses
import io
import signal
import subprocess
import sys

import numpy as np
import problems
import pytest
from PIL import Image
from rich.console import Console

from jaxcv.cli import inference
from jaxcv.metrics import Metric, accuracy
from jaxcv.metrics.class_report import class_report
from jaxcv.train import fit, reports
from jaxcv.train.console import Reporter
from jaxcv.train.group import Group
from jaxcv.train.loop import Preempted
from jaxcv.types import Picture, Table

TABLE = Table("lines", "two\nlines", ("name", "per_cent", "count"), [("[a]", 0.5, 1200), ("b, c", None, 3)])
FILE = Table("file", "", ("x",), [])
SHOWN = Table("", "shown", ("x", "y"), [("1", 2.0)])
PICTURE = Picture("curve", Image.new("RGB", (2, 3)))


def terminal():
    return Reporter(Console(file=io.StringIO(), width=120, soft_wrap=True, highlight=False))


def text_of(reporter):
    assert isinstance(reporter.console.file, io.StringIO)
    return reporter.console.file.getvalue()


def test_tables_and_pictures_are_shown_and_written(tmp_path):
    reporter = terminal()
    files = reports.write([TABLE, FILE, SHOWN, PICTURE], tmp_path, reporter, suffix="_x")
    assert files == [tmp_path / name for name in ("lines_x.csv", "file_x.csv", "previews/curve_x.png")]
    assert files[0].read_bytes() == b'name,per_cent,count\n[a],0.500000,1200\n"b, c",,3\n'
    assert files[1].read_bytes() == b"x\n"
    with Image.open(files[2]) as image:
        assert image.size == (2, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file_x.csv", "lines_x.csv", "previews"]
    lines = text_of(reporter).splitlines()
    assert lines[:2] == ["two", "lines"] and "┃ per cent ┃ count ┃" in lines[3]
    assert lines[5:7] == ["│ [a]  │    0.500 │ 1,200 │", "│ b, c │        - │     3 │"]
    assert lines[8] == "shown" and lines[-1] == f"report: {', '.join(map(str, files))}"


def test_without_a_folder_nothing_is_written_and_quiet_shows_nothing(tmp_path):
    reporter = terminal()
    assert reports.write([TABLE, PICTURE], None, reporter) == [] and "two" in text_of(reporter)
    reporter = terminal()
    reporter.quiet = True
    assert len(reports.write([TABLE, PICTURE], tmp_path, reporter)) == 2 and text_of(reporter) == ""
    assert reports.write([], tmp_path, terminal()) == []


def test_a_metric_of_any_task_reports_what_it_likes(tmp_path):
    """Twice named, once reported; one that reports nothing."""

    def report(measured, data):
        assert data.class_names == ("dark", "light")
        return [Table("rows", "rows of each batch", ("rows",), [(n,) for n in measured]), PICTURE]

    def rows():
        return Metric(lambda predictions, batch: len(batch["image"]), lambda measured: {"a": 1.0}, "a", report=report)

    one = rows()
    metrics = {"one": one, "two": one, "three": dataclasses.replace(one, report=None)}

    def experiment(*, steps: int = 2):
        return dataclasses.replace(problems.experiment(steps=steps), metrics=metrics)

    reporter = terminal()
    fit(experiment, {}, tmp_path / "run", reporter=reporter)
    assert (tmp_path / "run/rows.csv").read_text() == "rows\n8\n8\n5\n"
    assert (tmp_path / "run/previews/curve.png").exists()
    assert text_of(reporter).count("rows of each batch") == 1


def test_the_end_of_a_run_and_only_the_end_has_a_report(tmp_path, monkeypatch):
    calls = []

    def report(measured, data):
        calls.append(len(measured))
        return class_report(measured, data)

    monkeypatch.setattr(problems, "accuracy", lambda: dataclasses.replace(accuracy(), report=report))
    reporter = terminal()
    values = {"steps": 6, "evaluate_every": 2, "log_every": 2}
    result = fit(problems.experiment, values, tmp_path / "run", reporter=reporter)
    assert calls == [3], "21 test examples in batches of 8, once"
    text = text_of(reporter)
    assert text.count("most confused with") == 1
    assert f"top-1 accuracy {result.test['accuracy']:.4f}" in text
    rows = list(csv.DictReader(io.StringIO((tmp_path / "run/per_class.csv").read_text())))
    assert [row["class"] for row in rows] == ["dark", "light"]
    assert sum(int(row["examples"]) for row in rows) == 21
    right = sum(float(row["recall"]) * int(row["examples"]) for row in rows)
    assert right / 21 == pytest.approx(result.test["accuracy"], abs=1e-5)

    files = [tmp_path / "run/per_class.csv", tmp_path / "run/previews/confusion.png"]
    before = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    inference.evaluate_run(problems.experiment, values, tmp_path / "run", best=False, reporter=terminal())
    assert [file.read_bytes() for file in files] == before, "--evaluate writes the same"


def test_a_resumed_run_writes_the_same_files(tmp_path, monkeypatch):
    values = {"steps": 6, "evaluate_every": 2, "log_every": 2}
    fit(problems.experiment, values, tmp_path / "whole")
    with monkeypatch.context() as patch:
        take = Group.take

        def stop(group, count):
            logs = take(group, count)
            if group.runs[0].step == 3:
                signal.raise_signal(signal.SIGTERM)
            return logs

        patch.setattr(Group, "take", stop)
        with pytest.raises(Preempted, match="stopped at step 3"):
            fit(problems.experiment, values, tmp_path / "run", chunk=1)
    assert not (tmp_path / "run/per_class.csv").exists()
    reporter = terminal()
    inference.evaluate_run(problems.experiment, values, tmp_path / "run", best=False, reporter=reporter)
    assert (tmp_path / "run/per_class_step_0000003.csv").exists()
    assert (tmp_path / "run/previews/confusion_step_0000003.png").exists()
    fit(problems.experiment, values, tmp_path / "run")
    for name in ("per_class.csv", "previews/confusion.png"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_importing_the_trainer_loads_neither_matplotlib_nor_sklearn():
    code = "import sys, jaxcv.train; print([m for m in ('matplotlib', 'sklearn', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_run_ends_with_its_error_curve(load, tmp_path):
    values = {"steps": 1, "batch_size": 2, "image_size": 32, "width": 8, "head": "regression"}
    result = fit(load("landmarks"), values, tmp_path / "run")
    assert (tmp_path / "run/previews/error_curve.png").exists()
    assert np.isfinite(result.test["NME"]) and result.test["mean_shape_NME"] > 0
