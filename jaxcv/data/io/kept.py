"""What a scan found, kept for later processes: as long as nothing that it looked at has changed.

While a scan runs, the folders that it lists and the files that it names are recorded. What it found is kept in `scans`
of the cache folder with their sizes and times of change, and taken again where all of them are the same, the options
are, and so is the text of the readers. Nothing is kept of a set that was changed within the last seconds, whose times
would not tell another change, and nothing of a scan of few files that is as fast as looking it up.
"""

import contextlib
import functools
import gc
import hashlib
import os
import pickle
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

_WORTH, _MANY = 0.5, 1_000
"""Seconds that a scan takes at least to be kept; or files that it has seen: checking all of them takes far longer."""
_SETTLED = 2.0
"""Seconds for which nothing may have changed before the scan began: longer than the steps of any clock of files."""
_seen: ContextVar[dict[str, None] | None] = ContextVar("_seen", default=None)


def cache_folder() -> Path:
    """Where fetched files are kept: `$JAXCV_CACHE`, else `$XDG_CACHE_HOME/jaxcv`, else `~/.cache/jaxcv`."""
    folder = os.environ.get("JAXCV_CACHE") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/jaxcv"
    return Path(folder).expanduser()


def record(paths: Iterable[str]) -> None:
    """Note what a scan that runs looks at."""
    if (seen := _seen.get()) is not None:
        seen.update(dict.fromkeys(paths))


class KeptScan:
    """Further values, such as digests, that are kept with a scan and are as old as it."""

    def __init__(self, file: Path, stamp: str):
        self._file, self._stamp = file, stamp

    def get(self, name: str) -> str:
        """A value that was put; empty where there is none of this scan."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            stamp, _, value = self._beside(name).read_text("utf-8").partition(" ")
            return value if stamp == self._stamp else ""
        return ""

    def put(self, name: str, value: str) -> None:
        """Keep a value, if the cache can be written to."""
        _write(self._beside(name), f"{self._stamp} {value}".encode())

    def _beside(self, name: str) -> Path:
        return self._file.with_name(f"{self._file.stem}.{name.replace(' ', '-')}")


def kept_scan(scan: Callable[..., Any], pack: Callable[[Any], Any], unpack: Callable[[Any], Any]) -> Callable[..., Any]:
    """A scan that is looked up in the cache folder first, then once for as long as the process lives.

    `pack` makes of what it returns, which has a field `kept`, what is pickled fast, and `unpack` the reverse.
    """

    @functools.cache
    @functools.wraps(scan)
    def found(path: Path, *options: Any) -> Any:
        with _without_collection():
            return look_up(path, *options)

    def look_up(path: Path, *options: Any) -> Any:
        key = repr((scan.__name__, os.path.realpath(path), str(path), options))
        file = (
            cache_folder() / "scans" / f"{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.pickle"
        )
        with contextlib.suppress(Exception):  # damaged, of another version, not there: all the same
            source, names, times, content = pickle.loads(file.read_bytes())
            if source == _source() and np.array_equal(_times(names), times):
                return unpack(content)._replace(kept=KeptScan(file, _stamp(times)))
        begun, token = time.time(), _seen.set({str(path): None})
        try:
            made = scan(path, *options)
            names = _with_parents(_seen.get() or {}, str(path))
        finally:
            _seen.reset(token)
        if time.time() - begun < _WORTH and len(names) < _MANY:
            return made
        times = _times(names)
        if len(times) and times[:, 1].max() > (begun - _SETTLED) * 1e9:
            return made
        _write(file, pickle.dumps((_source(), names, times, pack(made)), 5))
        return made._replace(kept=KeptScan(file, _stamp(times)))

    return found


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Millions of objects that stay would be looked through again and again while they are made."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


def _with_parents(seen: Iterable[str], top: str) -> list[str]:
    """What was seen and the folders in which it lies, up to the set's: a new file changes the time of its folder."""
    every = dict.fromkeys(seen)
    for folder in {os.path.dirname(name) for name in every}:
        while len(folder) > len(top) and folder not in every:
            every[folder] = None
            folder = os.path.dirname(folder)
    if os.path.isfile(top):
        every[os.path.dirname(top)] = None
    return [*every]


def _times(names: Iterable[str]) -> np.ndarray:
    """Size and time of change of each path [n 2]; -1 where there is nothing."""

    def look(name: str) -> tuple[int, int]:
        try:
            found = os.stat(name)
        except OSError:
            return -1, -1
        return found.st_size, max(found.st_mtime_ns, found.st_ctime_ns)

    return np.array([look(name) for name in names], np.int64).reshape(-1, 2)


def _stamp(times: np.ndarray) -> str:
    return hashlib.sha256(times.tobytes()).hexdigest()[:16]


@functools.cache
def _source() -> str:
    """Of the text of everything that reads data."""
    sha = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        sha.update(file.read_bytes())
    return sha.hexdigest()


def _write(file: Path, content: bytes) -> None:
    """Replace a file whole; a cache that cannot be written to is none."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent)
        try:
            with open(handle, "wb") as stream:
                stream.write(content)
            os.replace(name, file)
        except OSError:
            os.unlink(name)
