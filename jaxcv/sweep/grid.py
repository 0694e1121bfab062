"""Every trial in turn, in this process, sharing compiled programs; then one table and one picture.

The run folders are the ledger: a finished trial is skipped, an interrupted one goes on. Other engines (processes,
machines) take the same trials and leave the same folders.
"""

import csv
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from jaxcv.sweep.space import folder_name
from jaxcv.train import Result, fit
from jaxcv.train.console import Reporter
from jaxcv.train.experiment import ExperimentFunction
from jaxcv.train.run import read_records
from jaxcv.types import UserError


@dataclass(frozen=True)
class Outcome:
    """A trial and how it ended: a result, or the error that ended it."""

    overrides: Mapping[str, Any]
    folder: Path
    result: Result | None = None
    error: UserError | None = None


def run_trials(
    experiment: ExperimentFunction,
    trials: Sequence[Mapping[str, Any]],
    root: Path,
    *,
    fresh: bool = False,
    fail_fast: bool = False,
    reporter: Reporter,
    train: Callable[..., Result] = fit,
) -> list[Outcome]:
    """Train all trials. One that is refused or fails is reported at once, and the others go on.

    Args:
        experiment: an experiment file's function.
        trials: overrides, one mapping a trial.
        root: folder of the run folders.
        fresh: begin every trial anew.
        fail_fast: raise the first error instead of going on.
        reporter: what is shown meanwhile.
        train: called as `train(experiment, overrides, folder, fresh=..., reporter=...)`.
    """
    outcomes = []
    for number, overrides in enumerate(trials, start=1):
        folder = root / folder_name(overrides)
        reporter.say(f"trial {number}/{len(trials)}: {folder.name}", style="bold")
        try:
            result = train(experiment, overrides, folder, fresh=fresh, reporter=reporter)
        except UserError as error:
            if fail_fast:
                raise
            reporter.warn(f"trial {number}/{len(trials)} failed: {error}")
            outcomes.append(Outcome(overrides, folder, error=error))
        else:
            outcomes.append(Outcome(overrides, folder, result))
    return outcomes


def report(outcomes: Sequence[Outcome], root: Path, rank_by: str, reporter: Reporter) -> tuple[Path, Path]:
    """Print the table, best first, and write it with its picture beside the run folders.

    Args:
        outcomes: of `run_trials`.
        root: where `sweep-<digest>.csv` and `.png` go; the digest is that of the set of trials.
        rank_by: name of a test value; larger is better, but for `loss`.
        reporter: prints the table.

    Returns:
        The paths of table and picture.
    """
    sign = 1.0 if rank_by == "loss" else -1.0
    done = [o for o in outcomes if o.result is not None and o.result.test.get(rank_by) is not None]
    done.sort(key=lambda o: sign * o.result.test[rank_by])  # pyright: ignore[reportOptionalMemberAccess]
    rest = [o for o in outcomes if o not in done]
    names = list(dict.fromkeys(name for o in outcomes for name in o.overrides))
    measured = list(dict.fromkeys(name for o in done if o.result for name in o.result.test))
    measured = [rank_by, *(name for name in measured if name != rank_by)]

    def settings(outcome: Outcome) -> list[str]:
        return [str(outcome.overrides.get(name, "")) for name in names]

    rows = [
        [*settings(o), *("" if (v := o.result.test.get(m)) is None else v for m in measured)] for o in done if o.result
    ] + [[*settings(o), str(o.error or "no value")] for o in rest]

    table = Table(title=f"{len(outcomes)} trials, best {rank_by} first", title_justify="left")
    varied = [i for i, name in enumerate(names) if len({str(o.overrides.get(name)) for o in outcomes}) > 1]
    shown = [*varied, *range(len(names), len(names) + len(measured))]
    for i in shown:
        table.add_column([*names, *measured][i], justify="right", overflow="fold")
    for row in rows:
        cells = [row[i] for i in shown if i < len(row)]
        table.add_row(*(f"{cell:.4f}" if isinstance(cell, float) else cell for cell in cells))
    if not reporter.quiet:
        reporter.console.print(table)

    digest = hashlib.sha256("\n".join(sorted(o.folder.name for o in outcomes)).encode()).hexdigest()[:8]
    path = root / f"sweep-{digest}.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([[*names, *measured], *rows])
    labels = [", ".join(f"{names[i]}={o.overrides.get(names[i])}" for i in varied) for o in done]
    picture = _draw_curves(done, labels, rank_by, path.with_suffix(".png"))
    reporter.say(f"table: {path}   picture: {picture}")
    return path, picture


def _draw_curves(done: Sequence[Outcome], labels: Sequence[str], rank_by: str, path: Path) -> Path:
    """The ranking value of every trial over its steps, the best trials named."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel=f"test {rank_by}")
    for place, outcome in enumerate(done):
        records = [r for r in read_records(outcome.folder / "metrics.jsonl") if r["split"] == "test"]
        points = [(r["step"], r[rank_by]) for r in records if r.get(rank_by) is not None]
        label = labels[place] if place < 10 else None
        axes.plot(*zip(*points, strict=True), marker=".", label=label, alpha=1.0 if place < 10 else 0.3)
    if done:
        axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    return path
