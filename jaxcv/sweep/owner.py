"""The process that runs a trial, and whether it is alive.

On the same machine the process number tells. A process of another machine, or in another PID namespace, counts as dead
when its last heartbeat is too old.
"""

import contextlib
import functools
import os
import socket
import time
import uuid
from pathlib import Path
from typing import Any

SILENCE = 60.0
"""Seconds without a heartbeat after which an owner on another machine counts as dead."""
BEAT = 15.0
"""Seconds between heartbeats."""


@functools.cache
def _process(pid: int) -> dict[str, Any]:
    return {"namespace": pid_namespace(), "pid": pid, "started": _started(pid), "token": uuid.uuid4().hex[:12]}


def this_process(where: str | None = None) -> dict[str, Any]:
    """This process as the owner of a trial, as JSON; `where` is the machine's name in messages."""
    return {**_process(os.getpid()), "host": where or socket.gethostname(), "since": time.time()}


def is_alive(owner: dict[str, Any], heartbeat: float | None) -> bool:
    """Whether an owner, with its last `heartbeat` in seconds since 1970, is alive."""
    if owner["namespace"] == pid_namespace():
        return _started(owner["pid"]) == owner["started"]
    return time.time() - max(owner["since"], heartbeat or 0.0) < SILENCE


def same(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    """Whether two owners are the same process."""
    return one is not None and other is not None and one["token"] == other["token"]


@functools.cache
def pid_namespace() -> str:
    """Identity of the scope of process numbers: a machine since its last boot, and its PID namespace."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _started(pid: int) -> int | None:
    """When a process started, in ticks since boot; None where there is none, or it is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None if os.path.isdir("/proc/self") or not _exists(pid) else 0


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
