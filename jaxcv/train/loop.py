"""Training to the last step, from wherever an earlier run stopped: one run, or several side by side as one program.

The device takes the steps in chunks, as many at once as it can between two moments at which the host must look. What
the host does then, it does in a thread of its own (`observer`) while the device trains on.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxcv.train import accumulation, hosts, runtime, sharding
from jaxcv.train.compiled import Program
from jaxcv.train.console import Reporter
from jaxcv.train.experiment import Experiment, ExperimentFunction, resolve
from jaxcv.train.feed import Choice, open_feed
from jaxcv.train.group import Group, begin_compiling
from jaxcv.train.identity import identify
from jaxcv.train.lanes import Lanes, lanes_of
from jaxcv.train.observer import NotFinite, Observer, Watch, replay
from jaxcv.train.profile import Profile
from jaxcv.train.programs import LookedAt, confirm, program
from jaxcv.train.run import Run, copy_run, is_finished, open_run, values_of
from jaxcv.train.sharding import How, chosen
from jaxcv.train.signals import Preempted, stop_signals

_SHORTEST_CHUNK, _LONGEST_CHUNK = 0.25, 1.0
"""Seconds: a chunk that takes less is made longer, one that takes more shorter."""


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    folder: Path
    values: dict[str, Any]
    steps: int
    train: dict[str, Any] = field(default_factory=dict)
    """The last training record."""
    test: dict[str, Any] = field(default_factory=dict)
    """The last evaluation; None: a value that was not finite."""
    traces: int = 0
    """How often the step was traced for this run."""
    skipped: bool = False
    """It had been finished before."""
    stopped_at: int | None = None
    """The step at which its watcher stopped it."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One of several runs."""

    values: Mapping[str, Any]
    workdir: Path
    reporter: Reporter
    fresh: bool = False
    watch: Watch | None = None
    on_end: Callable[["Result | Exception"], None] = lambda result: None
    """Called when it is over, with its result or its error, from another thread."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How runs are trained, whatever they are."""

    accept: bool = False
    short: bool = False
    patience: float = 0.0
    resident: Choice = "auto"
    chunk: int | None = None
    """Steps of a chunk at most; None: as many as take about half a second."""
    profile: bool = False
    how: How | None = None
    """On which devices; None: as `sharding.choose` was told. Runs side by side are divided among them."""


