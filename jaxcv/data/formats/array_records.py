"""ArrayRecord files of `tf.train.Example`, as TFDS and Grain's users write them; without TensorFlow.

`*.array_record*` in a folder; class names in `label.labels.txt` or `classes.txt` beside, a name a line.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from jaxcv.data.formats.stored import Stored, by_split, none_there
from jaxcv.data.io.paths import list_folder, walk
from jaxcv.data.io.text import read_names
from jaxcv.errors import DataError, UserError


@cache
def scan_array_records(root: Path) -> Stored:
    """Both splits of a folder, or of one file. Raises DataError: no such files, or damaged ones."""
    if not root.exists():
        raise DataError("no such file or folder", file=root)
    folder, every = root.parent if root.is_file() else root, [root] if root.is_file() else []
    for inside in walk(root, root) if root.is_dir() else ():
        here = list_folder(inside, root)
        every += [Path(e.path) for e in here if ".array_record" in e.name or ".arrayrecord" in e.name]
    if not every:
        raise none_there(root, "*.array_record")
    splits = {split: _records(tuple(files)) for split, files in by_split(every, folder).items()}
    return Stored(splits, class_names(folder), apart=len(splits) > 1)


def class_names(folder: Path) -> tuple[str, ...]:
    """The names in the list of classes that lies in a folder; empty where there is none."""
    for name in ("label.labels.txt", "objects-label.labels.txt", "classes.txt", "labels.txt"):
        if (folder / name).is_file():
            return read_names(folder / name)
    return ()


class Records:
    """The records of some files."""

    def __init__(self, source: Any):
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return parse_example(self._source[index])


def _records(files: tuple[Path, ...]) -> Records:
    try:
        from grain.sources import ArrayRecordDataSource
    except ImportError:
        raise UserError("arrayrecord: needs array_record: pip install 'jaxcv-research[data]'") from None
    try:
        return Records(ArrayRecordDataSource([*map(str, files)]))
    except Exception as error:  # of a C++ library, which names no types
        raise DataError(f"cannot be read ({str(error).splitlines()[0]})", file=files[0]) from None


def parse_example(message: bytes) -> dict[str, Any]:
    """The features of a serialised `tf.train.Example`: bytes alone, or lists of bytes and of numbers.

    Raises:
      ValueError: it is none.
    """
    found: dict[str, Any] = {}
    for _, features in _fields(memoryview(message)):
        for _, entry in _fields(features):
            parts = dict(_fields(entry))
            if 1 not in parts or 2 not in parts:
                raise ValueError("a record that is no tf.train.Example")
            kinds = list(_fields(parts[2]))
            values = [value for kind, packed in kinds for value in _values(kind, packed)]
            found[bytes(parts[1]).decode("utf-8", "replace")] = values[0] if len(values) == 1 else values
    return found


def _values(kind: int, packed: memoryview) -> Iterator[Any]:
    """Of a list of bytes (1), floats (2) or integers (3)."""
    for _, value in _fields(packed):
        if kind == 1:
            yield bytes(value)
        elif kind == 2:
            yield from np.frombuffer(value, "<f4").tolist()
        elif isinstance(value, int):
            yield value - 2**64 * (value >= 2**63)
        else:
            position = 0
            while position < len(value):
                number, position = _varint(value, position)
                yield number - 2**64 * (number >= 2**63)


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError("a record that is no tf.train.Example")
        byte = data[position]
        value, shift, position = value | (byte & 127) << shift, shift + 7, position + 1
        if byte < 128:
            return value, position


def _fields(data: Any) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protocol buffer message."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, position = _varint(data, position)
        else:
            length, position = _varint(data, position) if wire == 2 else ({1: 8, 5: 4}.get(wire, -1), position)
            if length < 0 or position + length > len(data):
                raise ValueError("a record that is no tf.train.Example")
            value, position = data[position : position + length], position + length
        yield number, value
