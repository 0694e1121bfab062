"""The report of a classifier, as numbers, as a table on a terminal and as files."""

import csv
import io
from unittest.mock import MagicMock

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import precision_recall_fscore_support

from jaxcv.metrics import accuracy, top_k_accuracy
from jaxcv.metrics.class_report import ClassRow, class_report, per_class
from jaxcv.metrics.classification import class_outcomes
from jaxcv.train import reports
from jaxcv.train.console import Reporter
from jaxcv.types import Batches, Classes

HUGE = np.iinfo(np.int64).max


def outcomes(scores, truth, parts=1):
    scores, truth = np.asarray(scores, np.float32), np.asarray(truth, np.int32)
    batches = zip(np.array_split(scores, parts), np.array_split(truth, parts), strict=True)
    return [class_outcomes(Classes(s.argmax(-1), s), {"label": t}) for s, t in batches]


def decided(truth, found, classes):
    """As if the class `found` had a score of 1 and the others 0; -1: NaN."""
    scores = np.eye(classes + 1)[np.asarray(found)][:, :classes]
    scores[np.asarray(found) < 0] = np.nan
    return outcomes(scores, truth)


def write_report(kept, names, folder, reporter):
    return reports.write(class_report(kept, MagicMock(spec=Batches, class_names=names)), folder, reporter)


def terminal():
    return Reporter(Console(file=io.StringIO(), width=120, highlight=False))


def text_of(reporter):
    assert isinstance(reporter.console.file, io.StringIO)
    return reporter.console.file.getvalue()


def random_scores(k, n, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, n)
    scores = rng.integers(0, 9, (n, k)) / 8  # many ties
    scores[np.arange(n), truth] += rng.random(n) > 0.4
    return scores, truth


def test_by_hand():
    """Truth a a a b b c; found a a b b b b: nothing is found to be of c."""
    rows = per_class(decided([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 1], 3)[0], "abc")
    assert rows == [
        ClassRow("a", 3, 1.0, 2 / 3, 0.8, "b", 1),
        ClassRow("b", 2, 0.5, 1.0, 2 / 3, "", 0),
        ClassRow("c", 1, None, 0.0, 0.0, "b", 1),
    ]


def test_a_class_without_example_and_one_that_does_not_occur_at_all():
    rows = per_class(decided([0, 0], [0, 1], 3)[0], "abc")
    assert rows[1] == ClassRow("b", 0, 0.0, None, 0.0, "", 0)
    assert rows[2] == ClassRow("c", 0, None, None, None, "", 0)


def test_most_confused_with_takes_the_first_among_equals_and_the_most_else():
    rows = per_class(decided([2] * 7, [3, 1, 3, 1, 0, 2, 2], 4)[0], "abcd")
    assert (rows[2].confused_with, rows[2].times) == ("b", 2)
    rows = per_class(decided([2] * 6, [3, 1, 3, 1, 3, 2], 4)[0], "abcd")
    assert (rows[2].confused_with, rows[2].times) == ("d", 3)


def test_outcomes_of_a_batch():
    kept = outcomes([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2], [np.nan, 0.9, 0.1], [np.nan] * 3], [2, 1, 1, 0])[0]
    assert kept.prediction.tolist() == [1, 0, -1, -1]
    assert kept.rank.tolist() == [1, 1, HUGE, HUGE]
    assert kept.classes == 3


def test_scores_that_are_not_numbers_are_no_answer(tmp_path):
    reporter = terminal()
    kept = decided([0, 0, 1, 1], [0, -1, -1, 1], 2)
    assert per_class(kept[0], "ab") == [
        ClassRow("a", 2, 1.0, 0.5, 2 / 3, "", 0),
        ClassRow("b", 2, 1.0, 0.5, 2 / 3, "", 0),
    ]
    write_report(kept, "ab", tmp_path, reporter)
    assert "top-1 accuracy 0.5000 (2 of 4)" in text_of(reporter)
    assert "warning: 2 examples have scores that are not numbers" in text_of(reporter)


