"""Processes that share the cores and the trials of one sweep."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxcv.sweep.jobs import divide_cores

ROOT = Path(__file__).parent.parent.parent


def start(tmp_path, *words):
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "launch.py", *words, "--jobs", "2", "--workdir", str(tmp_path)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def children(process):
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in found]


@pytest.mark.parametrize(
    ("cores", "count", "shares"),
    [
        ([0, 1], 2, [[0], [1]]),
        ([0, 1, 2, 3, 4], 2, [[0, 1], [2, 3, 4]]),
        ([3, 7], 3, [[3], [7], [3]]),
        ([0, 1, 2, 3], 1, [[0, 1, 2, 3]]),
    ],
)
def test_cores_are_divided(cores, count, shares):
    assert divide_cores(cores, count) == shares


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the workers in /proc")
def test_a_killed_worker_is_replaced_and_its_trial_goes_on(tmp_path):
    rates = ",".join(f"{rate}e-3" for rate in range(1, 13))
    process = start(tmp_path, "tests/problems.py", f"lr={rates}", "steps=400", "evaluate_every=100")
    while not list(tmp_path.glob("problems/lr=*/run.json")) and process.poll() is None:
        time.sleep(0.02)
    workers = children(process)
    assert len(workers) == 2
    cores = [os.sched_getaffinity(worker) for worker in workers]
    if len(os.sched_getaffinity(0)) > 1:
        assert not cores[0] & cores[1], "the cores are divided"
    os.kill(workers[0], signal.SIGKILL)
    said, _ = process.communicate()
    assert process.returncode == 0
    assert "was killed by SIGKILL; it is restarted" in said
    assert "12 trials, best accuracy first" in said
    assert said.count(" finished: accuracy") == 12
    runs = list(tmp_path.glob("problems/lr=*/run.json"))
    assert len(runs) == 12


@pytest.mark.slow
def test_a_failure_is_shown_at_once_and_with_fail_fast_ends_all(tmp_path):
    """A rate that is not a number at the first step."""
    words = ["tests/problems.py", "lr=1e-3,1e38,2e-3,3e-3", "steps=2", "evaluate_every=2", "--fail-fast"]
    process = start(tmp_path, *words)
    said, _ = process.communicate()
    assert process.returncode == 2
    assert "failed: " in said and "not finite at step" in said
    assert "not finite" in said.splitlines()[-1]
