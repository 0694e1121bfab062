"""Several worker processes on this machine, which run trials of the same ledger and divide the cores among them."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from jaxcv.errors import UserError
from jaxcv.sweep.live import SweepReporter
from jaxcv.sweep.trial import Work
from jaxcv.sweep.watching import Watching
from jaxcv.sweep.worker import CORES, PARENT
from jaxcv.train.loop import Preempted

_POLL = 0.3
_GRACE = 60.0
"""Seconds that a process has for its checkpoint after SIGTERM."""


def run_jobs(work: Work, show: SweepReporter, *, count: int, command: Sequence[str], fail_fast: bool = False) -> None:
    """Start `count` workers and wait for their end; a killed one is restarted.

    Args:
        work: the sweep.
        show: the sweep's reporter.
        count: number of processes.
        command: that starts one worker.
        fail_fast: stop all at the first failure.

    Raises:
        UserError: If a worker ended with an error, workers are killed repeatedly, or, with `fail_fast`, a trial failed.
        Preempted: If a worker was asked to stop.
    """
    watching, processes, deaths = Watching(work.ledger, show), {}, 0
    logs = [work.ledger.root / f"{work.ledger.name}-worker{number}.log" for number in range(count)]
    cores = divide_cores(sorted(os.sched_getaffinity(0)), count) if hasattr(os, "sched_getaffinity") else [[]] * count
    try:
        for number in range(count):
            processes[number] = _start(command, cores[number], logs[number])
        while processes:
            time.sleep(_POLL)
            if watching.look():
                deaths = 0
            for number, process in list(processes.items()):
                code = process.poll()
                if code is None:
                    continue
                del processes[number]
                if code == 75:
                    raise Preempted(
                        f"{work.ledger.name}: worker {number} was stopped; the same command resumes the sweep"
                    )
                if code > 0:
                    watching.look()
                    failed = watching.failed()
                    raise UserError(failed[0].error if fail_fast and failed else _last_line(logs[number], code))
                if code < 0:
                    deaths += 1
                    if deaths > 5 * count:
                        raise UserError(f"workers are killed repeatedly: see {logs[number]}")
                    show.warn(f"worker {number} was killed by {_name(-code)}; it is restarted")
                    processes[number] = _start(command, cores[number], logs[number])
    finally:
        _stop(list(processes.values()))
    watching.look()


def divide_cores(cores: Sequence[int], count: int) -> list[list[int]]:
    """Cores for each of `count` processes: disjoint if there are enough, at least one each."""
    if count >= len(cores):
        return [[cores[number % len(cores)]] for number in range(count)]
    ends = [len(cores) * number // count for number in range(count + 1)]
    return [list(cores[low:high]) for low, high in zip(ends, ends[1:], strict=False)]


def _start(command: Sequence[str], cores: Sequence[int], log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, CORES: ",".join(map(str, cores)), PARENT: str(os.getpid())}
    with open(log, "ab") as file:
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file)


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _GRACE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_line(log: Path, code: int) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{log}: a worker ended with code {code}: {lines[-1].removeprefix('error: ') if lines else 'no output'}"