def fit(
    experiment: ExperimentFunction,
    values: Mapping[str, Any],
    workdir: str | Path,
    *,
    fresh: bool = False,
    accept: bool = False,
    reporter: Reporter | None = None,
    watch: Watch | None = None,
    short: bool = False,
    patience: float = 0.0,
    going_on_from: str | Path | None = None,
    resident: Choice = "auto",
    chunk: int | None = None,
    profile: bool = False,
    how: How | None = None,
) -> Result:
    """Train to the last step, from wherever an earlier run in the same folder stopped.

    Args:
        experiment: an experiment file's function.
        values: overrides of its hyperparameters.
        workdir: the folder of this run alone; made if need be.
        fresh: begin anew, moving an earlier run aside.
        accept: go on with a run whose values, source or data were others; `run.json` notes what has changed.
        reporter: what is shown meanwhile; default is a bar on a terminal and lines elsewhere.
        watch: called with step and values after every evaluation, those before a restart included; if it says True,
            the run stops there, with a checkpoint.
        short: one of many short runs: checkpoints keep some seconds' distance, pictures are drawn at the end alone.
        patience: seconds to wait for another process that trains in the folder.
        going_on_from: the folder of a run to go on from with more `steps`: it is copied, unless `workdir` has a run. In
            its own folder a finished run goes on by itself when `steps` is all that differs, and larger.
        resident: whether the data lives on the device: "yes", "no", or "auto", where it fits and is seen in whole.
        chunk: steps that the device takes at once, at most. The result does not depend on it.
        profile: whether to write a trace of twenty steps to `profile/` in the run's folder.
        how: on which devices, and in how many parts a batch is taken; None: as `sharding.choose` was told.

    Returns:
        The last records. A finished run is not trained again.

    Raises:
        UserError: settings, data or folder are refused.
        NonFinite: a loss or gradient was not finite; state, key and batch are in `nonfinite.npz`.
        Preempted: SIGTERM or SIGINT came; calling again goes on.
    """
    found: list[Result | Exception] = []
    trial = Trial(
        values=values,
        workdir=Path(workdir),
        reporter=reporter or Reporter(quiet=not hosts.is_first()),
        fresh=fresh,
        watch=watch,
        on_end=found.append,
    )
    kept = {"accept": accept, "short": short, "patience": patience, "resident": resident}
    options = Options(**kept, chunk=chunk, profile=profile, how=how)
    fit_many(experiment, [trial], options, going_on_from=going_on_from)
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def fit_many(
    experiment: ExperimentFunction,
    trials: Sequence[Trial],
    options: Options,
    *,
    going_on_from: str | Path | None = None,
) -> None:
    """Train several runs of one program side by side; each ends as if it were alone, and says so to its `on_end`.

    Raises:
        Preempted: SIGTERM or SIGINT came; calling again goes on.
        Exception: what is not the fault of one run, such as too little memory for all of them.
    """
    how = options.how or chosen()
    how = how if len(trials) == 1 else sharding.beside(how)
    with contextlib.ExitStack() as stack:
        opened, said = [], set()
        for trial in trials:
            try:
                run, setup, values = _open(experiment, trial, options, how, going_on_from, stack, said)
                if run.finished:
                    replay(run, setup.steps, trial.watch)
                    trial.reporter.say(f"{run.folder}: finished before, nothing to do (--fresh trains it again)")
                    trial.on_end(_result(run, setup, skipped=True))
                else:
                    opened.append((trial, run, setup, values))
            except Exception as error:  # the experiment's own, of whatever kind: the others train on
                trial.on_end(error)
        if not opened:
            return
        train = partial(_train, experiment, opened, options, how)
        try:
            try:
                train(checked=len(opened) > 1 or hosts.several())
            except LookedAt:  # nothing has been kept yet
                train(checked=True)
        except (Preempted, KeyboardInterrupt, hosts.ProcessLost):
            raise
        except BaseException as error:  # of whatever kind; it goes on to the caller, or into run.json and `on_end`
            if len(opened) > 1 or not isinstance(error, Exception):
                raise
            _fail(opened[0][1], opened[0][0], error)


def _open(
    experiment: ExperimentFunction,
    trial: Trial,
    options: Options,
    how: How,
    going_on_from: str | Path | None,
    stack: contextlib.ExitStack,
    said: set[str],
) -> tuple[Run, Experiment, dict[str, Any]]:
    """The run of a trial, held until `stack` is left; its experiment and all of its values.

    What the scan of its data found is said, unless it was of another trial, as `said` knows, and kept in run.json.
    """
    values = resolve(experiment, trial.values)
    setup = experiment(**values)
    over, found = is_finished(trial.workdir, values) and not trial.fresh, None
    if not over:
        if (line := accumulation.check(setup.optimizer, setup.steps)) is not None:
            trial.reporter.say(line)
        sharding.check(how, setup.train_data.spec["image"].shape[0], setup.train_data)
        found = {"train": setup.train_data.check(), "test": setup.test_data.check()}
        lines = [line for split in found.values() for line in split if line not in said]
        for line in lines:
            trial.reporter.say(line)
        said.update(lines)
    identity = identify(experiment, values, setup, over=over, accumulate=how.accumulate)
    held: list[Run] = []

    def open_() -> dict[str, Any]:
        if going_on_from is not None:
            copy_run(Path(going_on_from), trial.workdir, identity, accept=options.accept)
        kept = {"fresh": trial.fresh, "accept": options.accept, "patience": options.patience}
        held.append(stack.enter_context(open_run(trial.workdir, identity, **kept)))
        if found is not None:
            held[0].update(found=found, mesh=sharding.describe(how))
        return held[0].facts

    facts = hosts.led(open_)
    return held[0] if held else Run(trial.workdir, facts, writes=False), setup, values


def _fail(run: Run, trial: Trial, error: Exception) -> None:
    if not hosts.is_lost(error):  # the same command goes on
        run.update(status="failed", error=f"{type(error).__name__}: {error}"[:2000])
    trial.on_end(error)


