"""The command line: `jaxcv WHAT [name=value ...] [--flag ...]`, or `python launch.py` of a clone in place of `jaxcv`.

WHAT is an experiment's file, the name of one that comes with jaxcv, or the folder of a run. `name=value` belongs to the
experiment, `--flag` to the launcher.

Exit codes: 0 finished, 2 refused (usage, data, settings), 3 stopped by a loss that is not finite, 75 interrupted, the
same command goes on.
"""

import sys

from jaxcv.cli import disk, help, interrupts, targets

if __name__ == "__main__":  # a worker of --jobs: from here on, imports take their time
    interrupts.exit_at_once()

import argparse
import glob
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from jaxcv.errors import UserError

_REFUSED, _NOT_FINITE = 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = None
    try:
        options, tokens = _parse(arguments)
        options.arguments = arguments
        return _run_or_hint(options, tokens)
    except UserError as error:
        if "--debug" in arguments:
            raise
        print(f"error: {error}", file=sys.stderr)
        from jaxcv.train.diagnose import NonFinite

        return _NOT_FINITE if isinstance(error, NonFinite) else _REFUSED
    except Exception as error:  # of whatever kind; what the disk refuses hides below others
        line = None if "--debug" in arguments else disk.refusal(error, folder=str(options.workdir) if options else "")
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        return _REFUSED
    except KeyboardInterrupt:
        return interrupts.say_interrupted()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        flag = message.removeprefix("argument ").partition(":")[0]
        raise UserError(targets.FLAGS.get(flag, f"{message}; --help lists the flags"))


