"""Whole sweeps over the small problem: what is run, what is compiled, what is said at the end."""

import csv
import io
from pathlib import Path

import problems
import pytest
from pretending import QUIET, Pretender, pretended
from rich.console import Console

from jaxcv.cli.main import main
from jaxcv.errors import UserError
from jaxcv.sweep import command, folder_name, make_search, outcomes, own_trials, parse_overrides, plan, trials
from jaxcv.sweep.command import Sweep
from jaxcv.sweep.engine import work_off
from jaxcv.sweep.live import SweepReporter
from jaxcv.train import fit, hyperparameters, program
from jaxcv.train.console import Reporter
from jaxcv.train.run import read_records

SHORT = ["steps=4", "log_every=2", "evaluate_every=2", "checkpoint_every=4"]
TOKENS = ["lr=1e-3,3e-4,1e-4", "decay=0.0,1e-4", "seed=0,1"]
KNOWN = hyperparameters(problems.experiment)


def sweep(
    root, tokens, *, experiment=problems.experiment, train=fit, metric=None, prune=None, fail_fast=False, **search
):
    space = parse_overrides([*SHORT, *tokens], KNOWN)
    return Sweep(
        experiment,
        Path("experiments/problem.py"),
        make_search(space, **search),
        root,
        metric=metric,
        prune=prune,
        fail_fast=fail_fast,
        train=train,
    )


def run(asked, **options):
    """The rows, and everything that was said."""
    console = Console(file=io.StringIO(), width=200)
    rows = command.run(asked, Reporter(console), **options)
    assert isinstance(console.file, io.StringIO)
    return rows, console.file.getvalue()


def test_the_plan_counts_programs_names_groups_and_says_what_is_traced():
    chosen = trials(parse_overrides([*SHORT, *TOKENS], KNOWN))
    lines = plan(problems.experiment, chosen).lines()
    assert lines[0] == "plan: 12 trials, 1 program to compile"
    assert lines[1] == "inputs of the compiled step: lr, decay, ema, seed"
    assert lines[-1].startswith("constants of the compiled step, because only floats and the seed can be inputs: ")
    assert "batch_size, steps, log_every, evaluate_every, checkpoint_every (int)" in lines[-1]
    lines = plan(problems.experiment, trials(parse_overrides([*SHORT, "batch_size=4,8", "seed=0,1,2"], KNOWN))).lines()
    assert lines[0] == "plan: 6 trials, 2 programs to compile"
    assert "a program for each value of: batch_size" in lines
    assert "  group 2: batch_size=8: 3 trials" in lines


def test_twelve_trials_trace_once_and_go_on_where_they_were_killed(tmp_path):
    calls = []

    def killed_in_the_middle(experiment, overrides, folder, **options):
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append(folder)
        return fit(experiment, overrides, folder, **options)

    console = Console(file=io.StringIO(), width=200)
    with pytest.raises(KeyboardInterrupt):
        command.run(sweep(tmp_path, TOKENS, train=killed_in_the_middle), Reporter(console))
    assert isinstance(console.file, io.StringIO)
    assert "5 of 12 trials so far, best accuracy first" in console.file.getvalue()
    finished = {folder: (folder / "metrics.jsonl").stat().st_mtime_ns for folder in calls}
    traced = []

    def counted(*args, **options):
        result = fit(*args, **options)
        traced.append(result.traces)
        return result

    rows, said = run(sweep(tmp_path, TOKENS, train=counted))
    assert "5 of 12 trials have already ended" in said
    assert all((folder / "metrics.jsonl").stat().st_mtime_ns == at for folder, at in finished.items())
    assert len(traced) == 7 and sum(traced) == 0, "the first five had traced"
    assert program(problems.experiment, rows[0].overrides).traces == 1
    wanted = trials(parse_overrides([*SHORT, *TOKENS], KNOWN))
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == sorted(folder_name(t) for t in wanted)
    assert [row.state for row in rows] == ["finished"] * 12
    losses = {read_records(row.folder / "metrics.jsonl")[-1]["loss"] for row in rows if row.folder}
    assert len(losses) > 6, "the traced values reach the step"
    values = [row.value for row in rows if row.value is not None]
    assert len(values) == 12 and values == sorted(values, reverse=True)

    (table,) = tmp_path.glob("sweep-*.csv")
    with open(table, newline="") as file:
        written = list(csv.DictReader(file))
    assert len(written) == 12
    assert [float(row["accuracy"]) for row in written] == values
    assert table.with_suffix(".png").stat().st_size > 5_000
    for part in ("12 trials, best accuracy first", str(table), "tensorboard --logdir", "optuna-dashboard sqlite:///"):
        assert part in said
    # What is printed is the command of the best run: the same values, so the same folder.
    best = next(line for line in said.splitlines() if line.startswith("best, trial"))
    tokens = [word for word in best.split() if "=" in word]
    assert trials(parse_overrides(tokens, KNOWN)) == [rows[0].overrides]


