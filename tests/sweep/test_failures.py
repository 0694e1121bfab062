"""A trial that raises, one that becomes NaN, one that runs out of memory: said at once, and the others finish."""

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import optax
import problems
import pytest
from pretending import QUIET, Pretender, pretended
from rich.console import Console

from jaxcv.cli.main import main
from jaxcv.errors import UserError
from jaxcv.sweep import command, make_search, outcomes
from jaxcv.sweep.cluster import Started, _collect, groups_of
from jaxcv.sweep.command import Sweep
from jaxcv.sweep.engine import work_off
from jaxcv.sweep.trial import join_trial, run_trial
from jaxcv.train import Experiment, Result, hosts
from jaxcv.train.console import Reporter
from jaxcv.train.diagnose import NonFinite
from jaxcv.train.loop import Preempted


def experiment(*, fault: str = "none", lr: float = 1e-2, steps: int = 4) -> Experiment:
    """The small problem with a fault of choice."""
    setup = problems.experiment(lr=lr, steps=steps, log_every=2, evaluate_every=4, checkpoint_every=4)
    if fault == "raises":
        raise RuntimeError("the disk with the pictures is gone\nand more about that")
    if fault == "nan":
        return replace(setup, optimizer=optax.sgd(1e38), ema=None)

    def loss(outputs, batch):
        terms = problems.cross_entropy(outputs, batch)
        if fault == "memory":
            wide = jnp.tile(jax.lax.stop_gradient(terms["cross_entropy"]), 2**18)
            terms["hoard"] = jnp.sort(wide[:, None] + wide[None])[0, :8]  # a table of 17 TB
        return terms

    return replace(setup, loss=loss)


def run(folder, faults, *, retry_failed=False, **options):
    console = Console(file=io.StringIO(), width=2000)
    trials = [{"fault": fault, "lr": (10 - place) / 1000} for place, fault in enumerate(faults)]
    asked = Sweep(experiment, Path("faulty.py"), make_search({}, own=trials), folder, **options)
    try:
        result: Any = command.run(asked, Reporter(console), retry_failed=retry_failed)
    except UserError as error:
        result = error
    assert isinstance(console.file, io.StringIO)
    return result, console.file.getvalue()


def test_each_failure_is_said_at_once_with_folder_and_reason_and_the_others_finish(tmp_path):
    rows, said = run(tmp_path, ["none", "raises", "nan", "memory", "none"])
    assert [(row.overrides["fault"], row.state) for row in rows] == [
        ("none", "finished"), ("none", "finished"), ("raises", "failed"), ("nan", "failed"), ("memory", "failed"),
    ]  # fmt: skip
    reasons = {row.overrides["fault"]: row.error for row in rows}
    assert reasons["raises"] == "RuntimeError: the disk with the pictures is gone"
    assert "not finite at step" in reasons["nan"] and "nonfinite.npz" in reasons["nan"]
    assert "RESOURCE_EXHAUSTED" in reasons["memory"] or "memory" in reasons["memory"].lower()
    lines = said.splitlines()
    for fault in ("raises", "nan", "memory"):
        place = next(i for i, line in enumerate(lines) if "failed: " in line and f"fault={fault}" in line)
        later = next(i for i, line in enumerate(lines) if line.startswith("trial 4 "))
        assert place < later, "at once"
        assert str(tmp_path / f"fault={fault}+lr=") in lines[place]
        assert reasons[fault] in lines[place]
    for fault in ("nan", "memory"):
        (folder,) = tmp_path.glob(f"fault={fault}+*")
        assert json.loads((folder / "run.json").read_text())["status"] == "failed"
    assert "RESOURCE_EXHAUSTED" in (folder / "traceback.txt").read_text()
    with pytest.raises(UserError, match="3 of 5 trials failed, the first with: RuntimeError: the disk"):
        command.refuse_failures(rows)


def test_fail_fast_stops_at_the_first(tmp_path):
    error, said = run(tmp_path, ["none", "nan", "raises", "none"], fail_fast=True)
    assert isinstance(error, NonFinite)
    assert "trial 1 (2/4) failed" in said and "trial 2" not in said
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["fault=nan+lr=0.009", "fault=none+lr=0.01"]


