"""A whole sweep: plan, ledger, engine, report."""

import datetime
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxcv.errors import UserError, unknown_name
from jaxcv.sweep import contact_sheet, outcomes, pictures, storages
from jaxcv.sweep.engine import work_off
from jaxcv.sweep.lanes import choose_width, describe, work_off_in_lanes
from jaxcv.sweep.ledger import Claim, Ledger
from jaxcv.sweep.live import SweepReporter, results_table
from jaxcv.sweep.plan import Plan, plan
from jaxcv.sweep.pruning import Pruning
from jaxcv.sweep.search import Search
from jaxcv.sweep.trial import Work
from jaxcv.train import Options, Result, fit, hyperparameters, resolve, sharding, unused
from jaxcv.train.console import Reporter
from jaxcv.train.experiment import Experiment, ExperimentFunction
from jaxcv.train.identity import identify
from jaxcv.train.loop import Preempted
from jaxcv.train.run import Run, read_run
from jaxcv.types import Table


@dataclass(frozen=True)
class Sweep:
    """The options of a sweep."""

    experiment: ExperimentFunction
    file: Path
    """Of the experiment, as typed on the command line."""
    search: Search
    root: Path
    """Folder of the run folders."""
    metric: str | None = None
    """Name of the test value that trials are compared by; None: the experiment's own."""
    storage: str | None = None
    """URL of an Optuna storage; None: a SQLite file in `root`."""
    prune: str | None = None
    """One of `jaxcv.sweep.pruning.KINDS`."""
    fail_fast: bool = False
    options: Options = Options()
    """How each run is trained."""
    train: Callable[..., Result] = fit


def open_work(sweep: Sweep, *, fresh: bool = False) -> Work:
    """Open the sweep's ledger, for running its trials.

    Args:
        sweep: its options.
        fresh: start the whole sweep again; the earlier study is renamed, and each run when its trial starts.

    Raises:
        UserError: If the metric or pruner is unknown, or the storage cannot be opened.
    """
    setup = _first_setup(sweep)
    metric = sweep.metric or setup.ranked_by
    if metric != "loss" and metric not in setup.metrics:
        raise UserError(f"--metric: {unknown_name('test value', metric, [*setup.metrics, 'loss'])}")
    suffix = "".join(f"-{word}" for word in (sweep.metric, sweep.prune) if word)
    name = f"sweep-{sweep.search.digest}{suffix}"
    if fresh:
        storages.move_study_aside(sweep.root, name, sweep.storage)
    ledger = Ledger(sweep.search, sweep.root, storage=sweep.storage, name=name, maximize=setup.larger_is_better(metric))
    if fresh:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        ledger.study.set_user_attr("fresh_since", now)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's warning that it is experimental
        ledger.study.set_metric_names([metric])
    interval = setup.interval("evaluate")
    pruning = Pruning(sweep.prune, ledger, first=interval, steps=setup.steps) if sweep.prune else None
    fresh_since = ledger.study.user_attrs.get("fresh_since")
    how = {"train": sweep.train, "options": sweep.options}
    return Work(sweep.experiment, ledger, metric, pruning, fresh_since, **how)


