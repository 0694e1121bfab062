"""Several values of a hyperparameter on the command line: the search that they are, and the sweep of its trials."""

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from jaxcv.cli import flags, interrupts
from jaxcv.cli.opening import load_experiment
from jaxcv.errors import UserError


def search_of(options: argparse.Namespace, module: Any, space: Any, known: Any) -> Any:
    """The trials that the command line asks for; one of them is no sweep."""
    from jaxcv import sweep

    own = None
    if options.sweep:
        function = getattr(module, "sweep", None)
        if not callable(function):
            raise UserError(f"--sweep: {options.file} defines no function `sweep` that yields dicts of hyperparameters")
        own = sweep.own_trials(cast(Any, function), space, known, str(options.file))
    return sweep.make_search(space, kind=options.search, count=options.trials, seed=options.sampler_seed, own=own)


def width(options: argparse.Namespace) -> int | None:
    """Trials at once that the flags ask for, in lanes; None: as many as is best."""
    return 1 if options.lanes is None and options.mesh not in (None, "data=1") else options.lanes


def beside(options: argparse.Namespace, search: Any) -> Any:
    """How trials are trained that have a device each; None where each has all devices, as a single run has."""
    from jaxcv.train import sharding

    together = options.jobs == 1 and options.engine == "local" and width(options) != 1
    learns = options.lanes is None and search.learns
    return sharding.beside(sharding.chosen()) if search.count > 1 and together and not learns else None


def run(options: argparse.Namespace, experiment: Any, search: Any, root: Path, reporter: Any) -> None:
    """Train the trials of a search: in this process, in several (--jobs), or on a Ray cluster (--engine ray).

    Raises:
        UserError: trials failed, after all have ended.
    """
    from jaxcv.sweep import command, jobs
    from jaxcv.train import Options

    asked = command.Sweep(
        experiment,
        options.file,
        search,
        root,
        metric=options.metric,
        storage=options.storage,
        prune=options.prune,
        fail_fast=options.fail_fast,
        options=Options(accept=options.accept, resident=options.resident),
    )
    if options.worker:
        interrupts.raise_instead()
        command.run_worker(asked, reporter)
        return
    engine = None
    if options.jobs > 1:
        once = ("--fresh", "--retry-failed")
        words = [word for word in options.arguments if word not in once]
        start = [sys.executable, "-m", "jaxcv.cli.main", *words, "--worker"]
        engine = partial(jobs.run_jobs, count=options.jobs, command=start, fail_fast=options.fail_fast)
    elif options.engine == "ray":
        from jaxcv.sweep import cluster

        root, file = root.absolute(), options.file.absolute()  # tasks have other working directories
        there = replace(asked, experiment=cast(Any, None), root=root, file=file)
        engine = partial(
            cluster.run_ray,
            task=cluster.Task(there, load_experiment, tune=not options.no_tune, devices=flags.devices(options)),
            address=options.address,
            num_cpus=options.num_cpus,
            num_gpus=options.num_gpus,
            nodes=options.nodes,
            fail_fast=options.fail_fast,
        )
        asked = replace(asked, root=root)
    interrupts.raise_instead()
    again = {"fresh": options.fresh, "retry_failed": options.retry_failed}
    found = command.run(asked, reporter, **again, engine=engine, width=width(options))
    command.refuse_failures(found)