def _parser() -> _Parser:
    parser = _Parser(
        prog=_program(), add_help=False, allow_abbrev=False, usage=f"{_program()} WHAT [name=value ...] [--flag ...]"
    )
    add = parser.add_argument
    add("--help", "-h", action="store_true", help="this page; after FILE also its hyperparameters")
    add("--version", action="store_true", help="print jaxcv's version, and JAX's")
    add("--dry-run", action="store_true", help="check names, values and data, print shapes, cost and the plan, compile")
    add("--preview-data", action="store_true", help="draw 64 augmented training examples with targets; no training")
    add("--workdir", type=Path, default=Path("runs"), metavar="DIR", help="where run folders go (default: runs)")
    add("--fresh", action="store_true", help="begin anew; an earlier run is moved aside, not deleted")
    add("--accept", action="store_true", help="go on with runs whose source or data were others; run.json notes it")
    add("--resume", type=Path, metavar="RUN", help="go on from that run's end, or where it stopped, with more steps=N")
    add(
        "--export",
        type=Path,
        metavar="FILE",
        help="write the run: .stablehlo, .onnx; its weights: .safetensors, .npz, .pth (torch's names)",
    )
    add("--evaluate", action="store_true", help="evaluate the newest checkpoint of the run")
    add(
        "--predict",
        nargs="+",
        metavar="IMAGE",
        help="draw what the newest checkpoint finds in pictures, folders, patterns or videos; and write it as JSON",
    )
    add("--explain", nargs="+", metavar="IMAGE", help="draw what a classifier's answers depend on: saliency, grad-CAM")
    add("--enroll", type=Path, metavar="FOLDER", help="keep the embeddings of people, a picture or a folder each")
    add("--verify", type=Path, nargs=2, metavar=("A", "B"), help="say whether two pictures show the same")
    add("--recognize", type=Path, metavar="PICTURE", help="say who of those enrolled is in a picture, or nobody")
    add("--false-accepts", type=float, default=0.01, metavar="RATE", help="that --enroll and --verify allow (0.01)")
    add("--time", action="store_true", help="with --predict: say how long a picture takes")
    add(
        "--tta",
        metavar="VIEWS",
        help="with --evaluate, --predict or --export: mirrored and resized views too, such as flip,0.8,1.25",
    )
    add("--min-score", type=float, default=0.3, metavar="P", help="with --predict: leave doubtful boxes out (0.3)")
    add(
        "--best",
        action="store_true",
        help="with --evaluate, --predict, --explain or --export: the best checkpoint, not the newest",
    )
    add(
        "--search",
        metavar="HOW",
        help="sweep by grid, random, tpe or cmaes (default: grid; tpe where there is a range)",
    )
    add("--trials", type=int, metavar="N", help="so many trials of a search")
    add("--sweep", action="store_true", help="the trials that the file's own function sweep() yields")
    add("--metric", metavar="NAME", help="test value that trials are compared by (default: the experiment's first)")
    add("--prune", metavar="HOW", help="end trials early that promise little: median, asha or hyperband")
    add("--sampler-seed", type=int, default=0, metavar="N", help="of random, tpe and cmaes (default: 0)")
    add("--storage", metavar="URL", help="Optuna storage of the sweep (default: a SQLite file beside the run folders)")
    add("--jobs", type=int, default=1, metavar="N", help="train N trials at once, in processes that share the cores")
    add("--lanes", type=int, metavar="K", help="train K trials as one vmapped program (default: a probe decides)")
    add("--engine", choices=["local", "ray"], default="local", help="where trials run: here, or on a Ray cluster")
    add("--address", metavar="HOST:PORT", help="of the Ray cluster (default: one of this machine alone)")
    add("--num-cpus", type=float, default=1, metavar="N", help="cores that a trial takes of a Ray cluster (default: 1)")
    add("--num-gpus", type=float, default=0, metavar="N", help="GPUs that a trial takes of a Ray cluster (default: 0)")
    add("--retry-failed", action="store_true", help="run the failed trials of a sweep once more")
    add("--fail-fast", action="store_true", help="end a sweep at its first failure")
    add("--resident", choices=["auto", "yes", "no"], default="auto", help="data on the device (default: where it fits)")
    add("--deterministic", action="store_true", help="the same bits from run to run on a GPU too, where it costs speed")
    add("--profile", action="store_true", help="write a trace of twenty steps to the run's folder")
    add("--no-tune", action="store_true", help="leave XLA's flags and malloc as they are")
    add("--quiet", action="store_true", help="say only what went wrong")
    add("--worker", action="store_true", help=argparse.SUPPRESS)  # one of --jobs
    add("--debug", action="store_true", help="show tracebacks of refused input")
    return parser


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    for i, token in enumerate(rest):
        if token.startswith("-"):
            flags = [flag for action in parser._actions for flag in action.option_strings]
            raise UserError(targets.unknown_flag(token, flags, next(iter(rest[i + 1 :]), "")))
    files = [token for token in rest if "=" not in token or targets.is_target(token)]
    # `--predict a.png name=value` gives argparse the overrides as pictures.
    overrides = [token for token in rest if token not in files]
    for flag in ("predict", "explain"):
        words = getattr(options, flag) or []
        overrides += [word for word in words if _is_override(word)]
        pictures = [Path(word) for word in words if not _is_override(word)]
        if words and not pictures:
            raise UserError(f"--{flag}: no picture named")
        setattr(options, flag, pictures or None)
    if options.version:
        print("\n".join(f"{name} {version}" for name in ("jaxcv-research", "jax") if (version := _version(name))))
        raise SystemExit(0)
    if options.help and not files:
        print((__doc__ or "").split("\n\nExit")[0], end="\n\n")
        print(parser.format_help())
        raise SystemExit(0)
    if not arguments:
        print(targets.listing(_program()))
        raise SystemExit(0)
    if not files:
        for token in overrides:
            if token.endswith(".py"):
                raise UserError(f"{token}: no such file; expected an experiment's file and name=value words")
        named = ", ".join(targets.experiments())
        raise UserError(f"which experiment? One of {named}, a file of your own, or the folder of a run")
    if len(files) > 1:
        raise UserError(f"{files[1]!r}: expected name=value; one experiment file at a time")
    if not 0 <= options.min_score <= 1:
        raise UserError(f"--min-score {options.min_score:g}: expected a score, from 0 to 1")
    options.file = targets.find(files[0])
    options.run = options.file if options.file.is_dir() else None
    return options, overrides


def _program() -> str:
    """As it was started."""
    return "launch.py" if Path(sys.argv[0]).name == "launch.py" else "jaxcv"


def _version(package: str) -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # used from a clone that is not installed
        return ""


def _is_override(word: str) -> bool:
    """Whether a word among pictures is `name=value`: no picture or pattern of pictures, and begins with a name."""
    name, equals, _ = word.partition("=")
    return bool(equals) and name.isidentifier() and not Path(word).exists() and not glob.glob(word)


