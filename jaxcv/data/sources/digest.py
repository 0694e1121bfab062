"""What the scan of a set found, as a digest: another one when a class, a file, its size or a number has changed.

A source says what it found with `found()`: a tree of tuples, mappings, texts, numbers, arrays and paths. Of a path the
file's name and size count, not the folders above it.
"""

import hashlib
import os
import pickle
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

_SAMPLE = 8
"""Examples that are read of a source that cannot say what it found."""


@lru_cache(maxsize=64)
def digest(source: Any) -> str:
    """Sixteen hexadecimal digits of what a source found; found out once for each source.

    Raises:
      DataError: the scan finds a fault.
    """
    kept, name = getattr(source, "kept", None), f"digest {getattr(source, 'split', '')}"
    if kept and (found := kept.get(name)):
        return found
    sha = hashlib.sha256()
    _add(sha, source if hasattr(source, "found") else _sample(source))
    found = sha.hexdigest()[:16]
    if kept:
        kept.put(name, found)
    return found


def _sample(source: Any) -> Any:
    size = len(source)
    indices = np.unique(np.linspace(0, size - 1, _SAMPLE).astype(np.int64))
    return size, source.class_names(), source.read(indices)


def _add(sha: Any, x: Any) -> None:
    if hasattr(x, "found"):  # a source that stands on another
        x = x.found()
    elif hasattr(x, "read") and hasattr(x, "spec"):  # a source that does not say what it found
        x = _sample(x)
    if isinstance(x, partial):  # makes a mask, of a file or of outlines, which are many numbers
        args = (arg if isinstance(arg, Path) else hashlib.sha256(pickle.dumps(arg)).digest() for arg in x.args)
        x = (getattr(x.func, "__self__", None), x.func.__qualname__, *args, x.keywords)
    if isinstance(x, Path):
        try:
            x = f"{x.name} {os.stat(x).st_size}"
        except OSError:
            x = f"{x.name} missing"
    if isinstance(x, Mapping):
        x = tuple(part for item in x.items() for part in item)
    if isinstance(x, tuple | list):
        sha.update(b"(")
        for part in x:
            _add(sha, part)
        sha.update(b")")
    elif isinstance(x, np.ndarray):
        sha.update(f"{x.dtype}{x.shape}".encode())
        sha.update(np.ascontiguousarray(x))
    else:
        data = repr(x).encode("utf-8", "surrogatepass")
        sha.update(f"{len(data)} ".encode() + data)
