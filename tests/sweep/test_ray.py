"""A Ray cluster of three nodes on loopback; a node is killed in the middle."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from optuna.trial import TrialState

from jaxcv.train.run import read_records

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'jaxcv-research[ray]'")

ROOT = Path(__file__).parent.parent.parent
NODES = 3


@pytest.fixture(scope="module")
def cluster():
    """Three nodes with a core each, besides the head, whose processes find the project."""
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "XLA_FLAGS")}
    os.environ.update(PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}:{os.environ.get('PYTHONPATH', '')}", XLA_FLAGS="")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        yield made
    finally:
        made.shutdown()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def start(cluster, workdir, *words):
    command = [sys.executable, "launch.py", *words, "--engine", "ray", "--address", cluster.address]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*command, "--workdir", str(workdir)], cwd=ROOT, **how)


@pytest.mark.slow
@pytest.mark.parametrize("words", [["steps=40"], ["steps=20", "seed=0,1"]], ids=" ".join)
def test_a_trial_on_two_of_three_nodes_is_that_of_one_process(cluster, tmp_path, words):
    """A single run, and a sweep."""
    nodes = [cluster.add_node(num_cpus=1) for _ in range(NODES)]
    try:
        alone = [sys.executable, "launch.py", "tests/points_on_hosts.py", *words, "--workdir", str(tmp_path / "alone")]
        subprocess.run([*alone, "--quiet"], cwd=ROOT, check=True)
        process = start(cluster, tmp_path / "two", "tests/points_on_hosts.py", *words, "--nodes", "2")
        said, _ = process.communicate(timeout=300)
    finally:
        for node in nodes:
            cluster.remove_node(node)
    assert process.returncode == 0, said
    runs = [sorted((tmp_path / kind / "points_on_hosts").glob("*/run.json")) for kind in ("alone", "two")]
    assert [run.parent.name for run in runs[0]] == [run.parent.name for run in runs[1]] and runs[0]
    for one, other in zip(*runs, strict=True):
        assert json.loads(other.read_text())["mesh"] == "data=2"
        for a, b in zip(*(read_records(run.parent / "metrics.jsonl") for run in (one, other)), strict=True):
            found = [{k: v for k, v in record.items() if k not in ("time", "split")} for record in (a, b)]
            assert found[0] == pytest.approx(found[1], rel=1e-4, abs=1e-6)


@pytest.mark.slow
def test_a_node_dies_and_its_trial_moves(cluster, tmp_path):
    nodes = [cluster.add_node(num_cpus=1) for _ in range(NODES)]
    rates = ",".join(f"{rate}e-3" for rate in range(1, 9))
    # Long enough that no trial ends in the second or two between the choice of a node and the death of its processes.
    words = [f"lr={rates}", "steps=5000", "evaluate_every=1000", "log_every=100"]
    process = start(cluster, tmp_path, "tests/problems.py", *words)
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if any(int(p.name) > 0 for p in tmp_path.glob("problems/lr=*/checkpoints/*") if p.name.isdigit()):
                break
            time.sleep(0.02)
        assert process.poll() is None, process.communicate()[0]
        victim = node_at_work(tmp_path, nodes)
        cluster.remove_node(victim, allow_graceful=False)
        said, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert "8 trials, best accuracy first" in said
    assert "its process ended; resumed from " in said
    assert "resumed after their process ended: trials " in said
    trials = study(tmp_path).get_trials()
    assert [t.state for t in trials] == [TrialState.COMPLETE] * 8
    moved = [start for t in trials for start in t.user_attrs.get("starts", [])]
    assert moved and all(start["from"] != start["host"] for start in moved)
    assert any(start["step"] > 0 for start in moved), "by resuming"


def study(root):
    import optuna

    (file,) = root.glob("problems/sweep-*.db")
    url = f"sqlite:///{file}"
    (name,) = optuna.get_all_study_names(url)
    return optuna.load_study(study_name=name, storage=url)


def node_at_work(root, nodes):
    """A node whose trial has a checkpoint."""
    while True:
        for trial in study(root).get_trials():
            folder = Path(trial.user_attrs.get("folder", "none"))
            begun = [p for p in folder.glob("checkpoints/*") if p.name.isdigit()]
            if trial.state is TrialState.RUNNING and begun:
                host = trial.user_attrs["owner"]["host"]
                for node in nodes:
                    if node.node_id[:8] == host.rpartition("/")[2]:
                        return node
        time.sleep(0.05)
