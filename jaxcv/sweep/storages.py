"""Optuna storages by URL: open, close, and rename studies."""

import re
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import event

from jaxcv.errors import UserError


def open_study(name: str, url: str, direction: Any, *, ours: bool = False) -> optuna.Study:
    """The study of that name, created if there is none.

    Args:
        name: of the study.
        url: of an Optuna storage, or `journal:FILE`.
        direction: "maximize" or "minimize".
        ours: whether the storage is this sweep's own SQLite file, which may then be set to write-ahead logging.

    Raises:
        UserError: If the URL is malformed, its driver is not installed, or the server cannot be reached.
    """
    try:
        storage = _open(url, ours=ours)
        return optuna.create_study(study_name=name, storage=storage, direction=direction, load_if_exists=True)
    except Exception as error:  # databases and drivers raise exceptions of their own
        lines = str(error).strip().splitlines() or [""]
        raise UserError(f"--storage {hide_password(url)}: {type(error).__name__}: {lines[0][:300]}") from error


def _open(url: str, *, ours: bool = False) -> BaseStorage:
    if url.startswith("journal:"):
        return optuna.storages.JournalStorage(JournalFileBackend(url.removeprefix("journal:")))
    if not url.startswith("sqlite:"):
        return RDBStorage(url)
    # Other processes may be writing; the default timeout is five seconds.
    storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 120}})
    if ours:
        # A commit takes 0.5 ms instead of 8.2. It survives a kill; after a power cut the last commits may be missing,
        # but the run folders have the same facts.
        event.listen(storage.engine, "connect", _write_ahead)
        storage.engine.dispose()
    return storage


def _write_ahead(connection: Any, _: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def close(storage: BaseStorage) -> None:
    """Close the connections of a storage."""
    storage.remove_session()
    engine = getattr(getattr(storage, "_backend", storage), "engine", None)
    if engine is not None:
        engine.dispose()


def move_study_aside(root: Path, name: str, url: str | None) -> None:
    """Rename a study to `name~1`, `name~2`, ..., if it exists; `url` None: it is in a SQLite file in `root`."""
    if url is None:
        file = root / f"{name}.db"
        if file.exists():
            aside = next(stem for i in range(1, 10_000) if not (root / f"{(stem := f'{name}~{i}')}.db").exists())
            for suffix in (".db-wal", ".db-shm", ".db"):
                if (part := root / f"{name}{suffix}").exists():
                    part.rename(root / f"{aside}{suffix}")
        return
    storage, name = _open(url), f"{root.name}-{name}"
    known = optuna.get_all_study_names(storage)
    if name in known:
        aside = next(n for i in range(1, 10_000) if (n := f"{name}~{i}") not in known)
        optuna.copy_study(from_study_name=name, from_storage=storage, to_storage=storage, to_study_name=aside)
        optuna.delete_study(study_name=name, storage=storage)
    close(storage)


def hide_password(url: str) -> str:
    """A URL without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)
