"""A search in Optuna's terms: its distributions, and the sampler of each trial for TPE and CMA-ES."""

import hashlib
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from jaxcv.sweep.search import Search, encode, rounded
from jaxcv.sweep.space import Range


def distributions(search: Search) -> dict[str, BaseDistribution]:
    """Optuna's distributions of the searched hyperparameters, by name."""
    if search.kind != "grid":
        return {name: _distribution(values) for name, values in search.space.items()}
    names = dict.fromkeys(name for trial in search.listed for name in trial)
    return {name: _spanning([trial[name] for trial in search.listed if name in trial]) for name in names}


def draw(search: Search, study: optuna.Study, trial_id: int, number: int) -> dict[str, Any]:
    """Optuna's parameters of a trial: stored ones, and the missing ones drawn.

    Each trial has a new sampler, seeded by the search's seed and the trial's number, so that values do not depend on
    what this process has drawn before.
    """
    seed = int.from_bytes(hashlib.sha256(f"{search.seed} {number}".encode()).digest()[:4], "big")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if search.kind == "cmaes":
            sampler = optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        else:
            sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        # A new study object too, because it caches trials.
        study = optuna.study.Study(study.study_name, study._storage, sampler=_Rounding(sampler))
        trial = optuna.trial.Trial(study, trial_id)
        return {name: _suggest(trial, name, distribution) for name, distribution in distributions(search).items()}


def _distribution(values: Sequence[Any] | Range) -> BaseDistribution:
    if not isinstance(values, Range):
        return CategoricalDistribution([encode(value) for value in values])
    if values.integer:
        return IntDistribution(int(values.low), int(values.high), log=values.log, step=int(values.step or 1))
    return FloatDistribution(values.low, values.high, log=values.log, step=values.step)


def _spanning(values: Sequence[Any]) -> BaseDistribution:
    """A distribution that covers listed values: numeric where they are numbers, for the axes of plots."""
    if all(type(v) is float for v in values):
        return FloatDistribution(min(values), max(values), log=min(values) > 0 and max(values) >= 10 * min(values))
    if all(type(v) is int for v in values):
        return IntDistribution(min(values), max(values))
    return CategoricalDistribution(list({repr(v): encode(v) for v in values}.values()))


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    assert isinstance(distribution, CategoricalDistribution)
    return trial.suggest_categorical(name, distribution.choices)


class _Rounding(optuna.samplers.BaseSampler):
    """Wraps a sampler and rounds its numbers to the digits of folder names."""

    def __init__(self, sampler: optuna.samplers.BaseSampler):
        self._sampler = sampler

    def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        values = self._sampler.sample_relative(study, trial, search_space)
        return {name: self._round(value, search_space[name]) for name, value in values.items()}

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        value = self._sampler.sample_independent(study, trial, param_name, param_distribution)
        return self._round(value, param_distribution)

    def before_trial(self, study: Any, trial: Any) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
        self._sampler.after_trial(study, trial, state, values)

    @staticmethod
    def _round(value: Any, distribution: BaseDistribution) -> Any:
        plain = isinstance(distribution, FloatDistribution) and distribution.step is None
        return rounded(value, distribution) if plain else value
