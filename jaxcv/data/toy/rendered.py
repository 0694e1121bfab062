"""What the embedded sets render: once, by all cores, and kept in the cache folder as one memory-mapped file.

The file holds the arrays one behind the other, each from a multiple of 64 bytes on, and then a CRC-32 of every `_BLOCK`
bytes. Its name says what was rendered, and has a digest of what renders it: another version renders again. So is a file
that is cut off or damaged. Where none can be written, everything is rendered into memory.

Processes, not threads: most of the work is Python's own, which one thread at a time can do. Of 20,000 scenes on two
cores, one process takes 4.6 s, two threads as long, two processes 6.5 s with their start: so not below four cores.
"""

import os
import pickle
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

from jaxcv.data.io.images import Progress
from jaxcv.data.io.paths import cache_folder, sklearn_file
from jaxcv.data.source import Source
from jaxcv.data.sources.resident import cores, read_all
from jaxcv.types import Batch

try:
    import fcntl
except ImportError:  # where there is none, two processes may render the same
    fcntl = None

Shapes = Mapping[str, jax.ShapeDtypeStruct]
_BLOCK = 2**22
_PART = 200
"""Examples that are rendered between two signs of progress."""
_SHARE, _CORES = 1_000, 4
"""Fewest examples of a process, which starts as long as it renders some thousand; and fewest cores to start one."""
_COMMAND = (sys.executable, "-P", "-c", "from jaxcv.data.toy.rendered import work; work()")


def rendered(source: Source, progress: Progress) -> Batch:
    """All examples of a source: a dataclass of numbers and words alone, which says what it renders."""
    try:
        return _kept(_name(source), _shapes(source), lambda file: _render(source, file, progress))
    except OSError:  # a folder that cannot be written, a full disk, a process that fails
        return read_all(source, progress)


def kept_array(source: Any, what: str, shape: tuple[int, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
    """The float32 array that `make` computes, kept like what is rendered."""
    shapes = {what: jax.ShapeDtypeStruct(shape, np.float32)}

    def write(file: Path) -> None:
        with open(file, "r+b") as stream:
            _write(stream, shapes, 0, {what: make()})

    try:
        return _kept(f"{_name(source)}-{what}", shapes, write)[what]
    except OSError:
        return make()


def _name(source: Any) -> str:
    return "-".join([type(source).__name__, *(str(getattr(source, field.name)) for field in fields(source))])


def _shapes(source: Source) -> Shapes:
    return {k: jax.ShapeDtypeStruct((len(source), *v.shape), v.dtype) for k, v in source.spec().items()}


@cache
def _digest() -> str:
    """Sixteen hexadecimal digits of all that what is rendered depends on."""
    data, sha = Path(__file__).parents[1], sha256(version("pillow").encode())
    for file in (
        data / "source.py",
        *(file for room in ("io", "sources", "toy") for file in data.glob(f"{room}/*.py")),
    ):
        sha.update(sha256(file.read_bytes()).digest())
    for parts in (("data", "digits.csv.gz"), ("images", "china.jpg"), ("images", "flower.jpg")):
        sha.update(sklearn_file(*parts).read_bytes())
    return sha.hexdigest()[:16]


def _kept(name: str, shapes: Shapes, write: Callable[[Path], None]) -> Batch:
    """The arrays of a file in the cache folder; `write` fills it where there is none. Raises OSError."""
    file = cache_folder() / "rendered" / f"{name}-{_digest()}.bin"
    if (arrays := _load(file, shapes)) is not None:
        return arrays
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".tmp")
    with open(unfinished, "ab") as stream:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX)  # until another process has rendered the same
        try:
            if (arrays := _load(file, shapes)) is not None:
                return arrays
            stream.truncate(0)  # what a process that was killed left
            stream.truncate(_places(shapes)[1])
            write(unfinished)
            stream.write(_sums(np.memmap(unfinished, np.uint8, "r")))
            stream.flush()  # not on disk yet: what a power failure leaves out, the sums will tell
            os.replace(unfinished, file)
        finally:
            unfinished.unlink(missing_ok=True)
    for other in file.parent.glob(f"{name}-{'?' * 16}.*"):  # of other versions; unfinished ones of processes now dead
        if other != file and (other.suffix == ".bin" or other.stat().st_mtime < time.time() - 3_600):
            other.unlink(missing_ok=True)
    return _arrays(np.memmap(file, np.uint8, "r"), shapes)