def _train(experiment: ExperimentFunction, opened: Sequence[Any], options: Options, how: How, checked: bool) -> None:
    """Train runs that are open, all of one program, to their ends."""
    runtime.enable_compile_cache()
    trial, _, setup, values = opened[0]
    shared = program(experiment, values, check=checked, how=how)
    for name, reason in shared.reasons.items():
        trial.reporter.say(f"{name} is a constant of the compiled step: it {reason}")
    for split, data in (("train", setup.train_data), ("test", setup.test_data)):
        with trial.reporter.counting(f"preparing {split} data") as count:
            data.prepare(count)
    lanes = lanes_of(how, len(opened))
    copies = None if lanes is None else lanes.mesh
    with contextlib.ExitStack() as stack:
        runs: dict[Observer, Trial] = {}
        for trial, run, setup, values in opened:
            feed = open_feed(setup.train_data, setup.steps, options.resident, mesh=how.mesh, copies=copies)
            kept = {"watch": trial.watch, "short": options.short, "resident": options.resident, "beside": len(opened)}
            observer = Observer(run, setup, shared, values, trial.reporter, feed, **kept)
            stack.callback(feed.close)
            stack.callback(observer.close)
            runs[observer] = trial
        group = _make_ready(shared, runs, lanes)
        confirmed = None if checked else partial(confirm, shared, values)
        _take_steps(group, runs, options, confirmed)


def _make_ready(shared: Program, runs: Mapping[Observer, Trial], lanes: Lanes | None) -> Group:
    """The runs as they stand; data is read and the program compiled while Python makes the first state."""
    first = next(iter(runs))
    reporter = runs[first].reporter
    reporter.say(f"{first.run.folder}: compiling, unless it was compiled before")
    with reporter.counting("reading the training data") as count, ThreadPoolExecutor() as pool:
        loading = pool.submit(first.feed.load, count)
        begun = [begin_compiling(shared, first, lanes, variant) for variant in first.setup.variants]
        compiling = [pool.submit(compile_) for compile_ in begun]
        for run in runs:
            run.begin()
        group = Group(shared, list(runs), lanes)
        for future in (loading, *compiling):
            future.result()
    first.run.update(traces=first.run.facts["traces"] + shared.report_traces())
    seconds = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in shared.compile_seconds.items())
    rows = first.setup.train_data.spec["image"].shape[0]
    where = "" if shared.how.mesh.size == 1 else f" on {shared.how.mesh.size} devices ({sharding.describe(shared.how)})"
    reporter.say(f"{first.run.folder}: {rows} examples a step{where}, {first.feed.words}; compiling took: {seconds}")
    return group


def _take_steps(
    group: Group, runs: Mapping[Observer, Trial], options: Options, confirmed: Callable[[], None] | None
) -> None:
    """The steps of all runs of a group, to their ends or until a signal asks to stop."""
    first = group.runs[0]
    showing = runs[first].reporter.training(first.run.folder.name, first.setup.steps, first.step)
    with _in_order() as host, stop_signals() as stop, showing:
        pace, ends = Pace(first.feed.length, options.chunk), []
        together, agreed = hosts.Agreement(group.mesh), hosts.Agreed(pace.length)
        profile = Profile(first.run.folder / "profile" if options.profile else None)
        room = threading.Semaphore(max(2, len(group.runs)))  # for copies of states that wait to be looked at
        while True:
            # 1. Runs that are over leave; one that failed does not disturb the others. Of several processes, none
            # leaves before all know.
            over = [run for run in group.runs if run.is_over]
            if hosts.several() and not agreed.over:
                over = [run for run in over if run.step == run.setup.steps]
            for run in over:
                if isinstance(run.error, NotFinite):
                    host.submit(run.explain, group.state_of(run))
                group.leave(run)
                ends.append(host.submit(_end, run, runs[run]))
            if not group.runs or agreed.stop:
                break
            if hosts.several() and agreed.over:
                raise hosts.ProcessLost("another process met an error")
            # 2. The steps up to the next look. Nothing is waited for but the chunk before.
            count = min(agreed.length, *(run.next_look() - run.step for run in group.runs))
            profile.before(first.step - first.start)
            logs = group.take(count)
            if pace.wait(logs.arrays, count):
                for run in group.runs:
                    run.run.facts["time"]["first_step_seconds"] = round(runtime.seconds_since_start(), 3)
                if confirmed is not None:  # the device has work meanwhile
                    confirmed = host.submit(confirmed).result
            # 3. What is due, in the order of the steps, while the device goes on. Nothing is kept of a program that
            # computes something else than the experiment.
            wish = {"stop": stop.is_set(), "due": any(run.is_due() for run in group.runs)}
            wish["over"] = any(run.error is not None or run.stopped for run in group.runs)
            agreed = together.exchange(hosts.Agreed(pace.length, **wish))
            for run in group.runs:
                state = None
                if run.needs_state(stops=agreed.stop, due=agreed.due):
                    room.acquire()
                    state = group.state_of(run)
                what = run.step, count, group.logs_of(run, logs), state, run.feed.position(run.step)
                looking = host.submit(_look, run, confirmed, *what, stops=agreed.stop)
                if state is not None:
                    looking.add_done_callback(lambda _: room.release())
                    if hosts.several():  # what a look computes, all processes compute at the same moment
                        looking.result()
            if agreed.stop or (hosts.several() and agreed.over):
                host.submit(int).result()  # all looks have been made
        profile.end()
        for end in ends:
            end.result()
    if group.runs:
        stopped = group.runs[0]
        raise Preempted(
            f"{stopped.run.folder}: stopped at step {stopped.step} of {stopped.setup.steps}; the same command goes on"
        )


