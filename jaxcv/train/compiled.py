"""How the pure functions of `step` are compiled: once for each experiment and the values of what is not traced.

The hyperparameters that are numbers enter as traced scalars: `experiment` itself is called inside the trace, so
schedules, optimizers and losses are rebuilt from them, and one compiled program serves every value.
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
from jax.extend import core as jax_core

from jaxcv.errors import UserError
from jaxcv.train import hosts, runtime, sharding
from jaxcv.train import step as pure
from jaxcv.train.experiment import Experiment, ExperimentFunction, hyperparameters, resolve
from jaxcv.train.feed import open_feed
from jaxcv.train.lanes import Lanes
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
    how: sharding.How = field(default_factory=sharding.chosen)
    """On which devices, and how, the steps are taken."""
    traces: int = 0
    """How often the training step was traced."""
    traces_reported: int = 0
    """How many of those some run has put into its run.json."""
    compile_seconds: dict[str, float] = field(default_factory=dict)
    """Tracing, lowering and compiling (or loading from the cache), by function."""
    checked: set[tuple[str, Any]] = field(default_factory=set)
    """Values of traced hyperparameters of which it is known that Python does not look at their type."""
    _traced: dict[Any, Any] = field(default_factory=dict)
    _compiled: dict[Any, Any] = field(default_factory=dict)
    _locks: dict[Any, Any] = field(default_factory=lambda: defaultdict(threading.RLock), repr=False, compare=False)
    """By what is compiled: step and first state may be compiled side by side."""

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

    # The pure functions, of hyperparameters in place of an experiment.

    def init(self, hyperparameters: Mapping[str, Any], variables: Any = None) -> TrainState:
        """As `step.init`."""
        return pure.init(self.at(hyperparameters), variables)

    def step(
        self, hyperparameters: Mapping[str, Any], state: TrainState, batch: Batch, *, variant: str | None = None
    ) -> tuple[TrainState, pure.Logs]:
        """As `step.step`."""
        self.traces += 1
        how = {"accumulate": self.how.accumulate, "remat": self.how.remat, "whole": sharding.whole(self.how.mesh)}
        return pure.step(self.at(hyperparameters), state, batch, variant=variant, **how)

    def chunk(
        self,
        hyperparameters: Mapping[str, Any],
        state: TrainState,
        data: Batch,
        indices: jax.Array,
        count: Any = None,
        *,
        variant: str | None = None,
        layout: sharding.Layout = "whole",
    ) -> tuple[TrainState, pure.Logs]:
        """As `step.chunk` of steps."""
        take = self._taking(layout, self._rows(hyperparameters))
        return pure.chunk(partial(self._jitted(variant), hyperparameters), state, data, indices, count, take=take)

    def one(
        self,
        hyperparameters: Mapping[str, Any],
        state: TrainState,
        data: Batch,
        rows: jax.Array,
        *,
        variant: str | None = None,
        layout: sharding.Layout = "whole",
    ) -> tuple[TrainState, pure.Logs]:
        """One step of a chunk, outside a loop."""
        batch = self._taking(layout, self._rows(hyperparameters))(data, rows)
        return self._jitted(variant)(hyperparameters, state, batch)

    def evaluate_all(
        self,
        hyperparameters: Mapping[str, Any],
        variables: Any,
        data: Batch,
        indices: jax.Array,
        *,
        layout: sharding.Layout = "whole",
    ) -> Any:
        """As `step.evaluate_all`."""
        setup = self.at(hyperparameters)
        take = self._taking(layout, setup.test_data.spec["image"].shape[0])
        variables = sharding.whole(self.how.mesh)(variables)
        found = pure.evaluate_all(setup, variables, data, indices, take=take)
        if layout != "local" or not hosts.several():
            return found
        # No process has read all examples: the metrics need the rest.
        fields = {name: array for name, array in data.items() if name != "image"}
        return *found, jax.lax.map(lambda rows: take(fields, rows), indices)

    def _rows(self, hyperparameters: Mapping[str, Any]) -> int:
        return self.at(hyperparameters).train_data.spec["image"].shape[0]

    def _taking(self, layout: sharding.Layout, rows: int) -> Callable[..., Batch]:
        return sharding.gather(self.how.mesh, layout, pure.gather, rows)

    def infer(self, hyperparameters: Mapping[str, Any], variables: Any, *inputs: jax.Array) -> Any:
        """As `step.infer`."""
        return pure.infer(self.at(hyperparameters), variables, *inputs)

    def _jitted(self, variant: str | None) -> Callable[..., Any]:
        """The step as an inner function of other programs: traced once for all of them."""
        if variant not in self._steps:
            self._steps[variant] = jax.jit(partial(self.step, variant=variant))
        return self._steps[variant]

    @cached_property
    def _steps(self) -> dict[str | None, Any]:
        return {}

    @cached_property
    def jitted_intermediates(self) -> Callable[..., tuple[Any, ...]]:
        """`step.intermediates`, compiled once for all runs of a sweep that go wrong."""

        def of(hyperparameters: Any, state: Any, batch: Any, variant: str | None) -> Any:
            return pure.intermediates(self.at(hyperparameters), state, batch, variant=variant)

        return jax.jit(of, static_argnames="variant")

    # Compiled forms.

    def trace(self, name: str, *args: Any, lanes: Lanes | None = None, layout: sharding.Layout = "whole") -> Any:
        """A function traced for arguments like `args`, arrays or specs.

        "init", "step", "chunk", "one", "evaluate_all", "infer"; "chunk NAME" (step, one) with the
        augmentation of that name.

        Args:
            name: of the function.
            args: its arguments.
            lanes: of several runs side by side; all arguments but `data` and `count` then have an axis for them.
            layout: of `data` on the devices.
        """
        key = _key(name, lanes, layout, args)
        if key not in self._traced:
            start = time.perf_counter()
            _forget_traces_of_others(self)
            kind, _, variant = name.partition(" ")
            options = {"variant": variant} if variant else {}
            if kind in ("chunk", "one", "evaluate_all"):
                options["layout"] = layout
            function = partial(getattr(self, kind), **options)
            where = sharding.of_function(self.how.mesh, kind, args, layout)
            if lanes is not None:
                axes = _AXES[kind][: len(args)]
                function, where = lanes.over(function, axes, layout), lanes.shardings(axes, layout)
            donate = {"donate_argnums": 1} if kind in ("step", "chunk", "one") else {}
            how = {"compiler_options": runtime.compiler_options(), **donate, **where}
            self._traced[key] = jax.jit(function, **how).trace(*args)
            self._count_time(name, start)
        return self._traced[key]

    def compile(self, name: str, *args: Any, lanes: Lanes | None = None, layout: sharding.Layout = "whole") -> Any:
        """The function `name` compiled, or taken from JAX's compilation cache; arguments as of `trace`."""
        return self.begin_compiling(name, *args, lanes=lanes, layout=layout)()

    def begin_compiling(
        self, name: str, *args: Any, lanes: Lanes | None = None, layout: sharding.Layout = "whole"
    ) -> Callable[[], Any]:
        """As `compile`: trace and lower now; what is returned compiles, in any thread, mostly without Python's lock."""
        key = _key(name, lanes, layout, args)
        with self._locks[key]:
            if key in self._compiled:
                return partial(self._compiled.get, key)
            traced = self.trace(name, *args, lanes=lanes, layout=layout)
            start = time.perf_counter()
            lowered = traced.lower()
            self._count_time(name, start)

        def finish() -> Any:
            with self._locks[key]:
                if key not in self._compiled:
                    start = time.perf_counter()
                    self._compiled[key] = lowered.compile()
                    self._count_time(name, start)
                return self._compiled[key]

        return finish

    def compile_step(self, values: Mapping[str, Any], variant: str | None = None) -> Any:
        """The training step alone, compiled for the batches of the experiment at `values`."""
        return self.compile(_name("step", variant), *self._step_specs(values))

    def trace_step(self, values: Mapping[str, Any], variant: str | None = None) -> Any:
        """The training step traced from shapes alone."""
        return self.trace(_name("step", variant), *self._step_specs(values))

    def try_chunk(self, values: Mapping[str, Any]) -> None:
        """Trace the steps as a run will take them; raises what the experiment raises."""
        setup = self.experiment(**resolve(self.experiment, values))
        try:
            feed = open_feed(setup.train_data, setup.steps, mesh=self.how.mesh)
            data, indices = feed.spec()
        except UserError:  # there are no examples, which suffices to predict
            self.trace_step(values, setup.variants[0])
            return
        hyperparameters, state = self.hyperparameters(values), self.state_spec(values)
        args = hyperparameters, state, data, indices, np.int32(0)
        self.trace(_name("chunk", setup.variants[0]), *args, layout=feed.layout)

    def begin_chunk(
        self,
        values: Mapping[str, Any],
        data: Mapping[str, Any],
        indices: Any,
        variant: str | None = None,
        lanes: Lanes | None = None,
        layout: sharding.Layout = "whole",
    ) -> Callable[[], Callable[..., tuple[Any, pure.Logs]]]:
        """What gives `(hyperparameters, state, data, indices, count) -> (state, logs)`, compiled; the state is donated.

        As of `begin_compiling`, tracing and lowering are done when this returns.

        On a CPU, XLA makes slow code of the gradients of `lax` convolutions that stand in a loop (a hundred times
        slower). There a step that has one, such as one with Flax's own `nn.Conv`, is taken outside loops.

        Args:
            values: of the hyperparameters.
            data: shapes and dtypes of the fields of all examples.
            indices: shape and dtype, `[k b]`, or `[width k b]`.
            variant: of the augmentation.
            lanes: as of `trace`.
            layout: of `data` on the devices.
        """
        known = self.hyperparameters(values), self.state_spec(values)
        if lanes is not None:
            known = jax.tree.map(partial(_widened, lanes.width), known)
        args = (*known, dict(data), indices, np.int32(0))
        name = _name("chunk", variant)
        placed = partial(sharding.on_all, self.how.mesh, layout=layout)
        how: Any = {"lanes": lanes, "layout": layout}
        if jax.default_backend() != "cpu" or not _convolves(self.trace(name, *args, **how).jaxpr.jaxpr):
            finish_compiling = self.begin_compiling(name, *args, **how)
            if jax.process_count() == 1:
                return finish_compiling
            return lambda: lambda h, s, d, indices, n: finish_compiling()(h, s, d, placed(indices), n)
        rows = jax.ShapeDtypeStruct((*indices.shape[:-2], indices.shape[-1]), indices.dtype)
        compiled = self.begin_compiling(_name("one", variant), *args[:3], rows, **how)

        def outside_loops(hyperparameters: Any, state: Any, data: Any, indices: Any, count: Any) -> Any:
            logs, one = [], compiled()
            for i in range(count):
                rows = placed(np.ascontiguousarray(indices[..., i, :]))
                state, log = one(hyperparameters, state, data, rows)
                logs.append(log)
            return state, {name: [log[name] for log in logs] for name in logs[0]}

        def finish() -> Callable[..., Any]:
            compiled()
            return outside_loops

        return finish

    def takes_steps_outside_loops(self, values: Mapping[str, Any]) -> bool:
        """Whether `begin_chunk` does without a loop; the step is traced for it."""
        variant = self.at(self.hyperparameters(values)).variants[0]
        return jax.default_backend() == "cpu" and _convolves(self.trace_step(values, variant).jaxpr.jaxpr)

    def _step_specs(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        batch = dict(self.experiment(**resolve(self.experiment, values)).train_data.spec)
        return self.hyperparameters(values), self.state_spec(values), batch

    def state_spec(self, values: Mapping[str, Any]) -> TrainState:
        """Shapes and dtypes of the state, without computing it."""
        out = self.trace("init", self.hyperparameters(values)).out_info
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), out)

    def shapes(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """As `step.shapes`, of the batches of the experiment at `values`."""
        hyperparameters, state, batch = self._step_specs(values)
        setup = self.at(hyperparameters)
        return pure.shapes(setup, state, batch, setup.variants[0])

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

    def _count_time(self, name: str, start: float) -> None:
        self.compile_seconds[name] = self.compile_seconds.get(name, 0.0) + time.perf_counter() - start


_AXES: dict[str, tuple[int | None, ...]] = {
    "chunk": (0, 0, None, 0, None),
    "one": (0, 0, None, 0),
}
"""Which arguments have an axis for several runs: all but the data and the count."""

_traced_last: list[Program] = []


def _forget_traces_of_others(program: Program) -> None:
    """Have JAX trace inner jitted functions anew where another program was traced before.

    JAX keeps the trace of a jitted function for as long as the function lives. One of a module, which looks up what the
    experiment has set there for one program, would bring that into the next.
    """
    if _traced_last and _traced_last[0] is not program:
        jax.clear_caches()
    _traced_last[:] = [program]


def _key(name: str, lanes: Lanes | None, layout: sharding.Layout, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (name, lanes, layout, jax.tree.structure(args), *_kinds(args))


def _name(function: str, variant: str | None) -> str:
    return function if variant is None else f"{function} {variant}"


def _widened(width: int, leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((width, *np.shape(leaf)), jnp.asarray(leaf).dtype if np.isscalar(leaf) else leaf.dtype)


def _convolves(jaxpr: Any) -> bool:
    """Whether a convolution of `lax` stands in a jaxpr, or in one within it."""
    return any(
        equation.primitive.name == "conv_general_dilated"
        or any(map(_convolves, jax_core.jaxprs_in_params(equation.params)))
        for equation in jaxpr.eqns
    )


def _kinds(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple((np.shape(x), str(getattr(x, "dtype", type(x)))) for x in jax.tree.leaves(args))


def _refuse_other_shapes(ours: Any, theirs: Any) -> None:
    shapes = [
        {jax.tree_util.keystr(path, simple=True, separator="/"): np.shape(leaf) for path, leaf in leaves}
        for leaves in (jax.tree_util.tree_leaves_with_path(tree) for tree in (ours, theirs))
    ]
    for path in sorted({*shapes[0], *shapes[1]}):
        want, got = (s.get(path) for s in shapes)
        if want != got:
            raise UserError(f"initial: the network has {path} of shape {want}, the starting variables {got}")
