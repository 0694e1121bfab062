"""Several processes that train one run together, each with its own devices, on one machine or many.

Every process runs the same command, and JAX the same programs in the same order in all of them; who waits for a program
that another has not begun waits for ever. So whatever decides what comes next is agreed on: the first process alone
opens the run's folder, holds its lock and writes records (`led`), and after every chunk the processes exchange, in a
small program behind it, how long the next one may be and whether somebody was asked to stop (`Agreement`).

Each process reads its own rows of a batch. All compute the metrics, of the same predictions and targets, and write
their parts of a checkpoint; the folder must be one that all of them see.

A process that dies takes the others with it: their collectives fail, or the coordinator misses its heartbeat. They end
with a line and exit code 75, and the same command in all of them goes on from the last checkpoint.
"""

import json
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxcv.errors import UserError

_HEARTBEAT = 20
"""Seconds without a sign of life after which a process counts as dead."""
_T = TypeVar("_T")


class ProcessLost(Exception):
    """Another process of the run has ended before its time."""


def initialize(coordinator: str | None = None, process: int | None = None, processes: int | None = None) -> None:
    """Join the other processes; to be called before JAX starts.

    Args:
        coordinator: host:port at which the first process listens; None: as the cluster (Slurm, Kubernetes, a TPU pod,
            Open MPI) tells JAX, like the others.
        process: number of this process, from 0.
        processes: how many there are.

    Raises:
        UserError: they do not fit together, this machine's name has no address, or nobody answers.
    """
    given = [value is not None for value in (coordinator, process, processes)]
    if any(given) and not all(given):
        raise UserError("--coordinator HOST:PORT, --process I and --processes N belong together")
    if process is not None and processes is not None and not 0 <= process < processes:
        raise UserError(f"--process {process}: expected a number from 0 to {processes - 1}")
    try:
        socket.getaddrinfo(own := socket.gethostname(), None)
    except OSError as error:  # Gloo would find out later, with fifty lines
        raise UserError(
            f"--distributed: this machine's own name, {own}, has no address, and processes meet by it: add a line with "
            f"its address in the network and the name to /etc/hosts (`127.0.0.1 {own}` for processes of one machine)"
        ) from error
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # Two programs at once would mix up their messages.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    # A signal is ours: `signals` hears of it, and `Agreement` tells the others.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        times: Any = {"heartbeat_timeout_seconds": _HEARTBEAT, "shutdown_timeout_seconds": 2 * _HEARTBEAT}
        jax.distributed.initialize(coordinator, processes, process, **times)
    except (ValueError, RuntimeError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        advice = "" if any(given) else "; outside Slurm and the like give --coordinator, --process and --processes"
        raise UserError(f"--distributed: {why}{advice}") from error


def leave() -> None:
    """Wait until all have come here, so that none takes the end of another for its death; the last call to JAX."""
    jax.distributed.shutdown()


def several() -> bool:
    """Whether there are others."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def led(act: Callable[[], _T]) -> _T:
    """What `act` gives in the first process, which alone calls it, as JSON in all others.

    Raises:
        UserError: what it raised, in all of them.
    """
    if not several():
        return act()
    result, error = None, None
    if is_first():
        try:
            result = act()
        except UserError as refused:
            error = refused
    told = _from_first({"result": result, "error": None if error is None else str(error)})
    if error is not None:
        raise error
    if told["error"] is not None:
        raise UserError(told["error"])
    return result if is_first() else told["result"]  # pyright: ignore[reportReturnType]


def _from_first(value: Any) -> Any:
    from jax.experimental import multihost_utils

    text = np.frombuffer(json.dumps(value, default=str).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    text = text if is_first() else np.zeros(size, np.uint8)
    return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(text)).astype(np.uint8).tobytes())


def whole(array: Any) -> np.ndarray:
    """An array that is spread over the processes, in all of them."""
    if not isinstance(array, jax.Array) or array.is_fully_addressable or array.is_fully_replicated:
        return np.array(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


@dataclass(frozen=True)
class Agreed:
    """What all processes go by."""

    length: int
    """Steps of the next chunk, at most."""
    stop: bool = False
    """Somebody was asked to stop."""
    due: bool = False
    """A checkpoint is due by the clock."""
    over: bool = False
    """Somebody met an error."""


class Agreement:
    """What every process would like, and what they agree on: one chunk later, so that nobody waits for it."""

    def __init__(self, mesh: Mesh):
        self._rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._local = mesh.size // jax.process_count()
        self._before: Any = None
        self._all = jax.jit(_merged, out_shardings=NamedSharding(mesh, PartitionSpec()))

    def exchange(self, wish: Agreed) -> Agreed:
        """Tell the others; returns what was agreed on at the call before, of a single process its wish."""
        if not several():
            return wish
        row = np.array([-wish.length, wish.stop, wish.due, wish.over], np.int32)
        rows = jax.make_array_from_process_local_data(self._rows, np.tile(row, (self._local, 1)))
        before, self._before = self._before, self._all(rows)
        if before is None:
            return replace(wish, stop=False, due=False, over=False, length=1)
        length, stop, due, over = np.asarray(before).tolist()
        return Agreed(-length, bool(stop), bool(due), bool(over))


def _merged(rows: jax.Array) -> jax.Array:
    return jnp.max(rows, axis=0)


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process is not there any more."""
    if not several() or "RESOURCE_EXHAUSTED" in str(error):
        return False
    kinds = ProcessLost | jax.errors.JaxRuntimeError
    # Of a compiled program that is called, JAX makes a ValueError of it.
    return isinstance(error, kinds) or "Gloo" in str(error) or "coordination service" in str(error)


LOST = "another process of the run has ended: start all of them again, and they go on from the last checkpoint"


def say_lost(error: BaseException) -> None:
    """The line; and what JAX said."""
    why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    print(f"error: {LOST} (process {jax.process_index()}: {why[:200]})", file=sys.stderr, flush=True)
