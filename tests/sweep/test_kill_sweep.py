"""`kill -9` at any moment of a sweep: the same command again gives the results of a run that was not killed.

Ledger, records and parameters are those of an undisturbed sweep with the same sampler seed: no trial lost, none
repeated, none left running.
"""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import optuna
import problems
import pytest

from jaxcv.train import program
from jaxcv.train.checkpoint import Checkpoints
from jaxcv.train.run import read_records

ROOT = Path(__file__).parent.parent.parent
# Processes with as many cores each: sums over more threads have another order, and other last digits.
CORES = len(os.sched_getaffinity(0))
JOBS = ["--jobs", str(next(n for n in range(2, CORES + 2) if n > CORES or CORES % n == 0))]
PROBLEM = ["tests/problems.py", "steps=30", "log_every=10", "evaluate_every=10", "checkpoint_every=5"]
RANDOM = ["lr=log(1e-4,1e-1)", "decay=log(1e-6,1e-2)", "seed=0,1", "--search", "random", "--trials", "10"]
LENET = ["experiments/lenet.py", "lr=log(1e-4,1e-1)", "weight_decay=log(1e-6,1e-2)", "seed=0,1", "steps=60"]
GRID = [
    "experiments/lenet.py",
    "lr=1e-4,1e-3,1e-2,1e-1",
    "weight_decay=1e-6,1e-5,1e-4,1e-3,1e-2",
    "seed=0,1",
    "steps=60",
]


def start(words, workdir):
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "launch.py", *words, "--quiet", "--workdir", str(workdir)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)


def ledger(root):
    """What the study says of every trial, by number; without where and when."""
    (file,) = root.glob("sweep-*.db")
    url = f"sqlite:///{file}"
    (name,) = optuna.get_all_study_names(url)
    found = optuna.load_study(study_name=name, storage=url).get_trials()
    return {t.number: (t.state.name, t.params, t.values, t.intermediate_values, folder(t)) for t in found}


def folder(trial):
    return Path(trial.user_attrs.get("folder", "none")).name


def ended(root):
    """How many trials have come to an end. Optuna would make what a storage lacks, and get in the way of who does."""
    files = list(root.glob("sweep-*.db"))
    if not files:
        return 0
    try:
        with contextlib.closing(sqlite3.connect(f"file:{files[0]}?mode=ro", uri=True)) as data:
            query = "SELECT COUNT(*) FROM trials WHERE state IN ('COMPLETE', 'FAIL', 'PRUNED')"
            return data.execute(query).fetchone()[0]
    except sqlite3.Error:  # it is being made
        return 0


def records(root, name):
    found = read_records(root / name / "metrics.jsonl")
    return [{k: v for k, v in record.items() if k != "time"} for record in found]


def parameters(root, name, experiment, values):
    with Checkpoints(root / name / "checkpoints", read_only=True) as checkpoints:
        spec = program(experiment, values).state_spec(values)
        return [problems.leaves(checkpoints.restore(step, spec)[0]) for step in checkpoints.steps()[-1:]]


def disturb(words, root, kills, rng, longest):
    """Start the command again and again, each time killing its whole group after a random time."""
    for kill in range(kills):
        process = start(words, root.parent)
        before, deadline = ended(root), time.monotonic() + 60
        # Starting takes some seconds: most kills wait until it works, some hit the start itself.
        if kill % 4:
            while process.poll() is None and ended(root) == before and time.monotonic() < deadline:
                time.sleep(0.02)
        time.sleep(rng.random() * longest)
        assert process.poll() is None, "killed before its end"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start(words, root.parent).wait() == 0


@pytest.mark.parametrize(
    ("words", "values", "kills", "longest"),
    [
        pytest.param([*PROBLEM, *RANDOM, *JOBS], {"steps": 30}, 2, 0.3, id="random"),
        pytest.param(
            [*LENET, "--search", "tpe", "--trials", "40"], {"steps": 60}, 10, 1.0, id="tpe", marks=pytest.mark.slow
        ),
        pytest.param(
            [*LENET, "--search", "random", "--trials", "40", *JOBS],
            {"steps": 60},
            10,
            1.0,
            id="forty",
            marks=pytest.mark.slow,
        ),
        pytest.param(GRID, {"steps": 60}, 10, 1.0, id="grid", marks=pytest.mark.slow),
    ],
)
def test_kills_leave_no_trace(words, values, kills, longest, tmp_path, load):
    name = Path(words[0]).stem
    whole, disturbed = tmp_path / "whole" / name, tmp_path / "disturbed" / name
    with start(words, whole.parent) as undisturbed:
        disturb(words, disturbed, kills, random.Random(0), longest)
    assert undisturbed.returncode == 0
    wanted, found = ledger(whole), ledger(disturbed)
    assert {state for state, *_ in found.values()} == {"COMPLETE"}
    assert found == wanted
    assert len({name for *_, name in found.values()}) == len(found), "none repeated"
    experiment = problems.experiment if name == "problems" else load(name)
    for *_, run in found.values():
        assert records(disturbed, run) == records(whole, run)
        assert parameters(disturbed, run, experiment, values) == parameters(whole, run, experiment, values)
