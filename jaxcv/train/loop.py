"""The training loop: it reads from top to bottom, and the order of its side effects is what makes a run restartable.

A checkpoint of step s is begun only after every record up to s is on disk, and records after the restored step are
dropped before going on. So whenever the process is killed, the next one finds a checkpoint with all of its records,
and ends with the bytes of a run that was never interrupted.
"""

import contextlib
import gc
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcv import runtime
from jaxcv.train import parts, preview, sharding
from jaxcv.train.checkpoint import Checkpoints
from jaxcv.train.clock import Clock
from jaxcv.train.console import Reporter
from jaxcv.train.diagnose import NonFinite, diagnose, save_evidence
from jaxcv.train.evaluate import evaluate
from jaxcv.train.experiment import Experiment, ExperimentFunction, resolve
from jaxcv.train.log import Records
from jaxcv.train.programs import program
from jaxcv.train.report import Outcomes, Picture, write_report
from jaxcv.train.run import Run, is_finished, open_run
from jaxcv.train.state import TrainState
from jaxcv.train.step import Program


class Preempted(Exception):
    """Asked to stop by a signal; a checkpoint of the last step is on disk."""


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    folder: Path
    values: dict[str, Any]
    steps: int
    train: dict[str, float] = field(default_factory=dict)
    """The last training record."""
    test: dict[str, float] = field(default_factory=dict)
    """The last evaluation."""
    traces: int = 0
    """How often the step was traced for this run."""
    skipped: bool = False
    """It had been finished before."""


def fit(
    experiment: ExperimentFunction,
    values: Mapping[str, Any],
    workdir: str | Path,
    *,
    fresh: bool = False,
    reporter: Reporter | None = None,
) -> Result:
    """Train to the last step, from wherever an earlier run in the same folder stopped.

    Args:
        experiment: an experiment file's function.
        values: overrides of its hyperparameters.
        workdir: the folder of this run alone; made if need be.
        fresh: begin anew, moving an earlier run aside.
        reporter: what is shown meanwhile; default is a bar on a terminal and lines elsewhere.

    Returns:
        The last records. A finished run is not trained again.

    Raises:
        UserError: settings, data or folder are refused.
        NonFinite: a loss or gradient was not finite; state, key and batch are in `nonfinite.npz`.
        Preempted: SIGTERM or SIGINT came; calling again goes on.
    """
    reporter = reporter or Reporter(quiet=True)
    values = resolve(experiment, values)
    setup = experiment(**values)
    if fresh or not is_finished(workdir):
        for data in (setup.train_data, setup.test_data):
            data.check()
    with open_run(workdir, experiment, values, fresh=fresh) as run:
        if run.finished:
            reporter.say(f"{run.folder}: finished before, nothing to do (--fresh trains it again)")
            return _result(run, setup, skipped=True)
        try:
            _train(run, experiment, setup, values, reporter)
        except (Preempted, KeyboardInterrupt):
            raise
        except BaseException as error:
            run.update(status="failed", error=f"{type(error).__name__}: {error}"[:2000])
            raise
        return _result(run, setup)


