"""The training loop: it reads from top to bottom, and the order of its side effects is what makes a run restartable.

A checkpoint of step s is begun only after every record up to s is on disk, and records after the restored step are
dropped before going on. So whenever the process is killed, the next one finds a checkpoint with all of its records,
and ends with the bytes of a run that was never interrupted.
"""

import contextlib
import gc
import io
import itertools
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcv.train import accumulation, parts, preview, runtime, sharding
from jaxcv.train.checkpoint import Checkpoints
from jaxcv.train.clock import Clock
from jaxcv.train.console import Reporter
from jaxcv.train.detection_report import write_detection_report
from jaxcv.train.diagnose import not_finite
from jaxcv.train.evaluate import evaluate
from jaxcv.train.experiment import Experiment, ExperimentFunction, resolve
from jaxcv.train.identity import identify
from jaxcv.train.lanes import Lanes, LanesBroken
from jaxcv.train.log import Records
from jaxcv.train.programs import LookedAt, confirm, program
from jaxcv.train.report import Outcomes, Picture, write_report
from jaxcv.train.run import Run, copy_run, is_finished, open_run, read_records, values_of
from jaxcv.train.saving import Saver
from jaxcv.train.signals import Preempted, stop_signals

Watch = Callable[[int, Mapping[str, Any]], bool]
"""`(step, test values) -> whether to stop`; a value that was not finite may be None."""

_SHORT_RUNS_SPACING = 5.0


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
    lanes: Lanes | None = None,
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
        lanes: of the program, in which the steps are taken together with other runs'; this thread has entered them.

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
    over = is_finished(workdir, values) and not fresh
    if not over:
        if (line := accumulation.check(setup.optimizer, setup.steps)) is not None:
            reporter.say(line)
        for data in (setup.train_data, setup.test_data):
            data.check()
    identity = identify(experiment, values, setup, over=over)
    if going_on_from is not None:
        copy_run(Path(going_on_from), Path(workdir), identity, accept=accept)
    with open_run(workdir, identity, fresh=fresh, accept=accept, patience=patience) as run:
        if run.finished:
            _replay(run, setup.steps, watch)
            reporter.say(f"{run.folder}: finished before, nothing to do (--fresh trains it again)")
            return _result(run, setup, skipped=True)
        train = partial(_train, run, experiment, setup, values, reporter, watch, short, lanes)
        try:
            try:
                train(checked=lanes is not None)
            except LookedAt:  # nothing has been kept yet
                train(checked=True)
        except (Preempted, KeyboardInterrupt, LanesBroken):
            raise
        except BaseException as error:
            run.update(status="failed", error=f"{type(error).__name__}: {error}"[:2000])
            raise
        return _result(run, setup)


