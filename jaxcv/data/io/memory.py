"""Memory for what is kept of files once they were read: `JAXCV_MEMORY` bytes in all, such as 500M or 8G; else 2G.

What stands in arrays that live on the device is not counted: `--resident no` leaves it where it is.
"""

import functools
import os
import re
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxcv.errors import UserError

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_lock = threading.Lock()
_taken = 0


def limit() -> int:
    """Bytes that may be kept in all. Raises UserError: JAXCV_MEMORY is no number of bytes."""
    text = os.environ.get("JAXCV_MEMORY") or "2G"
    if not (found := re.fullmatch(r"(\d+(?:\.\d*)?)([kmg]?)i?b?", text.strip().lower())):
        raise UserError(f"JAXCV_MEMORY={text}: expected a number of bytes, such as 500M or 8G")
    return int(float(found[1]) * _UNITS[found[2]])


def take(owner: Any, count: int, size: int) -> int:
    """For how many of `count` arrays of `size` bytes there is room; theirs for as long as `owner` lives."""
    global _taken
    with _lock:
        granted = min(count, max(0, limit() - _taken) // size)
        _taken += granted * size
    weakref.finalize(owner, _give_back, granted * size)
    return granted


def _give_back(size: int) -> None:
    global _taken
    with _lock:
        _taken -= size


def kept(make: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """A function whose arrays are kept by its arguments, while there is room for them."""
    found: dict[Any, np.ndarray] = {}

    @functools.wraps(make)
    def read(*args: Any) -> np.ndarray:
        if (array := found.get(args)) is None:
            array = make(*args)
            if take(make, 1, array.nbytes):
                found[args] = array
        return array

    return read