def _train(
    run: Run, experiment: ExperimentFunction, setup: Experiment, values: Mapping[str, Any], reporter: Reporter
) -> None:
    runtime.enable_compile_cache()
    shared = program(experiment, values)
    shared.load_ahead()
    hyperparameters = shared.hyperparameters(values)
    for name, reason in shared.reasons.items():
        reporter.say(f"{name} is a constant of the compiled step: it {reason}")

    for split, data in (("train", setup.train_data), ("test", setup.test_data)):
        with reporter.counting(f"preparing {split} data") as count:
            data.prepare(count)

    with contextlib.ExitStack() as stack:
        # The state and the place in the data: from the newest checkpoint, else from the beginning.
        batches = iter(setup.train_data)
        checkpoints = stack.enter_context(Checkpoints(run.folder / "checkpoints"))
        pending: list[dict[str, Any]] = []  # logs of the steps since the last record
        if (restored := checkpoints.restore_newest(shared.state_spec(values))) is not None:
            state, position, complaints = restored
            for complaint in complaints:
                reporter.warn(complaint)
            batches.set_state(position["data"])
            pending = position["pending"]
            reporter.say(f"{run.folder}: going on from step {int(state.step)} of {setup.steps}")
        else:
            state, report = shared.first_state(values)
            if report is not None:
                reporter.say(f"started from {report.summary}")
                (run.folder / "initial.txt").write_text("\n".join(report.lines()) + "\n", encoding="utf-8")
        reporter.say(parts.describe(state.params, setup.trainable))
        rows = setup.train_data.spec["image"].shape[0]
        state = sharding.replicate(state, rows)
        start = int(state.step)
        records = Records(run.folder, step=start)
        stack.callback(records.close)
        if start == setup.steps:  # killed between the last checkpoint and the word "finished"
            run.update(status="finished")
            return

        with ThreadPoolExecutor(1) as pool:  # the first batch is read while the step compiles
            first = pool.submit(next, batches)
            train_step = shared.compile_step(values)
            ahead = itertools.chain([first.result()], batches)
        run.update(traces=run.facts["traces"] + shared.report_traces())
        seconds = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in shared.compile_seconds.items())
        reporter.say(f"{run.folder}: {rows} examples a step; compiling took: {seconds}")
        stop = stack.enter_context(_stop_signals())
        stack.enter_context(reporter.training(run.folder.name, setup.steps, start))
        clock = Clock(rows, setup.steps, start)

        for step in range(start + 1, setup.steps + 1):
            # 1. The update. Nothing is waited for.
            state, logs = train_step(hyperparameters, state, sharding.put(next(ahead)))
            pending.append(logs)
            if step == start + 1:
                jax.block_until_ready(logs)
                run.facts["time"]["first_step_seconds"] = round(runtime.seconds_since_start(), 3)
                if not gc.isenabled():  # launch.py turned it off for the start; what is there now is there to stay
                    gc.freeze()
                    gc.enable()

            logs_now = step % setup.interval("log") == 0 or step == setup.steps
            evaluates_now = step % setup.interval("evaluate") == 0 or step == setup.steps
            saves_now = evaluates_now or step % setup.interval("checkpoint") == 0 or clock.checkpoint_is_due()
            stops_now = stop.is_set() and step < setup.steps
            if not (logs_now or saves_now or stops_now):
                continue

            # 2. From here on the host looks at numbers. Nothing after a loss that is not finite is kept.
            pending = _as_floats(pending)
            if not all(logs["finite"] for logs in pending):
                raise _not_finite(run, shared, setup, hyperparameters, state)

            # 3. The record of the steps since the last one.
            if logs_now:
                means = {n: float(np.mean([logs[n] for logs in pending])) for n in pending[0] if n != "finite"}
                pending = []
                speed, eta = clock.speed_and_eta(step)
                records.write(step, "train", means, time={"seconds": clock.seconds, "images_per_second": speed})
                reporter.step(step, setup.steps, means, speed, eta)

            # 4. The evaluation, with its pictures; the last one also with its report.
            rank = None
            if evaluates_now:
                outcomes: list[Outcomes | Picture] | None = [] if step == setup.steps else None
                with clock.pause(), reporter.counting("evaluating") as count:
                    began = time.monotonic()
                    test = _evaluate_and_draw(run, shared, setup, hyperparameters, state, records, count, outcomes)
                    took = time.monotonic() - began
                    records.write(step, "test", test, time={"seconds": round(took, 3)})
                    reporter.evaluated(step, test, took)
                    if outcomes:
                        write_report(outcomes, setup.test_data.class_names, run.folder, reporter)
                    rank = _rank(setup, test)

            # 5. The checkpoint, now that everything it stands for is on disk.
            if saves_now or stops_now:
                with clock.pause():
                    checkpoints.save(state, {"data": batches.get_state(), "pending": pending}, rank=rank)
                    clock.checkpoint_made()
            if stops_now:
                checkpoints.wait()
                raise Preempted(f"{run.folder}: stopped at step {step} of {setup.steps}; the same command goes on")
    run.update(status="finished")  # the checkpoints are closed by now: the last one is on disk


def _as_floats(logs: list[dict[str, Any]]) -> list[dict[str, float]]:
    return [{name: float(value) for name, value in entry.items()} for entry in jax.device_get(logs)]


def _evaluate_and_draw(
    run: Run,
    shared: Program,
    setup: Experiment,
    hyperparameters: Mapping[str, Any],
    state: TrainState,
    records: Records,
    count: Callable[[int, int], None],
    outcomes: list[Outcomes | Picture] | None,
) -> dict[str, float]:
    variables, data = state.evaluation_variables, setup.test_data
    values, shown = evaluate(shared, setup, hyperparameters, variables, data, on_batch=count, outcomes=outcomes)
    page = preview.sheet(shown, data.class_names, count=setup.previews)
    if page is not None:
        folder = run.folder / "previews"
        folder.mkdir(exist_ok=True)
        page.save(folder / f"step_{int(state.step):07}.png")
        records.picture(int(state.step), np.asarray(page))
    return values


def _not_finite(
    run: Run, shared: Program, setup: Experiment, hyperparameters: Mapping[str, Any], state: TrainState
) -> NonFinite:
    """The state has not changed since the step that went wrong, so that step can be looked into."""
    batch = setup.train_data.batch(int(state.step))
    path = save_evidence(run.folder, state, batch)
    culprit = diagnose(shared, hyperparameters, state, batch)
    return NonFinite(
        f"{run.folder}: loss or gradient not finite at step {int(state.step) + 1}: {culprit}. State, key and batch are "
        f"in {path}; a smaller learning rate or gradient clipping is the usual remedy"
    )


def _rank(setup: Experiment, test: Mapping[str, float]) -> float | None:
    """What checkpoints are compared by: the first metric, else the loss turned round."""
    value = test[next(iter(setup.metrics))] if setup.metrics else -test["loss"]
    return value if np.isfinite(value) else None


def _result(run: Run, setup: Experiment, *, skipped: bool = False) -> Result:
    records = {split: run.last_record(split) for split in ("train", "test")}
    return Result(
        folder=run.folder,
        values=run.facts["values"],
        steps=setup.steps,
        train={n: v for n, v in records["train"].items() if n not in ("step", "split", "time")},
        test={n: v for n, v in records["test"].items() if n not in ("step", "split", "time")},
        traces=run.facts["traces"],
        skipped=skipped,
    )


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and the first SIGINT set; a second SIGINT interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, _: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