def _look(run: Observer, confirmed: Callable[[], None] | None, *what: Any, stops: bool) -> None:
    """A look at a run; what it raises is the run's."""
    try:
        if confirmed is not None:
            confirmed()
        run.look(*what, stops=stops)
    except BaseException as error:  # whatever it is, the thread that trains must hear of it, and other runs must not
        run.error = error


def _end(run: Observer, trial: Trial) -> None:
    """The last words on a run: its checkpoints are on disk by then."""
    if isinstance(run.error, LookedAt) or (run.error is not None and not isinstance(run.error, Exception)):
        raise run.error
    try:
        run.close()
        if run.error is not None:
            raise run.error
        run.run.keep_sources()
        run.run.update(status="stopped" if run.stopped else "finished")
    except Exception as error:  # the run's own, or what the disk refuses at the end: run.json says so
        _fail(run.run, trial, error)
    else:
        trial.on_end(_result(run.run, run.setup))


class Pace:
    """How many steps the device takes at once: about as many as it takes in half a second."""

    def __init__(self, most: int, chosen: int | None):
        """`most` that can be; or always as many as `chosen`."""
        self._most = most if chosen is None else min(most, chosen)
        self.length = 1 if chosen is None else self._most
        self._before: tuple[Any, int] | None = None
        self._mark = time.monotonic()

    def wait(self, logs: Any, count: int) -> bool:
        """Wait for the chunk before the one that has these logs; for the first one itself, which returns True."""
        first, before = self._before is None, self._before or (logs, 0)
        jax.block_until_ready(before[0])
        now = time.monotonic()
        took, self._mark = now - self._mark, now
        if before[1] == self.length:
            self.length = min(2 * self.length, self._most) if took < _SHORTEST_CHUNK else self.length
            self.length = max(1, self.length // 2) if took > _LONGEST_CHUNK else self.length
        self._before = logs, count
        return first


@contextlib.contextmanager
def _in_order() -> Iterator[ThreadPoolExecutor]:
    """A thread that makes one call after another; those not begun are dropped when the block raises."""
    host = ThreadPoolExecutor(1)
    try:
        yield host
    except BaseException:
        host.shutdown(cancel_futures=True)
        raise
    host.shutdown()


def _result(run: Run, setup: Experiment, *, skipped: bool = False) -> Result:
    records = {split: run.last_record(split) for split in ("train", "test")}
    return Result(
        folder=run.folder,
        values=run.facts["values"],
        steps=setup.steps,
        train=values_of(records["train"]),
        test=values_of(records["test"]),
        traces=run.facts["traces"],
        skipped=skipped,
        stopped_at=records["test"].get("step") if run.facts["status"] == "stopped" else None,
    )
