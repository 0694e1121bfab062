"""Trials one after another in this process, sharing compiled programs.

Several processes may do so with one ledger, on one machine or many; each claims free trials.
"""

import time
from collections.abc import Callable

from jaxcv.sweep.ledger import Claim, Ledger
from jaxcv.sweep.trial import Work, run_trial
from jaxcv.train.console import Reporter

_POLL = 0.5
"""Seconds between reads of the ledger."""


def work_off(
    work: Work,
    reporter: Reporter,
    *,
    fail_fast: bool = False,
    on_begin: Callable[[Claim], None] = lambda claim: None,
    on_end: Callable[[Claim, Exception | None], None] = lambda claim, error: None,
    wait: bool = True,
) -> None:
    """Run trials until all of the ledger have ended.

    Args:
        work: the sweep.
        reporter: of the single runs.
        fail_fast: raise the first error instead of continuing.
        on_begin: called before each trial.
        on_end: called after each trial, with its error if it had one.
        wait: at the end, for trials of other processes, to resume them if those die.

    Raises:
        Exception: With `fail_fast`, the first error of a trial; and as `run_trial`.
    """
    while True:
        claim = work.ledger.claim(where=work.where)
        if claim is None:
            if not wait or not is_running(work.ledger):
                return
            time.sleep(_POLL)
            continue
        on_begin(claim)
        error = run_trial(work, claim, reporter)
        on_end(claim, error)
        if error is not None and fail_fast:
            raise error


def is_running(ledger: Ledger) -> bool:
    """Whether any trial is not finished."""
    return any(not trial.state.is_finished() for trial in ledger.trials())
