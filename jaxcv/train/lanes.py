"""Several runs of one program as one vmapped program: each takes its steps in a lane of it.

Every run keeps its own loop, in a thread of its own: data, records, evaluations, checkpoints. Only the step is shared.
It is taken when all lanes that are manned have brought their batches; the states stay stacked in between, and a run
sees its own slice when it looks. When runs leave, the rest moves to a narrower program, half as wide or less.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcv.train import runtime
from jaxcv.train.state import TrainState
from jaxcv.train.step import Program
from jaxcv.types import Batch


class LanesBroken(Exception):
    """The shared step failed, so no lane can go on; the runs are as good as interrupted."""


class Lanes:
    """Up to `width` lanes of one program. Threads enter, take steps, and leave."""

    def __init__(self, program: Program, width: int):
        self.program, self.width = program, width
        self._parties: list[int] = []  # threads, by lane
        self._calls: dict[int, tuple[Any, Any, Any]] = {}
        self._results: dict[int, tuple[Any, Any]] = {}
        self._changed = threading.Condition()
        self._states: Any = None
        self._inputs: Any = None
        self._values: list[Any] = []
        self._steps: dict[int, Any] = {}
        self._handles: dict[int, LaneState] = {}
        self._broken: BaseException | None = None
        self._reader = jax.jit(lambda tree, lane: jax.tree.map(lambda x: x[lane], tree))
        self._writer = jax.jit(
            lambda tree, lane, new: jax.tree.map(lambda x, n: x.at[lane].set(n), tree, new), donate_argnums=0
        )

    def enter(self, thread: int | None = None) -> None:
        """This thread (or the one of that number) will bring batches: from now on the others wait for it."""
        with self._changed:
            self._parties.append(threading.get_ident() if thread is None else thread)

    def leave(self) -> None:
        """This thread brings no more batches."""
        with self._changed:
            me = threading.get_ident()
            if me in self._parties:
                self._parties.remove(me)
            self._handles.pop(me, None)
            self._take_if_complete()
            self._changed.notify_all()

    def step(self, hyperparameters: Mapping[str, Any], state: Any, batch: Batch) -> tuple[Any, dict[str, Any]]:
        """The training step of one run, as `Program.step`; returns when all lanes have taken theirs.

        Raises:
            LanesBroken: the shared step failed.
        """
        me = threading.get_ident()
        with self._changed:
            self._calls[me] = (dict(hyperparameters), state, batch)
            self._take_if_complete()
            while me not in self._results:
                if self._broken is not None:
                    raise LanesBroken(f"{type(self._broken).__name__}: {self._broken}") from self._broken
                self._changed.wait()
            return self._results.pop(me)

    def _take_if_complete(self) -> None:
        """With the lock held: the step, if every party has called."""
        if not self._parties or self._broken is not None or set(self._parties) - set(self._calls):
            return
        try:
            self._take()
        except BaseException as error:  # whatever it is, all lanes must hear of it
            self._broken = error
        self._calls.clear()
        self._changed.notify_all()

    def _take(self) -> None:
        lanes = list(self._parties)
        width = min(w for w in self._widths() if w >= len(lanes))
        calls = [self._calls[lane] for lane in lanes]
        handles = [call[1] for call in calls]
        known = [
            isinstance(h, LaneState) and h is self._handles.get(lane) for lane, h in zip(lanes, handles, strict=True)
        ]
        places = [h.lane if k else -1 for h, k in zip(handles, known, strict=True)]
        if (
            self._states is None
            or width != jax.tree.leaves(self._states)[0].shape[0]
            or not all(place == lane for place, lane in zip(places, range(len(lanes)), strict=True) if place >= 0)
        ):
            whole = [h.whole if isinstance(h, LaneState) else h for h in handles]
            whole += [whole[0]] * (width - len(whole))  # lanes that nobody mans compute what another does
            self._states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *whole)
        else:
            for lane, (handle, kept) in enumerate(zip(handles, known, strict=True)):
                if not kept:
                    whole = handle.whole if isinstance(handle, LaneState) else handle
                    self._states = self._writer(self._states, lane, whole)
        values = [call[0] for call in calls] + [calls[0][0]] * (width - len(calls))
        if values != self._values:  # weakly typed, as the scalars of a run that is alone
            self._inputs = {n: jnp.stack([jnp.asarray(v[n]) for v in values]) for n in values[0]}
            self._values = values
        batches = [call[2] for call in calls] + [calls[0][2]] * (width - len(calls))
        stacked = {name: np.stack([np.asarray(batch[name]) for batch in batches]) for name in batches[0]}
        self._states, logs = self._program(width, stacked)(self._inputs, self._states, stacked)
        for lane, thread in enumerate(lanes):
            self._handles[thread] = LaneState(self._reader, self._states, lane)
            self._results[thread] = self._handles[thread], {n: _Element(x, lane) for n, x in logs.items()}

    def _widths(self) -> list[int]:
        widths = [self.width]
        while widths[-1] > 1:
            widths.append(-(-widths[-1] // 2))
        return widths

    def _program(self, width: int, batch: Batch) -> Callable[..., Any]:
        if width not in self._steps:
            self._steps[width] = compile_lanes(self.program, self._inputs, self._states, batch)
        return self._steps[width]


def compile_lanes(program: Program, hyperparameters: Any, states: Any, batch: Batch) -> Any:
    """The vmapped step compiled; every argument has the lanes first."""
    jitted = jax.jit(jax.vmap(program.step), donate_argnums=1, compiler_options=runtime.compiler_options())
    return jitted.lower(hyperparameters, states, batch).compile()


class LaneState:
    """A run's state within the stacked ones, cut out when somebody looks; as a pytree it is a `TrainState`."""

    def __init__(self, reader: Callable[[Any, int], Any], states: Any, lane: int):
        self._reader, self._states, self.lane = reader, states, lane

    @property
    def whole(self) -> TrainState:
        """The slice; to be looked at before the next step is taken."""
        if self._states is not None:
            self._slice, self._states = self._reader(self._states, self.lane), None
        return self._slice

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.whole, name)


def _flatten(state: LaneState) -> tuple[list[tuple[Any, Any]], None]:
    fields = ("step", "params", "collections", "opt_state", "key", "finite", "ema")
    return [(jax.tree_util.GetAttrKey(name), getattr(state.whole, name)) for name in fields], None


jax.tree_util.register_pytree_with_keys(LaneState, _flatten, lambda _, children: TrainState(*children))  # pyright: ignore[reportArgumentType]


class _Element:
    """One lane's value in a log, fetched from the device when it is read."""

    def __init__(self, values: jax.Array, lane: int):
        self._values, self._lane = values, lane

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(np.asarray(self._values)[self._lane], dtype)
