"""The display of a running sweep: a live table on a terminal, one line per trial otherwise."""

import contextlib
import copy
import time
from collections.abc import Iterator, Mapping, Sequence

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from jaxcv.sweep.ledger import Claim
from jaxcv.sweep.outcomes import Row, varied
from jaxcv.train.console import Reporter, clock

_SHOWN = 15
"""Rows of the live table."""


class SweepReporter(Reporter):
    """The reporter of the single runs of a sweep, and of the sweep itself."""

    def __init__(self, outer: Reporter, metric: str, count: int):
        super().__init__(outer.console, quiet=True)  # the output of single runs would be too much
        self._loud = not outer.quiet
        self.metric, self.count = metric, count
        self._began, self._live, self._rows = time.monotonic(), None, []
        self._now: dict[int, str] = {}
        self._number: int | None = None  # of the trial that this process trains
        self._said: set[str] = set()

    def say(self, text: str, *, style: str | None = None) -> None:
        """Of the messages of single runs, those that are not about one run; each once."""
        if text not in self._said and "/" not in text.split(": ")[0]:
            self._said.add(text)
            self.announce(text)

    def evaluated(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        """Nothing: the table shows what is in the ledger."""

    def announce(self, text: str) -> None:
        """A line about the sweep."""
        if self._loud:
            self.console.print(text, markup=False)

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """Show the table while the block runs, on a terminal."""
        if not (self._loud and self.console.is_terminal):
            yield
            return
        with Live(console=self.console, get_renderable=self._table, refresh_per_second=4, transient=True) as self._live:
            try:
                yield
            finally:
                self._live = None

    def update(self, rows: Sequence[Row]) -> None:
        """Set the rows of the table."""
        self._rows = list(rows)

    def begin(self, claim: Claim) -> None:
        """A trial of this process begins."""
        self._number = claim.number

    def of(self, claim: Claim) -> "SweepReporter":
        """The reporter of one of several trials that this process trains."""
        single = copy.copy(self)  # it shares the table
        single._number = claim.number
        return single

    def end(self, row: Row, done: int) -> None:
        """A trial has ended: a line if there is no table; failures are always shown."""
        label = f"trial {row.number} ({done}/{self.count})"
        if row.state == "failed":
            self.warn(f"{label} failed: {row.error}   [{row.folder}]")
        elif self._live is None:
            value = "" if row.value is None else f"{self.metric} {row.value:.4f}"
            at = f" at step {row.step}" if row.state == "stopped early" else ""
            self.announce(f"{label} {row.state}{at}: {value}   {row.folder.name if row.folder else ''}")

    def step(self, step: int, steps: int, values: Mapping[str, float], speed: float, eta: float) -> None:
        """Where the trial of this process is."""
        if self._number is not None:
            self._now[self._number] = f"{step}/{steps}  loss {values['loss']:.4f}  ETA {clock(eta)}"

    def _table(self) -> Table:
        over = sum(row.ended for row in self._rows)
        seconds = time.monotonic() - self._began
        title = f"{over} of {self.count} trials, {clock(seconds)}"
        running = [row for row in self._rows if row.state == "running"]
        ended = [row for row in self._rows if row.state in ("finished", "stopped early")]
        failed = [row for row in self._rows if row.state == "failed"]
        room = max(3, _SHOWN - len(running) - len(failed[:3]))
        shown = [*running, *failed[:3], *ended[:room]]
        return results_table(shown, self.metric, title, self._now, names=varied(self._rows))


def results_table(
    rows: Sequence[Row],
    metric: str,
    title: str,
    now: Mapping[int, str] | None = None,
    *,
    names: Sequence[str] | None = None,
) -> Table:
    """Rows as a table; `now` has the progress of running trials."""
    names = varied(rows) if names is None else names
    table = Table(title=title, title_justify="left")
    table.add_column("trial", justify="right")
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    table.add_column(metric, justify="right")
    table.add_column("")
    for row in rows:
        if row.state == "running":
            note = (now or {}).get(row.number) or (f"running, step {row.step}" if row.step else "running")
        elif row.state == "stopped early":
            note = f"stopped at step {row.step}"
        else:
            note = "" if row.state == "finished" else f"{row.state}: {row.error}".rstrip(": ")
        settings = [escape(str(row.overrides.get(name, ""))) for name in names]
        table.add_row(str(row.number), *settings, "" if row.value is None else f"{row.value:.4f}", escape(note))
    return table
