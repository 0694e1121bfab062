"""A run's folder: what was asked for, how far it came, and who is working in it.

run.json          status (running, finished, stopped by its watcher, failed), what the run stands for (`identity`):
                  all resolved values, the experiment file's source, data; versions, commit, what was accepted when
sources.json      the other modules outside installed packages
metrics.jsonl     one record a line
events/           TensorBoard
checkpoints/      state and data position
previews/         pictures of predictions beside targets, and those that metrics report at the end
per_class.csv     and other tables that metrics report at the end
initial.txt       where the starting variables came from, if they came from somewhere
predictions/      pictures drawn by --predict; predictions_best/ by --predict --best
"""

import contextlib
import datetime
import functools
import importlib.metadata
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from jaxcv.errors import UserError
from jaxcv.train import runtime, sources
from jaxcv.train.identity import FORMAT, Identity, differences, is_longer

_PACKAGES = ("jaxcv-research", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "pycocotools")


_NO_RUN = {".lock", "predictions", "predictions_best", "run.json.tmp", "sources.json", "sources.json.tmp"}
"""What may stand in a folder before its run: pretrained weights can predict untrained, and a kill can hit the start."""


class Run:
    """One run's folder, held by this process alone between `open` and the end of the `with` block."""

    def __init__(self, folder: Path, facts: dict[str, Any], *, writes: bool = True):
        """`writes` is False in a process that is not the first of several: it changes no file but its checkpoints'."""
        self.folder, self.facts, self.writes = folder, facts, writes

    @property
    def finished(self) -> bool:
        """Nothing is left to do."""
        return self.facts["status"] == "finished"

    def update(self, **facts: Any) -> None:
        """Change what run.json says; the file is replaced whole."""
        self.facts.update(facts)
        if self.writes:
            write_json(self.folder / "run.json", self.facts)

    def compare(self, now: Identity, *, accept: bool) -> None:
        """Refuse what the run did not stand for; or, where it is accepted, note it and let the run stand for that.

        Raises:
            UserError: the first difference.
        """
        found = list(differences(self.folder, self.facts, now))
        if is_longer(self.facts, now) and (accept or not found):
            self.facts["status"] = "running"
            if not found:
                self.update(values=now.facts["values"])
        if not found:
            return
        if not accept:
            advice = "take another --workdir, go on all the same with --accept, or start over with --fresh"
            raise UserError(f"{self.folder} was begun {found[0]}: {advice} (the old run is moved aside)")
        step = max((record["step"] for record in read_records(self.folder / "metrics.jsonl")), default=0)
        accepted = [*self.facts.get("accepted", []), {"when": _now(), "step": step, "begun": found}]
        sources.replace(self.folder, now.modules)
        self.update(**now.facts, accepted=accepted)

    def keep_sources(self) -> None:
        """Add the modules that have been loaded since: those that a loss imports when it is traced."""
        if self.writes:
            sources.write(self.folder, sources.loaded())

    def last_record(self, split: str) -> dict[str, Any]:
        """The newest record of a split in metrics.jsonl; empty where there is none."""
        records = [r for r in read_records(self.folder / "metrics.jsonl") if r["split"] == split]
        return records[-1] if records else {}


