"""All examples of a source as arrays, to live on the device: read once, by as many threads as the machine has cores."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from weakref import WeakKeyDictionary

import numpy as np

from jaxcv.data.source import Source
from jaxcv.types import Batch

_READ: WeakKeyDictionary[Source, Batch] = WeakKeyDictionary()
_PART = 64


def resident(source: Source, progress: Callable[[int, int], None]) -> Batch:
    """Every field of the source's spec and `example_valid`, first axis the examples; the same arrays every time."""
    if source not in _READ:
        _READ[source] = {**read_all(source, progress), "example_valid": np.ones(len(source), np.bool_)}
    return _READ[source]


def read_all(source: Source, progress: Callable[[int, int], None]) -> Batch:
    """All examples, read by as many threads as there are cores. Raises the first error in the order of the examples."""
    size, done = len(source), 0
    arrays = {k: np.empty((size, *v.shape), v.dtype) for k, v in source.spec().items()}

    def read(part: np.ndarray) -> int:
        for name, values in source.read(part).items():
            arrays[name][part] = values
        return len(part)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part in as_completed(
            [pool.submit(read, np.arange(i, min(i + _PART, size))) for i in range(0, size, _PART)]
        ):
            progress(done := done + part.result(), size)
    return arrays
