"""Which compiled program serves which values: what is traced, what is a constant, and why."""

import gc
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.core import Tracer

from jaxcv.errors import UserError
from jaxcv.train import looking, runtime
from jaxcv.train.compiled import Program
from jaxcv.train.experiment import ExperimentFunction, resolve
from jaxcv.train.sharding import How, chosen
from jaxcv.train.state import TrainState
from jaxcv.types import Batch

# What JAX raises when Python asks a tracer for its value; TypeError is for `hash`, `range` and the like.
_BRANCHING_ERRORS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
    TypeError,
    ValueError,
)


_TOGETHER = "together with another it is branched on in Python"

_KEPT = 8
"""Settings of static values whose programs are kept. Each is some thousand pieces of mapped memory, of which Linux
allows a process 65,530; XLA crashes beyond. One that was let go is taken from the compilation cache again."""

_programs: OrderedDict[tuple[Any, ...], list[Program]] = OrderedDict()
"""By the experiment and the values that are static in any case, the last used last; several where some float had to be
static too."""


def program(
    experiment: ExperimentFunction, values: Mapping[str, Any], *, check: bool = True, how: How | None = None
) -> Program:
    """The program that trains `experiment` at `values`: the same object for all values that share a compiled step.

    Floats and `seed` are traced. One that Python branches on, by its value or its type, is made static, and `reasons`
    says which and why.

    Args:
        experiment: an experiment file's function.
        values: overrides; the rest are defaults.
        check: whether to find floats at whose type Python looks. That takes about as long as tracing the loss: a run
            has it done by `confirm` beside its first steps.
        how: on which devices, and how, its steps are taken; None: as `sharding.choose` was told.

    Raises:
        UserError: an unknown name or a value of the wrong type.
    """
    values = resolve(experiment, values)
    numbers = _numbers(values)
    how = how or chosen()
    family = (experiment, how, numbers, repr([(n, v) for n, v in values.items() if n not in numbers]))
    members = _members(family)
    new = None
    for known in list(members):
        if all(values[n] == v for n, v in known.static.items()):
            if not check or not (looked := _looked_at(known, values)):
                return known
            members.remove(known)  # it serves the values that it was compared at, and no others
            new = _build(experiment, values, how, {**known.reasons, **looked})
    if new is None and members:
        new = _build(experiment, values, how, members[0].reasons)
    if new is None:
        new = _first_program(experiment, values, how, numbers)
    while check and (looked := _looked_at(new, values)):
        new = _build(experiment, values, how, {**new.reasons, **looked})
    members.append(new)
    return new


def _members(family: tuple[Any, ...]) -> list[Program]:
    """Programs of a family, which is now the last used."""
    found = _programs.setdefault(family, [])
    _programs.move_to_end(family)
    if len(_programs) > _KEPT:
        _programs.popitem(last=False)
        gc.collect()  # programs stand in circles with the functions that they have compiled
    return found


class LookedAt(Exception):
    """Python looks at the type of a traced hyperparameter: `program`, told to check, gives another program."""


def confirm(shared: Program, values: Mapping[str, Any]) -> None:
    """Make sure that a program computes at `values`, all of them, what the experiment does with numbers.

    Raises:
        LookedAt: it does not.
    """
    if looked := _looked_at(shared, values):
        raise LookedAt(", ".join(looked))


