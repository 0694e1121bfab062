"""More steps after the end, a start from a run's own weights, and a run's weights as a file."""

import dataclasses

import jax
import numpy as np
import problems
import pytest

from jaxcv import weights
from jaxcv.errors import UserError
from jaxcv.train import Experiment, fit, program
from jaxcv.train.checkpoint import Checkpoints, weights_of
from jaxcv.train.run import read_records

TWENTY = {"steps": 20, "evaluate_every": 10, "log_every": 5, "checkpoint_every": 10}
FORTY = {**TWENTY, "steps": 40}


def without_time(folder):
    return [{k: v for k, v in r.items() if k != "time"} for r in read_records(folder / "metrics.jsonl")]


def final_state(folder, values):
    spec = program(problems.experiment, values).state_spec(values)
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        restored = checkpoints.restore_newest(spec)
        assert restored is not None
        return problems.leaves(restored[0])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fit(problems.experiment, FORTY, tmp_path_factory.mktemp("runs") / "whole")


def test_a_finished_run_goes_on_in_its_own_folder_with_more_steps(whole, tmp_path):
    """Its rate is constant, so it ends where a run of as many steps does, to the byte."""
    first = fit(problems.experiment, TWENTY, tmp_path / "run")
    assert first.steps == 20
    longer = fit(problems.experiment, FORTY, tmp_path / "run")
    assert not longer.skipped and longer.steps == 40 and longer.values["steps"] == 40
    assert without_time(tmp_path / "run") == without_time(whole.folder)
    assert final_state(tmp_path / "run", FORTY) == final_state(whole.folder, FORTY)
    assert fit(problems.experiment, FORTY, tmp_path / "run").skipped
    with pytest.raises(UserError, match="begun with steps=40, not steps=20"):
        fit(problems.experiment, TWENTY, tmp_path / "run")
    with pytest.raises(UserError, match=r"begun with lr=0\.01, not lr=0\.5"):
        fit(problems.experiment, {**FORTY, "steps": 50, "lr": 0.5}, tmp_path / "run")


def test_a_run_goes_on_from_another_folder(whole, tmp_path):
    fit(problems.experiment, TWENTY, tmp_path / "short")
    before = without_time(tmp_path / "short")
    with pytest.raises(UserError, match="short was begun with lr"):
        fit(problems.experiment, {**FORTY, "lr": 0.5}, tmp_path / "other", going_on_from=tmp_path / "short")
    with pytest.raises(UserError, match="nothing holds no run"):
        fit(problems.experiment, FORTY, tmp_path / "other", going_on_from=tmp_path / "nothing")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["short"]
    fit(problems.experiment, FORTY, tmp_path / "long", going_on_from=tmp_path / "short")
    assert final_state(tmp_path / "long", FORTY) == final_state(whole.folder, FORTY)
    assert without_time(tmp_path / "long") == without_time(whole.folder)
    assert without_time(tmp_path / "short") == before


def test_a_run_s_weights_are_those_it_is_evaluated_with(whole, tmp_path):
    newest = weights_of(whole.folder / "checkpoints" / "40")
    spec = program(problems.experiment, FORTY).state_spec(FORTY)
    named = {"/".join(key.key for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(spec.ema)}
    assert set(newest) == named
    best = max(
        (r for r in without_time(whole.folder) if r["split"] == "test"), key=lambda r: (r["accuracy"], r["step"])
    )
    chosen = weights_of(whole.folder)
    same = weights_of(whole.folder / "checkpoints" / str(best["step"]))
    assert all(np.array_equal(chosen[name], same[name]) for name in chosen)
    with pytest.raises(UserError, match=r"checkpoints/7: no checkpoint of a run there; .* has \["):
        weights_of(whole.folder / "checkpoints" / "7")
    tree: dict = {}
    for name, array in newest.items():
        branch = tree
        for part in name.split("/")[:-1]:
            branch = branch.setdefault(part, {})
        branch[name.split("/")[-1]] = array
    weights.save(tmp_path / "w.safetensors", tree)
    loaded = weights.load(tmp_path / "w.safetensors")
    assert all(np.array_equal(loaded[name], newest[name]) for name in newest)


def test_experiments_start_from_a_run_also_with_another_head(tmp_path, load):
    from jaxcv import models

    def small(*, classes: int = 10, start: str = "", seed: int = 0) -> Experiment:
        setup = load("lenet")(steps=2, batch_size=8, seed=seed)
        model = models.lenet5(num_classes=classes)
        initial = weights.pretrained(start, model, new_head=True) if start else None
        return dataclasses.replace(setup, model=model, initial=initial)

    run = fit(small, {}, tmp_path / "run").folder
    found = weights_of(run)
    for classes in (10, 12):
        state, report = program(small, {"classes": classes, "start": str(run)}).first_state(
            {"classes": classes, "start": str(run)}
        )
        np.testing.assert_array_equal(state.params["conv1"]["kernel"], found["params/conv1/kernel"])
        assert state.params["head"]["bias"].shape == (classes,)
        assert np.array_equal(state.params["head"]["bias"], found["params/head/bias"]) == (classes == 10)
        assert any("new, zero" in line for line in report.lines()) == (classes == 12)