def load_experiment(path: Path) -> Any:
    """The function `experiment` of a file.

    Raises:
        UserError: no such file, not Python, or it defines no `experiment`.
    """
    return _load(path).experiment


def _load(path: Path) -> Any:
    """An experiment file as a module."""
    path = targets.find(str(path))
    if path.is_dir():
        raise UserError(f"{path}: a run's folder, expected an experiment's file")
    from jaxcv.train import sources

    sources.import_from_text()
    spec = importlib.util.spec_from_file_location(path.stem, path, loader=sources.loader(path.stem, path))
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.absolute()))  # an experiment may import its neighbours
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UserError(f"{error.filename}:{error.lineno}: {error.msg}") from error
    finally:
        sys.path.pop(0)
    if not callable(getattr(module, "experiment", None)):
        raise UserError(f"{path} defines no function `experiment`; README shows one")
    return module


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
        print(f"{text}\n\n{_parser().format_help()}")
        return 0
    if options.tta and not (options.evaluate or options.predict or options.export):
        raise UserError("--tta is for --evaluate, --predict and --export: a network is trained on single views")
    if options.time and not options.predict:
        raise UserError("--time is for --predict; --profile looks into training")
    if options.address and options.engine != "ray":
        raise UserError("--address is of a Ray cluster: give --engine ray too")
    if options.engine == "ray" and options.jobs > 1:
        raise UserError("--jobs is for this machine alone; a Ray cluster has its own number of trials at once")
    if options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}: expected at least 1")
    if options.resume and options.fresh:
        raise UserError("--resume goes on from a run and --fresh begins anew: give one of them")
    if options.lanes is not None and (options.lanes < 1 or options.jobs > 1 or options.engine == "ray"):
        raise UserError("--lanes K, at least 1, is for trials within one process: not with --jobs or --engine ray")
    if options.worker:
        from jaxcv.sweep import worker

        worker.become_worker()
    from jaxcv.train import runtime

    if options.deterministic:
        runtime.make_deterministic()
    tuned = ["nothing: --no-tune"] if options.no_tune else runtime.tune()
    module, stored = _module(options)
    experiment = module.experiment
    from jaxcv import runs, sweep
    from jaxcv.train import fit, hyperparameters, resolve, unused
    from jaxcv.train.console import Reporter
    from jaxcv.train.loop import Preempted

    known = hyperparameters(experiment)
    if options.help:
        print(f"{help.of_module(module, known)}\n\n{_parser().format_help()}")
        return 0
    if options.tta:
        from jaxcv.predict import views
        from jaxcv.runs import in_views

        experiment = in_views(experiment, views(options.tta))
    try:
        search = _search(options, module, sweep.parse_overrides(tokens, known), known)
    except sweep.UnknownHyperparameter as error:
        raise targets.other_networks(error, error.name, options.file) from error
    chosen = search.representatives()
    root = options.workdir / options.file.stem
    folder = sweep.run_folder(root, chosen[0])
    if stored is not None and options.run is not None:
        chosen, folder = _of_run(options, stored, chosen), Path(options.run)
        runs.compose(experiment, resolve(experiment, chosen[0]), folder)  # refuses what jaxcv no longer has
    reporter = Reporter(quiet=options.quiet)
    for name in unused(experiment):
        reporter.warn(f"{name} is not used by the experiment: it changes nothing")
    if tuned and not options.worker and not options.dry_run:
        reporter.say(f"tuned: {'; '.join(tuned)}")
    runtime.enable_compile_cache()
    try:
        if options.dry_run:
            from jaxcv.cli import dry_run

            dry_run.show(experiment, chosen, reporter, trial_count=search.count if search.learns else None, tuned=tuned)
        elif options.preview_data:
            if len(chosen) > 1:
                raise UserError("--preview-data takes one run: give one value for each name")
            from jaxcv.cli import preview_data

            preview_data.show(experiment, chosen[0], folder.with_name(f"{folder.name}.data.png"), reporter)
        elif options.evaluate or options.predict or options.export or options.explain:
            if len(chosen) > 1:
                raise UserError(
                    "--evaluate, --predict, --explain and --export take one run: give one value for each name"
                )
            from jaxcv.cli import explain, inference

            if options.evaluate:
                inference.evaluate_run(experiment, chosen[0], folder, best=options.best, reporter=reporter)
            if options.export:
                how = {"best": options.best, "reporter": reporter}
                inference.export_run(experiment, chosen[0], folder, options.export, **how)
            if options.predict:
                how = {"best": options.best, "reporter": reporter, "minimum": options.min_score, "timed": options.time}
                inference.predict_run(experiment, chosen[0], folder, options.predict, **how)
            if options.explain:
                how = {"best": options.best, "reporter": reporter}
                explain.explain_run(experiment, chosen[0], folder, options.explain, **how)
        elif options.enroll or options.verify or options.recognize:
            if len(chosen) > 1:
                raise UserError("--enroll, --verify and --recognize take one run: give one value for each name")
            from jaxcv.cli import faces

            faces.run(experiment, chosen[0], folder, options, reporter)
        elif search.kind == "grid" and len(chosen) == 1 and not options.sweep:
            how = {"fresh": options.fresh, "accept": options.accept, "reporter": reporter}
            how |= {"resident": options.resident, "profile": options.profile}
            result = fit(experiment, chosen[0], folder, going_on_from=options.resume, **how)
            reporter.table(f"{result.folder} after {result.steps} steps", {"train": result.train, "test": result.test})
        elif options.resume:
            raise UserError("--resume takes one run: give one value for each name")
        elif options.profile:
            raise UserError("--profile takes one run: give one value for each name")
        else:
            _sweep(options, experiment, search, root, reporter)
    except Preempted as stop:
        reporter.warn(str(stop))
        return interrupts.INTERRUPTED
    return 0


