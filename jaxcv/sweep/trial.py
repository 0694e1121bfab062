"""One claimed trial: trained in its folder, its values and its end recorded in the ledger."""

import contextlib
import gc
import socket
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from jaxcv.errors import UserError
from jaxcv.sweep.ledger import Claim, Ledger
from jaxcv.sweep.plan import one_line
from jaxcv.sweep.pruning import Pruning
from jaxcv.train import Options, Result, Trial, fit, fit_many, hosts
from jaxcv.train.console import Reporter
from jaxcv.train.experiment import ExperimentFunction
from jaxcv.train.loop import Preempted
from jaxcv.train.observer import Watch
from jaxcv.train.run import begun

_PATIENCE = 86_400.0
"""Seconds to wait for another process that uses the folder, until it dies or finishes the same trial."""
_DEATHS = 5
"""Number of owners that may die in succession at the same step of a trial."""


@dataclass(frozen=True)
class Work:
    """What a process needs to run trials of a sweep."""

    experiment: ExperimentFunction
    ledger: Ledger
    metric: str
    """Name of the test value that trials are compared by."""
    pruning: Pruning | None = None
    fresh_since: str | None = None
    """Runs started before this time (ISO 8601) are started again."""
    where: str = socket.gethostname()
    """Name of this machine in messages."""
    train: Callable[..., Result] = fit
    options: Options = Options()
    """How each run is trained."""
    announce: Callable[[str], None] = lambda text: None
    """Prints a line about the sweep."""


class Died(UserError):
    """Several processes died at the same step of a trial."""


class TooMany(Exception):
    """Trials could not be trained side by side, by no fault of one of them; those that are not over are given back."""


def run_trial(work: Work, claim: Claim, reporter: Reporter) -> Exception | None:
    """Train a claimed trial to its end, whatever that is; returns the error that ended it, or None.

    Raises:
        KeyboardInterrupt: as Preempted, comes through; the trial is given back.
        Preempted: a signal asked to stop.
        ProcessLost: another process of the trial has ended. This one is still the owner, until it ends too.
    """
    try:
        if claim.before is not None:
            _take_up(work, claim)
        with work.ledger.heartbeat(claim):
            result = _train(work, claim, reporter, partial(_watch, work, claim))
        return _settle(work, claim, result)
    except (KeyboardInterrupt, Preempted):
        work.ledger.give_back(claim)
        raise
    except Exception as error:  # the experiment's own, of whatever kind: the sweep goes on
        if hosts.is_lost(error):
            raise hosts.ProcessLost(str(error)) from None
        return _settle(work, claim, error)


def join_trial(work: Work, claim: Claim) -> None:
    """Train as another process of a trial, whose first one does `run_trial`; raises what ended it."""
    try:
        _train(work, claim, Reporter(quiet=True))
    except Exception as error:
        if hosts.is_lost(error):
            raise hosts.ProcessLost(str(error)) from None
        raise


def _train(work: Work, claim: Claim, reporter: Reporter, watch: Watch | None = None) -> Result:
    fresh = _is_older(claim.folder, work.fresh_since)
    how = {"fresh": fresh, "reporter": reporter, "watch": watch, **vars(_options(work))}
    return work.train(work.experiment, claim.overrides, claim.folder, **how)


def run_trials(
    work: Work,
    claims: Sequence[Claim],
    reporters: Sequence[Reporter],
    on_end: Callable[[Claim, Exception | None], None] = lambda claim, error: None,
) -> None:
    """Train claimed trials of one program side by side to their ends; `on_end` hears of each.

    Raises:
        TooMany: they cannot be trained together.
        KeyboardInterrupt: as Preempted, comes through; what is not over is given back.
        Preempted: a signal asked to stop.
    """
    left = list(claims)

    def over(claim: Claim, result: Result | Exception) -> None:
        error = _settle(work, claim, result)
        left.remove(claim)
        on_end(claim, error)

    try:
        with contextlib.ExitStack() as stack:
            trials = []
            for claim, reporter in zip(claims, reporters, strict=True):
                if claim.before is not None:
                    _take_up(work, claim)
                stack.enter_context(work.ledger.heartbeat(claim))
                trials.append(
                    Trial(
                        values=claim.overrides,
                        workdir=claim.folder,
                        reporter=reporter,
                        fresh=_is_older(claim.folder, work.fresh_since),
                        watch=partial(_watch, work, claim),
                        on_end=partial(over, claim),
                    )
                )
            fit_many(work.experiment, trials, _options(work))
    except BaseException as error:  # whatever it is, what is not over must be given back
        for claim in left:
            work.ledger.give_back(claim)
        if isinstance(error, Preempted | KeyboardInterrupt) or not left:
            raise
        raise TooMany(f"{type(error).__name__}: {error}") from error


def _options(work: Work) -> Options:
    return replace(work.options, short=True, patience=_PATIENCE)


def _watch(work: Work, claim: Claim, step: int, values: Mapping[str, Any]) -> bool:
    """Tell the ledger; whether the trial ends early."""
    value = values.get(work.metric)
    if value is None:
        return False
    work.ledger.report(claim, step, value)
    return work.pruning is not None and work.pruning.should_stop(claim, step)


def _settle(work: Work, claim: Claim, result: Result | Exception) -> Exception | None:
    """Write down how a trial ended; the error that ended it, or None."""
    ledger = work.ledger
    if not isinstance(result, Exception):
        value = result.test.get(work.metric)
        if result.stopped_at is not None:
            ledger.prune(claim, result.stopped_at, value)
            return None
        if value is not None:
            ledger.finish(claim, value)
            return None
        result = UserError(f"no value: {work.metric} of its last evaluation is not finite")
    if not isinstance(result, UserError):
        _write_traceback(claim.folder, result)
    ledger.fail(claim, one_line(result))
    result.__traceback__ = None  # it holds on to the arrays of the run
    gc.collect()
    return result


def _is_older(folder: Path, moment: str | None) -> bool:
    """Whether the folder has a run that was started before this time."""
    when = begun(folder)
    return moment is not None and when is not None and when < moment


def _take_up(work: Work, claim: Claim) -> None:
    """Record and report that a trial of another process is resumed. Raises Died."""
    assert claim.before is not None
    step = newest_step(claim.folder)
    starts = work.ledger.taken_up(claim, step, work.where)
    moved = f"from {claim.before['host']} to {work.where}" if claim.before["host"] != work.where else "here"
    if len(starts) > _DEATHS and all(start["step"] == step for start in starts[-_DEATHS:]):
        raise Died(f"{claim.folder}: {_DEATHS} processes ended at step {step}: out of memory? See dmesg")
    work.announce(f"trial {claim.number}: its process ended; resumed {moved} from step {step}")


def newest_step(folder: Path) -> int:
    """The step of the newest checkpoint in a run's folder; 0 where there is none."""
    try:
        return max((int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit()), default=0)
    except OSError:
        return 0


def _write_traceback(folder: Path, error: Exception) -> None:
    if folder.is_dir():
        (folder / "traceback.txt").write_text("".join(traceback.format_exception(error)))
