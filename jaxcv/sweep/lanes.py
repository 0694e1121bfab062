"""Trials of one program side by side, as one that is vmapped over them.

Several on one device are worth it where one trial cannot fill it: on GPUs and TPUs, and on a CPU for small dense
networks. Where it is not asked for, a probe measures both ways first, if the sweep is long enough for that to pay.
Several devices have a lane each in any case, at least, in a sweep that has as many trials of one program.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcv.sweep.engine import work_off
from jaxcv.sweep.ledger import Claim
from jaxcv.sweep.live import SweepReporter
from jaxcv.sweep.trial import TooMany, Work, run_trials
from jaxcv.train import Program, program, resolve, sharding
from jaxcv.train.feed import Resident, is_resident
from jaxcv.train.lanes import Lanes, lanes_of

_WIDEST = 8
"""Lanes of a device of which a probe is made."""
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
    """As `engine.work_off`, `width` trials at a time; those of one program together.

    Where they cannot be trained together (that needs more memory), they are one after another, each on all devices.
    """
    errors: list[Exception] = []

    def over(claim: Claim, error: Exception | None) -> None:
        on_end(claim, error)
        if error is not None:
            errors.append(error)

    try:
        while claims := _claim(work, width):
            for claim in claims:
                on_begin(claim)
            run_trials(work, claims, [show.of(claim) for claim in claims], over)
            if errors and fail_fast:
                raise errors[0]
    except TooMany as error:
        show.announce(f"lanes: {width} at once failed ({error}); one after another instead")
        work = replace(work, options=replace(work.options, how=None))
    work_off(work, show, fail_fast=fail_fast, on_begin=on_begin, on_end=on_end)


def _claim(work: Work, width: int) -> list[Claim]:
    """Up to `width` trials that nobody has, all of one program."""
    claims: list[Claim] = []
    while len(claims) < width and (claim := work.ledger.claim(where=work.where, prefer=partial(_fits, work, claims))):
        if claims and not _fits(work, claims, claim.overrides):
            work.ledger.give_back(claim)
            break
        claims.append(claim)
    return claims


def _fits(work: Work, claims: Sequence[Claim], overrides: Mapping[str, Any]) -> bool:
    """Whether a trial has the program of those that are claimed."""
    if not claims:
        return False
    try:
        known = [program(work.experiment, values, how=work.options.how) for values in (overrides, claims[0].overrides)]
        return known[0] is known[1]
    except Exception:  # the trial will say so itself
        return False


def choose_width(
    work: Work, groups: Sequence[tuple[Program, list[int]]], count: int, say: Callable[[str], None]
) -> int:
    """How many lanes to use, 1 for none, which uses all devices for one trial; says what was measured, or why not.

    Args:
        work: the sweep.
        groups: programs with the places of their trials, of a plan for lanes.
        count: of trials that are not finished.
        say: shows a line.
    """
    if work.ledger.search.learns:
        if count > 1:
            say("lanes: none, each trial is chosen by what came before (--lanes K runs K at once)")
        return 1
    shared, places = max(groups, key=lambda group: len(group[1]))
    devices = max(1, len(shared.how.lanes))
    if len(places) < devices:
        say(f"lanes: none, fewer trials of a program than devices: batches are split over {devices} (--lanes K: not)")
        return 1
    width = min(_WIDEST, len(places) // devices, -(-count // devices))
    if width < 2:
        return devices
    values = resolve(work.experiment, work.ledger.search.listed[places[0]])
    setup = work.experiment(**values)
    if not is_resident(setup.train_data, setup.steps):
        say(f"lanes: {'none' if devices == 1 else 'one on each device'}, the data does not live there")
        return devices
    alone = _time_steps(shared, values, 1)
    seconds = alone * setup.steps * count / devices
    if seconds < _WORTH_A_PROBE:
        say(f"lanes: no probe, the whole sweep is about {seconds:.0f} s of steps")
        return devices
    together = _time_together(shared, values, width)
    better = together < 0.9 * alone
    say(
        f"lanes: a step of a trial takes {alone * 1e3:.2f} ms alone, {together * 1e3:.2f} ms as one of {width} lanes: "
        + (f"{width} at a time" if better else "one after another")
    )
    return devices * width if better else devices


def describe(work: Work, width: int) -> str | None:
    """How so many trials at a time are divided among several devices; None where there is one."""
    lanes = lanes_of(work.options.how or sharding.chosen(), width)
    if lanes is None or lanes.mesh.size == 1:
        return None
    words = f"lanes: {width} trials at a time, {'up to ' * (lanes.width > width)}{lanes.each} on each of "
    return words + f"{lanes.mesh.size} devices"


def _time_together(shared: Program, values: Mapping[str, Any], width: int) -> float:
    """Seconds of a step of one trial among `width`."""
    try:
        return _time_steps(shared, values, width) / width
    except Exception:  # too wide for the memory, or a part that cannot be vmapped
        return math.inf


def _time_steps(shared: Program, values: Mapping[str, Any], width: int, *, seconds: float = 0.3) -> float:
    """Seconds of a step of `width` trials together: the median of chunks that take about so long."""
    setup = shared.experiment(**resolve(shared.experiment, values))
    feed = Resident(setup.train_data, setup.steps, shared.how.mesh)  # pyright: ignore[reportArgumentType]
    hyperparameters, data, (spec, indices) = shared.hyperparameters(values), feed.load(), feed.spec()
    state = shared.compile("init", hyperparameters)(hyperparameters)
    rows: Any = feed.indices(setup.train_data, 0, feed.length)  # pyright: ignore[reportArgumentType]
    if width > 1:
        hyperparameters = {name: jnp.stack([jnp.asarray(value)] * width) for name, value in hyperparameters.items()}
        state = jax.tree.map(lambda leaf: jnp.stack([leaf] * width), state)
        rows = np.stack([rows] * width)
        indices = jax.ShapeDtypeStruct(rows.shape, rows.dtype)
    lanes = None if width == 1 else Lanes(shared.how.mesh, width)
    chunk = shared.begin_chunk(values, spec, indices, setup.variants[0], lanes)()
    count, took = 1, []
    while sum(took) < seconds or len(took) < 3:
        before = time.perf_counter()
        state, logs = chunk(hyperparameters, state, data, rows, np.int32(count))
        jax.block_until_ready(logs)
        last = time.perf_counter() - before
        if last < seconds / 6 and count < feed.length:
            count, took = min(2 * count, feed.length), []  # the first ones find cold caches
        else:
            took.append(last)
    return float(np.median(took)) / count
