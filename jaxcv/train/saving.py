"""When checkpoints are written.

Of one long run, whenever one is due. Of many short ones, writing would take longer than training: there, checkpoints
keep a distance in time, and the best state so far waits in memory until the next one is written. What a kill takes is
then at most that distance, and it is computed again.
"""

import time
from collections.abc import Callable
from typing import Any

from jaxcv.train.checkpoint import Checkpoints, Snapshot


class Saver:
    """Writes the checkpoints of one run, at most one every `spacing` seconds but for those that must be.

    The newest state and the best one are on disk at the end, whatever the spacing.
    """

    def __init__(self, checkpoints: Checkpoints, *, sync: Callable[[], None], spacing: float = 0.0):
        """`sync` puts on disk what a checkpoint stands for; called before one is written."""
        self._checkpoints, self._sync, self._spacing = checkpoints, sync, spacing
        self._written = time.monotonic()
        self._best: Snapshot | None = None

    def is_due(self) -> bool:
        """Whether a state that is given now is written, and not only looked at for being the best."""
        return time.monotonic() - self._written >= self._spacing

    def save(self, state: Any, position: dict[str, Any], *, rank: float | None = None, must: bool = False) -> None:
        """Take a state in; it is written now, or kept if it may turn out to be the best.

        Args:
            state: as in `Checkpoints.save`, like `position` and `rank`.
            position: of the data, and whatever else is needed to go on.
            rank: of the evaluation at this step, larger is better.
            must: write it whatever the spacing.
        """
        if must or self.is_due():
            self._sync()
            if self._best is not None and (rank is None or rank < (self._best.rank or 0.0)):
                self._checkpoints.write(self._best)
            self._checkpoints.save(state, position, rank=rank)
            self._best, self._written = None, time.monotonic()
        elif rank is not None and (self._best is None or rank >= (self._best.rank or 0.0)):
            self._best = Snapshot(state, position, rank=rank)

    def wait(self) -> None:
        """Until everything written is on disk."""
        self._checkpoints.wait()
