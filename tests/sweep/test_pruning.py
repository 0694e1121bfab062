"""Trials that end early: by which rule, with a checkpoint, and the same after a kill."""

import problems
import pytest
from optuna.trial import TrialState
from pretending import QUIET, Pretender, pretended, quality, summary

from jaxcv.errors import UserError
from jaxcv.sweep import owner
from jaxcv.sweep.engine import work_off
from jaxcv.train import fit
from jaxcv.train.checkpoint import Checkpoints

RATES = [0.9, 0.01, 0.5, 0.3, 0.02, 0.7, 0.012, 0.8, 0.011, 0.6, 0.4, 0.2]
"""The best are numbers 1, 8, 6, 4."""


class Killed(BaseException):
    """Nothing is cleaned up after it."""


def sweep(root, kind, train=None):
    rates = ",".join(map(str, RATES))
    return pretended(root, [f"lr={rates}"], train or Pretender(), prune=kind)


def test_asha_promotes_the_best_third_of_each_rung(tmp_path):
    """By hand: rungs at steps 2, 6, 18; a trial goes on if it is among the best third that have come so far."""
    train = Pretender()
    work = sweep(tmp_path, "asha", train)
    work_off(work, QUIET)
    reached = {}
    rungs = {2: [], 6: []}
    for number, lr in enumerate(RATES):
        reached[number] = 18
        for step, seen in rungs.items():
            value = quality({"lr": lr}, step)
            seen.append(value)
            if value < sorted(seen, reverse=True)[max(len(seen) // 3 - 1, 0)]:
                reached[number] = step
                break
    trials = work.ledger.trials()
    assert {t.number: max(t.intermediate_values) for t in trials} == reached
    for trial in trials:
        stopped = reached[trial.number] < 18
        assert trial.state is (TrialState.PRUNED if stopped else TrialState.COMPLETE)
        assert trial.user_attrs.get("stopped_at") == (reached[trial.number] if stopped else None)
        assert trial.value == quality({"lr": RATES[trial.number]}, reached[trial.number])
    assert work.ledger.study.best_trial.number == 1, "the best of all is found"
    assert train.steps < 12 * 18 / 2


@pytest.mark.parametrize("kind", ["median", "hyperband"])
def test_other_rules_save_steps_and_keep_the_best(tmp_path, kind):
    train = Pretender()
    work = sweep(tmp_path, kind, train)
    work_off(work, QUIET)
    assert work.ledger.study.best_trial.number == 1
    assert any(t.state is TrialState.PRUNED for t in work.ledger.trials())
    assert train.steps < 12 * 18


@pytest.mark.parametrize("place", ["decisions", "completed_rung_0", "stopped_at", "told", "evaluated"])
def test_a_kill_during_a_decision_does_not_change_it(tmp_path, place, monkeypatch):
    whole = sweep(tmp_path / "whole", "asha")
    work_off(whole, QUIET)
    deaths = 0

    def die(method, original):
        def call(*arguments, **options):
            nonlocal deaths
            key = {"set_trial_state_values": "told", "set_trial_intermediate_value": "evaluated"}.get(method)
            key = key or arguments[1]
            if key == place and arguments[0] == victim and deaths < 2:
                deaths += 1
                if deaths == 2:  # once before and once after it is written
                    original(*arguments, **options)
                raise Killed
            return original(*arguments, **options)

        return call

    monkeypatch.setattr(owner, "is_alive", lambda holder, heartbeat: False)
    while True:
        work = sweep(tmp_path / "killed", "asha")
        victim = work.ledger.trials()[2]._trial_id
        storage = work.ledger.storage
        for method in (
            "set_trial_user_attr",
            "set_trial_system_attr",
            "set_trial_state_values",
            "set_trial_intermediate_value",
        ):
            monkeypatch.setattr(storage, method, die(method, getattr(storage, method)))
        try:
            work_off(work, QUIET)
            break
        except Killed:
            continue
    assert deaths == 2
    assert summary(work) == summary(whole)


def test_a_stopped_run_keeps_its_checkpoint_and_a_longer_one_goes_on_from_it(tmp_path):
    values = {"steps": 12, "evaluate_every": 3, "log_every": 3, "checkpoint_every": 100}
    told = []
    result = fit(problems.experiment, values, tmp_path, watch=lambda step, test: told.append(step) or step == 6)
    assert result.stopped_at == 6 and told == [3, 6]
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.steps()[-1] == 6
    again = fit(problems.experiment, values, tmp_path, watch=lambda step, test: told.append(step) or step == 6)
    assert again.stopped_at == 6 and told == [3, 6, 3, 6], "it hears of them again, and nothing is trained"
    whole = fit(problems.experiment, values, tmp_path / "whole", short=True)
    assert fit(problems.experiment, values, tmp_path, short=True).test == whole.test
    for folder in (tmp_path, tmp_path / "whole"):
        with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
            assert checkpoints.steps()[-1] == 12
            best = checkpoints.best_step()
            assert best is not None and best % 3 == 0


def test_an_unknown_rule_is_refused(tmp_path):
    with pytest.raises(UserError, match="--prune best: expected one of median, asha, hyperband"):
        sweep(tmp_path, "best")
