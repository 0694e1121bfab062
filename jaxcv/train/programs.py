"""Which compiled program serves which values: what is traced, what is a constant, and why."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxcv import runtime
from jaxcv.train.experiment import ExperimentFunction, resolve
from jaxcv.train.state import TrainState
from jaxcv.train.step import Program
from jaxcv.types import Batch

# What JAX raises when Python asks a tracer for its value; TypeError is for `hash`, `range` and the like.
_STEERING_ERRORS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
    TypeError,
    ValueError,
)


_programs: dict[tuple[Any, ...], list[Program]] = {}
"""By the experiment and the values that are static in any case; several where some float had to be static too."""


def program(experiment: ExperimentFunction, values: Mapping[str, Any]) -> Program:
    """The program that trains `experiment` at `values`: the same object for all values that share a compiled step.

    Floats and `seed` are traced. One that steers Python control flow is made static, and `reasons` says which and why.

    Args:
        experiment: an experiment file's function.
        values: overrides; the rest are defaults.

    Raises:
        UserError: an unknown name or a value of the wrong type.
    """
    values = resolve(experiment, values)
    numbers = _numbers(values)
    family = (experiment, numbers, repr([(n, v) for n, v in values.items() if n not in numbers]))
    members = _programs.setdefault(family, [])
    for known in members:
        if all(values[n] == v for n, v in known.static.items()):
            return known
    reasons = members[0].reasons if members else None
    new = _first_program(experiment, values, numbers) if reasons is None else _build(experiment, values, reasons)
    members.append(new)
    return new


def _numbers(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Hyperparameters to be traced if that can be: floats, and the seed."""
    return tuple(n for n, v in values.items() if isinstance(v, float) or (n == "seed" and type(v) is int))


def _build(experiment: ExperimentFunction, values: Mapping[str, Any], reasons: dict[str, str]) -> Program:
    """The program whose floats are traced but for those in `reasons`."""
    traced = tuple(n for n in _numbers(values) if n not in reasons)
    return Program(experiment, {n: v for n, v in values.items() if n not in traced}, traced, reasons)


def _first_program(experiment: ExperimentFunction, values: Mapping[str, Any], names: tuple[str, ...]) -> Program:
    """A program with as many of `names` traced as can be.

    Its step is traced when this returns.
    """

    def attempt(static: dict[str, str]) -> tuple[Program, Exception | None]:
        trial = _build(experiment, values, static)
        try:
            trial.trace_step(values, experiment(**values).variants[0])
        except _STEERING_ERRORS as error:
            return trial, error
        return trial, None

    best, error = attempt({})
    if error is None:
        return best
    alone, error = attempt(dict.fromkeys(names, "together with another it steers Python control flow"))
    if error is not None:
        raise error  # wrong at any setting: not a matter of tracing
    reasons = {
        name: _reason(error)
        for name in names
        if (error := attempt({other: "" for other in names if other != name})[1]) is not None
    }
    some, error = attempt(reasons)
    return some if error is None else alone


def _reason(error: Exception) -> str:
    place = error.__traceback__
    where = ""
    while place is not None:
        file = place.tb_frame.f_code.co_filename
        if "/jax/" not in file and "/jaxcv/train/" not in file:
            where = f" in {file.rsplit('/', 1)[-1]}:{place.tb_lineno}"
        place = place.tb_next
    return f"steers Python control flow{where} ({type(error).__name__})"


def make_train_step(
    experiment: ExperimentFunction, values: Mapping[str, Any]
) -> Callable[[Mapping[str, Any], TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """The jitted training step, `(hyperparameters, state, batch) -> (state, logs)`; the state is donated.

    `program(experiment, values)` has the other functions: `init(hyperparameters)` gives the first state,
    `hyperparameters(values)` the first argument.
    """
    shared = program(experiment, values)
    return jax.jit(shared.step, donate_argnums=1, compiler_options=runtime.compiler_options())
