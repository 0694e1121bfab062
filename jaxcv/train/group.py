"""The states of runs that train side by side, and the steps that they take together.

A single run has its state as it is. Several have theirs stacked, and one program that is vmapped over hyperparameters,
states and batches, but not over the data. When runs leave, the rest moves to a program half as wide.
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
from jaxcv.train.observer import Observer
from jaxcv.types import ResidentBatches


class Group:
    """Runs of one program. `runs` are those that still train."""

    def __init__(self, shared: Program, runs: Sequence[Observer]):
        self._shared, self.runs, self._feed = shared, list(runs), runs[0].feed
        self.mesh = shared.how.mesh
        self._rows = runs[0].setup.train_data.spec["image"].shape[0]
        self._stack([run.state for run in runs])
        for run in runs:
            run.state = None  # the first chunk donates it

    def take(self, count: int) -> "Logs":
        """Take `count` steps with every run; nothing is waited for."""
        if len(self.runs) <= self._width // 2:
            states = [self.state_of(run) for run in self.runs]
            self._stack(states)
        data, indices = self._batches(count)
        program = self._program(self.runs[0].setup.variant(self.runs[0].step))
        self._state, logs = program(self._hyperparameters, self._state, data, indices, np.int32(count))
        for run in self.runs:
            run.step += count
        return Logs(logs)

    def state_of(self, run: Observer) -> Any:
        """A copy of one run's state, on the device."""
        return _copy(self._state) if self._width == 1 else _slice(self._state, self._lane(run))

    def logs_of(self, run: Observer, logs: "Logs") -> Callable[[], dict[str, np.ndarray]]:
        """What gives one run's part of what `take` gave, each `[k]`, and waits for it."""
        return partial(logs.of, None if self._width == 1 else self._lane(run))

    def leave(self, run: Observer) -> None:
        """A run has ended. Its lane goes on unseen until the others move."""
        self.runs.remove(run)

    def _lane(self, run: Observer) -> int:
        return self._lanes.index(run)

    def _stack(self, states: Sequence[Any]) -> None:
        self._lanes, self._width = list(self.runs), len(self.runs)
        inputs = [run.hyperparameters for run in self.runs]
        if self._width == 1:
            self._hyperparameters, self._state = inputs[0], sharding.place(self.mesh, states[0])
        else:  # weakly typed, as the scalars of a single run
            self._hyperparameters = {n: jnp.stack([jnp.asarray(x[n]) for x in inputs]) for n in inputs[0]}
            self._state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    def _batches(self, count: int) -> tuple[Any, np.ndarray]:
        """The examples, and the indices of each lane's batches into them."""
        if isinstance(self._feed, Resident):
            data = self._feed.load()
            orders = [cast(ResidentBatches, run.setup.train_data) for run in self._lanes]
            indices = [self._feed.indices(d, run.step, count) for d, run in zip(orders, self._lanes, strict=True)]
        else:
            taken = [run.feed.take(run.step, count) for run in self._lanes]
            size = self._feed.length * self._rows
            data = {name: np.concatenate([fields[name] for fields, _ in taken]) for name in taken[0][0]}
            data = cast(Streamed, self._feed).place(data) if self._width == 1 else jax.device_put(data)
            indices = [rows + np.int32(size * lane) for lane, (_, rows) in enumerate(taken)]
        return data, indices[0] if self._width == 1 else np.stack(indices)

    def _program(self, variant: str | None) -> Any:
        return begin_compiling(self._shared, self.runs[0], self._width, variant)()


def begin_compiling(shared: Program, run: Observer, width: int, variant: str | None) -> Callable[[], Any]:
    """As `Program.begin_chunk`, for so many runs like this one."""
    data, indices = run.feed.spec()
    if width == 1:
        return shared.begin_chunk(run.values, data, indices, variant, layout=run.feed.layout)
    indices = jax.ShapeDtypeStruct((width, *indices.shape), indices.dtype)
    if not isinstance(run.feed, Resident):
        data = {n: jax.ShapeDtypeStruct((width * s.shape[0], *s.shape[1:]), s.dtype) for n, s in data.items()}
    return shared.begin_chunk(run.values, data, indices, variant, width)


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
_slice = jax.jit(lambda tree, lane: jax.tree.map(lambda leaf: leaf[lane], tree))
