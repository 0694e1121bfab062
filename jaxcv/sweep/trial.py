"""One claimed trial: trained in its folder, its values told to the ledger, its end written down."""

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
"""Seconds to wait for another process in the folder: one that dies, or one that trains the very same values."""
_DEATHS = 5
"""So many owners may die over one trial without having come any further."""


@dataclass(frozen=True)
class Work:
    """What a process needs to run trials of a sweep."""

    experiment: ExperimentFunction
    ledger: Ledger
    metric: str
    """Name of the test value that trials are compared by."""
    pruning: Pruning | None = None
    fresh_since: str | None = None
    """Runs begun before this moment (ISO 8601) are begun anew."""
    where: str = socket.gethostname()
    """This machine, as a person calls it."""
    train: Callable[..., Result] = fit
    announce: Callable[[str], None] = lambda text: None
    """Says what a person should know, in a line."""


class Died(UserError):
    """Process after process ended over the same trial."""


def run_trial(work: Work, claim: Claim, reporter: Reporter, *, lanes: Lanes | None = None) -> Exception | None:
    """Train a claimed trial to its end, whatever that is; returns the error that ended it, or None.

    Args:
        work: what is to be done.
        claim: the trial.
        reporter: of its run.
        lanes: to take the steps in.

    Raises:
        LanesBroken: the lanes cannot go on; the trial is given back.
        KeyboardInterrupt: as Preempted, comes through; the trial is given back.
        Preempted: a signal asked to stop.
    """
    ledger = work.ledger

    def watch(step: int, values: Mapping[str, Any]) -> bool:
        value = values.get(work.metric)
        if value is None:
            return False
        ledger.report(claim, step, value)
        return work.pruning is not None and work.pruning.verdict(claim, step)

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
            raise UserError(f"no value: its last evaluation gave no finite {work.metric}")
        else:
            ledger.finish(claim, value)
    except (KeyboardInterrupt, Preempted, LanesBroken):
        ledger.give_back(claim)
        raise
    except Exception as error:
        if not isinstance(error, UserError):
            _write_traceback(claim.folder)
        ledger.fail(claim, one_line(error))
        error.__traceback__ = None  # it holds on to the arrays of the run
        gc.collect()
        return error
    return None


def _is_older(folder: Path, moment: str | None) -> bool:
    """Whether there is a run that was begun before a moment, and so shall be begun anew."""
    when = begun(folder)
    return moment is not None and when is not None and when < moment


def _take_up(work: Work, claim: Claim) -> None:
    """Write down and say from where a trial goes on that somebody else had begun."""
    assert claim.before is not None
    step = newest_step(claim.folder)
    starts = work.ledger.taken_up(claim, step, work.where)
    moved = f"from {claim.before['host']} to {work.where}" if claim.before["host"] != work.where else "here"
    if len(starts) > _DEATHS and all(start["step"] == step for start in starts[-_DEATHS:]):
        raise Died(f"{claim.folder}: {_DEATHS} processes ended at step {step}: out of memory? dmesg may tell")
    work.announce(f"trial {claim.number}: its process ended; going on {moved} from step {step}")


def newest_step(folder: Path) -> int:
    """The step of the newest checkpoint in a run's folder; 0 where there is none."""
    try:
        return max((int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit()), default=0)
    except OSError:
        return 0


def _write_traceback(folder: Path) -> None:
    if folder.is_dir():
        (folder / "traceback.txt").write_text(traceback.format_exc())
