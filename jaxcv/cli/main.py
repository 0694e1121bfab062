"""The command line: `jaxcv WHAT [name=value ...] [--flag ...]`, or `python launch.py` of a clone in place of `jaxcv`.

WHAT is an experiment's file, the name of one that comes with jaxcv, or the folder of a run. `name=value` belongs to the
experiment, `--flag` to the launcher.

Exit codes: 0 finished, 2 refused (usage, data, settings), 3 stopped by a loss that is not finite, 75 interrupted, the
same command goes on.
"""

import sys

from jaxcv.cli import disk, interrupts

if __name__ == "__main__":  # a worker of --jobs: from here on, imports take their time
    interrupts.exit_at_once()

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxcv.cli import flags, help, opening, targets
from jaxcv.cli.opening import load_experiment
from jaxcv.errors import UserError

__all__ = ["load_experiment", "main"]

_REFUSED, _NOT_FINITE = 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = None
    try:
        options, tokens = flags.parse(arguments, about=(__doc__ or "").split("\n\nExit")[0])
        options.arguments = arguments
        return _run_or_hint(options, tokens)
    except UserError as error:
        if "--debug" in arguments:
            raise
        print(f"error: {error}", file=sys.stderr)
        from jaxcv.train.diagnose import NonFinite

        return _NOT_FINITE if isinstance(error, NonFinite) else _REFUSED
    except Exception as error:  # of whatever kind; what the disk refuses hides below others
        _end_if_lost(error)
        line = None if "--debug" in arguments else disk.refusal(error, folder=str(options.workdir) if options else "")
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        return _REFUSED
    except KeyboardInterrupt:
        return interrupts.say_interrupted()


def _end_if_lost(error: Exception) -> None:
    """End this process where another of its run has ended: no word with that one can be had any more."""
    if "jaxcv.train.hosts" in sys.modules:
        from jaxcv.train import hosts

        if hosts.is_lost(error):
            hosts.say_lost(error)
            os._exit(interrupts.INTERRUPTED)


def _run_or_hint(options: argparse.Namespace, tokens: list[str]) -> int:
    """Run; what is refused also says how to write a comma that belongs to a path, where that may be the cause."""
    try:
        return _run(options, tokens)
    except UserError as error:
        from jaxcv.sweep.space import note_on_commas, split_alternatives

        parts = [part for token in tokens for part in split_alternatives(token.partition("=")[2])]
        if (note := note_on_commas(tokens)) and any(part.rpartition(":")[2] in str(error) for part in parts):
            error.args = (f"{error}; {note}",)
        raise


def _run(options: argparse.Namespace, tokens: list[str]) -> int:
    if options.help and options.run is None and (text := help.of_file(options.file)) is not None:
        print(f"{text}\n\n{flags.page()}")
        return 0
    flags.refuse_contradictions(options)
    if options.worker:
        from jaxcv.sweep import worker

        worker.become_worker()
    if options.workers is not None:
        os.environ["JAXCV_WORKERS"] = str(options.workers)
    from jaxcv.train import runtime, sharding

    if options.deterministic:
        runtime.make_deterministic()
    tuned = ["nothing: --no-tune"] if options.no_tune else runtime.tune()
    if options.distributed:
        from jaxcv.train import hosts

        hosts.initialize(options.coordinator, options.process, options.processes)
        options.quiet = options.quiet or not hosts.is_first()
    module, stored = opening.module_of(options)
    from jaxcv.train import hyperparameters
    from jaxcv.train.loop import Preempted

    if options.help:
        print(f"{help.of_module(module, hyperparameters(module.experiment))}\n\n{flags.page()}")
        return 0
    asked = _understand(options, tokens, module, stored, tuned)
    runtime.enable_compile_cache()
    sharding.choose(**flags.devices(options))
    try:
        _do(asked)
    except Preempted as stop:
        asked.reporter.warn(str(stop))
        return interrupts.INTERRUPTED
    return 0


@dataclass(frozen=True)
class _Asked:
    """What a command line asks for."""

    options: argparse.Namespace
    experiment: Any
    search: Any
    """The trials; one where no hyperparameter has several values."""
    chosen: list[dict[str, Any]]
    """Hyperparameters of the one run, or of trials that stand for all."""
    root: Path
    """Of the run folders of this experiment."""
    folder: Path
    """Of the one run."""
    reporter: Any
    tuned: list[str]
    """What was set of XLA and malloc."""

    def run(self, takes: str) -> tuple[Any, dict[str, Any], Path]:
        """The one run that a flag `takes`: its experiment, values and folder.

        Raises:
            UserError: there are several.
        """
        if len(self.chosen) > 1:
            raise UserError(f"{takes} one run: give one value for each name")
        return self.experiment, self.chosen[0], self.folder


