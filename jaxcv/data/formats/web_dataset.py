"""WebDataset: tar files whose members with one name are a sample, `a.jpg` `a.cls`, or `a.jpg` `a.json`.

Each tar is gone through once for the positions of its members (kept, see `io.kept`); samples are then read by number
where they lie. Fields of a `.json` stand beside the members; class names in `classes.txt` beside the tars.
"""

import json
import os
import tarfile
import threading
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxcv.data.formats.array_records import class_names
from jaxcv.data.formats.stored import Stored, by_split, none_there
from jaxcv.data.io.kept import kept_scan, record
from jaxcv.data.io.paths import list_files, walk
from jaxcv.errors import DataError


def _scan(root: Path) -> Stored:
    """Both splits of a folder of tars, or of one. Raises DataError: none there, or a damaged one."""
    files = [root] if root.is_file() else []
    for folder in walk(root, root) if root.is_dir() else ():
        files += list_files(folder, root, ".tar")
    if not files:
        raise none_there(root, "*.tar") if root.is_dir() else DataError("no such file or folder", file=root)
    record(map(str, files))
    folder = root if root.is_dir() else root.parent
    splits = {split: Samples(tuple(each)) for split, each in by_split(files, folder).items()}
    return Stored(splits, class_names(folder), apart=len(splits) > 1)


scan_tars = kept_scan(_scan, lambda stored: stored._replace(kept=None), lambda stored: stored)


class Samples:
    """The samples of some tars: of each member its file's number, position, length, sample and ending."""

    def __init__(self, files: tuple[Path, ...]):
        self.files, endings, rows = files, {}, []
        samples = 0
        for number, file in enumerate(files):
            before = None
            for member in _members(file):
                folder, _, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                if not member.isfile() or not stem or not ending:
                    continue
                samples += (folder, stem) != before
                before = (folder, stem)
                known = endings.setdefault(ending.lower(), len(endings))
                rows.append((number, member.offset_data, member.size, samples - 1, known))
        self.endings, self.rows = tuple(endings), np.array(rows, np.int64).reshape(-1, 5)
        self.starts = np.searchsorted(self.rows[:, 3], np.arange(samples + 1))
        self._open: dict[int, int] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> Any:  # what is kept of the scan: neither handles nor a lock
        return _again, (self.files, self.endings, self.rows, self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self._read(index, skip=())

    def labels(self) -> Iterator[Mapping[str, Any]]:
        """Every sample without its pictures."""
        for i in range(len(self)):
            yield self._read(i, skip=("jpg", "jpeg", "png", "webp", "seg.png", "mask.png"))

    def _read(self, index: int, *, skip: tuple[str, ...]) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        for file, start, size, _, ending in self.rows[self.starts[index] : self.starts[index + 1]].tolist():
            if self.endings[ending] not in skip:
                found[self.endings[ending]] = self._bytes(file, start, size)
        described = json.loads(found.pop("json")) if "json" in found else {}
        return {**described, **found} if isinstance(described, dict) else {**found, "label": described}

    def _bytes(self, file: int, start: int, size: int) -> bytes:
        with self._lock:
            if (handle := self._open.get(file)) is None:
                handle = self._open[file] = os.open(self.files[file], os.O_RDONLY)
                weakref.finalize(self, os.close, handle)
        found = os.pread(handle, size, start)  # has no position that threads could move
        if len(found) < size:
            raise ValueError(f"{self.files[file].name} is cut off")
        return found


def _again(*fields: Any) -> Samples:
    found = Samples(())
    found.files, found.endings, found.rows, found.starts = fields
    return found


def _members(file: Path) -> Iterator[tarfile.TarInfo]:
    try:
        with tarfile.open(file, "r:") as tar:
            yield from tar
    except (tarfile.TarError, OSError) as error:
        what = f"no tar file that can be read ({error}), expected one that is whole and not compressed"
        raise DataError(what, file=file) from None