def run(
    sweep: Sweep,
    reporter: Reporter,
    *,
    fresh: bool = False,
    retry_failed: bool = False,
    engine: Callable[[Work, SweepReporter], None] | None = None,
    width: int | None = 1,
) -> list[outcomes.Row]:
    """Run all trials and report; returns them, the best first.

    Args:
        sweep: its options.
        reporter: prints messages and the table.
        fresh: as in `open_work`.
        retry_failed: run failed trials once more.
        engine: runs the trials; None: this process does.
        width: trials that this process runs at once, in lanes, which several devices divide; 1: one on all devices;
            None: one at least on each device, more by a measurement.

    Raises:
        UserError: If an option is refused; with `fail_fast`, at the first failed trial.
    """
    how = sweep.options.how
    if engine is None and width != 1:
        beside = sharding.beside(how or sharding.chosen())
        sweep = replace(sweep, options=replace(sweep.options, how=beside))
    planned = make_plan(sweep)
    reporter.say("\n".join(plan_lines(sweep, planned)))
    work = open_work(sweep, fresh=fresh)
    ledger = work.ledger
    if retry_failed:
        count = ledger.retry_failed()
        reporter.say(f"{count} failed {'trial runs' if count == 1 else 'trials run'} once more")
    show = SweepReporter(reporter, work.metric, len(outcomes.rows(ledger)))
    work = replace(work, announce=show.announce)
    if not fresh:
        _compare_ended(sweep, ledger)
    _report_ended(ledger, show)

    def on_begin(claim: Claim) -> None:
        show.begin(claim)
        show.update(outcomes.rows(ledger))

    def on_end(claim: Claim, error: Exception | None) -> None:
        rows = outcomes.rows(ledger)
        show.update(rows)
        done = sum(row.ended for row in rows)
        show.end(next(row for row in rows if row.number == claim.number), done)

    left = sum(not trial.state.is_finished() for trial in ledger.trials())
    if any(len(shared.variants) > 1 for shared, _ in planned.groups):
        if width is not None and width > 1:
            raise UserError(
                f"--lanes {width}: a trial here alternates between several compiled steps, and lanes can share only one"
            )
        width = 1
    if engine is None and width is None:
        width = choose_width(work, planned.groups, left, reporter.say)
    if width == 1:
        work = replace(work, options=replace(work.options, how=how))
    width = min(width or 1, max(left, 1))
    if width > 1 and (line := describe(work, width)) is not None:
        reporter.say(line)
    try:
        with show.live():
            if engine is not None:
                engine(work, show)
            elif width > 1:
                work_off_in_lanes(work, show, width=width, fail_fast=sweep.fail_fast, on_begin=on_begin, on_end=on_end)
            else:
                work_off(work, show, fail_fast=sweep.fail_fast, on_begin=on_begin, on_end=on_end)
    except (KeyboardInterrupt, Preempted):
        _report_so_far(work, reporter)
        raise
    rows = outcomes.rows(ledger)
    if moved := [row for row in rows if row.starts]:
        moves = [f"{row.number} ({_way(row)})" for row in moved]
        reporter.say(f"resumed after their process ended: trials {', '.join(moves)}")
    report(sweep, work, rows, reporter)
    ledger.close()
    return rows


def run_worker(sweep: Sweep, reporter: Reporter) -> None:
    """Run trials of a sweep as a worker; another process reports."""
    work = replace(open_work(sweep), announce=reporter.say)
    work_off(work, Reporter(quiet=True), fail_fast=sweep.fail_fast)
    work.ledger.close()


def make_plan(sweep: Sweep) -> Plan:
    """The programs that the sweep needs."""
    count = sweep.search.count if sweep.search.learns else None
    return plan(sweep.experiment, sweep.search.representatives(), count=count, how=sweep.options.how)


def plan_lines(sweep: Sweep, planned: Plan) -> list[str]:
    """The plan and the search, as lines for the terminal."""
    search, lines = sweep.search, planned.lines()
    if search.kind != "grid":
        space = ", ".join(f"{name}={_shown(values)}" for name, values in search.space.items())
        lines.append(f"search: {search.kind}, sampler seed {search.seed}, over {space}")
    return lines


def _report_so_far(work: Work, reporter: Reporter) -> None:
    """The table of the trials that have ended, of a sweep that is interrupted."""
    rows = outcomes.rows(work.ledger)
    ended = [row for row in rows if row.ended]
    if ended and not reporter.quiet:
        title = f"{len(ended)} of {len(rows)} trials so far, best {work.metric} first"
        reporter.console.print(results_table(ended, work.metric, title))


