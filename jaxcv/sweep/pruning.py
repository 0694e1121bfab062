"""Ending trials early that promise little, by Optuna's pruners on the metric of each evaluation.

median      worse than the median of the finished trials at the same step
asha        successive halving, asynchronous: of the trials that reach a rung, the best third goes on to the next, three
            times as far. Li et al., A System for Massively Parallel Hyperparameter Tuning, 2020
hyperband   several such ladders that begin at different rungs. Li et al., Hyperband, 2018

A verdict is written down before it has consequences: a process that is killed over it finds it again.
"""

from collections.abc import Mapping
from typing import Any

import optuna

from jaxcv.errors import UserError
from jaxcv.sweep.ledger import Claim, Ledger

KINDS = ("median", "asha", "hyperband")
_FACTOR = 3


class Pruning:
    """Verdicts on trials of one ledger."""

    def __init__(self, kind: str, ledger: Ledger, *, first: int, steps: int):
        """A pruner of `KINDS`.

        Args:
            kind: its name.
            ledger: whose trials it compares.
            first: step of a trial's first evaluation.
            steps: of a whole trial.

        Raises:
            UserError: an unknown kind.
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

    def verdict(self, claim: Claim, step: int) -> bool:
        """Whether the trial, whose value at `step` is reported, shall end there."""
        if step >= self._steps:
            return False
        trial = self._ledger.storage.get_trial(claim.id)
        verdicts: dict[str, Any] = dict(trial.user_attrs.get("verdicts", {}))
        if str(step) not in verdicts:
            # As if the trial had come to this step for the first time.
            earlier = {k: v for s, found in verdicts.items() if int(s) < step for k, v in found["rungs"].items()}
            trial.system_attrs = {**_without_rungs(trial.system_attrs), **earlier}
            trial.intermediate_values = {s: v for s, v in trial.intermediate_values.items() if s <= step}
            storage = _Deferring(self._ledger.storage)
            study = optuna.study.Study(self._ledger.study.study_name, storage, pruner=self._pruner)  # pyright: ignore
            stop = self._pruner.prune(study, trial)
            verdicts[str(step)] = {"stop": bool(stop), "rungs": storage.kept}
            self._ledger.storage.set_trial_user_attr(claim.id, "verdicts", verdicts)
        found = verdicts[str(step)]
        for key, value in found["rungs"].items():
            self._ledger.storage.set_trial_system_attr(claim.id, key, value)
        return found["stop"]


def _without_rungs(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in attributes.items() if not key.startswith("completed_rung_")}


class _Deferring:
    """A storage that keeps what the pruner wants to write down about its trial."""

    def __init__(self, storage: optuna.storages.BaseStorage):
        self._storage = storage
        self.kept: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.kept[key] = value
