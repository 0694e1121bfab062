"""The host's side of one run: what is kept of it and shown of it while the device trains.

The order of the side effects is what makes a run restartable. A checkpoint of step s is begun only after every record
up to s is on disk, and records after the restored step are dropped before going on. So whenever the process is killed,
the next one finds a checkpoint with all of its records, and ends with the bytes of a run that was never interrupted.
"""

import contextlib
import gc
import io
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxcv import show
from jaxcv.train import hosts, parts, reports
from jaxcv.train.checkpoint import Checkpoints
from jaxcv.train.clock import Clock
from jaxcv.train.compiled import Program
from jaxcv.train.console import Reporter
from jaxcv.train.diagnose import NonFinite, not_finite
from jaxcv.train.evaluate import evaluate
from jaxcv.train.experiment import Experiment
from jaxcv.train.feed import Choice, Resident, Streamed, open_feed
from jaxcv.train.log import NoRecords, Records
from jaxcv.train.run import Run, read_records, values_of
from jaxcv.train.saving import Saver
from jaxcv.types import Picture, Table

Watch = Callable[[int, Mapping[str, Any]], bool]
"""`(step, test values) -> whether to stop`; a value that was not finite may be None."""

_SPACING, _SHORT_RUNS_SPACING = 1.0, 5.0
"""Seconds between two checkpoints, at least, where the experiment does not say how many steps."""


