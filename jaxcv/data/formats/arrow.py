"""Hugging Face's sets as they lie on disk: folders of Parquet files, and what `save_to_disk` wrote; by pyarrow.

Arrow files are mapped into memory, and rows read where they lie. A Parquet file cannot be read row by row: it is
written once as an Arrow file into the cache folder, as `datasets` does too, again when it has changed.
"""

import bisect
import hashlib
import itertools
import json
import mmap
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from jaxcv.data.formats.stored import Stored, by_split, none_there
from jaxcv.data.io.kept import cache_folder
from jaxcv.data.io.paths import list_files, walk
from jaxcv.data.io.text import Where, check_names, read_json
from jaxcv.errors import DataError, UserError


@cache
def scan_arrow(root: Path) -> Stored:
    """Both splits of a folder, or of one file. Raises DataError: no such files, or damaged ones."""
    if root.is_file():
        files = [root]
    elif not root.is_dir():
        raise DataError("no such file or folder", file=root)
    else:
        files = [file for folder in walk(root, root) for file in list_files(folder, root, ".parquet", ".arrow")]
    if not files:
        raise none_there(root, "*.parquet or *.arrow")
    for folder in {file.parent for file in files if (file.parent / "state.json").is_file()}:
        state = read_json(folder / "state.json")
        if state.get("_indices_files"):
            raise DataError("its rows are chosen by an index: flatten_indices() before save_to_disk()", file=folder)
        used = {folder / each["filename"] for each in state.get("_data_files", [])}
        files = [file for file in files if file.parent != folder or file in used]
    splits = {split: Rows(tuple(each)) for split, each in by_split(files, root).items()}
    names = check_names((Where(root, entry="features"), name) for name in splits["train"].class_names)
    return Stored(splits, names, apart=len(splits) > 1)


_HELD = 64
"""Rows after which the pages of the files are given back, up to 2 MB a row: in the end all of the set would be counted
as memory of the process. Costs 8 us a row."""


class Rows:
    """The rows of some files, one after the other; each is opened when one of its rows is read."""

    def __init__(self, files: tuple[Path, ...]):
        self.files, self._maps, self._count = files, [], itertools.count(1)

    @cached_property
    def _batches(self) -> list[Any]:
        return [batch for file in self.files for batch in _open(file, self._maps)]

    @cached_property
    def _ends(self) -> list[int]:
        ends, total = [], 0
        for batch in self._batches:
            ends.append(total := total + len(batch))
        return ends

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        which = bisect.bisect_right(self._ends, index)
        batch = self._batches[which]
        row = index - self._ends[which] + len(batch)
        if next(self._count) % _HELD == 0 and hasattr(mmap, "MADV_DONTNEED"):
            for pages in self._maps:
                pages.madvise(mmap.MADV_DONTNEED)  # whoever reads there now has them mapped again
        return {name: batch.column(i)[row].as_py() for i, name in enumerate(batch.schema.names)}

    def labels(self) -> Iterator[Mapping[str, Any]]:
        """Every row without its pictures."""
        for batch in self._batches:
            kept = [i for i, field in enumerate(batch.schema) if "binary" not in str(field.type)]
            yield from batch.select(kept).to_pylist()

    @property
    def class_names(self) -> tuple[str, ...]:
        """As `datasets` describes them in the files; empty where it does not."""
        metadata = self._batches[0].schema.metadata if self._batches else None
        described = (metadata or {}).get(b"huggingface")
        return _names(json.loads(described).get("info", {}).get("features", {})) if described else ()


def _names(feature: Any) -> tuple[str, ...]:
    """The class names in a description of features, at whatever depth."""
    if isinstance(feature, Mapping):
        if feature.get("_type") == "ClassLabel" and feature.get("names"):
            return tuple(feature["names"])
        feature = [*feature.values()]
    if isinstance(feature, Sequence) and not isinstance(feature, str):
        return next((names for each in feature if (names := _names(each))), ())
    return ()


def _pyarrow() -> Any:
    try:
        import pyarrow  # pyright: ignore[reportMissingImports]
        import pyarrow.parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError("hf: and parquet: need pyarrow: pip install 'jaxcv-research[data]'") from None
    return pyarrow


def _open(file: Path, maps: list[mmap.mmap]) -> list[Any]:
    """The record batches of a file, mapped into memory and noted in `maps`. Raises DataError: damaged."""
    pyarrow = _pyarrow()
    try:
        with open(_as_arrow(file) if file.suffix.lower() == ".parquet" else file, "rb") as stream:
            maps.append(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        try:
            return pyarrow.ipc.open_stream(pyarrow.py_buffer(maps[-1])).read_all().to_batches()
        except pyarrow.ArrowInvalid:
            return pyarrow.ipc.open_file(pyarrow.py_buffer(maps[-1])).read_all().to_batches()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"cannot be read ({str(error).splitlines()[0]})", file=file) from None


def _as_arrow(file: Path) -> Path:
    """A Parquet file's rows as an Arrow file in the cache folder."""
    pyarrow, found = _pyarrow(), file.stat()
    key = f"{os.path.realpath(file)} {found.st_size} {found.st_mtime_ns}"
    target = cache_folder() / "arrow" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.arrow"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent)
    os.close(handle)
    try:
        # With a buffer, a column is read piece by piece; without, as long as a row group, which may be the whole file.
        with pyarrow.parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as parquet:
            with pyarrow.ipc.new_stream(name, parquet.schema_arrow) as writer:
                for batch in parquet.iter_batches(256):
                    writer.write_batch(batch)
        os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)
    return target
