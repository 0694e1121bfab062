"""One claimed trial: trained in its folder, its values and its end recorded in the ledger."""

import gc
import socket
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxcv.errors import UserError
from jaxcv.sweep.ledger import Claim, Ledger
from jaxcv.sweep.plan import one_line
from jaxcv.sweep.pruning import Pruning
from jaxcv.train import Result, fit
from jaxcv.train.console import Reporter
from jaxcv.train.experiment import ExperimentFunction
from jaxcv.train.lanes import Lanes, LanesBroken
from jaxcv.train.loop import Preempted
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
    announce: Callable[[str], None] = lambda text: None
    """Prints a line about the sweep."""


class Died(UserError):
    """Several processes died at the same step of a trial."""


def run_trial(work: Work, claim: Claim, reporter: Reporter, *, lanes: Lanes | None = None) -> Exception | None:
    """Train a claimed trial until it is finished, stopped or failed; returns the error that ended it, or None.

    Args:
        work: the sweep.
        claim: the trial.
        reporter: of its run.
        lanes: to take the steps in.

    Raises:
        LanesBroken: If the lanes cannot continue; the trial is released.
        KeyboardInterrupt: The trial is released.
        Preempted: If a signal asked the process to stop; the trial is released.
    """
    ledger = work.ledger

    def watch(step: int, values: Mapping[str, Any]) -> bool:
        value = values.get(work.metric)
        if value is None:
            return False
        ledger.report(claim, step, value)
        return work.pruning is not None and work.pruning.should_stop(claim, step)

    try:
        if claim.before is not None:
            _take_up(work, claim)
        with ledger.heartbeat(claim):
            result = work.train(
                work.experiment,
                claim.overrides,
                claim.folder,
                fresh=_is_older(claim.folder, work.fresh_since),
                reporter=reporter,
                watch=watch,
                short=True,
                patience=_PATIENCE,
                **({} if lanes is None else {"lanes": lanes}),
            )
        value = result.test.get(work.metric)
        if result.stopped_at is not None:
            ledger.prune(claim, result.stopped_at, value)
        elif value is None:
            raise UserError(f"no value: {work.metric} of its last evaluation is not finite")
        else:
            ledger.finish(claim, value)
    except (KeyboardInterrupt, Preempted, LanesBroken):
        ledger.give_back(claim)
        raise
    except Exception as error:
        if not isinstance(error, UserError):
            _write_traceback(claim.folder)
        ledger.fail(claim, one_line(error))
        error.__traceback__ = None  # it keeps the run's arrays alive
        gc.collect()
        return error
    return None


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


def _write_traceback(folder: Path) -> None:
    if folder.is_dir():
        (folder / "traceback.txt").write_text(traceback.format_exc())
