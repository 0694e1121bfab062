"""All examples of a source as arrays, to live on the device: read once, by as many threads as the process has cores."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Int

from jaxcv.data.io.images import Progress
from jaxcv.data.source import ArraySource, Source
from jaxcv.types import Batch

_PART = 64
"""Most examples that a thread reads at once."""
_arrays: WeakKeyDictionary[Source, Batch] = WeakKeyDictionary()
_lock = threading.RLock()  # a source that stands on another asks for that one's arrays meanwhile


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resident(source: Source, progress: Progress | None = None) -> Batch:
    """Every field of the spec, and `example_valid`, of all examples; the same arrays for as long as the source lives.

    Raises:
      DataError: the first example that cannot be read.
    """
    progress = progress or (lambda done, total: None)
    with _lock:
        if source not in _arrays:
            found = source.arrays(progress) if isinstance(source, ArraySource) else read_all(source, progress)
            found = {"example_valid": np.ones(len(source), np.bool_), **found}
            _arrays[source] = {name: array.view() for name, array in found.items()}
            for array in _arrays[source].values():
                array.flags.writeable = False
        return _arrays[source]


def read(source: Source, indices: Int[np.ndarray, "b"]) -> Batch:
    """The examples at `indices`: out of the arrays of `resident`, where they are there."""
    arrays = _arrays.get(source)
    return source.read(indices) if arrays is None else {name: array[indices] for name, array in arrays.items()}


def read_all(source: Source, progress: Progress) -> Batch:
    """All examples by `Source.read`, put together."""
    size = len(source)
    arrays: Batch = {name: np.empty((size, *field.shape), field.dtype) for name, field in source.spec().items()}
    arrays["example_valid"] = np.ones(size, np.bool_)

    def read_part(part: np.ndarray) -> None:
        for name, values in source.read(part).items():
            arrays[name][part] = values

    in_parts(size, read_part, progress)
    return arrays


def in_parts(size: int, work: Callable[[Int[np.ndarray, "b"]], Any], progress: Progress) -> None:
    """Call `work` with the numbers up to `size` in parts, by all cores; the error raised is that of the first part."""
    length = max(1, min(_PART, size // (4 * cores())))
    parts = [np.arange(start, min(start + length, size)) for start in range(0, size, length)]
    with ThreadPoolExecutor(cores()) as pool:
        for part, _ in zip(parts, pool.map(work, parts), strict=True):  # left early, map cancels what has not begun
            progress(int(part[-1]) + 1, size)
