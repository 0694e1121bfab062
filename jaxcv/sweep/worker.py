"""How a process begins that `--jobs` has started; `jobs` starts and watches it."""

import contextlib
import ctypes
import os
import signal

CORES, PARENT = "JAXCV_CORES", "JAXCV_PARENT"
"""Environment variables: the cores it may use, and the process it belongs to."""


def become_worker() -> None:
    """What a worker does before anything else: keep to its cores, and end when its parent does."""
    if cores := os.environ.pop(CORES, ""):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    parent = int(os.environ.pop(PARENT, "0"))
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, of Linux
    if parent and os.getppid() != parent:
        raise SystemExit(75)
