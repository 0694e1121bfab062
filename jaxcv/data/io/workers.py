"""Many regions of pictures at once, decoded by processes of their own where there are any.

Three tenths of the time that a picture takes are Python, of which one thread at a time runs: by that, threads alone
can hardly use more than three cores. So with `--workers N`, or `JAXCV_WORKERS`, or `Dataset.batches(workers=N)`,
threads still read records and put batches together, but files and their bytes are decoded by N processes, which all
that this process reads shares. What comes, in which order, what is kept and what is refused does not depend on them.

A first process imports what decodes, and forks the others, so that this happens once. They know no set and no device.
Each has one end of a socket and ends when the other end is closed: with this process, however that ends. Signals to
this process and its group are not for them. Pixels go straight into the array where they are wanted:
`multiprocessing.connection` takes Python's lock for sixteen times as long.
"""

import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxcv.data.io.crops import Region, Size, read_region
from jaxcv.errors import UserError

Asked = Sequence[tuple[Any, Callable[[Size], Region]]]
"""Pictures, each as `read_region` takes it, and which region of it."""

_lock = threading.Lock()
_free: queue.SimpleQueue[socket.socket | None] = queue.SimpleQueue()
"""Our ends of those that nobody waits for; None in place of one that has ended."""
_count = 0
_owner = 0
"""Who has started them: one that it forks would read answers that are not its own, and decodes by itself."""
_first: list[subprocess.Popen] = []


def wanted() -> int:
    """How many are asked for. Raises UserError: JAXCV_WORKERS is no number."""
    text = os.environ.get("JAXCV_WORKERS") or "0"
    if not text.strip().isdecimal():
        raise UserError(
            f"--workers, or JAXCV_WORKERS={text}: expected a number of processes that decode pictures, 0 for none"
        )
    return int(text)


def start(count: int) -> None:
    """See to it that there are at least so many; they come up while others work."""
    global _count, _owner, _free
    with _lock:
        if _owner != os.getpid():  # none of them are ours
            _count, _free = 0, queue.SimpleQueue()
        if count > _count:
            for end in _start(count - _count):
                _free.put(end)
            _count, _owner = count, os.getpid()


def stop() -> None:
    """End them, each when what it decodes is done; who waits for one then decodes by itself."""
    global _count, _owner, _free
    with _lock:
        free, _free, _owner = _free, queue.SimpleQueue(), 0
        for _ in range(_count):
            if (end := free.get()) is not None:
                end.close()
        _count = 0
        free.put(None)
        while _first:
            _first.pop().wait()


def read_regions(
    asked: Asked, *, size: int, channels: int = 3, **how: Any
) -> tuple[UInt8[np.ndarray, "b s s c"], list[Size]]:
    """The regions as `size` by `size` pixels, and the sizes of their pictures; `how` is as of `crops.read_region`.

    Raises:
      DataError: that of the first faulty one.
      UserError: a process has ended.
    """
    if _owner != os.getpid() or not all(isinstance(file, str | Path | bytes) for file, _ in asked):
        return _read(asked, size, channels, how)
    from PIL import Image, ImageFile

    free, limits = _free, (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    message = pickle.dumps((limits, (asked, size, channels, how)))
    end = free.get()
    if free is not _free:  # stopped
        free.put(end)
        return _read(asked, size, channels, how)
    try:
        end = end or _start(1)[0]
        _send(end, message)
        sizes = _receive(end)
        pixels = np.empty((0 if isinstance(sizes, Exception) else len(asked), size, size, channels), np.uint8)
        _fill(end, pixels)
    except BaseException as error:  # what it has still to say would be taken for the next answer
        if end is not None:
            end.close()
        end = None
        if isinstance(error, EOFError | ConnectionError):
            what = "killed, for want of memory perhaps: take fewer, --workers N, or 0"
            raise UserError(f"a process that decodes pictures has ended, {what}") from None
        raise
    finally:
        free.put(end)
    if isinstance(sizes, Exception):
        raise sizes
    return pixels, sizes


def _read(asked: Asked, size: int, channels: int, how: dict[str, Any]) -> tuple[np.ndarray, list[Size]]:
    pixels, sizes = np.empty((len(asked), size, size, channels), np.uint8), []
    for row, (file, region) in enumerate(asked):
        pixels[row], found = read_region(file, region, size=size, channels=channels, **how)
        sizes.append(found)
    return pixels, sizes


def _start(count: int) -> list[socket.socket]:
    """Our ends of so many new ones."""
    pairs = [socket.socketpair() for _ in range(count)]
    theirs = [their.fileno() for _, their in pairs]
    code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve({theirs})"
    how: Any = {"pass_fds": theirs, "stdin": subprocess.DEVNULL, "start_new_session": True}
    how["env"] = {**os.environ, "JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1"}
    _first.append(subprocess.Popen([sys.executable, "-c", code], **how))
    for _, their in pairs:
        their.close()
    return [our for our, _ in pairs]


def serve(ends: list[int]) -> None:
    """Be the first process: fork one for each further end of a socket; decode what comes through one's own."""
    from PIL import Image, ImageFile

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    mine = next((end for end in ends[1:] if os.fork() == 0), ends[0])
    for end in {*ends} - {mine}:
        os.close(end)
    end = socket.socket(fileno=mine)
    try:
        while True:
            (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES), asked = _receive(end)
            try:
                pixels, sizes = _read(*asked)
            except Exception as error:  # for whoever has asked
                pixels, sizes = np.empty(0, np.uint8), error
            _send(end, pickle.dumps(sizes))
            end.sendall(pixels.data)
    except (EOFError, ConnectionError):
        os._exit(0)


def _send(end: socket.socket, message: bytes) -> None:
    end.sendall(len(message).to_bytes(8, "little") + message)


def _receive(end: socket.socket) -> Any:
    """What was pickled into a message."""
    size = bytearray(8)
    _fill(end, size)
    message = bytearray(int.from_bytes(size, "little"))
    _fill(end, message)
    return pickle.loads(message)


def _fill(end: socket.socket, into: Any) -> None:
    """Wait for as many bytes, without Python's lock. Raises EOFError: there are none any more."""
    left = memoryview(into).cast("B") if len(into) else b""
    while len(left):
        if not (found := end.recv_into(left, 0, socket.MSG_WAITALL)):
            raise EOFError
        left = left[found:]