class Observer:
    """Looks at one run at the steps at which something is due, one look after another."""

    def __init__(
        self,
        run: Run,
        setup: Experiment,
        shared: Program,
        values: Mapping[str, Any],
        reporter: Reporter,
        feed: Resident | Streamed,
        *,
        watch: Watch | None = None,
        short: bool = False,
        resident: Choice = "auto",
        beside: int = 1,
    ):
        """`beside` runs train in this process, this one among them: all of them together save as often as one."""
        self.run, self.setup, self.shared, self.values = run, setup, shared, values
        self.hyperparameters = shared.hyperparameters(values)
        self.feed = feed
        self.state: Any = None
        """To begin with; from the first step on, the one who trains has it."""
        self.start = self.step = 0
        """Where this process began; and up to where the device has been told to train."""
        self.stopped = False
        """Its watcher has ended it."""
        self.error: BaseException | None = None
        self._reporter, self._watch, self._short = reporter, watch, short
        self._resident: Choice = resident
        self._beside = beside
        self._stack = contextlib.ExitStack()
        self._pending: list[dict[str, Any]] = []  # logs of the steps since the last record
        self._clock: Any = None
        self._test = self._open_test()

    def begin(self) -> None:
        """State, position in the data and records: from the newest checkpoint, else from the beginning."""
        run, reporter = self.run, self._reporter
        checkpoints = self._stack.enter_context(Checkpoints(run.folder / "checkpoints"))
        chosen = self.setup.checkpoint_every is not None
        # Clocks differ between processes, and all of them write a checkpoint or none.
        spacing = (_SHORT_RUNS_SPACING if self._short else 0.0 if chosen else _SPACING) * self._beside
        if (restored := checkpoints.restore_newest(self.shared.state_spec(self.values))) is not None:
            self.state, position, warnings = restored
            for warning in warnings:
                reporter.warn(warning)
            self.feed.restore(position["data"])
            self._pending = position["pending"]
            reporter.say(f"{run.folder}: going on from step {int(self.state.step)} of {self.setup.steps}")
        else:
            self.state, report = self.shared.first_state(self.values)
            if report is not None:
                reporter.say(f"started from {report.summary}")
            if report is not None and run.writes:
                (run.folder / "initial.txt").write_text("\n".join(report.lines()) + "\n", encoding="utf-8")
        reporter.say(parts.describe(self.state.params, self.setup.trainable))
        self.start = self.step = int(self.state.step)
        self._records = Records(run.folder, step=self.start) if run.writes else NoRecords()
        self._stack.callback(self._records.close)
        self._saver = Saver(checkpoints, sync=self._records.sync, spacing=0.0 if hosts.several() else spacing)
        self.stopped = replay(run, self.start, self._watch) and self.start < self.setup.steps
        self._clock = Clock(self.setup.train_data.spec["image"].shape[0], self.setup.steps, self.start)

    @property
    def is_over(self) -> bool:
        """Nothing is left to train."""
        return self.stopped or self.error is not None or self.step == self.setup.steps

    def next_look(self) -> int:
        """The next step at which the state is needed, or another augmentation has its turn."""
        setup, step = self.setup, self.step
        every = [setup.interval(what) for what in ("evaluate", "checkpoint")]
        if len(setup.variants) > 1:
            every.append(setup.turn)
        return min(setup.steps, *(step - step % n + n for n in every))

    def needs_state(self, *, stops: bool = False, due: bool = False) -> bool:
        """Whether the look at the step that was reached needs a copy of the state: to be evaluated or saved.

        Args:
            stops: as of `look`.
            due: a checkpoint is due by the clock.
        """
        if stops or due or self._due("evaluate", self.step):
            return True
        return self.step % self.setup.interval("checkpoint") == 0 and self._saver.is_due()

    def is_due(self) -> bool:
        """Whether a checkpoint is due by the clock."""
        return self._clock.checkpoint_is_due()

    def _due(self, what: str, step: int) -> bool:
        return step % self.setup.interval(what) == 0 or step == self.setup.steps

    def look(
        self, step: int, count: int, logs: Callable[[], Any], state: Any, data: dict[str, Any], *, stops: bool = False
    ) -> None:
        """Take in `count` steps up to `step`, and do what is due.

        Args:
            step: the last one.
            count: of the steps.
            logs: gives theirs, each `[k]`, and waits for them.
            state: after the last step, where `needs_state` says so; else None.
            data: position in the data.
            stops: this process takes no further step; there must be a checkpoint of this one.
        """
        if self.stopped or self.error is not None:  # and the device has gone on meanwhile
            if state is not None:
                self.explain(state)
            return
        setup, records, reporter = self.setup, self._records, self._reporter
        if step - count == self.start:
            self.run.keep_sources()
            if self.start == 0:
                records.hyperparameters(self.values)
            if not gc.isenabled():  # launch.py turned it off for the start; what is there now is there to stay
                gc.freeze()
                gc.enable()

        # 1. The records of the steps since the last one, up to the first that is not finite.
        found = {name: values[:count].astype(np.float64) for name, values in logs().items()}
        finite = found["finite"].astype(bool)
        good = count if finite.all() else int(np.argmin(finite))
        speed, eta = self._clock.speed_and_eta(step)
        every, before, taken = setup.interval("log"), step - count, 0
        for number in range(before + 1, before + good + 1):
            if number % every and number != setup.steps:
                continue
            values = self._means(found, taken, number - before)
            taken = number - before
            records.write(number, "train", values, time={"seconds": self._clock.seconds, "images_per_second": speed})
            reporter.step(number, setup.steps, values, speed, eta)
        records.flush()
        self._pending += _by_step(found, taken, good)
        if good < count:
            self.error = NotFinite(f"{self.run.folder}: loss or gradient not finite at step {before + good + 1}")
            if state is not None:
                self.explain(state)
            return

        # 2. The evaluation, with its pictures; the last one also with its report.
        score, ends = None, step == setup.steps
        if state is not None and self._due("evaluate", step):
            test, ends = self._evaluate(step, state.evaluation_variables)
            score = self._score(test)

        # 3. The checkpoint, once everything it stands for is on disk.
        if state is not None:
            position = {"data": data, "pending": self._pending}
            self._saver.save(state, position, rank=score, must=ends or stops)
            self._clock.checkpoint_made()
        self.stopped = ends and step < setup.steps

    def _means(self, found: Mapping[str, np.ndarray], start: int, end: int) -> dict[str, float]:
        """Of the steps since the last record, the last of which are a chunk's from `start` to `end`."""
        pending, self._pending = self._pending, []
        columns = {name: values[start:end] for name, values in found.items() if name != "finite"}
        if pending:
            columns = {name: np.concatenate([[e[name] for e in pending], rest]) for name, rest in columns.items()}
        return {name: float(np.mean(values)) for name, values in columns.items()}

    def _evaluate(self, step: int, variables: Any) -> tuple[dict[str, float], bool]:
        """Evaluate and write it down; the values, and whether the run ends here."""
        setup, folder, last = self.setup, self.run.folder, step == self.setup.steps
        items: list[Table | Picture] | None = [] if last and self.run.writes else None
        feed = self._test_feed()
        with self._reporter.counting("reading the test data") as count:
            feed.load(count)
        with self._reporter.counting("evaluating") as count:
            began = time.monotonic()
            test, shown = evaluate(
                self.shared,
                setup,
                self.hyperparameters,
                variables,
                feed,
                on_batch=count,
                reports=items,
                warnings=(warnings := []),
            )
            took = time.monotonic() - began
        self._records.write(step, "test", test, time={"seconds": round(took, 3)})
        self._records.flush()
        self._reporter.evaluated(step, test, took)
        for line in warnings:
            self._reporter.warn(f"step {step}: {line}")
        ends = (self._watch is not None and self._watch(step, test)) or last
        if (ends or not self._short) and self.run.writes:
            self._draw_previews(step, shown)
        if ends and self.setup.animate and self.run.writes:
            pages = sorted((folder / "previews").glob("step_*.png"))
            reports.replace_file(folder / "previews" / "progress.gif", show.animation(pages))
        items = items or []
        if ends and not self._short and self.run.writes:
            terms = [name for name in test if name not in setup.metrics]
            curves = reports.learning_curves(read_records(folder / "metrics.jsonl"), terms)
            items += [] if curves is None else [curves]
        reports.write(items, folder, self._reporter)
        return test, ends

    def _test_feed(self) -> Resident | Streamed:
        """Of one pass over the test data, which lives on the device from the first evaluation on, if it does."""
        if isinstance(self._test, Streamed):
            self._test.close()
            self._test = self._open_test()
        return self._test

    def _open_test(self) -> Resident | Streamed:
        data = self.setup.test_data
        return open_feed(data, len(data), self._resident, mesh=self.shared.how.mesh)

    def _draw_previews(self, step: int, shown: list[Any]) -> None:
        page = show.sheet(shown, self.setup.test_data.class_names, count=self.setup.previews)
        if page is not None:
            png = io.BytesIO()
            page.save(png, "PNG", compress_level=1)
            folder = self.run.folder / "previews"
            folder.mkdir(exist_ok=True)
            (folder / f"step_{step:07}.png").write_bytes(png.getvalue())
            self._records.picture(step, png.getvalue(), page.size)

    def _score(self, test: Mapping[str, float]) -> float | None:
        """What checkpoints are compared by, turned so that larger is better."""
        value = test[self.setup.ranked_by]
        return (value if self.setup.larger_is_better(self.setup.ranked_by) else -value) if np.isfinite(value) else None

    def explain(self, state: Any) -> None:
        """Say why the steps from `state` on were not finite, where that is known to be so and has not been said."""
        if isinstance(self.error, NotFinite) and hosts.several():
            self.error = NonFinite(f"{self.error}; train on one process to see what went wrong first")
        elif isinstance(self.error, NotFinite):
            self.error = not_finite(self.run.folder, self.shared, self.setup, self.hyperparameters, state)

    def close(self) -> None:
        """Wait until all that was written is on disk."""
        self._stack.close()
        self._test.close()


class NotFinite(NonFinite):
    """As `NonFinite`, before it is known why; the state is as it was before that step."""


def replay(run: Run, step: int, watch: Watch | None) -> bool:
    """Tell the watcher of the evaluations up to a step that are on record; its verdict on the last of them."""
    stop = False
    if watch is None:
        return False
    for record in read_records(run.folder / "metrics.jsonl"):
        if record["split"] == "test" and record["step"] <= step:
            stop = watch(record["step"], values_of(record))
    return stop


def _by_step(logs: Mapping[str, np.ndarray], start: int, end: int) -> list[dict[str, float]]:
    """The logs of each step from `start` to `end`."""
    columns = {name: values[start:end].tolist() for name, values in logs.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