@contextlib.contextmanager
def open_run(
    folder: str | Path, identity: Identity, *, fresh: bool = False, accept: bool = False, patience: float = 0.0
) -> Iterator[Run]:
    """The run in `folder`: a new one, or the one that was begun there and stands for the same.

    Args:
        folder: of this run alone.
        identity: what it stands for.
        fresh: move an earlier run aside (to `folder~1`, `folder~2`, ...) and begin anew.
        accept: go on with a run that stood for something else; `run.json` notes what has changed.
        patience: seconds to wait for another process that works there.

    Raises:
        UserError: another process works there, the folder holds something else, or it stands for another run.
    """
    folder = Path(folder)
    if fresh and folder.exists():
        with _lock(folder / ".lock", patience):
            aside = (folder.with_name(f"{folder.name}~{i}") for i in range(1, 10_000))
            folder.rename(next(path for path in aside if not path.exists()))
    elif folder.exists() and not (folder / "run.json").exists() and not set(os.listdir(folder)) <= _NO_RUN:
        raise UserError(f"{folder} exists but holds no run: choose another --workdir")
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder / ".lock", patience):
        before = read_run(folder)
        if before is None:
            run = Run(folder, {"status": "running", **identity.facts, "traces": 0, "time": {"begun": _now()}})
            sources.replace(folder, identity.modules)
        else:
            run = Run(folder, before)
            run.compare(identity, accept=accept)
        if not run.finished:
            devices = [f"{d.platform}:{d.device_kind}" for d in jax.devices()]
            deterministic = runtime.is_deterministic()
            run.update(status="running", versions=versions(), devices=devices, deterministic=deterministic)
        yield run


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def read_run(folder: Path) -> dict[str, Any] | None:
    """What run.json says; None where there is none.

    Raises:
        UserError: it is damaged, somebody else's, or of a later version.
    """
    path = folder / "run.json"
    try:
        facts = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON ({error.msg}); --fresh starts over") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); --fresh starts over") from error
    needed = {"status": str, "values": dict, "file": str, "source": str, "time": dict}
    if isinstance(facts, dict) and "format" in facts:
        needed |= {"format": int, "data": dict, "files": dict}
        if isinstance(facts["format"], int) and facts["format"] > FORMAT:
            raise UserError(f"{path}: written by a later version of jaxcv; take that one, or another --workdir")
    if wrong := [n for n, kind in needed.items() if not isinstance(facts, dict) or not isinstance(facts.get(n), kind)]:
        raise UserError(f"{path}: not the run.json of a run ({wrong[0]} is missing or wrong); --fresh starts over")
    return facts


def is_finished(folder: str | Path, values: Mapping[str, Any] | None = None) -> bool:
    """Whether the run in `folder` says of itself that it is; not so if `values` ask for more steps."""
    try:
        facts = json.loads((Path(folder) / "run.json").read_text())
        more = values is not None and (values.get("steps") or 0) > (facts["values"].get("steps") or 0)
        return facts["status"] == "finished" and not more
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def copy_run(source: Path, folder: Path, identity: Identity, *, accept: bool) -> None:
    """Make `folder` a copy of the run in `source`, to go on from; nothing where there is a run already.

    Raises:
        UserError: there is no run in `source`, or it stands for something else than a shorter run.
    """
    if (folder / "run.json").exists():
        return
    facts = read_run(source)
    if facts is None:
        raise UserError(f"{source} holds no run to go on from")
    found = list(differences(source, facts, identity))
    if found and not accept:
        raise UserError(f"{source} was begun {found[0]}: go on from it all the same with --accept")
    with _lock(source / ".lock", 0.0):
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copytree(source, temporary, ignore=shutil.ignore_patterns(".lock"))
            temporary.rename(folder)
        except shutil.Error as error:
            raise UserError(f"{source} could not be copied: {error.args[0][0][-1]}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def begun(folder: str | Path) -> str | None:
    """When the run in `folder` was begun, ISO 8601 in UTC; empty if it does not say; None where there is none."""
    try:
        return json.loads((Path(folder) / "run.json").read_text()).get("time", {}).get("begun", "")
    except (OSError, ValueError, AttributeError):
        return None


def versions() -> dict[str, str]:
    """Python's and the installed packages' versions."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@contextlib.contextmanager
def _lock(path: Path, patience: float) -> Iterator[None]:
    """Held by the process: released by its end, however it ends."""
    try:
        import fcntl
    except ImportError:  # no such lock on this system
        yield
        return
    with open(path, "w") as file:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= deadline:
                    raise UserError(f"{path.parent}: another process is training there") from None
                time.sleep(0.1)
        yield


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file whole: a kill leaves the old one or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def values_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a record measured, without what it says of itself; None where the value was not finite."""
    return {name: value for name, value in record.items() if name not in ("step", "split", "time")}


def read_records(path: Path) -> list[dict[str, Any]]:
    """Every whole record of a metrics file; a last line that a kill cut short is left out."""
    records = []
    try:
        text = path.read_text()
    except FileNotFoundError:
        return records
    for line in text.splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return records
