"""Several processes of one run, on this machine: the result of one, and nothing lost however they end."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import points_on_hosts
import pytest

from jaxcv.errors import UserError
from jaxcv.train import hosts, program, resolve
from jaxcv.train.checkpoint import Checkpoints
from jaxcv.train.run import read_records

ROOT = Path(__file__).parents[2]
FILE = Path(points_on_hosts.__file__)


STARTED = []


@pytest.fixture(autouse=True)
def _ended():
    """No process outlives its test, however that ends."""
    yield
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.wait()


def start(count, workdir, *words, devices=1):
    """So many processes; their output goes to files in the folder above."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    command = [sys.executable, str(ROOT / "launch.py"), str(FILE), *words, "--workdir", str(workdir), "--no-tune"]
    processes = []
    for number in range(count):
        which = ["--coordinator", f"127.0.0.1:{port}", "--process", str(number), "--processes", str(count)]
        with open(workdir.with_name(f"{workdir.name}.{number}.log"), "w") as log:
            how = {"cwd": ROOT, "env": environment, "stdout": log, "stderr": subprocess.STDOUT}
            processes.append(subprocess.Popen([*command, *(which if count > 1 else [])], **how))
            STARTED.append(processes[-1])
    return processes


def finish(processes, seconds=600):
    return [process.wait(timeout=seconds) for process in processes]


def folder(workdir):
    return next((workdir / "points_on_hosts").iterdir())


def records(workdir):
    try:
        return [{k: v for k, v in r.items() if k != "time"} for r in read_records(folder(workdir) / "metrics.jsonl")]
    except (FileNotFoundError, StopIteration):
        return []


def log(workdir, number):
    return workdir.with_name(f"{workdir.name}.{number}.log").read_text()


def reach(workdir, step, processes):
    while not (found := records(workdir)) or found[-1]["step"] < step:
        assert all(p.poll() is None for p in processes), log(workdir, 0) + log(workdir, 1)
        time.sleep(0.02)


def state(workdir, steps):
    values = resolve(points_on_hosts.experiment, {"steps": steps})
    with Checkpoints(folder(workdir) / "checkpoints", read_only=True) as checkpoints:
        spec = program(points_on_hosts.experiment, values).state_spec(values)
        return [np.asarray(x) for x in jax.tree.leaves(checkpoints.restore(steps, spec)[0].params)]


def assert_alike(one, other):
    """Also in the examples that each step has seen, by the sums of their numbers and squares."""
    for a, b in zip(records(one), records(other), strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            same = value == b[name] if isinstance(value, str) else value == pytest.approx(b[name], rel=1e-4, abs=1e-6)
            assert same, (name, a["step"], value, b[name])


def test_two_processes_asked_to_stop_go_on_as_one(tmp_path):
    """SIGTERM to the second; both save and say so. One process ends as if it had been alone."""
    words = ["steps=300", "every=50"]
    assert finish(start(1, tmp_path / "alone", *words, "--quiet")) == [0]
    both = start(2, tmp_path / "both", *words)
    reach(tmp_path / "both", 60, both)
    both[1].send_signal(signal.SIGTERM)
    assert finish(both) == [75, 75], log(tmp_path / "both", 0)
    stopped = records(tmp_path / "both")[-1]["step"]
    assert 60 <= stopped < 300 and "the same command goes on" in log(tmp_path / "both", 1)
    assert (folder(tmp_path / "both") / "checkpoints" / str(stopped)).is_dir()
    assert finish(start(1, tmp_path / "both", *words)) == [0]
    assert f"going on from step {stopped} of 300" in log(tmp_path / "both", 0)
    assert_alike(tmp_path / "alone", tmp_path / "both")


@pytest.mark.slow
@pytest.mark.parametrize(("count", "killed"), [(2, 0), (2, 1), (4, 0), (4, 2)])
def test_killed_processes_take_the_others_along_and_leave_no_trace(count, killed, tmp_path):
    words = ["steps=800", "every=100"]
    assert finish(start(count, tmp_path / "unharmed", *words)) == [0] * count
    for goal in (150, 400):
        all_ = start(count, tmp_path / "killed", *words)
        reach(tmp_path / "killed", goal, all_)
        all_[killed].kill()
        began = time.monotonic()
        codes = finish(all_, seconds=60)
        assert time.monotonic() - began < 60
        assert codes == [-signal.SIGKILL if number == killed else 75 for number in range(count)]
        assert all(hosts.LOST in log(tmp_path / "killed", number) for number in range(count) if number != killed)
    assert finish(start(count, tmp_path / "killed", *words)) == [0] * count
    assert records(tmp_path / "killed") == records(tmp_path / "unharmed")
    for a, b in zip(state(tmp_path / "killed", 800), state(tmp_path / "unharmed", 800), strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize(("count", "devices", "how"), [(3, 1, []), (4, 1, []), (2, 2, ["--mesh", "data=2,fsdp=2"])])
def test_any_number_of_processes_trains_like_one(count, devices, how, tmp_path):
    assert finish(start(1, tmp_path / "alone")) == [0]
    assert finish(start(count, tmp_path / "together", *how, devices=devices)) == [0] * count
    assert_alike(tmp_path / "alone", tmp_path / "together")


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["evaluation", "checkpoint"])
def test_a_signal_during_an_evaluation_or_a_checkpoint_loses_nothing(moment, tmp_path):
    words = ["steps=300", "every=5"]  # hardly anything else is done
    assert finish(start(2, tmp_path / "unharmed", *words)) == [0, 0]
    both = start(2, tmp_path / "asked", *words)
    reach(tmp_path / "asked", 20, both)
    kept = folder(tmp_path / "asked") / "checkpoints"
    while moment == "checkpoint" and not any("tmp" in path.name for path in kept.iterdir()):
        time.sleep(0.001)
    both[0].send_signal(signal.SIGTERM)
    assert finish(both) == [75, 75]
    assert finish(start(2, tmp_path / "asked", *words)) == [0, 0]
    assert records(tmp_path / "asked") == records(tmp_path / "unharmed")


@pytest.mark.parametrize("hosts_", [1, 2, 3, 4])
def test_every_example_is_read_once_an_epoch_by_one_process(hosts_, monkeypatch):
    """Five epochs of 60 examples in training; 21 examples in batches of 8 in an evaluation."""
    monkeypatch.setattr(jax, "process_count", lambda: hosts_)
    train, test = [], []
    for host in range(hosts_):
        monkeypatch.setattr(jax, "process_index", lambda host=host: host)
        batches = iter(points_on_hosts.TRAIN.batches(12, seed=1, num_threads=0))
        train.append(np.stack([next(batches)["number"] for _ in range(25)]))
        passed = points_on_hosts.TEST.batches(8, num_threads=0)
        test += [batch["number"][batch["example_valid"]] for batch in iter(passed)]
    epochs = np.concatenate(train, 1).reshape(5, 60)
    assert (np.sort(epochs) == np.arange(60)).all()
    assert sorted(np.concatenate(test)) == list(range(21))


def test_numbers_of_processes_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="belong together"):
        hosts.initialize("127.0.0.1:1", 0)
    with pytest.raises(UserError, match="--process 2: expected a number from 0 to 1"):
        hosts.initialize("127.0.0.1:1", 2, 2)


def test_a_machine_whose_own_name_has_no_address_is_told_so(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "nowhere.invalid")
    with pytest.raises(UserError, match=r"own name, nowhere\.invalid, has no address"):
        hosts.initialize("127.0.0.1:1", 0, 2)
