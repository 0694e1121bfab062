"""Runs in lanes of one vmapped program: each as if it were alone."""

import os
from functools import partial

import jax
import numpy as np
import problems
import pytest

from jaxcv.errors import UserError
from jaxcv.train import Options, Result, Trial, fit, fit_many, program, sharding
from jaxcv.train.checkpoint import Checkpoints
from jaxcv.train.console import Reporter
from jaxcv.train.diagnose import NonFinite
from jaxcv.train.group import Group
from jaxcv.train.run import read_records
from jaxcv.train.sharding import How


def train_in_lanes(experiment, trials, folder, *, watches=None, **options):
    """The runs side by side; their results in the order of the trials."""
    results = {}
    fit_many(
        experiment,
        [
            Trial(
                values=trial,
                workdir=folder / str(number),
                reporter=Reporter(quiet=True),
                watch=(watches or {}).get(number),
                on_end=partial(results.__setitem__, number),
            )
            for number, trial in enumerate(trials)
        ],
        Options(**options),
    )
    return [results[number] for number in range(len(trials))]


def losses(folder):
    return [r["loss"] for r in read_records(folder / "metrics.jsonl") if r["split"] == "train"]


SHORT = {"steps": 24, "log_every": 2, "evaluate_every": 8, "checkpoint_every": 8}


def test_lanes_equal_solo_runs_also_where_some_end_early(tmp_path):
    """Other rates, seeds and lengths of life: one is stopped, one resumes a run that stands at step 8."""
    trials = [{**SHORT, "lr": 10.0**-i, "seed": i} for i in range(1, 5)]
    for number, trial in enumerate(trials):
        fit(problems.experiment, trial, tmp_path / "solo" / str(number))
    stopped = fit(problems.experiment, trials[3], tmp_path / "lanes" / "3", watch=lambda step, test: step == 8)
    assert stopped.stopped_at == 8
    watches = {1: lambda step, test: step == 16}
    results = train_in_lanes(problems.experiment, trials, tmp_path / "lanes", watches=watches)
    assert [result.stopped_at for result in results] == [None, 16, None, None]
    for number in range(4):
        solo, lane = (losses(tmp_path / kind / str(number)) for kind in ("solo", "lanes"))
        count = 8 if number == 1 else 12
        assert len(lane) == count
        np.testing.assert_allclose(lane, solo[:count], rtol=1e-4, atol=1e-5)
        values = trials[number]
        spec = program(problems.experiment, values).state_spec(values)
        states = []
        for kind in ("solo", "lanes"):
            with Checkpoints(tmp_path / kind / str(number) / "checkpoints", read_only=True) as checkpoints:
                step = 16 if number == 1 else 24
                assert step in checkpoints.steps()
                states.append(checkpoints.restore(step, spec)[0])
        for state in states:
            state.params["Dense_0"].pop("bias")  # batch norm follows: its gradient is rounding error, blown up by Adam
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4), *(s.params for s in states))


def compare(tmp_path, kind, number):
    """Losses in training: the running mean of batch norm, which tests use, follows the bias of which see above."""
    found, wanted = (losses(tmp_path / k / str(number)) for k in (kind, "solo"))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.devices(2)
def test_lanes_on_several_devices_equal_solo_runs(tmp_path, monkeypatch):
    """Two on a device and one to spare; one run resumes, and when the others have ended each device has a lane.

    No device sends another anything.
    """
    trials = [{**SHORT, "lr": lr, "seed": seed} for seed, lr in enumerate([1e-1, 1e38, 1e-2])]
    spread, alone = (How(sharding.make_mesh(mesh)) for mesh in ("data=2", "data=1"))
    fit(problems.experiment, trials[2], tmp_path / "solo" / "2", how=alone)
    fit(problems.experiment, trials[2], tmp_path / "lanes" / "2", watch=lambda step, test: step == 8, how=alone)
    widths, stack = [], Group._stack
    monkeypatch.setattr(Group, "_stack", lambda self, states, lanes: widths.append(lanes) or stack(self, states, lanes))
    watches = {0: lambda step, test: step == 8}
    results = train_in_lanes(problems.experiment, trials, tmp_path / "lanes", watches=watches, how=spread)
    assert [getattr(result, "stopped_at", "failed") for result in results] == [8, "failed", None]
    assert [(lanes.mesh.size, lanes.each) for lanes in widths] == [(2, 2), (2, 1)]
    compare(tmp_path, "lanes", 2)
    shared = program(problems.experiment, trials[0], how=sharding.beside(spread))
    texts = [one.as_text() for (name, lanes, *_), one in shared._compiled.items() if lanes is not None]
    collectives = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-")
    assert len(texts) == 2 and not any(word in text for word in collectives for text in texts)


