"""`kill -9` at any moment: the same command again ends with the bytes of a run that nobody killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import problems
import pytest

from jaxcv.train import program
from jaxcv.train.checkpoint import Checkpoints
from jaxcv.train.run import read_records

ROOT = Path(__file__).parent.parent.parent
STEPS = 2000  # checkpoints keep a second's distance


def start(name, workdir):
    command = [sys.executable, "launch.py", f"experiments/{name}.py", f"steps={STEPS}", "batch_size=16", "--quiet"]
    environment = {**os.environ, "XLA_FLAGS": ""}  # one device, as most people have
    return subprocess.Popen([*command, "--workdir", str(workdir)], cwd=ROOT, env=environment)


def records(folder):
    return [{k: v for k, v in r.items() if k != "time"} for r in read_records(folder / "metrics.jsonl")]


def state(folder, experiment):
    values = {"steps": STEPS, "batch_size": 16}
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.steps()[-1] == STEPS
        return problems.leaves(checkpoints.restore(STEPS, program(experiment, values).state_spec(values))[0])


def writing(folder):
    """Whether a checkpoint is being written at this moment: it has its temporary name."""
    return any("tmp" in p.name for p in (folder / "checkpoints").glob("*"))


def reached(folder):
    found = read_records(folder / "metrics.jsonl")
    return found[-1]["step"] if found else 0


@pytest.mark.parametrize(
    ("name", "kills"),
    [("lenet", 2), *(pytest.param(name, 10, marks=pytest.mark.slow) for name in ("lenet", "yolo"))],
)
def test_kills_leave_no_trace(name, kills, tmp_path, load):
    """Every kill waits for another place: a random step, or the writing of a checkpoint after it."""
    inside = f"{name}/batch_size=16+steps={STEPS}"
    assert start(name, tmp_path / "unharmed").wait() == 0
    unharmed, folder = tmp_path / "unharmed" / inside, tmp_path / "killed" / inside
    rng = random.Random(0)
    killed_while_writing = 0
    for kill in range(kills):
        process = start(name, tmp_path / "killed")
        goal = min(reached(folder) + rng.randrange(1, 12), STEPS - 10)
        in_writing = kill % 2 == 0
        while process.poll() is None and (reached(folder) < goal or (in_writing and not writing(folder))):
            time.sleep(0.001)
        time.sleep(0.0 if in_writing else rng.random() * 0.05)
        assert process.poll() is None, "killed before its end"
        killed_while_writing += writing(folder)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert killed_while_writing >= 1
    process = start(name, tmp_path / "killed")
    assert process.wait() == 0
    assert records(folder) == records(unharmed)
    assert state(folder, load(name)) == state(unharmed, load(name))
