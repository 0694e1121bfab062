"""The start of a worker process of `--jobs`; `jobs` starts and monitors it."""

import contextlib
import ctypes
import os
import signal

CORES, PARENT = "JAXCV_CORES", "JAXCV_PARENT"
"""Environment variables: the worker's cores, and its parent's process number."""


def become_worker() -> None:
    """Pin this worker to its cores, and have it end with its parent. Raises SystemExit(75) if the parent has ended."""
    if cores := os.environ.pop(CORES, ""):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    parent = int(os.environ.pop(PARENT, "0"))
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, of Linux
    if parent and os.getppid() != parent:
        raise SystemExit(75)
