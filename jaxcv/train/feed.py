"""The examples of a split on the device: all of them (resident), or those of one chunk after another (streamed).

Either way a chunk finds its batches by indices into arrays that have the examples first, so one program serves both;
and batch `n` holds the same examples, since both go by `Batches`.
"""

import contextlib
import importlib
import os
import queue
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh

from jaxcv.train import sharding
from jaxcv.types import Batch, Batches, BatchIterator, ResidentBatches

Choice = Literal["auto", "yes", "no"]
_FRACTION = 0.25
"""Of the memory of a device, how much a resident split may take."""
_LONGEST = 512
"""Steps of a chunk, at most."""
_BYTES = 1 << 26
"""About so many bytes of examples make a chunk, at most."""
_LONGEST_STREAMED = 32


def open_feed(
    data: Batches, steps: int, choice: Choice = "auto", *, mesh: Mesh | None = None, copies: Mesh | None = None
) -> "Resident | Streamed":
    """The examples of a split, for `steps` batches.

    Args:
        data: the split.
        steps: batches that will be taken.
        choice: "yes" or "no" to residence; "auto": where the split fits into a quarter of the device's memory and its
            examples will be seen at least once. Of several processes, each then reads the batches' rows that it needs;
            where the set lives on their devices, each reads all of it.
        mesh: of the devices; None: that of `sharding.chosen`. On several, a set that is too large for a quarter of
            each is split over them.
        copies: devices of which each is given all resident examples; None: those of `mesh`, as said.
    """
    mesh = sharding.chosen().mesh if mesh is None else mesh
    if is_resident(data, steps, choice, devices=mesh.size):
        return Resident(data, steps, mesh, copies)  # pyright: ignore[reportArgumentType]
    return Streamed(data, steps, mesh)


def is_resident(data: Batches, steps: int, choice: Choice = "auto", *, devices: int = 1) -> bool:
    """Whether a split will live on the devices: a function of the split, the run and the machine alone."""
    if choice == "no" or not isinstance(data, ResidentBatches) or (size := data.resident_bytes()) is None:
        return False
    if choice == "auto" and jax.process_count() > 1:
        return False
    return choice == "yes" or (steps >= len(data) and size <= _FRACTION * memory() * devices)


def memory() -> int:
    """Bytes of memory that the device has."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@dataclass(eq=False)
class _Arrays:
    """Arrays on the device, shared by all who ask for the same ones of the host, whose place in memory is their key."""

    host: Mapping[str, np.ndarray]
    there: Batch


_on_device: weakref.WeakValueDictionary[Any, _Arrays] = weakref.WeakValueDictionary()


class Resident:
    """All examples of a split, put on the device when the first batch is asked for."""

    words = "resident data"

    def __init__(self, data: ResidentBatches, steps: int, mesh: Mesh | None = None, copies: Mesh | None = None):
        self._mesh = mesh or sharding.chosen().mesh
        self._there = copies or self._mesh
        fits = (data.resident_bytes() or 0) <= _FRACTION * memory() or self._mesh.size == 1
        self.layout: sharding.Layout = "whole" if fits else "split"
        self._data, self._spec = data, dict(data.spec)
        self._rows = self._spec["image"].shape[0]
        self.length = _length(self._spec, steps, _LONGEST)
        """Batches that can be taken at once."""
        self._arrays: _Arrays | None = None

    def spec(self) -> tuple[Batch, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of what `take` returns."""
        size = self._data.num_examples
        size = sharding.split_length(self._mesh, size) if self.layout == "split" else size
        fields = {n: jax.ShapeDtypeStruct((size, *s.shape[1:]), s.dtype) for n, s in self._spec.items()}
        return fields, jax.ShapeDtypeStruct((self.length, self._rows), np.int32)

    def take(self, first: int, count: int) -> tuple[Batch, np.ndarray]:
        """Fields with the examples first, on the device; and the rows of the batches `first`, ...: `[length b]`."""
        return self.load(), self.indices(self._data, first, count)

    def indices(self, data: ResidentBatches, first: int, count: int) -> np.ndarray:
        """The rows of the batches `first`, ... of `data`, an order of the same split: `[length b]`, -1 where unused."""
        indices = np.full((self.length, self._rows), -1, np.int32)
        indices[:count] = data.indices(np.arange(first, first + count))
        return indices

    def load(self, progress: Callable[[int, int], None] | None = None) -> Batch:
        """Read what has not been read, and put it on the device."""
        if self._arrays is None:
            arrays = self._data.resident(progress)
            key = id(arrays["image"]), self._there, self.layout
            if (held := _on_device.get(key)) is None:
                there = sharding.place_examples(self._there, arrays, self.layout)
                held = _on_device[key] = _Arrays(arrays, there)
            self._arrays = held
        return self._arrays.there

    def batch(self, number: int) -> Batch:
        """One batch on the host, of those last taken."""
        rows = self._data.indices(np.array([number]))[0]
        batch = {name: array[np.maximum(rows, 0)] for name, array in self._data.resident().items()}
        return {**batch, "example_valid": batch["example_valid"] & (rows >= 0)}

    def position(self, number: int) -> dict[str, Any]:
        """Before batch `number`, for `restore`: as the iterator of the split would say it."""
        return {**iter(self._data).get_state(), "next_batch": number}

    def restore(self, position: Mapping[str, Any]) -> None:
        """Refuse a position of other data; there is nothing else to do."""
        iter(self._data).set_state(dict(position))

    def close(self) -> None:
        """Nothing is open."""


