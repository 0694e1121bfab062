"""How fast the steps are, and when a checkpoint is due."""

import time

_SECONDS_BETWEEN_CHECKPOINTS = 300.0


class Clock:
    """Time since the loop began, and since the last record and checkpoint."""

    def __init__(self, rows: int, steps: int, start: int):
        self._rows, self._steps = rows, steps
        self._start = self._mark = self._saved = time.monotonic()
        self._marked_step = start
        self._first: tuple[float, int] | None = None

    @property
    def seconds(self) -> float:
        """Since the loop began."""
        return round(time.monotonic() - self._start, 3)

    def speed_and_eta(self, step: int) -> tuple[float, float]:
        """Images a second since the last call, and the seconds left.

        They are those of the steps since the first call, evaluations and checkpoints between them included.
        """
        now = time.monotonic()
        speed = (step - self._marked_step) * self._rows / max(now - self._mark, 1e-9)
        self._mark, self._marked_step = now, step
        first, at = self._first or (now, step)
        self._first = first, at
        left = (now - first) / (step - at) if step > at else self._rows / max(speed, 1e-9)
        return round(speed, 1), (self._steps - step) * left

    def checkpoint_made(self) -> None:
        """Start counting to the next one."""
        self._saved = time.monotonic()

    def checkpoint_is_due(self) -> bool:
        """None was made for a while, though the step count asks for none."""
        return time.monotonic() - self._saved > _SECONDS_BETWEEN_CHECKPOINTS
