"""Everything that can be known before the first step: the values, the data and its faults, shapes, cost, the plan."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from rich.table import Table

from jaxcv.models import summary
from jaxcv.sweep import plan
from jaxcv.train import Program, accumulation, parts, resolve, runtime, sharding
from jaxcv.train.console import Reporter
from jaxcv.train.experiment import ExperimentFunction
from jaxcv.train.feed import open_feed


def show(
    experiment: ExperimentFunction,
    trials: Sequence[Mapping[str, Any]],
    reporter: Reporter,
    *,
    trial_count: int | None = None,
    tuned: Sequence[str] = (),
    how: sharding.How | None = None,
) -> None:
    """Check all trials and print what they would do; the compile cache is warm afterwards.

    Args:
        experiment: the function.
        trials: overrides, one mapping a trial.
        reporter: where to print.
        trial_count: how many trials there will be, where those given stand for them.
        tuned: what was done to the process, as `train.runtime.tune` says it.
        how: on which devices; None: as `sharding.choose` was told.

    Raises:
        UserError: the first fault in values or data.
    """
    values = resolve(experiment, trials[0])
    table = Table("hyperparameter", "value", title="values" + (" of the first trial" if len(trials) > 1 else ""))
    for name, value in values.items():
        table.add_row(name, repr(value), style="bold" if name in trials[0] else None)
    reporter.console.print(table)

    setup = experiment(**values)
    if (line := accumulation.check(setup.optimizer, setup.steps)) is not None:
        reporter.say(line)
    checked: set[str] = set()
    static: set[str] = set()
    for trial in trials:  # every distinct data set, each once
        resolved = resolve(experiment, trial)
        key = repr({n: v for n, v in resolved.items() if not isinstance(v, float) and n != "seed"})
        if key in static:
            continue
        static.add(key)
        other = experiment(**resolved)
        for split, data in (("train", other.train_data), ("test", other.test_data)):
            with reporter.counting(f"reading {split} data") as count:
                lines = data.check(thorough=True, progress=count)
            for line in lines:
                if line not in checked:
                    reporter.say(line)
                    checked.add(line)

    sharding.check(how or sharding.chosen(), setup.train_data.spec["image"].shape[0], setup.train_data)
    table = Table("field of a batch", "shape", "type", title="data")
    for name, spec in setup.train_data.spec.items():
        table.add_row(name, "x".join(map(str, spec.shape)), str(spec.dtype))
    reporter.console.print(table)

    planned = plan(experiment, trials, count=trial_count, how=how)
    program, values = planned.programs[0], resolve(experiment, planned.trials[0])
    state, compiled = program.state_spec(values), _compile(program, values)
    shapes = [setup.train_data.spec[name].shape[1:] for name in setup.inputs]
    reporter.say(f"\n{summary(setup.model, *shapes).shortened()}\n")
    if setup.initial is not None:
        _, report = setup.initial({"params": state.params, **state.collections})
        for line in report.lines():
            reporter.say(line)
        reporter.say(f"starts from {report.summary}")
    reporter.say(parts.describe(state.params, setup.trainable))
    size = sum(_bytes(leaf) for leaf in jax.tree.leaves(state))
    reporter.say(f"state with optimizer: {size / 1e6:,.1f} MB")
    costs = program.trace_step(values, setup.variants[0]).lower().cost_analysis() or {}
    rows = setup.train_data.spec["image"].shape[0]
    flops = float(costs.get("flops", 0.0))
    reporter.say(f"one step: {flops / 1e9:,.2f} GFLOP for {rows} examples ({flops / rows / 1e6:,.1f} MFLOP each)")
    memory = compiled.memory_analysis() if hasattr(compiled, "memory_analysis") else None
    devices = f"{', '.join(map(str, program.how.mesh.devices.flat))}; mesh {sharding.describe(program.how)}"
    if memory is not None:
        need = memory.temp_size_in_bytes + memory.argument_size_in_bytes
        reporter.say(f"memory of a step: {need / 1e6:,.0f} MB; devices: {devices}")
    groups = planned.groups
    with reporter.counting("compiling") as update:
        for number, (other, places) in enumerate(groups[1:], start=2):
            _compile(other, resolve(experiment, planned.trials[places[0]]))
            update(number, len(groups))
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in program.compile_seconds.items())
    more = f"; and {len(groups) - 1} more" if len(groups) > 1 else ""
    reporter.say(f"compiled (and kept in {runtime.cache_folder()}): {took}{more}")
    for line in tuned:
        reporter.say(f"tuned: {line}")
    for line in planned.lines():
        reporter.say(line)


def _compile(program: Program, values: Mapping[str, Any]) -> Any:
    """Have every function of a program compiled, as a run will need it; its first step."""
    hyperparameters, setup = program.hyperparameters(values), program.experiment(**values)
    program.compile("init", hyperparameters)
    mesh = program.how.mesh
    test = open_feed(setup.test_data, len(setup.test_data), mesh=mesh)
    args = hyperparameters, program.state_spec(values).evaluation_variables, *test.spec()
    program.compile("evaluate_all", *args, layout=test.layout)
    train = open_feed(setup.train_data, setup.steps, mesh=mesh)
    spec = train.spec()
    return [program.begin_chunk(values, *spec, variant, layout=train.layout)() for variant in program.variants][0]


def _bytes(leaf: Any) -> int:
    return int(np.prod(leaf.shape)) * getattr(leaf.dtype, "itemsize", 8)
