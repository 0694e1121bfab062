"""A run's folder: what was asked for, how far it came, and who is working in it.

run.json          status (running, finished, stopped by its watcher, failed), all resolved values, versions, commit,
                  the experiment file's source
metrics.jsonl     one record a line
events/           TensorBoard
checkpoints/      state and data position
previews/         pictures of predictions beside the truth; of a classifier, confusion.png
per_class.csv     of a classifier: how each class fares at the end
initial.txt       where the starting variables came from, if they came from somewhere
predictions/      pictures drawn by --predict
"""

import contextlib
import datetime
import difflib
import functools
import importlib.metadata
import inspect
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from jaxcv.train.experiment import ExperimentFunction
from jaxcv.types import UserError

_PACKAGES = ("jaxcv-research", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "pycocotools")


_NO_RUN = {".lock", "predictions", "run.json.tmp"}
"""What may stand in a folder before its run: pretrained weights can predict untrained, and a kill can hit the start."""


class Run:
    """One run's folder, held by this process alone between `open` and the end of the `with` block."""

    def __init__(self, folder: Path, facts: dict[str, Any]):
        self.folder, self.facts = folder, facts

    @property
    def finished(self) -> bool:
        """Nothing is left to do."""
        return self.facts["status"] == "finished"

    def update(self, **facts: Any) -> None:
        """Change what run.json says; the file is replaced whole."""
        self.facts.update(facts)
        write_json(self.folder / "run.json", self.facts)

    def last_record(self, split: str) -> dict[str, Any]:
        """The newest record of a split in metrics.jsonl; empty where there is none."""
        records = [r for r in read_records(self.folder / "metrics.jsonl") if r["split"] == split]
        return records[-1] if records else {}


@contextlib.contextmanager
def open_run(
    folder: str | Path,
    experiment: ExperimentFunction,
    values: Mapping[str, Any],
    *,
    fresh: bool = False,
    patience: float = 0.0,
) -> Iterator[Run]:
    """The run in `folder`: a new one, or the one that was begun there with the same source and values.

    Args:
        folder: of this run alone.
        experiment: its function; the file it stands in is stored.
        values: all hyperparameters, resolved.
        fresh: move an earlier run aside (to `folder~1`, `folder~2`, ...) and begin anew.
        patience: seconds to wait for another process that works there.

    Raises:
        UserError: another process works there, the folder holds something else, or source or values differ.
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
        now = {
            "status": "running",
            "values": _jsonable(values),
            "versions": versions(),
            "devices": [f"{d.platform}:{d.device_kind}" for d in jax.devices()],
            **_source(experiment),
            "traces": 0,
            "time": {"begun": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")},
        }
        try:
            before = json.loads((folder / "run.json").read_text())
        except FileNotFoundError:
            before = None
        except json.JSONDecodeError as error:
            raise UserError(
                f"{folder / 'run.json'}:{error.lineno}: not JSON ({error.msg}); --fresh starts over"
            ) from error
        if before is not None:
            _refuse_difference(folder, before, now)
        run = Run(folder, before or now)
        if not run.finished:
            run.update(status="running", versions=now["versions"], devices=now["devices"])
        yield run


def is_finished(folder: str | Path) -> bool:
    """Whether the run in `folder` says of itself that it is."""
    try:
        return json.loads((Path(folder) / "run.json").read_text())["status"] == "finished"
    except (OSError, ValueError, KeyError):
        return False


def begun(folder: str | Path) -> str | None:
    """When the run in `folder` was begun, ISO 8601 in UTC; empty if it does not say; None where there is none."""
    try:
        return json.loads((Path(folder) / "run.json").read_text()).get("time", {}).get("begun", "")
    except (OSError, ValueError):
        return None


def _refuse_difference(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    advice = "take another --workdir, or start over with --fresh (the old run is moved aside)"
    for name in {**before["values"], **now["values"]}:
        old, new = before["values"].get(name, "nothing"), now["values"].get(name, "nothing")
        if old != new:
            raise UserError(f"{folder} was begun with {name}={old}, not {name}={new}: {advice}")
    if before["source"] != now["source"]:
        changed = next(
            line
            for line in difflib.unified_diff(
                before["source"].splitlines(), now["source"].splitlines(), lineterm="", n=0
            )
            if line[:1] in "+-" and line[:3] not in ("+++", "---")
        )
        raise UserError(
            f"{folder} was begun with another {before['file']} (first change: {changed.strip()!r}): {advice}"
        )


def _source(experiment: ExperimentFunction) -> dict[str, Any]:
    file = inspect.getsourcefile(experiment)
    return {
        "file": str(file),
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


def _jsonable(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


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
