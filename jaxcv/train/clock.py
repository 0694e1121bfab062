"""How fast the steps are, and when a checkpoint is due."""

import time
from collections import deque

_SECONDS_OF_SPEED = 5.0
"""Chunks are looked at late while an evaluation goes on, and then several at once: a speed over less means nothing."""

_SECONDS_BETWEEN_CHECKPOINTS = 300.0


class Clock:
    """Time since the loop began, and since the last record and checkpoint."""

    def __init__(self, rows: int, steps: int, start: int):
        self._rows, self._steps = rows, steps
        self._start = self._saved = time.monotonic()
        self._marks = deque([(self._start, start)])
        self._first: tuple[float, int] | None = None

    @property
    def seconds(self) -> float:
        """Since the loop began."""
        return round(time.monotonic() - self._start, 3)

    def speed_and_eta(self, step: int) -> tuple[float, float]:
        """Images a second over the last five seconds or since the last call, and the seconds left.

        What is left is as fast as the steps since the first call, evaluations and checkpoints between them included.
        """
        now = time.monotonic()
        while len(self._marks) > 1 and now - self._marks[1][0] >= _SECONDS_OF_SPEED:
            self._marks.popleft()
        then, before = self._marks[0]
        speed = (step - before) * self._rows / max(now - then, 1e-9)
        if self._first is None:  # what came before was mostly compiling
            self._marks.clear()
        self._marks.append((now, step))
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
