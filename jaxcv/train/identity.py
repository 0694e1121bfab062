"""What a run stands for: its values, its source, its data. A folder's result is never taken for that of another run.

Part of a run are all hyperparameters, the experiment's file and every other module outside installed packages, where
each split of the data lies and a digest of what its scan found, and the content of files that a hyperparameter names.
What differs when a folder is taken up again is refused by name, unless it is accepted; then `run.json` says what
changed, when, and at which step.
"""

import functools
import hashlib
import inspect
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxcv.errors import DataError
from jaxcv.train import sources
from jaxcv.train.experiment import Experiment, ExperimentFunction

FORMAT = 2
"""Of `run.json`. The first kept neither data nor modules."""


@dataclass(frozen=True)
class Identity:
    """One run's."""

    facts: dict[str, Any]
    """For `run.json`: `values`, `file`, `source`, `commit`, `data` and `sets` by split, `files` by hyperparameter."""
    modules: dict[str, dict[str, Any]]
    """As of `sources.loaded`."""


def identify(
    experiment: ExperimentFunction,
    values: Mapping[str, Any],
    setup: Experiment,
    *,
    over: bool = False,
    accumulate: int = 1,
) -> Identity:
    """What a run of `experiment` at `values` stands for, here and now.

    Args:
        experiment: its function.
        values: all hyperparameters, resolved.
        setup: the experiment at these values.
        over: whether the run is finished, so that its data need not be there any more; then only its place counts.
        accumulate: parts in which its batches are taken; batch statistics and dropout depend on them.

    Raises:
        DataError: the data cannot be read.
    """
    splits = {"train": setup.train_data, "test": setup.test_data}
    facts = {
        "format": FORMAT,
        "values": json.loads(json.dumps(dict(values), default=str)),
        **_source(experiment),
        "data": {split: _data(data, over) for split, data in splits.items()},
        "sets": {split: _known(data, over) for split, data in splits.items()},
        "files": {name: _file(value) for name, value in values.items() if _is_file(value)},
        "accumulate": accumulate,
    }
    return Identity(facts, sources.loaded())


def _data(data: Any, over: bool) -> dict[str, str | None]:
    # Whoever wrote batches of their own may have left both out.
    path, digest = getattr(data, "path", ""), getattr(data, "digest", None)
    try:
        return {"path": path, "digest": digest() if digest is not None else ""}
    except DataError:
        if not over:
            raise
        return {"path": path, "digest": None}


def _known(data: Any, over: bool) -> dict[str, Any] | None:
    """What the set knows of itself, in JSON, with which the run can be used without it; see `Batches`."""
    known = getattr(data, "known", None)
    try:
        return None if known is None else known()
    except DataError:
        if not over:
            raise
        return None


def _is_file(value: Any) -> bool:
    """Whether a value names a file, or the folder of a run."""
    try:
        path = Path(value).expanduser() if isinstance(value, str | Path) and value != "" else None
        return path is not None and (path.is_file() or (path / "run.json").is_file())
    except (OSError, ValueError):  # too long a name, a null byte
        return False


def _file(value: str | Path) -> dict[str, str]:
    path = Path(value).expanduser().resolve()
    if path.is_dir():  # of a run, how far it has come
        kept = [path / "sources.json", *sorted((path / "checkpoints").glob("*/"))]
        text = json.dumps([(entry.name, entry.stat().st_mtime_ns) for entry in kept if entry.exists()])
        return {"path": str(path), "digest": hashlib.sha256(text.encode()).hexdigest()[:16]}
    found = path.stat()
    return {"path": str(path), "digest": _hash(path, found.st_mtime_ns, found.st_size)}


@functools.cache
def _hash(path: Path, modified: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _source(experiment: ExperimentFunction) -> dict[str, Any]:
    file = inspect.getsourcefile(experiment)
    return {
        "file": str(file and Path(file).absolute()),
        "source": Path(file).read_text() if file and Path(file).exists() else "",
        "commit": _commit(Path(file).parent if file else Path.cwd()),
    }


@functools.cache
def _commit(folder: Path) -> str | None:
    try:
        command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def is_longer(before: Mapping[str, Any], now: Identity) -> bool:
    """Whether a run is asked for more `steps` than it was begun with: it goes on."""
    old, new = (facts["values"].get("steps") for facts in (before, now.facts))
    return type(old) is int and type(new) is int and new > old


def differences(folder: Path, before: Mapping[str, Any], now: Identity) -> Iterator[str]:
    """How the run in `folder`, whose `run.json` says `before`, differs from `now`: the end of "FOLDER was begun"."""
    new = now.facts
    if "format" not in before:
        version = before.get("versions", {}).get("jaxcv-research", "unknown")
        yield f"by an earlier jaxcv ({version}), which did not keep on which data and modules"
    for name in {**before["values"], **new["values"]}:
        if name == "steps" and is_longer(before, now):
            continue
        old, other = (_said(name, values) for values in (before["values"], new["values"]))
        if old != other:
            yield f"with {old}, not {other}"
    parts = tuple(facts.get("accumulate", 1) for facts in (before, new))
    if parts[0] != parts[1] and (before.get("status") != "finished" or is_longer(before, now)):
        yield f"with --accumulate {parts[0]}, not {parts[1]}"
    if before["source"] != new["source"]:
        change = sources.first_change(before["source"], new["source"])
        yield f"with another {before['file']} (first change: {change!r})"
    if "format" not in before:
        return
    modules = sources.read(folder)
    if modules is None:
        yield "with modules that are not known: its sources.json is missing or damaged"
    elif (change := sources.difference(modules, now.modules)) is not None:
        yield f"with {change}"
    for split, old in before["data"].items():
        data = new["data"][split]
        if old["path"] != data["path"]:
            yield f"on the data in {old['path'] or 'no folder'}, not in {data['path'] or 'no folder'}"
        elif None not in (old["digest"], data["digest"]) and old["digest"] != data["digest"]:
            where = data["path"] or "the embedded set"
            yield f"on other {split} data than {where} holds now: files, classes or annotations have changed"
        if _squashed((before.get("sets") or {}).get(split)) and not _squashed(new["sets"][split]):
            yield f"on {split} pictures stretched to squares, which are letterboxed now unless resize='squash' is given"
    for name, old in before["files"].items():
        file = new["files"].get(name)
        if file is None:
            yield f"with the file {old['path']} ({name}), which is gone"
        elif old["path"] != file["path"]:
            yield f"with the file {old['path']} ({name}), not {file['path']}"
        elif old["digest"] != file["digest"]:
            yield f"with another content of {file['path']} ({name})"


def _squashed(known: Mapping[str, Any] | None) -> bool:
    """Whether a set with boxes was opened by a version that had no `resize`, and squashed all pictures."""
    if not known or not known.get("opened"):
        return False
    task, *_, options = json.loads(known["opened"])
    return task in ("detection", "localization") and "resize" not in dict(options)


def _said(name: str, values: Mapping[str, Any]) -> str:
    return f"{name}={values[name]}" if name in values else f"no {name}"
