"""Optuna storages by URL: opened, let go of, and their studies moved aside."""

import re
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import event

from jaxcv.errors import UserError


def open_study(name: str, url: str, direction: Any, *, ours: bool = False) -> optuna.Study:
    """The study of that name, made if need be.

    Args:
        name: of the study.
        url: of an Optuna storage, or `journal:FILE`.
        direction: "maximize" or "minimize".
        ours: whether the storage is a file that nobody else has settings for.

    Raises:
        UserError: the URL is none, its driver is not installed, or nobody answers there.
    """
    try:
        storage = _open(url, ours=ours)
        return optuna.create_study(study_name=name, storage=storage, direction=direction, load_if_exists=True)
    except Exception as error:  # whatever a data base and its driver come up with
        lines = str(error).strip().splitlines() or [""]
        raise UserError(f"--storage {hide_password(url)}: {type(error).__name__}: {lines[0][:300]}") from error


def _open(url: str, *, ours: bool = False) -> BaseStorage:
    if url.startswith("journal:"):
        return optuna.storages.JournalStorage(JournalFileBackend(url.removeprefix("journal:")))
    if not url.startswith("sqlite:"):
        return RDBStorage(url)
    # Others may be writing: the default is to give up after five seconds.
    storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 120}})
    if ours:
        # A commit took 8.2 ms otherwise, and takes 0.5. Against a kill it is as safe; after a power cut the last ones
        # may be missing, and then the run folders still know what they stood for.
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
    """Give a study another name (`name~1`, `name~2`, ...), if there is one; `url` None: in a file of its own."""
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
    """A URL as it may be shown."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)