def _numbers(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Hyperparameters to be traced if that can be: floats, and the seed."""
    return tuple(n for n, v in values.items() if isinstance(v, float) or (n == "seed" and type(v) is int))


def _build(experiment: ExperimentFunction, values: Mapping[str, Any], how: How, reasons: dict[str, str]) -> Program:
    """The program whose floats are traced but for those in `reasons`."""
    traced = tuple(n for n in _numbers(values) if n not in reasons)
    static = {n: v for n, v in values.items() if n not in traced}
    return Program(experiment, static, traced, reasons, how)


def _first_program(
    experiment: ExperimentFunction, values: Mapping[str, Any], how: How, names: tuple[str, ...]
) -> Program:
    """A program with as many of `names` traced as can be.

    Its step is traced when this returns.
    """

    def attempt(static: dict[str, str]) -> tuple[Program, Exception | None]:
        trial = _build(experiment, values, how, static)
        try:
            trial.try_chunk(values)
        except _BRANCHING_ERRORS as error:
            return trial, error
        return trial, None

    reasons: dict[str, str] = {}
    best, error = attempt(reasons)
    if error is not None:
        alone, error = attempt(dict.fromkeys(names, _TOGETHER))
        if error is not None:
            raise _explained(error) from error  # wrong at any setting: not a matter of tracing
        reasons = {
            name: _reason(error)
            for name in names
            if (error := attempt({other: "" for other in names if other != name})[1]) is not None
        }
        best, error = attempt(reasons)
        if error is not None:
            return alone
    return best


def _looked_at(found: Program, values: Mapping[str, Any]) -> dict[str, str]:
    """As `looking.looked_at`, once for every value of a hyperparameter."""
    new = {(name, values[name]) for name in found.traced} - found.checked
    if not new:
        return {}
    looked = looking.looked_at(found.at, {name: values[name] for name in found.traced}, found.shapes(values))
    if not looked:
        found.checked |= new
    return looked


def _explained(error: Exception) -> Exception:
    """The error in words, where optax or the model refuses what it was given."""
    if (refused := _refused_by_model(error)) is not None:
        return refused
    place = error.__traceback__
    while place is not None:
        frame = place.tb_frame
        numbers = frame.f_locals.get("numeric_hps")
        if frame.f_globals.get("__name__", "").startswith("optax.") and numbers is not None:
            whole = [name for name, value in numbers.items() if isinstance(value, int)] or list(numbers)
            name = getattr(frame.f_locals.get("inner_factory"), "__name__", "this optimizer")
            return UserError(
                f"optax.inject_hyperparams makes arrays of the numbers of {name}, and Python branches on one"
                f"{_where(error)}: name those that it does, as in static_args={tuple(whole)!r}"
            )
        place = place.tb_next
    return error


def _refused_by_model(error: Exception) -> UserError | None:
    """A shape that the network cannot take, with the place in the code; None for errors from elsewhere.

    Such an error comes when the parameters are made, before anything else is traced.
    """
    if isinstance(error, UserError) or not isinstance(error, TypeError | ValueError):
        return None
    place, setup, within = error.__traceback__, None, False
    while place is not None:
        frame = place.tb_frame
        if frame.f_globals.get("__name__") == "jaxcv.train.step":
            setup = frame.f_locals.get("experiment", setup)
        within = within or frame.f_globals.get("__name__") == "jaxcv.ops.initializers"
        place = place.tb_next
    if setup is None or not within:
        return None
    spec = setup.train_data.spec
    fed = ", ".join(f"{name} {list(spec[name].shape[1:])}" for name in setup.inputs if name in spec)
    why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(
        f"{type(setup.model).__name__} cannot take {fed}: {why.rstrip('.')}{_where(error)}; --debug shows more"
    )


def _reason(error: Exception) -> str:
    return f"is branched on in Python{_where(error)} ({type(error).__name__})"


def _where(error: Exception) -> str:
    place = error.__traceback__
    where = ""
    while place is not None:
        file = place.tb_frame.f_code.co_filename
        if "/jax/" not in file and "/jaxcv/train/" not in file:
            where = f" in {file.rsplit('/', 1)[-1]}:{place.tb_lineno}"
        place = place.tb_next
    return where


def make_train_step(
    experiment: ExperimentFunction, values: Mapping[str, Any]
) -> Callable[[Mapping[str, Any], TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """The jitted training step, `(hyperparameters, state, batch) -> (state, logs)`; the state is donated.

    Inside somebody's own `jit`, `vmap`, `grad` or `scan` it is a part of that program. The other functions are in
    `program(experiment, values)`: `init(hyperparameters)` gives the first state, `hyperparameters(values)` the first
    argument, `chunk` takes several steps.
    """
    shared = program(experiment, values)
    alone = jax.jit(shared.step, donate_argnums=1, compiler_options=runtime.compiler_options())
    within = jax.jit(shared.step)  # which may not have options of its own

    def train_step(
        hyperparameters: Mapping[str, Any], state: TrainState, batch: Batch
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        traced = any(isinstance(x, Tracer) for x in jax.tree.leaves((hyperparameters, state, batch)))
        return (within if traced else alone)(hyperparameters, state, batch)

    return train_step