def report(sweep: Sweep, work: Work, rows: Sequence[outcomes.Row], reporter: Reporter) -> tuple[Path, Path]:
    """Print the table, best first; write it and a picture beside the run folders; print the best run's command.

    Returns:
        The paths of table and picture.
    """
    ledger = work.ledger
    if not reporter.quiet:
        title = f"{len(rows)} trials, best {work.metric} first"
        reporter.console.print(results_table(rows, work.metric, title))
    if settings := outcomes.over_seeds(rows, maximize=ledger.maximize):
        names = outcomes.varied([row for row in rows if row.state == "finished"])
        names = [name for name in names if name != "seed"]
        cells = [
            (*(str(one.overrides.get(n, "")) for n in names), f"{one.mean:.4f}", f"{one.sd:.4f}", len(one.values))
            for one in settings
        ]
        columns = (*names, f"{work.metric}, mean", "sd", "seeds")
        reporter.show(Table("", "each setting over its seeds, the best mean first", columns, cells))
        if (line := outcomes.decided_by_seed(settings)) is not None:
            reporter.say(line)
    table = ledger.root / f"{ledger.name}.csv"
    outcomes.write_csv(rows, work.metric, table)
    picture = table.with_suffix(".png")
    pictures.draw(ledger, rows, work.metric, picture, unused=unused(sweep.experiment))
    reporter.say(f"table: {table}   picture: {picture}")
    if (page := contact_sheet.draw(rows, table.with_name(f"{ledger.name}-previews.png"))) is not None:
        reporter.say(f"previews of all trials: {page}")
    if rows and rows[0].state == "finished":
        known = hyperparameters(sweep.experiment)
        workdir = [] if ledger.root.parent == Path("runs") else ["--workdir", str(ledger.root.parent)]
        again = outcomes.command(sweep.file, rows[0].overrides, known, *workdir)
        reporter.say(f"best, trial {rows[0].number}: {again}")
    for line in dashboard_commands(ledger):
        reporter.say(line)
    return table, picture


def dashboard_commands(ledger: Ledger) -> list[str]:
    """Commands that show the sweep in a browser."""
    url = ledger.url.removeprefix("journal:")
    return [
        f"hyperparameters and curves: tensorboard --logdir {ledger.root}",
        f"the study: optuna-dashboard {storages.hide_password(url)}",
    ]


def refuse_failures(rows: Sequence[outcomes.Row]) -> None:
    """Raise if trials failed.

    Raises:
        UserError: With the number of failures, and the first one's error.
    """
    failed = [row for row in rows if row.state == "failed"]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(rows)} trials failed, the first with: {failed[0].error} "
            "(--retry-failed runs them once more)"
        )


def _first_setup(sweep: Sweep) -> Experiment:
    """The experiment of the first trial that does not raise."""
    first: Exception | None = None
    for trial in sweep.search.representatives():
        try:
            return sweep.experiment(**resolve(sweep.experiment, trial))
        except Exception as error:  # the experiment's own, of whatever kind
            first = first or error
    raise first or UserError("no trial")


def _compare_ended(sweep: Sweep, ledger: Ledger) -> None:
    """Compare source and data of ended trials with the current ones.

    Raises:
        UserError: With the first difference of the first trial that differs.
    """
    since = ledger.study.user_attrs.get("fresh_since")
    for row in outcomes.rows(ledger):
        if not row.ended or row.state == "failed" or row.folder is None or (facts := read_run(row.folder)) is None:
            continue
        if since is not None and facts["time"].get("begun", "") < since:
            continue  # it will be started again
        values = resolve(sweep.experiment, row.overrides)
        now = identify(sweep.experiment, values, sweep.experiment(**values), over=True)
        Run(row.folder, facts).compare(now, accept=sweep.options.accept)


def _report_ended(ledger: Ledger, show: SweepReporter) -> None:
    rows = outcomes.rows(ledger)
    if over := sum(row.ended for row in rows):
        show.announce(f"{ledger.name}: {over} of {len(rows)} trials have already ended")
    show.update(rows)


def _way(row: outcomes.Row) -> str:
    """The machines of a trial, and the steps at which it was resumed."""
    hosts = {start["host"] for start in row.starts} | {start["from"] for start in row.starts}
    steps = [f"step {start['step']}" + (f" on {start['host']}" if len(hosts) > 1 else "") for start in row.starts]
    return ("at " if len(hosts) == 1 else f"{row.starts[0]['from']}, then from ") + ", ".join(steps)


def _shown(values: Any) -> str:
    return ",".join(map(str, values)) if isinstance(values, Sequence) else str(values)