def _places(shapes: Shapes) -> tuple[dict[str, int], int]:
    """First byte of each array, and bytes of all."""
    places, end = {}, 0
    for name, field in shapes.items():
        places[name] = end
        end += -(-field.size * np.dtype(field.dtype).itemsize // 64) * 64
    return places, end


def _load(file: Path, shapes: Shapes) -> Batch | None:
    """The arrays of a file; None where it is not there or not whole."""
    end = _places(shapes)[1]
    try:
        raw = np.memmap(file, np.uint8, "r")
    except (OSError, ValueError):  # not there; empty
        return None
    if len(raw) < end or _sums(raw[:end]) != raw[end:].tobytes():
        return None
    return _arrays(raw, shapes)


def _arrays(raw: np.ndarray, shapes: Shapes) -> Batch:
    places, _ = _places(shapes)
    return {name: np.ndarray(field.shape, field.dtype, raw, places[name]) for name, field in shapes.items()}


def _sums(raw: np.ndarray) -> bytes:
    def of_block(start: int) -> int:
        return zlib.crc32(raw[start : start + _BLOCK].data)

    with ThreadPoolExecutor(cores()) as pool:
        return np.array([*pool.map(of_block, range(0, len(raw), _BLOCK))], "<u4").tobytes()


def _write(stream: IO[bytes], shapes: Shapes, start: int, batch: Batch) -> None:
    """Write the examples from number `start` on into a file."""
    places, _ = _places(shapes)
    for name, field in shapes.items():
        values = np.ascontiguousarray(batch[name], field.dtype)
        stream.seek(places[name] + start * (values.nbytes // len(values)))
        stream.write(values.data.cast("B"))
    stream.flush()


def _render(source: Source, file: Path, progress: Progress) -> None:
    """Fill a file with all examples. Raises OSError where a process fails."""
    size, starts = len(source), range(0, len(source), _PART)
    count = min(cores(), size // _SHARE)
    if cores() < _CORES or count < 2:
        for done in _render_parts(source, file, starts):
            progress(done, size)
        return
    signs, end = os.pipe()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folder or os.getcwd() for folder in sys.path)}
    workers = []
    try:
        for i in range(count):
            command = [*_COMMAND, pickle.dumps((source, file, starts[i::count])).hex()]
            none = subprocess.DEVNULL
            workers.append(subprocess.Popen(command, env=environment, stdin=none, stdout=end, stderr=none))
        os.close(end)
        end, done = None, 0
        while read := os.read(signs, 1_000):  # a byte for each part, until the last process has ended
            done += len(read)
            progress(min(done * _PART, size), size)
        if any([worker.wait() for worker in workers]):
            raise ChildProcessError("a process that renders has failed")
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        for pipe in {signs, end} - {None}:
            os.close(pipe)


def _render_parts(source: Source, file: Path, starts: range) -> Iterator[int]:
    """Render the parts that begin with these examples; gives after each how many examples there are up to its end."""
    shapes = _shapes(source)
    with open(file, "r+b") as stream:
        for start in starts:
            end = min(start + _PART, len(source))
            _write(stream, shapes, start, source.read(np.arange(start, end)))
            yield end


def work() -> None:
    """What each process does: render the parts that the command line names, of each write a byte to standard output."""
    for _ in _render_parts(*pickle.loads(bytes.fromhex(sys.argv[1]))):
        os.write(1, b".")