def test_loss_is_better_when_smaller(tmp_path):
    rows, said = run(sweep(tmp_path, ["lr=1e-3,1e-2", "seed=0,1"], metric="loss"))
    assert "best loss first" in said
    values = [row.value for row in rows if row.value is not None]
    assert len(values) == 4 and values == sorted(values)
    with pytest.raises(UserError, match="did you mean accuracy"):
        run(sweep(tmp_path, ["lr=1e-3,1e-2"], metric="acuracy"))


def test_tpe_trains_each_number_once_and_a_larger_search_adds_to_it(tmp_path):
    tokens = ["lr=log(1e-4,1e-1)", "decay=uniform(0,1e-2)", "seed=0,1"]
    train = Pretender()

    def trained(root, count, train):
        work = pretended(root, tokens, train, kind="tpe", count=count)
        work_off(work, QUIET)
        return sorted(outcomes.rows(work.ledger), key=lambda row: row.number)

    twelve = trained(tmp_path / "grown", 12, train)
    assert [row.number for row in twelve] == list(range(12)) and len(train.calls) == 12
    assert all(1e-4 <= c["lr"] <= 1e-1 and 0 <= c["decay"] <= 1e-2 and c["seed"] in (0, 1) for c in train.calls)
    fourteen = trained(tmp_path / "grown", 14, train)
    assert fourteen[:12] == twelve and len(train.calls) == 14
    # In one go, the same fourteen.
    whole = trained(tmp_path / "whole", 14, Pretender())
    assert [row.overrides for row in whole] == [row.overrides for row in fourteen]


def test_the_plan_says_how_it_is_searched(tmp_path):
    asked = sweep(tmp_path, ["lr=log(1e-4,1e-1)", "batch_size=4,8"], count=20)
    lines = command.plan_lines(asked, command.make_plan(asked))
    assert lines[0] == "plan: 20 trials, 2 programs to compile"
    assert lines[-1].startswith("search: tpe, sampler seed 0, over lr=log(0.0001,0.1), batch_size=4,8")


def test_fresh_moves_study_and_runs_aside(tmp_path):
    run(sweep(tmp_path, ["lr=1e-3,1e-2"]))
    rows, said = run(sweep(tmp_path, ["lr=1e-3,1e-2"]), fresh=True)
    assert "already ended" not in said
    assert len(list(tmp_path.glob("sweep-*~1.db"))) == 1
    assert len([p for p in tmp_path.iterdir() if p.is_dir() and p.name.endswith("~1")]) == 2
    assert [row.state for row in rows] == ["finished"] * 2
    _, said = run(sweep(tmp_path, ["lr=1e-3,1e-2"]))
    assert "2 of 2 trials have already ended" in said


def test_the_files_own_trials_are_checked_before_the_first_one(tmp_path):
    def mine():
        for lr in (1e-3, 1e-2):
            yield {"lr": lr, "decay": lr / 10}
        yield {"lr": 1e-3, "decay": 1e-4}

    grid = parse_overrides(SHORT, KNOWN)
    own = own_trials(mine, grid, KNOWN, "mine.py")
    assert [(t["lr"], t["decay"]) for t in own] == [(1e-3, 1e-4), (1e-2, 1e-3)], "the same trial once"
    asked = Sweep(problems.experiment, Path("mine.py"), make_search({}, own=own), tmp_path)
    assert {row.overrides["decay"] for row in run(asked)[0]} == {1e-4, 1e-3}
    with pytest.raises(UserError, match="trial 1: unknown hyperparameter 'lrr': did you mean lr"):
        own_trials(lambda: [{"lrr": 1.0}], grid, KNOWN, "mine.py")
    with pytest.raises(UserError, match="yields 3"):
        own_trials(lambda: [3], grid, KNOWN, "mine.py")  # pyright: ignore[reportArgumentType]


def test_a_file_may_list_trials_of_an_experiment_that_it_imports(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        '"""Mine."""\nfrom problems import experiment\n\n\ndef sweep():\n    return [{"lr": 1e-3}, {"lr": 1e-2}]\n'
    )
    assert main([str(file), *SHORT, "--sweep", "--workdir", str(tmp_path)]) == 0
    assert "2 trials, best accuracy first" in capsys.readouterr().out
    assert main([str(file), "--help"]) == 0
    assert capsys.readouterr().out.startswith("Mine.")


def test_on_a_terminal_a_table_lives(tmp_path):
    work = pretended(tmp_path, ["lr=1e-3,1e-2,1e-1"], Pretender())
    work.ledger.finish(work.ledger.claim(), 0.625)
    claim = work.ledger.claim()
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    show = SweepReporter(Reporter(console), "accuracy", 3)
    with show.live():
        show.begin(claim)
        show.update(outcomes.rows(work.ledger))
        show.step(4, 18, {"loss": 0.25}, 100.0, 61.0)
        assert show._live is not None
        show._live.refresh()
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    for part in ("1 of 3 trials", "0.6250", "4/18", "loss 0.2500", "ETA 1:01", "0.01"):
        assert part in said