def test_a_trial_that_is_run_once_more_counts_once(tmp_path):
    run(tmp_path, ["none", "nan"])
    _, said = run(tmp_path, ["none", "nan"], retry_failed=True)
    assert "1 failed trial runs once more" in said
    assert "1 of 2 trials have already ended" in said and "trial 2 (2/2) failed" in said


def test_a_value_that_is_not_finite_is_a_failure(tmp_path):
    """Of a metric that the test set does not define."""

    def undefined(experiment, overrides, folder, **_):
        return Result(folder, dict(overrides), 1, test={"accuracy": None})

    work = pretended(tmp_path, ["lr=1e-2,1e-3"], undefined)
    work_off(work, QUIET)
    failed = outcomes.rows(work.ledger)
    assert [row.state for row in failed] == ["failed"] * 2
    assert failed[0].error == "no value: accuracy of its last evaluation is not finite"


def test_a_task_whose_node_was_asked_to_stop_or_died_has_not_failed(tmp_path):
    """As Ray tells it: an error of its own, with the task's as cause. Of a trial on several nodes, Ray retries none."""

    class Told(RuntimeError):
        cause: Any = None

    class Died(RuntimeError):
        """The process of the task, as Ray says itself."""

    names = {"TaskCancelledError": InterruptedError, "RayTaskError": Told}
    util, removed = SimpleNamespace(remove_placement_group=lambda place: removed.append(place)), []
    work = pretended(tmp_path, ["lr=1e-2,1e-3,1e-4,1e-5,1e-6"], Pretender())
    claims = [work.ledger.claim() for _ in range(5)]
    work.ledger.give_back(claims[0])  # as the task does before it ends
    ends = [Preempted("stopped at step 2"), OSError("no room"), hosts.ProcessLost("Gloo"), Died(), OSError("no room")]
    for number, (claim, end) in enumerate(zip(claims, ends, strict=True)):

        def get(reference, end=end):
            told = end if isinstance(end, Died) else Told()
            told.cause = end  # pyright: ignore[reportAttributeAccessIssue]
            raise told

        ray = SimpleNamespace(get=get, util=util, exceptions=SimpleNamespace(**names))
        _collect(ray, work, Started(claim, [None], place=number if number > 1 else None))
    assert [trial.state.name for trial in work.ledger.trials()] == ["RUNNING", "FAIL", "RUNNING", "RUNNING", "FAIL"]
    assert removed == [2, 3, 4]
    assert work.ledger.claim().number == 0


def test_a_trial_whose_other_process_has_ended_is_neither_failed_nor_given_back(tmp_path, monkeypatch):
    """Its processes end; then whoever claims it sees that its owner has died."""

    def lost(*_, **__):
        raise RuntimeError("Gloo: connection closed by peer")

    monkeypatch.setattr(hosts, "several", lambda: True)
    work = pretended(tmp_path, ["lr=1e-2,1e-3"], lost)
    claim = work.ledger.claim()
    for process in (lambda: run_trial(work, claim, QUIET), lambda: join_trial(work, claim)):
        with pytest.raises(hosts.ProcessLost, match="closed by peer"):
            process()
    assert [trial.state.name for trial in work.ledger.trials()] == ["RUNNING", "WAITING"]
    assert work.ledger.claim().number == 1


@pytest.mark.parametrize(
    ("room", "nodes", "groups"),
    [([1, 1, 1], 2, 1), ([2, 2, 2], 2, 3), ([4, 1], 2, 1), ([0, 1, 1, 1, 1], 2, 2), ([3], 2, 0), ([3, 1], 1, 4)],
)
def test_trials_on_several_nodes_at_once(room, nodes, groups):
    assert groups_of(room, nodes) == groups


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nodes", "0"], "--nodes 0: expected at least 1"),
        (["--nodes", "2"], "--nodes is of a Ray cluster: give --engine ray too"),
        (["--nodes", "2", "--engine", "ray", "--prune", "median"], "not with --nodes"),
        (["--engine", "ray", "--profile"], "not for --engine ray"),
    ],
    ids=["none", "no cluster", "pruned", "profiled"],
)
def test_flags_that_do_not_go_with_nodes(words, said, capsys):
    assert main(["experiments/lenet.py", *words]) == 2
    assert said in capsys.readouterr().err
