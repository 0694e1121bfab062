"""The states of runs that train side by side, and the steps that they take together.

A single run has its state as it is. Several have theirs stacked, and one program over their hyperparameters, states and
batches, but not over the data (`lanes`). When runs leave, the rest moves to a program half as wide; of several devices,
each keeps one lane at least, though its run may have ended.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxcv.train import sharding
from jaxcv.train.compiled import Program
from jaxcv.train.feed import Resident, Streamed
from jaxcv.train.lanes import Lanes
from jaxcv.train.observer import Observer
from jaxcv.types import ResidentBatches


class Group:
    """Runs of one program. `runs` are those that still train."""

    def __init__(self, shared: Program, runs: Sequence[Observer], lanes: Lanes | None):
        self._shared, self.runs, self._feed = shared, list(runs), runs[0].feed
        self.mesh = shared.how.mesh
        self._rows = runs[0].setup.train_data.spec["image"].shape[0]
        self._stack([run.state for run in runs], lanes)
        for run in runs:
            run.state = None  # the first chunk donates it

    def take(self, count: int) -> "Logs":
        """Take `count` steps with every run; nothing is waited for."""
        if self._lanes is not None and (fewer := self._lanes.narrowed(len(self.runs))) != self._lanes:
            self._stack([self.state_of(run) for run in self.runs], fewer)
        data, indices = self._batches(count)
        program = self._program(self.runs[0].setup.variant(self.runs[0].step))
        self._state, logs = program(self._hyperparameters, self._state, data, indices, np.int32(count))
        for run in self.runs:
            run.step += count
        return Logs(logs)

    def state_of(self, run: Observer) -> Any:
        """A copy of one run's state, on the device."""
        return _copy(self._state) if self._lanes is None else self._lanes.of(self._state, self._order.index(run))

    def logs_of(self, run: Observer, logs: "Logs") -> Callable[[], dict[str, np.ndarray]]:
        """What gives one run's part of what `take` gave, each `[k]`, and waits for it."""
        return partial(logs.of, None if self._lanes is None else self._order.index(run))

    def leave(self, run: Observer) -> None:
        """A run has ended. Its lane goes on unseen until the others move."""
        self.runs.remove(run)

    def _stack(self, states: Sequence[Any], lanes: Lanes | None) -> None:
        self._lanes, self._order = lanes, list(self.runs)
        if lanes is None:
            self._hyperparameters = self.runs[0].hyperparameters
            self._state = sharding.place(self.mesh, states[0])
            return
        spare = lanes.width - len(states)  # the last run again, which nobody looks at
        self._order += self.runs[-1:] * spare
        inputs, states = [run.hyperparameters for run in self._order], [*states, *[states[-1]] * spare]
        # Weakly typed, as the scalars of a single run.
        self._hyperparameters = lanes.place({n: jnp.stack([jnp.asarray(x[n]) for x in inputs]) for n in inputs[0]})
        self._state = lanes.place(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))

    def _batches(self, count: int) -> tuple[Any, np.ndarray]:
        """The examples, and the indices of each lane's batches into them."""
        if isinstance(self._feed, Resident):
            data = self._feed.load()
            orders = [cast(ResidentBatches, run.setup.train_data) for run in self._order]
            indices = [self._feed.indices(d, run.step, count) for d, run in zip(orders, self._order, strict=True)]
        else:
            once = {run: run.feed.take(run.step, count) for run in dict.fromkeys(self._order)}
            taken = [once[run] for run in self._order]
            size, each = self._feed.length * self._rows, 1 if self._lanes is None else self._lanes.each
            data = {name: np.concatenate([fields[name] for fields, _ in taken]) for name in taken[0][0]}
            data = cast(Streamed, self._feed).place(data) if self._lanes is None else self._lanes.place(data)
            indices = [rows + np.int32(size * (lane % each)) for lane, (_, rows) in enumerate(taken)]
        return data, indices[0] if self._lanes is None else np.stack(indices)

    def _program(self, variant: str | None) -> Any:
        return begin_compiling(self._shared, self.runs[0], self._lanes, variant)()


def begin_compiling(shared: Program, run: Observer, lanes: Lanes | None, variant: str | None) -> Callable[[], Any]:
    """As `Program.begin_chunk`, for a run alone, or for as many like this one as there are lanes."""
    (data, indices), layout = run.feed.spec(), run.feed.layout
    if lanes is not None:
        indices = jax.ShapeDtypeStruct((lanes.width, *indices.shape), indices.dtype)
    if lanes is not None and not isinstance(run.feed, Resident):
        data = {n: jax.ShapeDtypeStruct((lanes.width * s.shape[0], *s.shape[1:]), s.dtype) for n, s in data.items()}
        layout = "local"
    return shared.begin_chunk(run.values, data, indices, variant, lanes, layout=layout)


class Logs:
    """What a chunk has logged, each `[width k]`, or `[k]` of a single run; fetched from the device once."""

    def __init__(self, arrays: dict[str, Any]):
        self.arrays = arrays

    @cached_property
    def _fetched(self) -> dict[str, np.ndarray]:
        found = jax.device_get(self.arrays)  # steps outside a loop have a list each
        return {name: np.stack(x, axis=-1) if isinstance(x, list) else x for name, x in found.items()}

    def of(self, lane: int | None) -> dict[str, np.ndarray]:
        """Of one run; waits for the chunk."""
        return self._fetched if lane is None else {name: x[lane] for name, x in self._fetched.items()}


_copy = jax.jit(partial(jax.tree.map, jnp.copy))
