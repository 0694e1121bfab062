"""From an experiment and its values to the compiled functions that train it.

One pure step, `(hyperparameters, state, batch) -> (state, logs)`. The hyperparameters that are numbers enter as traced
scalars: `experiment` itself is called inside the trace, so schedules, optimizers and losses are rebuilt from them, and
one compiled program serves every value.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcv.errors import UserError
from jaxcv.ops.initializers import initialize
from jaxcv.train import accumulation, parts, runtime, sharding
from jaxcv.train.experiment import Experiment, ExperimentFunction, hyperparameters, resolve
from jaxcv.train.state import TrainState
from jaxcv.types import Batch


@dataclass
class Program:
    """The compiled functions of one experiment at one setting of its static hyperparameters.

    Built by `jaxcv.train.program`, which shares it among runs. Each function is traced and compiled on first use.
    """

    experiment: ExperimentFunction
    static: dict[str, Any]
    """Hyperparameters that are constants of the compiled step."""
    traced: tuple[str, ...]
    """Hyperparameters that are inputs of the compiled step."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Why a float could not be traced, by name."""
    traces: int = 0
    """How often the training step was traced."""
    traces_reported: int = 0
    """How many of those some run has put into its run.json."""
    compile_seconds: dict[str, float] = field(default_factory=dict)
    """Tracing, lowering and compiling (or loading from the cache), by function."""
    shapes: dict[str, Any] = field(default_factory=dict)
    """Of what the step is given and computes on its way, once it was traced."""
    checked: set[tuple[str, Any]] = field(default_factory=set)
    """Values of traced hyperparameters of which it is known that Python does not look at their type."""
    _traced: dict[Any, Any] = field(default_factory=dict)
    _compiled: dict[Any, Any] = field(default_factory=dict)
    _locks: dict[Any, Any] = field(default_factory=lambda: defaultdict(threading.RLock), repr=False, compare=False)
    """By what is compiled: runs in lanes compile it once; step and first state are compiled side by side."""

    def hyperparameters(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs of the compiled functions, out of all values; what is missing is at its default."""
        values = resolve(self.experiment, values)
        return {name: values[name] for name in self.traced}

    def at(self, hyperparameters: Mapping[str, Any]) -> Experiment:
        """The experiment at the given (traced or concrete) hyperparameters."""
        return self.experiment(**self.static, **hyperparameters)

    @property
    def variants(self) -> tuple[str | None, ...]:
        """Names of the augmentations that take turns, each with a step of its own; None alone where there is one."""
        known = hyperparameters(self.experiment)
        return self.at({name: known[name].default for name in self.traced}).variants

    # The three pure functions. They may be traced by anybody: vmapped over hyperparameters, differentiated, scanned.

    def init(self, hyperparameters: Mapping[str, Any], variables: Any = None) -> TrainState:
        """The state before the first step, around the given variables of the model or fresh ones."""
        experiment = self.at(hyperparameters)
        init_key, train_key = jax.random.split(jax.random.key(experiment.seed))
        spec = experiment.train_data.spec
        inputs = [jnp.zeros((1, *spec[name].shape[1:]), jnp.float32) for name in experiment.inputs]
        if variables is None:
            variables = initialize(experiment.model, init_key, *inputs)
        collections, params = _split_params(variables)
        with jax.numpy_dtype_promotion("standard"):  # as in `step`
            opt_state = experiment.optimizer.init(parts.split(params, experiment.trainable)[0])
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            collections=collections,
            opt_state=opt_state,
            key=train_key,
            finite=jnp.array(True),
            ema=None if experiment.ema is None else jax.tree.map(jnp.copy, {"params": params, **collections}),
        )

    def step(
        self, hyperparameters: Mapping[str, Any], state: TrainState, batch: Batch, *, variant: str | None = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update. Logs: `loss`, every term under its name, `grad_norm`, `finite`.

        `variant`: which of several augmentations; each makes a program of its own. None: the first, or the only one.
        """
        self.traces += 1
        experiment, batch, objective = self._objective(hyperparameters, state, batch, variant)

        trained, frozen = parts.split(state.params, experiment.trainable)
        (loss, (terms, collections, _)), grads = jax.value_and_grad(objective, has_aux=True)(trained)
        with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integer powers
            updates, opt_state = experiment.optimizer.update(grads, state.opt_state, trained)
        params = parts.merge(optax.apply_updates(trained, updates), frozen)
        grad_norm = optax.tree.norm(grads)
        finite = state.finite & jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        ema = state.ema
        if experiment.ema is not None:
            count = accumulation.updates_made(state.opt_state, state.step)
            moved = accumulation.has_updated(state.opt_state, opt_state, updates)
            new_ema = _moving_average(ema, {"params": params, **collections}, experiment.ema, count)
            ema = new_ema if moved is None else jax.tree.map(partial(jnp.where, moved), new_ema, ema)
        proposed = TrainState(
            step=state.step + 1,
            params=params,
            collections=collections,
            opt_state=opt_state,
            key=state.key,
            finite=finite,
            ema=ema,
        )
        # A step that is not finite changes nothing, so that the state before it can be saved and looked into.
        new = jax.tree.map(partial(_select, finite), proposed, state).replace(finite=finite)
        return new, {"loss": loss, **terms, "grad_norm": grad_norm, "finite": finite}

    def intermediates(
        self, hyperparameters: Mapping[str, Any], state: TrainState, batch: Batch, *, variant: str | None = None
    ) -> tuple[Any, ...]:
        """What `step` computes on its way: the augmented batch, outputs, features, unreduced terms, gradients."""
        experiment, batch, objective = self._objective(hyperparameters, state, batch, variant)
        trained, _ = parts.split(state.params, experiment.trainable)
        (_, (_, _, (outputs, features))), grads = jax.value_and_grad(objective, has_aux=True)(trained)
        return batch, outputs, features, dict(experiment.loss(outputs, batch)), grads

    @cached_property
    def jitted_intermediates(self) -> Callable[..., tuple[Any, ...]]:
        """`intermediates`, compiled once for all runs of a sweep that go wrong."""
        return jax.jit(self.intermediates, static_argnames="variant")

    def _objective(
        self, hyperparameters: Mapping[str, Any], state: TrainState, batch: Batch, variant: str | None
    ) -> tuple[Experiment, Batch, Callable[[Any], Any]]:
        """The experiment, the augmented batch, and the loss on it as a function of the trained parameters."""
        experiment = self.at(hyperparameters)
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        batch = _to_device_floats(batch)
        given = {"params": state.params, "collections": state.collections, "batch": batch}
        augment = experiment.augmentation(variant)
        if augment is not None:
            # Always true, but XLA cannot know: else it fuses the augmentation into its consumers, and on CPU (where
            # `optimization_barrier` is dropped before fusion) computes it anew in the first layer's weight gradient.
            shapes = jax.eval_shape(augment, augment_key, batch)
            nothing = lambda *_: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)  # noqa: E731
            batch = jax.lax.cond(state.step >= 0, augment, nothing, augment_key, batch)

        _, frozen = parts.split(state.params, experiment.trainable)

        def objective(trained):
            with parts.running_frozen(state.params, experiment.trainable):
                (outputs, features), changed = experiment.model.apply(
                    {"params": parts.merge(trained, frozen), **state.collections},
                    *(batch[name] for name in experiment.inputs),
                    train=True,
                    mutable=list(state.collections),
                    rngs={"dropout": dropout_key},
                )
            terms = {name: _mean(*v) for name, v in _weighted(experiment.loss(outputs, batch), batch).items()}
            self.shapes = _shapes({**given, "augmented": batch, "outputs": outputs})
            changed = parts.keep_frozen(changed, state.collections, state.params, experiment.trainable)
            return jax.tree.reduce(jnp.add, terms), (terms, changed, (outputs, features))

        return experiment, batch, objective

    def evaluate(
        self, hyperparameters: Mapping[str, Any], variables: Any, batch: Batch
    ) -> tuple[Any, dict[str, tuple[jax.Array, jax.Array]]]:
        """Predictions (or raw outputs where the experiment predicts nothing), and sum and weight of every loss term."""
        experiment = self.at(hyperparameters)
        batch = _to_device_floats(batch)
        outputs, _ = experiment.model.apply(variables, *(batch[name] for name in experiment.inputs), train=False)
        sums = {
            name: (jnp.sum(values * weights), jnp.sum(weights))
            for name, (values, weights) in _weighted(experiment.loss(outputs, batch), batch).items()
        }
        return (outputs if experiment.predict is None else experiment.predict(outputs)), sums

    def infer(self, hyperparameters: Mapping[str, Any], variables: Any, *inputs: jax.Array) -> Any:
        """Predictions for inputs without truths: uint8 (or [0, 1] float) images."""
        experiment = self.at(hyperparameters)
        floats = [_to_device_floats({"image": x})["image"] for x in inputs]
        outputs, _ = experiment.model.apply(variables, *floats, train=False)
        return outputs if experiment.predict is None else experiment.predict(outputs)

    def first_state(self, values: Mapping[str, Any]) -> tuple[TrainState, Any]:
        """The state a run at `values` begins with; and what `Experiment.initial` says of where it came from, or None.

        Raises:
            UserError: the starting variables do not fit.
        """
        hyperparameters = self.hyperparameters(values)
        state = self.compile("init", hyperparameters)(hyperparameters)
        initial = self.experiment(**resolve(self.experiment, values)).initial
        if initial is None:
            return state, None
        fresh = {"params": state.params, **state.collections}
        variables, report = initial(fresh)
        _refuse_other_shapes(fresh, variables)
        variables = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), variables, fresh)
        return self.compile("init", hyperparameters, variables)(hyperparameters, variables), report

    def report_traces(self) -> int:
        """Traces of the step since the last call: for the run that is about to use it."""
        new, self.traces_reported = self.traces - self.traces_reported, self.traces
        return new

    # Traced and compiled forms.

    def trace(self, name: str, *args: Any) -> Any:
        """A function traced for arguments like `args`, arrays or specs.

        "init", "step", "evaluate", "infer", or "step NAME": the step with the augmentation of that name.
        """
        key = self._key(name, args)
        if key not in self._traced:
            start = time.perf_counter()
            _forget_traces_of_others(self)
            kind, _, variant = name.partition(" ")
            donate = {"donate_argnums": 1} if kind == "step" else {}
            function = partial(getattr(self, kind), variant=variant) if variant else getattr(self, kind)
            options = runtime.compiler_options()
            jitted = jax.jit(function, compiler_options=options, **donate, **sharding.of_function(kind, args))
            self._traced[key] = jitted.trace(*args)
            self._count_time(name, start)
        return self._traced[key]

    def compile(self, name: str, *args: Any) -> Any:
        """The function `name` compiled, or taken from JAX's compilation cache, for arguments like `args`."""
        with self._locks[self._key(name, args)]:
            return self.begin_compiling(name, *args)()

    def begin_compiling(self, name: str, *args: Any) -> Callable[[], Any]:
        """Trace and lower now; the function returned compiles, mostly outside the interpreter's lock, in any thread."""
        key = self._key(name, args)
        with self._locks[key]:
            if key not in self._compiled:
                traced = self.trace(name, *args)
                start = time.perf_counter()
                lowered = traced.lower()
                self._count_time(name, start)
                return partial(self._finish, name, key, lowered)
            return partial(self._compiled.get, key)

    @staticmethod
    def _key(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (name, jax.tree.structure(args), *_kinds(args))

    def _finish(self, name: str, key: Any, lowered: Any) -> Any:
        with self._locks[key]:
            if key not in self._compiled:
                start = time.perf_counter()
                self._compiled[key] = lowered.compile()
                self._count_time(name, start)
            return self._compiled[key]

    def begin_compiling_step(self, values: Mapping[str, Any], variant: str | None = None) -> Callable[[], Any]:
        """As `begin_compiling`, of the step for the batches of the experiment at `values`."""
        return self.begin_compiling(_step_name(variant), *self._step_specs(values))

    def compile_step(self, values: Mapping[str, Any], variant: str | None = None) -> Any:
        """The training step compiled for the batches of the experiment at `values`."""
        return self.compile(_step_name(variant), *self._step_specs(values))

    def trace_step(self, values: Mapping[str, Any], variant: str | None = None) -> Any:
        """The training step traced from shapes alone."""
        return self.trace(_step_name(variant), *self._step_specs(values))

    def _step_specs(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        batch = dict(self.experiment(**resolve(self.experiment, values)).train_data.spec)
        return self.hyperparameters(values), self.state_spec(values), batch

    def state_spec(self, values: Mapping[str, Any]) -> TrainState:
        """Shapes and dtypes of the state, without computing it."""
        out = self.trace("init", self.hyperparameters(values)).out_info
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), out)

    def _count_time(self, name: str, start: float) -> None:
        self.compile_seconds[name] = self.compile_seconds.get(name, 0.0) + time.perf_counter() - start


