"""Many regions of pictures at once, decoded by processes of their own where there are any.

Of the time that a picture takes, about a third is Python, of which one thread at a time runs: threads alone keep about
three cores busy. So with `--workers N`, or `JAXCV_WORKERS`, or `Dataset.batches(workers=N)`, threads still read records
and put batches together, but files and their bytes are decoded by N processes, which all that this process reads
shares. What comes, in which order, what is kept and what is refused does not depend on them.

A first process imports what decodes, and forks the others, so that this happens once. They know no set and no device.
Each has one end of a socket and ends when the other end is closed: with this process, however that ends. Signals to
this process and its group are not for them.
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
"""The processes that nobody waits for; None in place of one that has ended."""
_count = 0
_first: list[subprocess.Popen] = []


def wanted() -> int:
    """How many are asked for. Raises UserError: JAXCV_WORKERS is no number."""
    text = os.environ.get("JAXCV_WORKERS") or "0"
    if not text.strip().isdecimal():
        raise UserError(f"JAXCV_WORKERS={text}: expected a number of processes that decode pictures, 0 for none")
    return int(text)


def start(count: int) -> None:
    """See to it that there are at least so many; they come up while others work."""
    global _count
    with _lock:
        for worker in _start(count - _count) if count > _count else ():
            _free.put(worker)
        _count = max(count, _count)


def stop() -> None:
    """End them, each when what it decodes is done; who waits for one then decodes here."""
    global _count, _free
    with _lock:
        count, free, _count, _free = _count, _free, 0, queue.SimpleQueue()
        for _ in range(count):
            if (worker := free.get()) is not None:
                worker.close()
        free.put(None)
        while _first:
            _first.pop().wait()


def read_regions(
    asked: Asked, *, size: int, channels: int = 3, **how: Any
) -> tuple[UInt8[np.ndarray, "b s s c"], list[Size]]:
    """The regions as `size` by `size` pixels, and the sizes of their pictures.

    Args:
      asked: pictures and regions.
      size: see `crops.read_region`, as `channels` and what else there is.
      channels: 1 or 3.
      how: see there.

    Raises:
      DataError: that of the first faulty one.
      UserError: a process has ended.
    """
    if not _count or not all(isinstance(file, str | Path | bytes) for file, _ in asked):
        return _read(asked, size, channels, how)
    message, free = pickle.dumps((asked, size, channels, how, _limits())), _free
    worker = free.get()
    if free is not _free:
        free.put(worker)
        return _read(asked, size, channels, how)
    try:
        worker = worker or _start(1)[0]
        _send(worker, message)
        sizes = _receive(worker)
        pixels = np.empty((0 if isinstance(sizes, Exception) else len(asked), size, size, channels), np.uint8)
        _fill(worker, pixels)
    except BaseException as error:  # what it has still to say would be taken for the next answer
        if worker is not None:
            worker.close()
            worker = None
        if isinstance(error, EOFError | ConnectionError):
            how = "killed, for want of memory perhaps: take fewer, --workers N, or 0"
            raise UserError(f"a process that decodes pictures has ended, {how}") from None
        raise
    finally:
        free.put(worker)
    if isinstance(sizes, Exception):
        raise sizes
    return pixels, sizes


def _read(asked: Asked, size: int, channels: int, how: dict[str, Any]) -> tuple[np.ndarray, list[Size]]:
    pixels, sizes = np.empty((len(asked), size, size, channels), np.uint8), []
    for row, (file, region) in enumerate(asked):
        pixels[row], found = read_region(file, region, size=size, channels=channels, **how)
        sizes.append(found)
    return pixels, sizes


def _limits(given: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
    """What a person may have set of Pillow; `given` is set here."""
    from PIL import Image, ImageFile

    if given is not None:
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = given
    return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES


def _start(count: int) -> list[socket.socket]:
    """Our ends of so many new ones."""
    pairs = [socket.socketpair() for _ in range(count)]
    theirs = [their.fileno() for _, their in pairs]
    code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve({theirs})"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1"}
    _first.append(
        subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=theirs,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    )
    for _, their in pairs:
        their.close()
    return [our for our, _ in pairs]


def serve(ends: list[int]) -> None:
    """Be the first process: fork one for each further end of a socket; decode what comes through one's own."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    _limits()  # Pillow is loaded before
    mine = next((end for end in ends[1:] if os.fork() == 0), ends[0])
    for end in {*ends} - {mine}:
        os.close(end)
    with socket.socket(fileno=mine) as asker:
        try:
            while True:
                asked, size, channels, how, limits = _receive(asker)
                _limits(limits)
                try:
                    pixels, sizes = _read(asked, size, channels, how)
                except Exception as error:  # for whoever has asked
                    pixels, sizes = np.empty(0, np.uint8), error
                _send(asker, pickle.dumps(sizes))
                asker.sendall(pixels)
        except (EOFError, ConnectionError):
            os._exit(0)


def _send(to: socket.socket, message: bytes) -> None:
    to.sendall(len(message).to_bytes(8, "little") + message)


def _receive(sender: socket.socket) -> Any:
    """What was pickled into a message."""
    size, message = bytearray(8), bytearray()
    _fill(sender, size)
    message = bytearray(int.from_bytes(size, "little"))
    _fill(sender, message)
    return pickle.loads(message)


def _fill(sender: socket.socket, into: Any) -> None:
    """Wait for so many bytes, without Python's lock. Raises EOFError: there are none any more."""
    left = memoryview(into).cast("B") if len(into) else b""
    while len(left):
        if not (found := sender.recv_into(left, 0, socket.MSG_WAITALL)):
            raise EOFError
        left = left[found:]


def _forget() -> None:
    """A forked process does not read what its parent was answered."""
    global _count, _free
    _count, _free = 0, queue.SimpleQueue()


os.register_at_fork(after_in_child=_forget)
