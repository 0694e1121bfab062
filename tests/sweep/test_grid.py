import csv

import problems
import pytest

from jaxcv.sweep import folder_name, grid, parse_overrides, plan, run_trials, trials
from jaxcv.train import fit, hyperparameters, program
from jaxcv.train.console import Reporter
from jaxcv.train.run import read_records
from jaxcv.types import UserError

SHORT = {"steps": 4, "log_every": 2, "evaluate_every": 4, "checkpoint_every": 4}
TOKENS = ["lr=1e-3,3e-4,1e-4", "decay=0.0,1e-4", "seed=0,1"]


def twelve():
    chosen = trials(parse_overrides(TOKENS, hyperparameters(problems.experiment)))
    return [{**SHORT, **trial} for trial in chosen]


def test_the_plan_counts_programs_and_says_what_is_traced():
    lines = plan(problems.experiment, twelve()).lines()
    assert lines[0] == "plan: 12 trials, 1 program to compile"
    assert lines[1] == "inputs of the compiled step: lr, decay, ema, seed"
    lines = plan(problems.experiment, [{**SHORT, "batch_size": b} for b in (4, 8)]).lines()
    assert lines[0] == "plan: 2 trials, 2 programs to compile"
    assert "a program for each value of: batch_size" in lines


def test_twelve_trials_trace_once_and_go_on_where_they_were_killed(tmp_path):
    calls = []

    def killed_in_the_middle(experiment, overrides, folder, **options):
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append(folder)
        return fit(experiment, overrides, folder, **options)

    quiet = Reporter(quiet=True)
    with pytest.raises(KeyboardInterrupt):
        run_trials(problems.experiment, twelve(), tmp_path, reporter=quiet, train=killed_in_the_middle)
    finished = {folder: (folder / "metrics.jsonl").stat().st_mtime_ns for folder in calls}
    outcomes = run_trials(problems.experiment, twelve(), tmp_path, reporter=quiet)
    assert [o.result.skipped for o in outcomes if o.result] == [True] * 5 + [False] * 7
    assert all((folder / "metrics.jsonl").stat().st_mtime_ns == at for folder, at in finished.items())
    assert sum(o.result.traces for o in outcomes if o.result) == 1
    assert program(problems.experiment, SHORT).traces == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(folder_name(t) for t in twelve())
    losses = {read_records(o.folder / "metrics.jsonl")[-1]["loss"] for o in outcomes}
    assert len(losses) > 6, "the traced values reach the step"

    table, picture = grid.report(outcomes, tmp_path, "accuracy", quiet)
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    ranks = [float(row["accuracy"]) for row in rows]
    assert ranks == sorted(ranks, reverse=True)
    assert picture.stat().st_size > 5_000


def test_a_bad_trial_is_reported_and_the_others_go_on(tmp_path):
    chosen = [{**SHORT, "lr": 1e-3}, {**SHORT, "lrr": 1.0}, {**SHORT, "lr": 1e-4}]
    outcomes = run_trials(problems.experiment, chosen, tmp_path, reporter=Reporter(quiet=True))
    assert [o.error is None for o in outcomes] == [True, False, True]
    assert "did you mean lr" in str(outcomes[1].error)
    table, _ = grid.report(outcomes, tmp_path, "accuracy", Reporter(quiet=True))
    assert "did you mean lr" in table.read_text()
    with pytest.raises(UserError, match="did you mean lr"):
        run_trials(problems.experiment, chosen, tmp_path, reporter=Reporter(quiet=True), fail_fast=True)