def _length(spec: Mapping[str, Any], steps: int, most: int) -> int:
    """Batches of one chunk: as many as that many bytes hold; parts of `steps` that are about equally long."""
    size = sum(int(np.prod(s.shape)) * np.dtype(s.dtype).itemsize for s in spec.values())
    most = max(1, min(most, _BYTES // max(size, 1)))
    return -(-steps // -(-steps // most))


class Streamed:
    """Batches read ahead by a thread, and brought to the device chunk by chunk."""

    words = "streamed data"

    def __init__(self, data: Batches, steps: int, mesh: Mesh | None = None):
        # By the main thread, when a run begins: while it is loaded, the imports of other threads may go astray.
        importlib.import_module("grain")
        self._mesh = mesh or sharding.chosen().mesh
        self.layout: sharding.Layout = "whole" if self._mesh.size == 1 else "local"
        self._data, self._batches = data, iter(data)
        self._spec = dict(data.spec)
        self._rows = self._spec["image"].shape[0]
        processes = jax.process_count()
        self._devices = self._mesh.size // processes
        """Of this process."""
        share = -(-self._rows // processes)
        self._each = -(-share // self._devices)
        """Rows of a batch on a device; they may be padded."""
        self.length = _length(self._spec, steps, _LONGEST_STREAMED)
        """Batches that can be taken at once."""
        self._position = self._batches.get_state()
        self._reader: _Reader | None = None
        self._lock = threading.Lock()
        self._taken: dict[int, Batch] = {}

    def spec(self) -> tuple[Batch, jax.ShapeDtypeStruct]:
        """As of `Resident`."""
        rows = self._mesh.size * self._each
        size = self.length * rows
        fields = {n: jax.ShapeDtypeStruct((size, *s.shape[1:]), s.dtype) for n, s in self._spec.items()}
        return fields, jax.ShapeDtypeStruct((self.length, rows), np.int32)

    def take(self, first: int, count: int) -> tuple[Batch, np.ndarray]:
        """Fields with the examples of the next batches first, on the host; and their rows, `[length b]`.

        The examples of each device come together, and the rows are counted there.
        """
        self.load()
        assert self._reader is not None
        self._taken = {}
        for number in range(first, first + count):
            self._taken[number], self._position = self._reader.next()
        whole, devices, each = {}, self._devices, self._each
        for name, spec in self._spec.items():
            field = np.zeros((devices, self.length, each, *spec.shape[1:]), spec.dtype)
            for i, batch in enumerate(self._taken.values()):
                rows = batch[name]
                if len(rows) < devices * each:
                    rows = np.concatenate([rows, np.zeros((devices * each - len(rows), *rows.shape[1:]), rows.dtype)])
                field[:, i] = rows.reshape(devices, each, *rows.shape[1:])
            whole[name] = field.reshape(devices * self.length * each, *spec.shape[1:])
        indices = np.arange(self.length * each, dtype=np.int32).reshape(self.length, each)
        return whole, np.tile(indices, self._mesh.size)

    def place(self, fields: Mapping[str, np.ndarray]) -> Batch:
        """Such fields on the devices."""
        return sharding.place_examples(self._mesh, fields, self.layout)

    def load(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Begin to read ahead."""
        del progress
        with self._lock:
            self._reader = self._reader or _Reader(self._batches, ahead=max(2, self.length))

    def batch(self, number: int) -> Batch:
        """One batch on the host, of those last taken."""
        return self._taken[number]

    def position(self, number: int) -> dict[str, Any]:
        """Before the batch that the next `take` begins with."""
        del number
        return self._position

    def restore(self, position: Mapping[str, Any]) -> None:
        """Go to what `position` gave; what has been read ahead until now is dropped."""
        with self._lock:
            self._end_reading()
            self._batches.set_state(dict(position))
            self._position = dict(position)

    def close(self) -> None:
        """Stop reading."""
        with self._lock:
            self._end_reading()
        if hasattr(self._batches, "close"):
            self._batches.close()  # pyright: ignore[reportAttributeAccessIssue]

    def _end_reading(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


class _Reader:
    """A thread that reads batches ahead, each with the position after it."""

    def __init__(self, batches: BatchIterator, *, ahead: int):
        self._batches = batches
        self._read: queue.Queue[Any] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def next(self) -> tuple[Batch, dict[str, Any]]:
        """The next one; raises what reading it raised."""
        item = self._read.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Stop; nobody reads from the batches when this returns."""
        self._stop.set()
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                self._read.get(timeout=0.05)  # the thread may wait for room

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                batch = next(self._batches)
                self._read.put((batch, self._batches.get_state()))
        except BaseException as error:  # whatever it is, the one who waits for the batch must hear of it
            self._read.put(error)
