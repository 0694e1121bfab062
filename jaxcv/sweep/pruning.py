"""Stop unpromising trials early, by Optuna's pruners on the metric of each evaluation.

median      worse than the median of the finished trials at the same step
asha        asynchronous successive halving: of the trials that reach a rung, the best third continues to the next,
            three times as many steps. Li et al., A System for Massively Parallel Hyperparameter Tuning, 2020
hyperband   several such brackets, which start at different rungs. Li et al., Hyperband, 2018

A decision is stored before it takes effect, so that a trial that is killed and resumed gets the same one.
"""

from collections.abc import Mapping
from typing import Any

import optuna

from jaxcv.errors import UserError
from jaxcv.sweep.ledger import Claim, Ledger

KINDS = ("median", "asha", "hyperband")
_FACTOR = 3


class Pruning:
    """Pruning decisions for the trials of one ledger."""

    def __init__(self, kind: str, ledger: Ledger, *, first: int, steps: int):
        """A pruner of `KINDS`.

        Args:
            kind: its name.
            ledger: of the compared trials.
            first: step of a trial's first evaluation.
            steps: of a whole trial.

        Raises:
            UserError: If the kind is unknown.
        """
        if kind not in KINDS:
            raise UserError(f"--prune {kind}: expected one of {', '.join(KINDS)}")
        self._ledger, self._steps = ledger, steps
        self._pruner: optuna.pruners.BasePruner
        if kind == "median":
            self._pruner = optuna.pruners.MedianPruner()
        elif kind == "asha":
            self._pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=_FACTOR)
        else:
            self._pruner = optuna.pruners.HyperbandPruner(
                min_resource=first, max_resource=steps, reduction_factor=_FACTOR
            )

    def should_stop(self, claim: Claim, step: int) -> bool:
        """Whether the trial, whose value at `step` is reported, is to stop there."""
        if step >= self._steps:
            return False
        trial = self._ledger.storage.get_trial(claim.id)
        decisions: dict[str, Any] = dict(trial.user_attrs.get("decisions", {}))
        if str(step) not in decisions:
            # The trial's state as when it first reached this step, without the rungs of a run before a kill.
            earlier = {k: v for s, one in decisions.items() if int(s) < step for k, v in one["rungs"].items()}
            trial.system_attrs = {**_without_rungs(trial.system_attrs), **earlier}
            trial.intermediate_values = {s: v for s, v in trial.intermediate_values.items() if s <= step}
            storage = _Deferring(self._ledger.storage)
            study = optuna.study.Study(self._ledger.study.study_name, storage, pruner=self._pruner)  # pyright: ignore
            stop = self._pruner.prune(study, trial)
            decisions[str(step)] = {"stop": bool(stop), "rungs": storage.kept}
            self._ledger.storage.set_trial_user_attr(claim.id, "decisions", decisions)
        decision = decisions[str(step)]
        for key, value in decision["rungs"].items():
            self._ledger.storage.set_trial_system_attr(claim.id, key, value)
        return decision["stop"]


def _without_rungs(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in attributes.items() if not key.startswith("completed_rung_")}


class _Deferring:
    """A storage that keeps a pruner's writes instead of storing them."""

    def __init__(self, storage: optuna.storages.BaseStorage):
        self._storage = storage
        self.kept: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.kept[key] = value
