"""The flags of the command line: which there are, which of its words are flags, and which do not go together."""

import argparse
import glob
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxcv.cli import targets
from jaxcv.errors import UserError


def program() -> str:
    """As it was started."""
    return "launch.py" if Path(sys.argv[0]).name == "launch.py" else "jaxcv"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        flag = message.removeprefix("argument ").partition(":")[0]
        raise UserError(targets.FLAGS.get(flag, f"{message}; --help lists the flags"))


def _parser() -> _Parser:
    parser = _Parser(
        prog=program(), add_help=False, allow_abbrev=False, usage=f"{program()} WHAT [name=value ...] [--flag ...]"
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
    add(
        "--lanes",
        type=int,
        metavar="K",
        help="train K trials as one program, divided among the devices (default: a probe decides)",
    )
    add("--engine", choices=["local", "ray"], default="local", help="where trials run: here, or on a Ray cluster")
    add("--address", metavar="HOST:PORT", help="of the Ray cluster (default: one of this machine alone)")
    add("--num-cpus", type=float, default=1, metavar="N", help="cores that a trial takes of a Ray cluster (default: 1)")
    add("--num-gpus", type=float, default=0, metavar="N", help="GPUs that a trial takes of a Ray cluster (default: 0)")
    add("--nodes", type=int, default=1, metavar="N", help="nodes of a Ray cluster that a trial takes (default: 1)")
    add("--retry-failed", action="store_true", help="run the failed trials of a sweep once more")
    add("--fail-fast", action="store_true", help="end a sweep at its first failure")
    add("--resident", choices=["auto", "yes", "no"], default="auto", help="data on the device (default: where it fits)")
    add("--workers", type=int, metavar="N", help="processes that decode pictures (default: none; threads do)")
    add(
        "--mesh",
        metavar="AXES",
        help="devices: data=8, or data=4,fsdp=2 to split parameters too (default: all on data)",
    )
    add("--distributed", action="store_true", help="one of several processes that train a run; the cluster says which")
    add(
        "--coordinator",
        metavar="HOST:PORT",
        help="where no cluster says so: where process 0 listens, with the two below",
    )
    add("--process", type=int, metavar="I", help="number of this process, from 0")
    add("--processes", type=int, metavar="N", help="how many there are")
    add("--accumulate", type=int, default=1, metavar="K", help="take each batch in K parts, for less memory")
    add("--remat", action="store_true", help="compute cheap activations twice, for less memory")
    add("--deterministic", action="store_true", help="the same bits from run to run on a GPU too, where it costs speed")
    add("--profile", action="store_true", help="write a trace of twenty steps to the run's folder")
    add("--no-tune", action="store_true", help="leave XLA's flags and malloc as they are")
    add("--quiet", action="store_true", help="say only what went wrong")
    add("--worker", action="store_true", help=argparse.SUPPRESS)  # one of --jobs
    add("--debug", action="store_true", help="show tracebacks of refused input")
    return parser


def page() -> str:
    """All flags with what they mean."""
    return _parser().format_help()


def parse(arguments: Sequence[str], *, about: str) -> tuple[argparse.Namespace, list[str]]:
    """The flags, with `file` and, where that is a run's folder, `run`; and the words `name=value`.

    Args:
        arguments: of the command line.
        about: what --help says above the flags.

    Raises:
        UserError: a flag or a word that means nothing.
        SystemExit: all that was asked for is printed: help, version or a list of experiments.
    """
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
        print(about, end="\n\n")
        print(parser.format_help())
        raise SystemExit(0)
    if not arguments:
        print(targets.listing(program()))
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
    options.distributed = options.distributed or options.coordinator is not None
    return options, overrides


def refuse_contradictions(options: argparse.Namespace) -> None:
    """Raise for flags that do not go together.

    Raises:
        UserError: there are some.
    """
    if options.tta and not (options.evaluate or options.predict or options.export):
        raise UserError("--tta is for --evaluate, --predict and --export: a network is trained on single views")
    if options.time and not options.predict:
        raise UserError("--time is for --predict; --profile looks into training")
    if options.address and options.engine != "ray":
        raise UserError("--address is of a Ray cluster: give --engine ray too")
    if options.engine == "ray" and options.jobs > 1:
        raise UserError("--jobs is for this machine alone; a Ray cluster has its own number of trials at once")
    if options.engine == "ray" and (options.resume or options.profile):
        raise UserError("--resume and --profile are for a run on this machine, and not for --engine ray")
    if options.nodes < 1:
        raise UserError(f"--nodes {options.nodes}: expected at least 1")
    if options.nodes > 1 and options.engine != "ray":
        raise UserError("--nodes is of a Ray cluster: give --engine ray too")
    if options.nodes > 1 and options.prune:
        raise UserError("--prune is for trials of one process: not with --nodes")
    if options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}: expected at least 1")
    if options.resume and options.fresh:
        raise UserError("--resume goes on from a run and --fresh begins anew: give one of them")
    if options.lanes is not None and (options.lanes < 1 or options.jobs > 1 or options.engine == "ray"):
        raise UserError("--lanes K, at least 1, is for trials within one process: not with --jobs or --engine ray")
    if (options.lanes or 1) > 1 and options.mesh not in (None, "data=1"):
        raise UserError("--lanes K gives each of K trials one device, and --mesh a batch several: give one of them")
    if options.distributed and any(getattr(options, name) for name in _NOT_TRAINING):
        raise UserError("--distributed is for training alone")


_NOT_TRAINING = (
    *("evaluate", "predict", "export", "explain", "enroll", "verify", "recognize"),
    *("preview_data", "dry_run"),
)


def devices(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `sharding.choose`."""
    return {"mesh": options.mesh, "accumulate": options.accumulate, "remat": options.remat}


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