@pytest.mark.slow
@pytest.mark.devices(4)
@pytest.mark.parametrize("resident", ["yes", "no"])
def test_any_number_of_lanes_on_any_number_of_devices(resident, tmp_path):
    trials = [{**SHORT, "lr": 10.0**-seed, "seed": seed} for seed in range(1, 8)]
    for number, trial in enumerate(trials):
        fit(problems.experiment, trial, tmp_path / "solo" / str(number), how=How(sharding.make_mesh("data=1")))
    for count in (2, 4, 5, 7):
        kind = f"{count} in lanes"
        how = How(sharding.make_mesh("data=4"))
        train_in_lanes(problems.experiment, trials[:count], tmp_path / kind, how=how, resident=resident)
        for number in range(count):
            compare(tmp_path, kind, number)


def test_steps_that_fail_together_break_no_run(tmp_path, monkeypatch):
    trials = [{**SHORT, "lr": lr} for lr in (1e-2, 1e-3)]

    def fails(*_):
        raise MemoryError("too wide")

    with monkeypatch.context() as patch:
        patch.setattr(Group, "take", fails)
        with pytest.raises(MemoryError, match="too wide"):
            train_in_lanes(problems.experiment, trials, tmp_path)
    results = train_in_lanes(problems.experiment, trials, tmp_path)
    assert [result.steps for result in results] == [24, 24]


def test_a_run_that_fails_disturbs_no_other(tmp_path):
    """One rate is so large that the loss becomes infinite; the folder of another holds somebody's thesis."""
    trials = [{**SHORT, "lr": lr} for lr in (1e-2, 1e38, 1e-3, 1e-4)]
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "thesis.tex").touch()
    results = train_in_lanes(problems.experiment, trials, tmp_path)
    assert [type(result) for result in results] == [Result, NonFinite, UserError, Result]
    assert "not finite at step" in str(results[1]) and (tmp_path / "1" / "nonfinite.npz").exists()


def test_streamed_data_gives_lanes_their_own_order(tmp_path):
    trials = [{**SHORT, "seed": seed} for seed in (0, 1, 2)]
    train_in_lanes(problems.experiment, trials, tmp_path / "resident", resident="yes")
    train_in_lanes(problems.experiment, trials, tmp_path / "streamed", resident="no", chunk=7)
    for number in range(3):
        resident, streamed = (losses(tmp_path / kind / str(number)) for kind in ("resident", "streamed"))
        np.testing.assert_allclose(resident, streamed, rtol=1e-5)


@pytest.mark.slow
def test_eight_lenets_in_lanes_have_the_loss_curves_of_solo_runs(tmp_path, load, monkeypatch):
    """100 steps, logged one by one: their sums are rounded otherwise, which training amplifies step by step.

    Over all steps they were equal to 1e-5 with JAX 0.10 and to 5e-4 with 0.12.
    """
    monkeypatch.setattr(os, "fsync", lambda file: None)  # sixteen hundred records
    lenet = load("lenet")

    def experiment(*, lr: float = 1e-3, weight_decay: float = 1e-2, seed: int = 0):
        from dataclasses import replace

        setup = lenet(lr=lr, weight_decay=weight_decay, seed=seed, steps=100, batch_size=16)
        return replace(setup, log_every=1, evaluate_every=100, checkpoint_every=100, previews=0)

    rates = np.geomspace(1e-4, 1e-2, 8).tolist()
    trials = [{"lr": lr, "weight_decay": 1e-2 / (i + 1), "seed": i} for i, lr in enumerate(rates)]
    for number, trial in enumerate(trials):
        fit(experiment, trial, tmp_path / "solo" / str(number))
    train_in_lanes(experiment, trials, tmp_path / "lanes")
    for number in range(8):
        solo, lane = (losses(tmp_path / kind / str(number)) for kind in ("solo", "lanes"))
        assert len(solo) == len(lane) == 100
        apart = [abs(a - b) for a, b in zip(solo, lane, strict=True)]
        assert max(apart[:20]) <= 1e-4 and max(apart) <= 2e-3
