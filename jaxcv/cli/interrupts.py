"""Ctrl-C and SIGTERM while nothing can be lost: one line and exit code 75, at once, whatever the process is doing.

Imports, compiling and reading do not listen: a `KeyboardInterrupt` ends in a traceback of somebody's import there, or
waits until XLA is done. Training does listen (`jaxcv.train.signals`), and saves a checkpoint first. Imports nothing
that takes time.
"""

import os
import signal
import sys
import threading
import time
from typing import Any

INTERRUPTED = 75
MESSAGE = "interrupted; the same command goes on from the last checkpoint"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_said = threading.Lock()


def exit_at_once() -> None:
    """From now on both signals end the process. Of the main thread of a process that is ours alone.

    A signal that the process was started to ignore, as by `nohup` or `&`, stays ignored.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(read,), daemon=True).start()
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _exit)


def raise_instead() -> None:
    """From now on both signals raise `KeyboardInterrupt`: there is something to put in order first."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _exit:
            signal.signal(number, signal.default_int_handler)


def _listen(read: int) -> None:
    """Answer for the main thread, which hears of a signal when it is back from C."""
    while received := os.read(read, 1):
        if signal.getsignal(received[0]) is _exit:
            _exit()


def _exit(*_: Any) -> None:
    if _said.acquire(blocking=False):  # the other of the two threads that hear of it
        os.write(2, f"{MESSAGE}\n".encode())
        os._exit(INTERRUPTED)
    time.sleep(1.0)


def say_interrupted() -> int:
    """The line; returns the exit code."""
    print(MESSAGE, file=sys.stderr)
    return INTERRUPTED