def _module(options: argparse.Namespace) -> tuple[Any, dict[str, Any] | None]:
    """The experiment's file as a module; and of a run's folder, the values that it was trained with.

    A run is used as its folder holds it; one that goes on needs its file.
    """
    if options.run is None:
        return _load(options.file), None
    from jaxcv.runs import stored_experiment, stored_module
    from jaxcv.runs.stored import facts_of

    _, values = stored_experiment(options.run)
    uses = options.evaluate or options.predict or options.explain or options.export or options.help
    return stored_module(options.run) if uses else _load(Path(facts_of(options.run)["file"])), values


def _of_run(options: argparse.Namespace, stored: dict[str, Any], chosen: Any) -> list[dict[str, Any]]:
    """The values of a run; more steps may be asked of it.

    Raises:
        UserError: another hyperparameter, or a sweep.
    """
    if len(chosen) > 1 or options.sweep or options.search or options.trials:
        raise UserError(f"{options.run}: a run is one; sweep its experiment's file")
    if other := [name for name in chosen[0] if name != "steps"]:
        raise UserError(f"{other[0]}={chosen[0][other[0]]}: {options.run} has its values; give others to its file")
    return [{**stored, **chosen[0]}]


def _sweep(options: argparse.Namespace, experiment: Any, search: Any, root: Path, reporter: Any) -> None:
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
            task=cluster.Task(there, load_experiment, tune=not options.no_tune),
            address=options.address,
            num_cpus=options.num_cpus,
            num_gpus=options.num_gpus,
            fail_fast=options.fail_fast,
        )
        asked = replace(asked, root=root)
    interrupts.raise_instead()
    found = command.run(
        asked, reporter, fresh=options.fresh, retry_failed=options.retry_failed, engine=engine, width=options.lanes
    )
    command.refuse_failures(found)


def _search(options: argparse.Namespace, module: Any, space: Any, known: Any) -> Any:
    """The trials that the command line asks for; one of them is no sweep."""
    from jaxcv import sweep

    own = None
    if options.sweep:
        function = getattr(module, "sweep", None)
        if not callable(function):
            raise UserError(f"--sweep: {options.file} defines no function `sweep` that yields dicts of hyperparameters")
        own = sweep.own_trials(cast(Any, function), space, known, str(options.file))
    return sweep.make_search(space, kind=options.search, count=options.trials, seed=options.sampler_seed, own=own)


if __name__ == "__main__":
    sys.exit(main())