_traced_last: list[Program] = []


def _forget_traces_of_others(program: Program) -> None:
    """Have JAX trace inner jitted functions anew where another program was traced before.

    JAX keeps the trace of a jitted function for as long as the function lives. One of a module, which looks up what the
    experiment has set there for one program, would bring that into the next.
    """
    if _traced_last and _traced_last[0] is not program:
        jax.clear_caches()
    _traced_last[:] = [program]


def _step_name(variant: str | None) -> str:
    return "step" if variant is None else f"step {variant}"


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def _kinds(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple((np.shape(x), str(getattr(x, "dtype", type(x)))) for x in jax.tree.leaves(args))


def _moving_average(old: Any, new: Any, decay: Any, updates: jax.Array) -> Any:
    """Polyak averaging whose decay starts at 0.1 and grows to `decay`, so that the first values are soon forgotten."""
    count = updates.astype(jnp.float32)
    share = 1.0 - jnp.minimum(decay, (1.0 + count) / (10.0 + count))
    # Where nothing moved, the bits stay: of what is frozen, even the sign of a zero.
    return jax.tree.map(lambda o, n: jax.lax.select(n == o, o, (o + share * (n - o)).astype(n.dtype)), old, new)


def _refuse_other_shapes(ours: Any, theirs: Any) -> None:
    shapes = [
        {jax.tree_util.keystr(path, simple=True, separator="/"): np.shape(leaf) for path, leaf in leaves}
        for leaves in (jax.tree_util.tree_leaves_with_path(tree) for tree in (ours, theirs))
    ]
    for path in sorted({*shapes[0], *shapes[1]}):
        want, got = (s.get(path) for s in shapes)
        if want != got:
            raise UserError(f"initial: the network has {path} of shape {want}, the starting variables {got}")


def _select(condition: jax.Array, new: Any, old: Any) -> Any:
    if jnp.issubdtype(new.dtype, jax.dtypes.prng_key):
        return new  # the key never changes
    return jax.lax.select(condition, new, old)


def _split_params(variables: Any) -> tuple[dict[str, Any], Any]:
    collections = dict(variables)
    return collections, collections.pop("params", {})


def _to_device_floats(batch: Batch) -> Batch:
    image = batch["image"]
    return {**batch, "image": image.astype(jnp.float32) / 255.0} if image.dtype == jnp.uint8 else batch


_CONTRACT = 'loss(outputs, batch) -> {"name": [b] or (values, weights)}, one value an example: the trainer averages'
_OWN_LOGS = ("grad_norm", "finite", "step", "split", "time")


def _weighted(terms: Any, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Every loss term as values and weights per example; rows that pad the batch weigh nothing and cannot spoil it.

    Raises:
        UserError: the terms are not what `Experiment.loss` says; by name.
    """
    real, count = batch.get("example_valid"), len(batch["image"])
    if not isinstance(terms, Mapping) or not terms:
        what = "an empty dict" if isinstance(terms, Mapping) else _shown(terms)
        raise UserError(f"the loss returns {what}; expected {_CONTRACT}")
    result = {}
    for name, term in terms.items():
        if not isinstance(name, str) or name in _OWN_LOGS or (name == "loss" and len(terms) > 1):
            raise UserError(f"loss term {name!r}: the records use this name themselves; choose another")
        pair: Any = term if isinstance(term, tuple) else (term,)
        if len(pair) not in (1, 2) or not all(hasattr(part, "shape") and hasattr(part, "dtype") for part in pair):
            raise UserError(f"loss term {name!r} is {_shown(term)}; expected {_CONTRACT}")
        values, weights = pair if len(pair) == 2 else (pair[0], jnp.ones_like(pair[0]))
        if values.shape[:1] != (count,) or not jnp.issubdtype(values.dtype, jnp.floating):
            raise UserError(f"loss term {name!r} is {_shown(values)}, of {count} examples; expected {_CONTRACT}")
        if weights.shape != values.shape:
            raise UserError(
                f"loss term {name!r} has values {_shown(values)} and weights {_shown(weights)}: "
                "expected the same shape for both"
            )
        if weights.dtype == bool or jnp.issubdtype(weights.dtype, jnp.integer):
            weights = weights.astype(values.dtype)
        if real is not None:
            mask = real.reshape(-1, *(1,) * (values.ndim - 1))
            values, weights = jnp.where(mask, values, 0.0), jnp.where(mask, weights, 0.0)
        result[name] = (values, weights)
    return result


def _shown(value: Any) -> str:
    """What a loss returned, for a message: a scalar, or type and shape."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, tuple | list) else "")
    return "a scalar" if value.shape == () else f"{value.dtype}{list(value.shape)}"


def _mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1e-8)