def _understand(
    options: argparse.Namespace, tokens: list[str], module: Any, stored: dict[str, Any] | None, tuned: list[str]
) -> _Asked:
    """What the words are about an experiment, or about a run with the values `stored`."""
    from jaxcv import sweep
    from jaxcv.cli import sweeping
    from jaxcv.train import hyperparameters, unused
    from jaxcv.train.console import Reporter

    experiment, known = module.experiment, hyperparameters(module.experiment)
    if options.tta:
        from jaxcv.predict import views
        from jaxcv.runs import in_views

        experiment = in_views(experiment, views(options.tta))
    try:
        search = sweeping.search_of(options, module, sweep.parse_overrides(tokens, known), known)
    except sweep.UnknownHyperparameter as error:
        raise targets.other_networks(error, error.name, options.file) from error
    chosen = search.representatives()
    root = options.workdir / options.file.stem
    folder = sweep.run_folder(root, chosen[0])
    if stored is not None:
        chosen, folder = [opening.values_of_run(options, experiment, stored, chosen)], Path(options.run)
    reporter = Reporter(quiet=options.quiet)
    for name in unused(experiment):
        reporter.warn(f"{name} is not used by the experiment: it changes nothing")
    if tuned and not options.worker and not options.dry_run:
        reporter.say(f"tuned: {'; '.join(tuned)}")
    return _Asked(options, experiment, search, chosen, root, folder, reporter, tuned)


def _do(asked: _Asked) -> None:
    """What the flags say; without any, to train."""
    options, search, reporter = asked.options, asked.search, asked.reporter
    if options.dry_run:
        from jaxcv.cli import dry_run, sweeping

        count, how = search.count if search.learns else None, sweeping.beside(options, search)
        dry_run.show(asked.experiment, asked.chosen, reporter, trial_count=count, tuned=asked.tuned, how=how)
    elif options.preview_data:
        from jaxcv.cli import preview_data

        experiment, values, folder = asked.run("--preview-data takes")
        preview_data.show(experiment, values, folder.with_name(f"{folder.name}.data.png"), reporter)
    elif options.evaluate or options.predict or options.export or options.explain:
        _use(asked)
    elif options.enroll or options.verify or options.recognize:
        from jaxcv.cli import faces

        faces.run(*asked.run("--enroll, --verify and --recognize take"), options, reporter)
    elif search.kind == "grid" and len(asked.chosen) == 1 and not options.sweep and options.engine == "local":
        _train(asked)
    elif options.distributed:
        raise UserError("--distributed trains one run: give one value for each name")
    elif options.resume:
        raise UserError("--resume takes one run: give one value for each name")
    elif options.profile:
        raise UserError("--profile takes one run: give one value for each name")
    else:
        from jaxcv.cli import sweeping

        sweeping.run(options, asked.experiment, search, asked.root, reporter)


def _use(asked: _Asked) -> None:
    """A trained run."""
    from jaxcv.cli import explain, inference

    options, run = asked.options, asked.run("--evaluate, --predict, --explain and --export take")
    how = {"best": options.best, "reporter": asked.reporter}
    if options.evaluate:
        inference.evaluate_run(*run, **how)
    if options.export:
        inference.export_run(*run, options.export, **how)
    if options.predict:
        inference.predict_run(*run, options.predict, minimum=options.min_score, timed=options.time, **how)
    if options.explain:
        explain.explain_run(*run, options.explain, **how)


def _train(asked: _Asked) -> None:
    """One run."""
    from jaxcv.train import fit

    options, reporter = asked.options, asked.reporter
    how = {"fresh": options.fresh, "accept": options.accept, "reporter": reporter}
    how |= {"resident": options.resident, "profile": options.profile}
    result = fit(asked.experiment, asked.chosen[0], asked.folder, going_on_from=options.resume, **how)
    reporter.table(f"{result.folder} after {result.steps} steps", {"train": result.train, "test": result.test})


if __name__ == "__main__":
    sys.exit(main())
