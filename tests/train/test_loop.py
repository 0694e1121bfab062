import json
import os
import signal

import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

from jaxcv.errors import UserError
from jaxcv.train import Experiment, fit, program, resolve
from jaxcv.train.checkpoint import Checkpoints
from jaxcv.train.diagnose import NonFinite
from jaxcv.train.group import Group
from jaxcv.train.identity import identify
from jaxcv.train.loop import Preempted
from jaxcv.train.run import open_run, read_records


def without_time(folder):
    return [{k: v for k, v in r.items() if k != "time"} for r in read_records(folder / "metrics.jsonl")]


def final_state(folder, values=None):
    spec = program(problems.experiment, values or {}).state_spec(resolve(problems.experiment, values or {}))
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        restored = checkpoints.restore_newest(spec)
        assert restored is not None
        return problems.leaves(restored[0])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    program(problems.experiment, {}).report_traces()  # those of other files' tests, if they came first
    return fit(problems.experiment, {}, folder)


def test_a_run_leaves_what_the_readme_says(whole):
    facts = json.loads((whole.folder / "run.json").read_text())
    assert facts["status"] == "finished"
    assert facts["values"]["lr"] == 1e-2
    assert facts["versions"]["jax"]
    assert "def experiment" in facts["source"]
    assert facts["traces"] <= 1
    assert facts["found"] == {"train": ["60 points"], "test": ["21 points"]}
    pictures = sorted(p.name for p in (whole.folder / "previews").iterdir())
    assert pictures == ["confusion.png", "learning_curves.png", "step_0000020.png", "step_0000040.png"]
    assert (whole.folder / "per_class.csv").exists()
    assert list((whole.folder / "events").iterdir())
    records = without_time(whole.folder)
    assert [r["step"] for r in records if r["split"] == "train"] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert [r["step"] for r in records if r["split"] == "test"] == [20, 40]
    assert set(records[-1]) == {"step", "split", "loss", "cross_entropy", "accuracy"}


def test_a_watcher_hears_of_every_evaluation_and_a_run_at_its_end_is_not_stopped(tmp_path):
    for _ in range(2):  # the second time, of what is on record
        heard: list[int] = []
        result = fit(problems.experiment, {}, tmp_path, watch=lambda step, test: heard.append(step) or step == 40)  # noqa: B023
        assert heard == [20, 40] and result.stopped_at is None


def test_it_learns(whole):
    records = without_time(whole.folder)
    assert whole.test["accuracy"] > 0.8
    assert records[-2]["loss"] < 0.8 * records[0]["loss"]


def test_a_finished_run_is_not_trained_again(whole):
    before = (whole.folder / "metrics.jsonl").read_bytes()
    again = fit(problems.experiment, {}, whole.folder)
    assert again.skipped
    assert again.test == whole.test
    assert (whole.folder / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(("stop_at", "chunk"), [(3, 1), (7, 7), (13, 1), (20, None), (39, 1)])
def test_a_stopped_run_ends_with_the_same_bytes(whole, tmp_path, stop_at, chunk):
    """Stopped by SIGTERM at any step, not only where a checkpoint or record is due; however many steps a chunk has."""
    take = Group.take

    def stopping(self, count):
        logs = take(self, count)
        if self.runs[0].step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return logs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Group, "take", stopping)
        with pytest.raises(Preempted, match=f"stopped at step {stop_at} of 40"):
            fit(problems.experiment, {}, tmp_path / "run", chunk=chunk)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "running"
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:  # what a kill in the middle of writing leaves
        file.write('{"step": 40, "split": "train", "loss": 7}\n{"step": 40, "spl')
    fit(problems.experiment, {}, tmp_path / "run")
    assert without_time(tmp_path / "run") == without_time(whole.folder)
    assert final_state(tmp_path / "run") == final_state(whole.folder)