@pytest.mark.parametrize("parts", [1, 7])
def test_agrees_with_sklearn_and_with_the_metrics(parts, tmp_path):
    scores, truth = random_scores(8, 300)
    kept, reporter = outcomes(scores, truth, parts), terminal()
    assert len(kept) == parts
    write_report(kept, [], tmp_path, reporter)
    table = list(csv.DictReader(io.StringIO((tmp_path / "per_class.csv").read_text())))
    found = scores.astype(np.float32).argmax(1)
    wanted = precision_recall_fscore_support(truth, found, labels=range(8))
    for name, column in zip(("precision", "recall", "f1", "examples"), wanted, strict=True):
        np.testing.assert_allclose([float(row[name]) for row in table], np.asarray(column), atol=5e-7)
    assert [row["class"] for row in table] == [str(i) for i in range(8)], "classes without names have numbers"
    for metric, k in ((accuracy(), 1), (top_k_accuracy(5), 5)):
        measured = metric.measure(Classes(found, scores.astype(np.float32)), {"label": truth})
        assert f"top-{k} accuracy {metric.reduce([measured])[metric.pick]:.4f}" in text_of(reporter)


def test_the_file_to_the_byte(tmp_path):
    kept = decided([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 1], 4)
    files = write_report(kept, ["ant, red", "bee", "caf\u00e9", "d"], tmp_path, Reporter(quiet=True))
    assert files == [tmp_path / "per_class.csv", tmp_path / "previews/confusion.png"]
    assert files[0].read_bytes().decode() == (
        "class,examples,precision,recall,f1,most_confused_with,times\n"
        '"ant, red",3,1.000000,0.666667,0.800000,bee,1\n'
        "bee,2,0.500000,1.000000,0.666667,,0\n"
        "caf\u00e9,1,,0.000000,0.000000,bee,1\n"
        "d,0,,,,,0\n"
    )
    before = [file.read_bytes() for file in files]
    write_report(kept, ["ant, red", "bee", "caf\u00e9", "d"], tmp_path, Reporter(quiet=True))
    assert [file.read_bytes() for file in files] == before
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["confusion.png", "per_class.csv", "previews"]


def test_the_table_shows_all_of_twenty_classes_and_the_worst_of_more(tmp_path):
    for k in (20, 21):
        truth = np.repeat(np.arange(k), 4)
        found = np.where(np.arange(4 * k) % 4 < np.repeat(np.arange(k) % 5, 4), truth, 0)
        reporter = terminal()
        write_report(decided(truth, found, k), [f"[class {i}]" for i in range(k)], tmp_path, reporter)
        shown = [i for i in range(k) if f"[class {i}] " in text_of(reporter).replace("│", " ")]
        if k == 20:
            assert shown == list(range(20)) and "[class 0]          │     4 " in text_of(reporter)
        else:
            # Nothing right: 5, 10, 15, 20; one in four: 1, 6, 11, 16; then class 0, which takes them all; then 2.
            rows = [line for line in text_of(reporter).splitlines() if line.startswith("│")]
            names = [line.split("│")[1].strip() for line in rows]
            assert names == [f"[class {i}]" for i in (5, 10, 15, 20, 0, 1, 6, 11, 16, 2)]
            assert "the 10 of 21 classes with the lowest F1" in text_of(reporter)
        assert str(tmp_path / "per_class.csv") in text_of(reporter).replace("\n", "")


def test_top_five_only_where_it_says_something(tmp_path):
    for k in (5, 6):
        reporter = terminal()
        write_report(outcomes(*random_scores(k, 30)), [], tmp_path, reporter)
        assert ("top-5" in text_of(reporter)) == (k == 6)


def test_quiet_prints_nothing_and_no_folder_writes_nothing(tmp_path):
    reporter = terminal()
    reporter.quiet = True
    assert write_report(decided([0], [0], 2), "ab", None, reporter) == []
    assert text_of(reporter) == "" and list(tmp_path.iterdir()) == []


def test_a_set_without_examples_has_no_report():
    assert class_report([], MagicMock(spec=Batches)) == []


def test_a_thousand_classes(tmp_path):
    scores, truth = random_scores(1000, 600)
    reporter = terminal()
    write_report(outcomes(scores, truth, 3), [f"n{i}" for i in range(1000)], tmp_path, reporter)
    assert len((tmp_path / "per_class.csv").read_text().splitlines()) == 1001
    assert "the 10 of 1,000 classes" in text_of(reporter) and "top-5 accuracy" in text_of(reporter)
