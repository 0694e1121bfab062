"""What a person sees of a run: a progress bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.table import Table as RichTable

from jaxcv.types import Cell, Table

_WIDE = 110
"""Columns of a terminal from which the loss and the speed have room beside the bar."""


class Reporter:
    """Everything the loop says. `quiet` leaves only what went wrong."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False):
        self.console = console or Console(stderr=False, soft_wrap=not sys.stdout.isatty(), highlight=False)
        self.quiet = quiet
        self._bar: Progress | None = None
        self._task: Any = None
        self._last_line = 0.0

    def say(self, text: str, *, style: str | None = None) -> None:
        """One line, above the bar if there is one."""
        if not self.quiet:
            self.console.print(text, style=style, markup=False)

    def warn(self, text: str) -> None:
        """One line that is shown even when quiet."""
        self.console.print(f"warning: {text}", style="yellow", markup=False)

    @contextlib.contextmanager
    def training(self, name: str, steps: int, start: int) -> Iterator[None]:
        """Shows progress from `start` to `steps` while the block runs."""
        self._last_line = time.monotonic()
        if self.quiet or not self.console.is_terminal:
            yield
            return
        narrow = self.console.width < _WIDE
        room = max(8, self.console.width - (36 if narrow else 84))
        name = name if len(name) <= room else f"{name[: room - 1]}…"
        whole = Column(no_wrap=True)
        columns = (
            TextColumn("{task.description}", markup=False, table_column=whole),
            BarColumn(10 if narrow else 40),
            TaskProgressColumn(table_column=whole),
            TextColumn("{task.fields[eta]}" if narrow else "{task.fields[info]}", table_column=whole),
        )
        elapsed = () if narrow else (TimeElapsedColumn(),)
        with Progress(*columns, *elapsed, console=self.console, transient=True) as bar:
            self._bar, self._task = bar, bar.add_task(name, total=steps, completed=start, info="", eta="")
            try:
                yield
            finally:
                self._bar = None

    def step(self, step: int, steps: int, values: Mapping[str, float], speed: float, eta: float) -> None:
        """After a record: losses, images a second, time to go."""
        info = f"loss {values['loss']:.4f}  {speed:,.0f} images/s  ETA {clock(eta)}"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, info=info, eta=f"ETA {clock(eta)}")
        elif not self.quiet and (time.monotonic() - self._last_line > 5 or step == steps):
            self._last_line = time.monotonic()
            self.say(f"step {step}/{steps}  {info}")

    @contextlib.contextmanager
    def counting(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """A function of (done, total) that shows a second bar when the work takes more than two seconds."""
        if self.quiet or not self.console.is_terminal:
            yield lambda done, total: None
            return
        start, task = time.monotonic(), None
        own = contextlib.nullcontext(self._bar) if self._bar else Progress(console=self.console, transient=True)
        with own as bar:
            assert bar is not None

            def update(done: int, total: int) -> None:
                nonlocal task
                if task is None and time.monotonic() - start > 1:
                    task = bar.add_task(what, total=total, info="", eta="")
                if task is not None:
                    bar.update(task, completed=done)

            yield update
            if task is not None:
                bar.remove_task(task)

    def evaluated(self, step: int, values: Mapping[str, float], seconds: float) -> None:
        """One line of test values."""
        text = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        self.say(f"test at step {step}: {text}  ({seconds:.1f} s)", style="bold")

    def table(self, title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
        """Columns by name (such as train and test), one row for every value that any of them has."""
        if self.quiet:
            return
        table = RichTable(title=title, title_justify="left")
        table.add_column("")
        for column in rows:
            table.add_column(column, justify="right")
        for name in dict.fromkeys(name for values in rows.values() for name in values):
            cells = [rows[c].get(name) for c in rows]
            table.add_row(name, *("" if v is None else f"{v:.4f}" for v in cells))
        self.console.print(table)

    def show(self, table: Table) -> None:
        """A table below the lines of its title; numbers to three decimals, a dash for what is not defined."""
        if self.quiet:
            return
        for line in table.title.splitlines():
            self.say(line)
        shown = RichTable()
        for i, column in enumerate(table.columns):
            words = any(isinstance(row[i], str) for row in table.rows)
            shown.add_column(column.replace("_", " "), justify="left" if words else "right")
        for row in table.rows:
            shown.add_row(*map(_written, row))
        self.console.print(shown)


def _written(cell: Cell) -> str:
    if cell is None:
        return "-"
    return escape(cell) if isinstance(cell, str) else f"{cell:.3f}" if isinstance(cell, float) else f"{cell:,}"


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
