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
STEPS = 120
COMMAND = [sys.executable, "launch.py", "experiments/lenet.py", f"steps={STEPS}", "batch_size=16", "--quiet"]
FOLDER = f"lenet/batch_size=16,steps={STEPS}"
KILLS = 10


def start(workdir):
    environment = {**os.environ, "XLA_FLAGS": ""}  # one device, as most people have
    return subprocess.Popen([*COMMAND, "--workdir", str(workdir)], cwd=ROOT, env=environment)


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


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unharmed")
    assert start(workdir).wait() == 0
    return workdir / FOLDER


def test_ten_kills_leave_no_trace(unharmed, tmp_path, load):
    """Every kill waits for another place: a random step, or the writing of a checkpoint after it."""
    rng = random.Random(0)
    folder = tmp_path / FOLDER
    killed_while_writing = 0
    for kill in range(KILLS):
        process = start(tmp_path)
        goal = min(reached(folder) + rng.randrange(1, 16), STEPS - 1)
        in_writing = kill % 2 == 0
        while process.poll() is None and (reached(folder) < goal or (in_writing and not writing(folder))):
            time.sleep(0.001)
        time.sleep(0.0 if in_writing else rng.random() * 0.05)
        assert process.poll() is None, "killed before its end"
        killed_while_writing += writing(folder)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert killed_while_writing >= 2
    process = start(tmp_path)
    assert process.wait() == 0
    assert records(folder) == records(unharmed)
    assert state(folder, load("lenet")) == state(unharmed, load("lenet"))
