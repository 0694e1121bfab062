"""Twenty steps of a run under JAX's profiler, for TensorBoard's profile page, Perfetto or XProf."""

from pathlib import Path

import jax

_STEPS = 20


class Profile:
    """A trace of the first steps after those that find cold caches, written into `folder`; None: nothing is done."""

    def __init__(self, folder: Path | None):
        self.folder = folder
        self._begun: int | None = None

    def before(self, step: int) -> None:
        """A chunk is about to begin after `step` steps of this process."""
        if self.folder is None or step < 2:
            return
        if self._begun is None:
            self._begun = step
            jax.profiler.start_trace(str(self.folder))
        elif step >= self._begun + _STEPS:
            self.end()

    def end(self) -> None:
        """Write what was traced."""
        if self.folder is not None and self._begun is not None:
            jax.profiler.stop_trace()
            self.folder = None
