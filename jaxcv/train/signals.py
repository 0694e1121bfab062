"""Being asked to stop: at the end of a step, with a checkpoint."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class Preempted(Exception):
    """Asked to stop by a signal; a checkpoint of the last step is on disk."""


_asked = threading.Event()
"""For runs in threads, which hear of no signal."""


def ask_to_stop() -> None:
    """Have every run in a thread of this process stop at its next step."""
    _asked.set()


@contextlib.contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and the first SIGINT set; a second SIGINT interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield _asked
        return
    stop = threading.Event()
    _asked.clear()

    def handle(number: int, frame: Any) -> None:
        if stop.is_set() and number == signal.SIGINT:
            earlier = before[signal.Signals(number)]
            (earlier if callable(earlier) else signal.default_int_handler)(number, frame)
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