def _train(
    run: Run,
    experiment: ExperimentFunction,
    setup: Experiment,
    values: Mapping[str, Any],
    reporter: Reporter,
    watch: Watch | None,
    short: bool,
    lanes: Lanes | None,
    checked: bool,
) -> None:
    runtime.enable_compile_cache()
    shared = program(experiment, values, check=checked)
    hyperparameters = shared.hyperparameters(values)
    for name, reason in shared.reasons.items():
        reporter.say(f"{name} is a constant of the compiled step: it {reason}")

    for split, data in (("train", setup.train_data), ("test", setup.test_data)):
        with reporter.counting(f"preparing {split} data") as count:
            data.prepare(count)

    with contextlib.ExitStack() as stack:
        # XLA compiles the step, or loads it from the cache, while Python makes the state and the first batch.
        pool = ThreadPoolExecutor(len(setup.variants))
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        compiling = {}
        if lanes is None:
            begun = {variant: shared.begin_compiling_step(values, variant) for variant in setup.variants}
            compiling = {variant: pool.submit(compile_) for variant, compile_ in begun.items()}
        # The state and the place in the data: from the newest checkpoint, else from the beginning.
        batches = iter(setup.train_data)
        checkpoints = stack.enter_context(Checkpoints(run.folder / "checkpoints"))
        saver = Saver(checkpoints, spacing=_SHORT_RUNS_SPACING if short else 0.0)
        pending: list[dict[str, Any]] = []  # logs of the steps since the last record
        if (restored := checkpoints.restore_newest(shared.state_spec(values))) is not None:
            state, position, warnings = restored
            for warning in warnings:
                reporter.warn(warning)
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
        place = sharding.put if lanes is None else lambda batch: batch
        if lanes is None:
            state = sharding.replicate(state, rows)
        start = int(state.step)
        records = Records(run.folder, step=start)
        stack.callback(records.close)
        stopped = _replay(run, start, watch)
        if start == setup.steps or stopped:  # killed between the last checkpoint and the word
            run.update(status="finished" if start == setup.steps else "stopped")
            return

        ahead = itertools.chain([next(batches)], batches)
        if lanes is None:
            train_steps = {variant: compiled.result() for variant, compiled in compiling.items()}
        else:
            train_steps = dict.fromkeys(setup.variants, lanes.step)
        run.keep_sources()
        run.update(traces=run.facts["traces"] + shared.report_traces())
        seconds = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in shared.compile_seconds.items())
        reporter.say(f"{run.folder}: {rows} examples a step; compiling took: {seconds}")
        stop = stack.enter_context(stop_signals())
        stack.enter_context(reporter.training(run.folder.name, setup.steps, start))
        clock = Clock(rows, setup.steps, start)
        confirming = None

        for step in range(start + 1, setup.steps + 1):
            # 1. The update. Nothing is waited for.
            train_step = train_steps[setup.variant(step - 1)]
            state, logs = train_step(hyperparameters, state, place(next(ahead)))
            pending.append(logs)
            if step == start + 1:
                jax.block_until_ready(logs)
                run.facts["time"]["first_step_seconds"] = round(runtime.seconds_since_start(), 3)
                if start == 0:
                    records.hyperparameters(values)
                if not checked:  # the device has work to do meanwhile
                    confirming = stack.enter_context(ThreadPoolExecutor(1)).submit(confirm, shared, values)
                if not gc.isenabled():  # launch.py turned it off for the start; what is there now is there to stay
                    gc.freeze()
                    gc.enable()

            logs_now = step % setup.interval("log") == 0 or step == setup.steps
            evaluates_now = step % setup.interval("evaluate") == 0 or step == setup.steps
            saves_now = evaluates_now or step % setup.interval("checkpoint") == 0 or clock.checkpoint_is_due()
            stops_now = stop.is_set() and step < setup.steps
            if not (logs_now or saves_now or stops_now):
                continue

            # 2. From here on the host looks at numbers. Nothing is kept of a program that computes something else than
            # the experiment, and nothing after a loss that is not finite.
            if confirming is not None:
                confirming = confirming.result()
            pending = _as_floats(pending)
            if not all(logs["finite"] for logs in pending):
                raise not_finite(run.folder, shared, setup, hyperparameters, state)

            # 3. The record of the steps since the last one.
            if logs_now:
                means = {n: float(np.mean([logs[n] for logs in pending])) for n in pending[0] if n != "finite"}
                pending = []
                speed, eta = clock.speed_and_eta(step)
                records.write(step, "train", means, time={"seconds": clock.seconds, "images_per_second": speed})
                reporter.step(step, setup.steps, means, speed, eta)

            # 4. The evaluation, with its pictures; the last one also with its report.
            rank, ends_now = None, step == setup.steps
            if evaluates_now:
                outcomes: list[Outcomes | Picture] | None = [] if step == setup.steps else None
                reports: list[Any] | None = [] if step == setup.steps else None
                with clock.pause(), reporter.counting("evaluating") as count:
                    began = time.monotonic()
                    test, shown = evaluate(
                        shared,
                        setup,
                        hyperparameters,
                        state.evaluation_variables,
                        setup.test_data,
                        on_batch=count,
                        outcomes=outcomes,
                        reports=reports,
                    )
                    took = time.monotonic() - began
                    records.write(step, "test", test, time={"seconds": round(took, 3)})
                    reporter.evaluated(step, test, took)
                    ends_now |= watch is not None and watch(step, test)
                    if ends_now or not short:
                        _draw_previews(run, setup, step, shown, records)
                    if outcomes:
                        write_report(outcomes, setup.test_data.class_names, run.folder, reporter)
                    for report in reports or ():
                        write_detection_report(report, setup.test_data, run.folder, reporter)
                    rank = _rank(setup, test)

            # 5. The checkpoint, now that everything it stands for is on disk.
            if saves_now or stops_now:
                with clock.pause():
                    position = {"data": batches.get_state(), "pending": pending}
                    saver.save(state, position, rank=rank, must=ends_now or stops_now)
                    clock.checkpoint_made()
            if ends_now:
                break
            if stops_now:
                saver.wait()
                raise Preempted(f"{run.folder}: stopped at step {step} of {setup.steps}; the same command goes on")
    # The checkpoints are closed by now: the last one is on disk.
    run.keep_sources()
    run.update(status="finished" if step == setup.steps else "stopped")


def _as_floats(logs: list[dict[str, Any]]) -> list[dict[str, float]]:
    return [{name: float(value) for name, value in entry.items()} for entry in jax.device_get(logs)]


def _draw_previews(run: Run, setup: Experiment, step: int, shown: list[Any], records: Records) -> None:
    page = preview.sheet(shown, setup.test_data.class_names, count=setup.previews)
    if page is not None:
        png = io.BytesIO()
        page.save(png, "PNG")
        folder = run.folder / "previews"
        folder.mkdir(exist_ok=True)
        (folder / f"step_{step:07}.png").write_bytes(png.getvalue())
        records.picture(step, png.getvalue(), page.size)


def _replay(run: Run, step: int, watch: Watch | None) -> bool:
    """Tell the watcher of the evaluations up to a step that are on record; its verdict on the last of them."""
    stop = False
    if watch is None:
        return False
    for record in read_records(run.folder / "metrics.jsonl"):
        if record["split"] == "test" and record["step"] <= step:
            stop = watch(record["step"], values_of(record))
    return stop


def _rank(setup: Experiment, test: Mapping[str, float]) -> float | None:
    """What checkpoints are compared by, turned so that larger is better."""
    value = test[setup.ranked_by]
    return (value if setup.larger_is_better(setup.ranked_by) else -value) if np.isfinite(value) else None


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
