"""Sweeps whose trials run side by side in lanes."""

import io
from dataclasses import replace

import jax
import numpy as np
import problems
import pytest
from pretending import KNOWN
from rich.console import Console

from jaxcv.sweep import command, lanes, make_search, outcomes, parse_overrides
from jaxcv.sweep.command import Sweep, open_work
from jaxcv.sweep.engine import work_off
from jaxcv.sweep.lanes import choose_width, work_off_in_lanes
from jaxcv.sweep.live import SweepReporter
from jaxcv.train import Options, sharding
from jaxcv.train.console import Reporter
from jaxcv.train.group import Group
from jaxcv.train.run import read_records, read_run
from jaxcv.train.sharding import How

WORDS = ["steps=8", "log_every=1", "evaluate_every=4", "checkpoint_every=8"]


def sweep(root, *tokens):
    space = parse_overrides([*WORDS, *tokens], KNOWN)
    asked = Sweep(problems.experiment, root / "problems.py", make_search(space), root)
    work = open_work(asked)
    return asked, work, SweepReporter(Reporter(quiet=True), "accuracy", work.ledger.search.count)


def test_a_sweep_in_lanes_has_the_curves_of_one_trial_after_another(tmp_path):
    """Eight trials of two groups, three at a time; two become NaN, and the others do not notice."""
    tokens = ["lr=1e-1,1e-2,1e38,1e-4", "batch_size=4,8"]
    _, alone, show = sweep(tmp_path / "alone", *tokens)
    work_off(alone, show)
    _, work, show = sweep(tmp_path / "lanes", *tokens)
    work_off_in_lanes(work, show, width=3)
    wanted, found = outcomes.rows(alone.ledger), outcomes.rows(work.ledger)
    states = {row.number: row.state for row in found}
    assert states == {row.number: row.state for row in wanted}
    assert sorted(states.values()) == ["failed"] * 2 + ["finished"] * 6
    for row in found:
        curves = [
            [r["loss"] for r in read_records(tmp_path / kind / row.folder.name / "metrics.jsonl") if "grad_norm" in r]
            for kind in ("alone", "lanes")
            if row.folder
        ]
        np.testing.assert_allclose(*curves, rtol=1e-4, atol=1e-5)


def test_a_step_that_is_too_wide_is_taken_one_by_one(tmp_path, monkeypatch):
    program = Group._program

    def fails(self, variant):
        if self._lanes is not None:
            raise MemoryError("out of it")
        return program(self, variant)

    monkeypatch.setattr(Group, "_program", fails)
    asked, work, show = sweep(tmp_path, "lr=1e-1,1e-2,1e-3")
    said = []
    monkeypatch.setattr(show, "announce", said.append)
    work_off_in_lanes(work, show, width=3)
    assert [row.state for row in outcomes.rows(work.ledger)] == ["finished"] * 3
    assert any("lanes: 3 at once failed (MemoryError: out of it)" in line for line in said)


@pytest.mark.parametrize(("trials", "width"), [("1e-1,1e-2,1e-3,1e-4", 3), ("1e-1,1e-2", 1)])
def test_each_of_several_devices_has_a_lane_where_there_are_enough_trials(tmp_path, trials, width):
    asked, work, _ = sweep(tmp_path, f"lr={trials}")
    how = How(sharding.make_mesh("data=1"), lanes=tuple(jax.devices()) * 3)
    groups, said = command.make_plan(replace(asked, options=Options(how=how))).groups, []
    assert choose_width(work, groups, 2, said.append) == width
    assert width > 1 or "batches are split over 3" in said[-1]


@pytest.mark.slow
@pytest.mark.devices(4)
def test_in_a_sweep_each_device_has_its_own_trials(tmp_path):
    """Batches of 7 could not be split."""

    def run(folder, *tokens, **how):
        asked, _, _ = sweep(tmp_path / folder, *tokens)
        rows = command.run(asked, Reporter(Console(file=(said := io.StringIO()), width=200)), **how)
        assert {row.state for row in rows} == {"finished"}
        return said.getvalue(), {(read_run(row.folder) or {})["mesh"] for row in rows if row.folder}

    said, meshes = run("six", "batch_size=7", "lr=1e-1,1e-2,1e-3", "seed=0,1", width=None)
    assert meshes == {"data=1"} and "lanes: 4 trials at a time, 1 on each of 4 devices" in said
    said, meshes = run("five", "batch_size=7", "lr=1e-1,1e-2,1e-3,1e-4,1e-5", width=5)
    assert meshes == {"data=1"} and "lanes: 5 trials at a time, up to 2 on each of 3 devices" in said
    said, meshes = run("two", "lr=1e-1,1e-2", width=None)
    assert meshes == {"data=4"} and "batches are split over 4" in said


@pytest.mark.parametrize(("together", "width", "part"), [(0.5, 6, "6 at a time"), (1.6, 1, "one after another")])
def test_the_probe_decides_and_prints_its_figures(tmp_path, monkeypatch, together, width, part):
    monkeypatch.setattr(lanes, "_time_steps", lambda shared, values, width: 1.0 if width == 1 else width * together)
    asked, work, _ = sweep(tmp_path, "lr=1e-1,1e-2,1e-3", "seed=0,1")
    groups, said = command.make_plan(asked).groups, []
    assert choose_width(work, groups, 2, said.append) == 1 and "no probe" in said[-1], "not worth it"
    monkeypatch.setattr(lanes, "_WORTH_A_PROBE", 10.0)
    assert choose_width(work, groups, 6, said.append) == width
    assert f"takes 1000.00 ms alone, {together * 1e3:.2f} ms as one of 6 lanes: {part}" in said[-1]
