"""Monitor a sweep that other processes run, through the ledger."""

from jaxcv.sweep import outcomes
from jaxcv.sweep.ledger import Ledger
from jaxcv.sweep.live import SweepReporter


class Watching:
    """Reports what has changed in the ledger since the last `look`."""

    def __init__(self, ledger: Ledger, show: SweepReporter):
        self._ledger, self._show = ledger, show
        self._rows = outcomes.rows(ledger)
        self._ended = {row.number for row in self._rows if row.ended}
        self._starts = {row.number: len(row.starts) for row in self._rows}

    def look(self) -> bool:
        """Read the ledger once; returns whether any trial has ended since."""
        self._rows = outcomes.rows(self._ledger)
        self._show.update(self._rows)
        for row in self._rows:
            for start in row.starts[self._starts.get(row.number, 0) :]:
                before = f"from {start['from']} to {start['host']}" if start["from"] != start["host"] else "here"
                self._show.announce(
                    f"trial {row.number}: its process ended; resumed {before} from step {start['step']}"
                )
            self._starts[row.number] = len(row.starts)
        new = sorted(r.number for r in self._rows if r.ended and r.number not in self._ended)
        for number in new:
            self._ended.add(number)
            self._show.end(next(row for row in self._rows if row.number == number), len(self._ended))
        return bool(new)

    def failed(self) -> list[outcomes.Row]:
        """Trials that have failed."""
        return [row for row in self._rows if row.state == "failed"]

    @property
    def over(self) -> bool:
        """Whether all trials have ended."""
        return all(row.ended for row in self._rows)
