"""Trials of one group side by side, as lanes of one vmapped program.

Worth it where one trial cannot fill the machine: on GPUs and TPUs, and on a CPU for small dense networks. Where it is
not asked for, a probe measures both ways first, if the sweep is long enough for that to pay.
"""

import importlib
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcv.sweep.engine import work_off
from jaxcv.sweep.ledger import Claim
from jaxcv.sweep.live import SweepReporter
from jaxcv.sweep.trial import Work, run_trial
from jaxcv.train import Program, program, resolve
from jaxcv.train.lanes import Lanes, LanesBroken, compile_lanes
from jaxcv.train.signals import ask_to_stop, stop_signals

_LATE = (
    "grain",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "orbax.checkpoint.checkpoint_managers",
    "PIL.Image",
    "PIL.ImageDraw",
    "pycocotools.mask",
    "tensorboardX.summary",
)
"""Modules that data, reports, checkpoints and events load late."""
_WIDEST = 8
"""Lanes of which a probe is made."""
_WORTH_A_PROBE = 120.0
"""Seconds of training below which no probe is made: it compiles another program."""


def work_off_in_lanes(
    work: Work,
    show: SweepReporter,
    *,
    width: int,
    fail_fast: bool = False,
    on_begin: Callable[[Claim], None] = lambda claim: None,
    on_end: Callable[[Claim, Exception | None], None] = lambda claim, error: None,
) -> None:
    """As `engine.work_off`, `width` trials at a time; those of a group together.

    Where the vmapped step fails (it needs `width` times the memory), the trials go on one after another.
    """
    rooms: dict[int, Lanes] = {}  # by program
    lock, errors, broken = threading.Lock(), [], []
    start = threading.Barrier(width)

    def room(claim: Claim) -> Lanes:
        with lock:
            needed = program(work.experiment, claim.overrides)
            return rooms.setdefault(id(needed), Lanes(needed, width))

    def lane() -> None:
        mine: Lanes | None = None
        waited = False
        try:
            while not (errors or broken):
                claim = work.ledger.claim(where=work.where, prefer=partial(_fits, work, mine))
                if claim is None:
                    return
                theirs = room(claim)
                if theirs is not mine:
                    if mine is not None:
                        mine.leave()
                    theirs.enter()
                    mine = theirs
                if not waited:  # nobody takes a step before all are there
                    waited = True
                    start.wait()
                on_begin(claim)
                error = run_trial(work, claim, show, lanes=theirs)
                on_end(claim, error)
                if error is not None and fail_fast:
                    raise error
        except LanesBroken as error:
            broken.append(error)
        except BaseException as error:
            errors.append(error)
            ask_to_stop()
        finally:
            if not waited:
                start.abort() if errors else _arrive(start)
            if mine is not None:
                mine.leave()

    import_what_runs_import()
    with stop_signals() as asked:
        threads = [threading.Thread(target=lane) for _ in range(width)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            if asked.wait(0.2):
                ask_to_stop()
                break
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    if broken:
        show.announce(f"lanes: the step of {width} at once failed ({broken[0]}); one after another instead")
    work_off(work, show, fail_fast=fail_fast, on_begin=on_begin, on_end=on_end)


def import_what_runs_import() -> None:
    """Load what a run loads when it needs it, before several do so at once in threads.

    Where an import fails in one thread, another finds half a module and says that it lacks an attribute; here, the
    error is the module's own.
    """
    for name in _LATE:
        importlib.import_module(name)


def _fits(work: Work, lanes: Lanes | None, overrides: Mapping[str, Any]) -> bool:
    try:
        return lanes is not None and program(work.experiment, overrides) is lanes.program
    except Exception:  # the trial will say so itself
        return False


def _arrive(start: threading.Barrier) -> None:
    try:
        start.wait()
    except threading.BrokenBarrierError:
        return


def choose_width(
    work: Work, groups: Sequence[tuple[Program, list[int]]], count: int, say: Callable[[str], None]
) -> int:
    """How many lanes to use, 1 for none; says what was measured, or why nothing was.

    Args:
        work: the sweep.
        groups: programs with the places of their trials, of the plan.
        count: of trials that are not finished.
        say: shows a line.
    """
    if len(jax.devices()) > 1:
        return 1  # a batch is split over them
    if work.ledger.search.learns:
        say("lanes: none, each trial is chosen by what came before (--lanes K runs K at once)")
        return 1
    shared, places = max(groups, key=lambda group: len(group[1]))
    width = min(_WIDEST, len(places), count)
    if width < 2:
        return 1
    values = resolve(work.experiment, work.ledger.search.listed[places[0]])
    alone = _time_alone(shared, values)
    seconds = alone * work.experiment(**values).steps * count
    if seconds < _WORTH_A_PROBE:
        say(f"lanes: no probe, the whole sweep is about {seconds:.0f} s of steps")
        return 1
    together = _time_lanes(shared, values, width)
    better = together < 0.9 * alone
    say(
        f"lanes: a step of a trial takes {alone * 1e3:.2f} ms alone, {together * 1e3:.2f} ms as one of {width} lanes: "
        + (f"{width} at a time" if better else "one after another")
    )
    return width if better else 1


def _time_alone(shared: Program, values: Mapping[str, Any]) -> float:
    """Seconds of a step of one trial."""
    hyperparameters, batch = shared.hyperparameters(values), _batch(shared, values)
    state = shared.compile("init", hyperparameters)(hyperparameters)
    return _time(shared.compile_step(values), hyperparameters, state, batch)


def _time_lanes(shared: Program, values: Mapping[str, Any], width: int) -> float:
    """Seconds of a step of one trial among `width` in lanes."""
    hyperparameters, batch = shared.hyperparameters(values), _batch(shared, values)
    state = shared.compile("init", hyperparameters)(hyperparameters)
    states = jax.tree.map(lambda leaf: jnp.stack([leaf] * width), state)
    stacked = {name: jnp.stack([jnp.asarray(value)] * width) for name, value in hyperparameters.items()}
    batches = {name: np.stack([np.asarray(array)] * width) for name, array in batch.items()}
    try:
        return _time(compile_lanes(shared, stacked, states, batches), stacked, states, batches) / width
    except Exception:  # too wide for the memory, or a part that cannot be vmapped
        return math.inf


def _batch(shared: Program, values: Mapping[str, Any]) -> Any:
    return shared.experiment(**resolve(shared.experiment, values)).train_data.batch(0)


def _time(step: Any, hyperparameters: Any, state: Any, batch: Any, *, seconds: float = 0.3) -> float:
    """The median of single steps, for about so many seconds."""
    took = []
    for _ in range(3):  # the first ones find cold caches
        state, logs = step(hyperparameters, state, batch)
    jax.block_until_ready(logs)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(took) < 5:
        before = time.perf_counter()
        state, logs = step(hyperparameters, state, batch)
        jax.block_until_ready(logs)
        took.append(time.perf_counter() - before)
    return float(np.median(took))
