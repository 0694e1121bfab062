"""What the embedded sets render: once, and kept in the cache folder as memory-mapped `.npy` files, one for each field.

Their names say what was rendered, and have a digest of what renders it: another version renders again. So does a file
that is missing or cut off. Where none can be written, everything is rendered into memory.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import fields
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np

from jaxcv.data.io.images import Progress
from jaxcv.data.io.paths import cache_folder, sklearn_file
from jaxcv.data.source import Source
from jaxcv.data.sources.resident import read_all
from jaxcv.types import Batch

_PART = 200
"""Examples that are rendered between two signs of progress."""


def rendered(source: Source, progress: Progress) -> Batch:
    """All examples of a source: a dataclass of numbers and words alone, which says what it renders."""
    size = len(source)

    def parts() -> Iterator[Batch]:
        for start in range(0, size, _PART):
            end = min(start + _PART, size)
            yield source.read(np.arange(start, end))
            progress(end, size)

    try:
        shapes = {name: jax.ShapeDtypeStruct((size, *v.shape), v.dtype) for name, v in source.spec().items()}
        return _kept(source, shapes, parts)
    except OSError:  # a folder that cannot be written, a full disk
        return read_all(source, progress)


def kept_array(source: Source, what: str, shape: tuple[int, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
    """The float32 array that `make` computes, kept like what is rendered."""
    try:
        return _kept(source, {what: jax.ShapeDtypeStruct(shape, np.float32)}, lambda: [{what: make()}])[what]
    except OSError:
        return make()


@cache
def _digest() -> str:
    """Sixteen hexadecimal digits of all that what is rendered depends on."""
    data, sha = Path(__file__).parents[1], sha256(version("pillow").encode())
    code = (file for name in ("source", "io/*", "sources/*", "toy/*") for file in sorted(data.glob(f"{name}.py")))
    used = (("data", "digits.csv.gz"), ("images", "china.jpg"), ("images", "flower.jpg"))
    for file in (*code, *(sklearn_file(*parts) for parts in used)):
        sha.update(sha256(file.read_bytes()).digest())
    return sha.hexdigest()[:16]


def _kept(source: Any, shapes: Mapping[str, jax.ShapeDtypeStruct], parts: Callable[[], Iterable[Batch]]) -> Batch:
    """Arrays of these shapes from the cache folder; `parts` are written there first if need be. Raises OSError."""
    folder, key = cache_folder() / "rendered", f"{len(source)}-{_digest()}"
    name = "-".join(
        [type(source).__name__, *(str(getattr(source, field.name)) for field in fields(source) if field.compare)]
    )
    files = {field: folder / f"{name}-{key}-{field}.npy" for field in shapes}
    with suppress(OSError, ValueError):  # one is missing; cut off
        return _load(files)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="unfinished-", dir=folder) as unfinished:
        with ExitStack() as stack:
            streams = {field: stack.enter_context(open(Path(unfinished, field), "wb")) for field in shapes}
            for field, stream in streams.items():
                descr, shape = np.dtype(shapes[field].dtype).str, shapes[field].shape
                np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
            for part in parts():
                for field, stream in streams.items():  # not through a memory map: a full disk would kill the process
                    stream.write(np.ascontiguousarray(part[field], shapes[field].dtype).data)
            for stream in streams.values():
                stream.flush()
                os.fsync(stream.fileno())  # else a power failure may leave a file of the full length, but of zeros
        for field, file in files.items():
            os.replace(Path(unfinished, field), file)  # over that of another process, which holds the same
    with suppress(OSError):  # another process may remove them meanwhile
        for other in folder.glob(f"{name}-*"):  # of other versions
            if key not in other.name:
                other.unlink()
        for other in folder.glob("unfinished-*"):  # of processes that were killed
            if other.stat().st_mtime < time.time() - 86_400:
                rmtree(other)
    return _load(files)


def _load(files: Mapping[str, Path]) -> Batch:
    return {field: np.asarray(np.lib.format.open_memmap(file, mode="r")) for field, file in files.items()}