def test_a_stop_leaves_a_checkpoint_of_its_step_even_where_they_keep_a_distance(tmp_path, monkeypatch):
    """At a step at which one is due anyway, of a short run, whose checkpoints are five seconds apart."""
    take = Group.take

    def stopping(self, count):
        logs = take(self, count)
        if self.runs[0].step == 14:
            os.kill(os.getpid(), signal.SIGTERM)
        return logs

    monkeypatch.setattr(Group, "take", stopping)
    with pytest.raises(Preempted, match="stopped at step 14 of 40"):
        fit(problems.experiment, {}, tmp_path / "run", short=True)
    with Checkpoints(tmp_path / "run" / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.steps()[-1] == 14


def test_other_values_or_source_in_the_same_folder_are_refused(whole):
    with pytest.raises(UserError, match=r"begun with lr=0.01, not lr=0.5: .*--fresh"):
        fit(problems.experiment, {"lr": 0.5}, whole.folder)
    facts = json.loads((whole.folder / "run.json").read_text())
    changed = {**facts, "source": facts["source"].replace("Dense(8)", "Dense(9)")}
    (whole.folder / "run.json").write_text(json.dumps(changed))
    try:
        with pytest.raises(UserError, match=r"another .*problems.py .*Dense"):
            fit(problems.experiment, {}, whole.folder)
    finally:
        (whole.folder / "run.json").write_text(json.dumps(facts))


def test_fresh_moves_the_old_run_aside(tmp_path):
    values = {"steps": 2, "log_every": 1, "evaluate_every": 2}
    fit(problems.experiment, values, tmp_path / "run")
    fit(problems.experiment, values, tmp_path / "run", fresh=True)
    assert without_time(tmp_path / "run~1") == without_time(tmp_path / "run")


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="holds no run"):
        fit(problems.experiment, {}, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_whose_run_was_killed_before_its_first_word_is_taken(tmp_path):
    """Between the writing of run.json under its temporary name and its renaming."""
    (tmp_path / ".lock").touch()
    (tmp_path / "run.json.tmp").write_text('{"status": "run')
    result = fit(problems.experiment, {"steps": 2, "log_every": 1, "evaluate_every": 2}, tmp_path)
    assert result.steps == 2 and not (tmp_path / "run.json.tmp").exists()


def poisoned(*, seed: int = 0) -> Experiment:
    """The hidden layer of the brightest images becomes infinite once the steps have begun."""
    base = problems.experiment(steps=10, seed=seed, log_every=4)

    def poison(x):
        return jnp.where(jnp.arange(x.shape[0])[:, None] == 3, jnp.inf, x)

    return Experiment(
        model=problems.Net(poison=poison),
        loss=base.loss,
        optimizer=optax.sgd(0.1),
        train_data=base.train_data,
        test_data=base.test_data,
        steps=10,
        log_every=4,
        seed=seed,
    )


def test_a_loss_that_is_not_finite_stops_and_names_the_layer(tmp_path):
    with pytest.raises(NonFinite, match=r"at step 1: layer hidden at example 3 of the batch \(1 of 8 examples\)"):
        fit(poisoned, {}, tmp_path / "run")
    with np.load(tmp_path / "run" / "nonfinite.npz") as evidence:
        assert evidence["state/step"] == 0
        assert evidence["batch/image"].shape == (8, 4, 4, 1)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    assert read_records(tmp_path / "run" / "metrics.jsonl") == []


def test_what_was_finite_is_on_record(tmp_path):
    """Nine steps of one chunk are good, the tenth is not: the records of steps 3, 6 and 9 stand."""

    def spoilt(*, seed: int = 0) -> Experiment:
        base = problems.experiment(steps=20, seed=seed)
        rate = optax.piecewise_constant_schedule(1e-3, {8: 1e38})
        return Experiment(
            model=base.model,
            loss=base.loss,
            optimizer=optax.sgd(rate),
            train_data=base.train_data,
            test_data=base.test_data,
            steps=20,
            log_every=3,
            evaluate_every=20,
            checkpoint_every=20,
            seed=seed,
        )

    with pytest.raises(NonFinite, match="at step 1"):
        fit(spoilt, {}, tmp_path / "run", chunk=20)
    assert [r["step"] for r in read_records(tmp_path / "run" / "metrics.jsonl")] == [3, 6, 9]


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    identity = identify(problems.experiment, {}, problems.experiment())
    with open_run(tmp_path / "run", identity):
        for fresh in (False, True):
            with pytest.raises(UserError, match="another process"):
                with open_run(tmp_path / "run", identity, fresh=fresh):
                    pass
