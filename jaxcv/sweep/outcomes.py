"""The results of a sweep's trials as rows: finished ones best first, then stopped, failed and unfinished ones."""

import csv
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from jaxcv.errors import UserError
from jaxcv.sweep.ledger import Ledger
from jaxcv.sweep.search import encode
from jaxcv.sweep.space import parse_overrides
from jaxcv.train.experiment import Hyperparameter
from jaxcv.train.run import read_records, values_of

WORDS = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
_ORDER = list(WORDS.values())


@dataclass(frozen=True)
class Row:
    """One trial."""

    number: int
    state: str
    """One of `WORDS`."""
    overrides: Mapping[str, Any]
    value: float | None
    """The compared value, at the end or where it was stopped."""
    step: int | None
    """Of the newest evaluation."""
    folder: Path | None
    error: str = ""
    starts: Sequence[Mapping[str, Any]] = ()
    """Resumptions after its process ended: `from`, `host`, `step`."""

    @property
    def ended(self) -> bool:
        """Whether it is finished, stopped or failed."""
        return self.state not in ("running", "waiting")


def rows(ledger: Ledger) -> list[Row]:
    """All trials, the best first; without failed trials that were retried."""
    result, trials = [], ledger.trials()
    again = {trial.user_attrs.get("retry_of") for trial in trials}
    for trial in trials:
        if trial.number in again:
            continue
        values = trial.intermediate_values
        folder = trial.user_attrs.get("folder")
        result.append(
            Row(
                number=trial.number,
                state=WORDS[trial.state],
                overrides=ledger.search.decode(trial.params),
                value=trial.value if trial.values else (values[max(values)] if values else None),
                step=max(values) if values else None,
                folder=None if folder is None else Path(folder),
                error=trial.user_attrs.get("error", "") if trial.state is TrialState.FAIL else "",
                starts=trial.user_attrs.get("starts", []),
            )
        )
    sign = -1.0 if ledger.maximize else 1.0
    return sorted(
        result, key=lambda r: (_ORDER.index(r.state), float("inf") if r.value is None else sign * r.value, r.number)
    )


def varied(rows: Sequence[Row]) -> list[str]:
    """Names of the hyperparameters that differ between trials, in the order of the signature."""
    names = list(dict.fromkeys(name for row in rows for name in row.overrides))
    return [name for name in names if len({repr(row.overrides.get(name)) for row in rows}) > 1]


@dataclass(frozen=True)
class Setting:
    """The finished trials that differ in their seed alone."""

    overrides: Mapping[str, Any]
    """Without the seed."""
    values: Sequence[float]

    @property
    def mean(self) -> float:
        """Of the compared value."""
        return statistics.fmean(self.values)

    @property
    def sd(self) -> float:
        """Standard deviation over seeds, by n - 1; 0 of one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0


def over_seeds(rows: Sequence[Row], *, maximize: bool) -> list[Setting]:
    """Settings by the mean over their seeds, the best first; none where no setting has several seeds."""
    found: dict[str, tuple[Mapping[str, Any], list[float]]] = {}
    for row in rows:
        if row.state == "finished" and row.value is not None and "seed" in row.overrides:
            rest = {name: value for name, value in row.overrides.items() if name != "seed"}
            found.setdefault(repr(rest), (rest, []))[1].append(row.value)
    settings = [Setting(rest, values) for rest, values in found.values()]
    if all(len(setting.values) < 2 for setting in settings):
        return []
    return sorted(settings, key=lambda setting: -setting.mean if maximize else setting.mean)


def decided_by_seed(settings: Sequence[Setting]) -> str | None:
    """A line where the best two settings differ by less than seeds do; None where they differ by more."""
    if len(settings) < 2:
        return None
    gap, spread = abs(settings[0].mean - settings[1].mean), max(settings[0].sd, settings[1].sd)
    if gap > spread:
        return None
    return f"the best two settings differ by {gap:.4f}, seeds by {spread:.4f} (sd): which is better, the seed decides"


def measured(row: Row) -> dict[str, Any]:
    """The test values of a trial's newest evaluation, from its folder."""
    if row.folder is None:
        return {}
    tests = [r for r in read_records(row.folder / "metrics.jsonl") if r["split"] == "test"]
    return values_of(tests[-1]) if tests else {}


def write_csv(rows: Sequence[Row], metric: str, path: Path) -> None:
    """Write every trial with its settings, test values and state."""
    names = list(dict.fromkeys(name for row in rows for name in row.overrides))
    tests = [measured(row) for row in rows]
    others = [n for n in dict.fromkeys(name for test in tests for name in test) if n != metric]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "state", *names, metric, *others, "step", "error", "folder"])
        for row, test in zip(rows, tests, strict=True):
            settings = [encode(row.overrides[name]) if name in row.overrides else "" for name in names]
            values = ["" if (v := test.get(name)) is None else v for name in others]
            value = "" if row.value is None else row.value
            ends = ["" if row.step is None else row.step, row.error, row.folder or ""]
            writer.writerow([row.number, row.state, *settings, value, *values, *ends])


def command(file: Path, overrides: Mapping[str, Any], known: Mapping[str, Hyperparameter], *flags: str) -> str:
    """The command line that runs one trial."""
    words = [_word(name, value, known) for name, value in overrides.items()]
    return shlex.join(["python", "launch.py", str(file), *words, *flags])


def _word(name: str, value: Any, known: Mapping[str, Hyperparameter]) -> str:
    for word in (f"{name}={value}", f"{name}={value!r}"):
        try:
            if parse_overrides([word], known) == {name: [value]}:
                return word
        except UserError:
            continue
    return f"{name}={value!r}"
