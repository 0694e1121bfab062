"""CIFAR-10 and CIFAR-100 as they are published, as pickles of Python or as binary files; or as class folders.

`data=cifar10:PATH` and `data=cifar100:PATH`: the folder with the files, or the one in which the archive was unpacked.
Pickles are not trusted: all that is taken from them is lists, numbers, texts and one array of bytes.

Binary files have for each picture a byte for the class (CIFAR-100: one for the coarse class, one for the fine), then
3072 bytes, the red of 32x32 pixels, the green and the blue.

References:
  A. Krizhevsky, Learning multiple layers of features from tiny images, University of Toronto, 2009.
"""

import io
import pickle
import pickletools
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxcv.data.formats.numpy_arrays import check_labelled
from jaxcv.data.io.paths import find_folder, holds
from jaxcv.data.io.text import one_line, read_bytes, read_lines, shown
from jaxcv.data.sources.in_memory import Labelled
from jaxcv.errors import DataError

SIDE = 32
_PIXELS = 3 * SIDE * SIDE
_MAX_BYTES = 2**28


class _Kind(NamedTuple):
    """How one of the sets is published."""

    classes: int
    files: dict[str, list[str]]  # pickles by split; binary files have `.bin` after the name
    label: bytes  # key of the classes in a pickle
    names: tuple[str, bytes]  # file and key of the class names
    names_text: str  # file of the class names beside the binary files
    bytes_before: int  # before the pixels of a picture in a binary file; the last is its class


_KINDS = {
    "cifar10": _Kind(
        10, {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}, b"labels",
        ("batches.meta", b"label_names"), "batches.meta.txt", 1,
    ),
    "cifar100": _Kind(
        100, {"train": ["train"], "test": ["test"]}, b"fine_labels",
        ("meta", b"fine_label_names"), "fine_label_names.txt", 2,
    ),
}  # fmt: skip


@cache
def _find(name: str, folder: Path) -> tuple[Path, str]:
    """The folder of the files, and how their names end."""
    find_folder(folder, f"data={name}:PATH needs the folder with its files")
    files = sum(_KINDS[name].files.values(), [])
    for root in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        for end in ("", ".bin"):
            if all((root / f"{file}{end}").is_file() for file in files):
                return root, end
    expected = f"{', '.join(files)}, or the same with .bin"
    raise DataError(f"files are missing; expected {expected}; {holds(folder)}", file=folder)


@cache
def cifar_names(name: str, folder: Path) -> tuple[str, ...]:
    """The class names; numbers where their file is not there."""
    (root, end), kind = _find(name, folder), _KINDS[name]
    file = root / (kind.names_text if end else kind.names[0])
    if not file.is_file():
        return tuple(map(str, range(kind.classes)))
    found = [text.encode() for _, text in read_lines(file)] if end else _unpickle(file).get(kind.names[1])
    names = [n.decode("utf-8", "replace") for n in found if isinstance(n, bytes)] if isinstance(found, list) else []
    if len(set(names)) != kind.classes:
        raise DataError(f"{len(set(names))} class names, expected {kind.classes}", file=file)
    return tuple(names)


@cache
def load_cifar(name: str, folder: Path, split: str) -> Labelled:
    """One split of `cifar10` or `cifar100`: 50,000 or 10,000 pictures of 32x32 pixels, RGB."""
    (root, end), kind = _find(name, folder), _KINDS[name]
    cifar_names(name, folder)
    parts = [(_read_binary if end else _read_pickle)(root / f"{file}{end}", kind) for file in kind.files[split]]
    pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return np.ascontiguousarray(pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)), labels


def _read_binary(file: Path, kind: _Kind) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [n 3072] and labels [n]."""
    data, row = read_bytes(file, limit=_MAX_BYTES), kind.bytes_before + _PIXELS
    if not data or len(data) % row:
        raise DataError(f"{len(data):,} bytes, expected a multiple of {row:,}", file=file)
    rows = np.frombuffer(data, np.uint8).reshape(-1, row)
    return check_labelled(rows[:, kind.bytes_before :], rows[:, kind.bytes_before - 1], kind.classes, file)


def _read_pickle(file: Path, kind: _Kind) -> tuple[np.ndarray, np.ndarray]:
    content = _unpickle(file)
    pixels, labels = content.get(b"data"), content.get(kind.label)
    if not isinstance(pixels, _Array) or pixels.values.shape[1:] != (_PIXELS,):
        found = f"an array {list(pixels.values.shape)}" if isinstance(pixels, _Array) else shown(pixels)
        raise DataError(f"data is {found}, expected an array [n {_PIXELS}] of bytes", file=file)
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 2**31 for label in labels):
        raise DataError(f"{kind.label.decode()} is {shown(labels)}, expected a list of numbers", file=file)
    return check_labelled(pixels.values, np.array(labels, np.int64), kind.classes, file)


class _Dtype:
    """Stands for `numpy.dtype` while a pickle is read."""

    def __init__(self, name: Any = None, *_: Any):
        self.is_byte = name in ("u1", "|u1", "uint8", b"u1", b"|u1", b"uint8")

    def __setstate__(self, state: Any) -> None:
        pass


class _Array:
    """Stands for `numpy.ndarray` while a pickle is read: takes bytes, and nothing else."""

    values = np.zeros(0, np.uint8)

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or not dtype.is_byte or not isinstance(data, bytes):
            raise ValueError("an array that does not hold bytes")
        self.values = np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")


_KNOWN = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): lambda text, encoding="latin1": text.encode("latin-1"),
    **{(module, "bytes"): bytes for module in ("__builtin__", "builtins")},
}
_CODES = frozenset(
    """PROTO FRAME STOP MARK POP POP_MARK EMPTY_DICT DICT SETITEM SETITEMS EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE
    TUPLE TUPLE1 TUPLE2 TUPLE3 NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 STRING BINSTRING
    SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE PUT BINPUT LONG_BINPUT MEMOIZE
    GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD""".split()
)
_MAX_TUPLES = 1_000


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        """What stands for a name; nothing else is found."""
        if (module, name) not in _KNOWN:
            raise _Refused(f"{module}.{name}")
        return _KNOWN[module, name]


class _Refused(Exception):
    """The pickle asks for something that no such file needs."""


def _unpickle(file: Path) -> dict[Any, Any]:
    """The mapping in a pickle, keys as bytes."""
    data = read_bytes(file, limit=_MAX_BYTES)
    try:
        _check_codes(data)
        found = _Reader(io.BytesIO(data), encoding="bytes").load()
    except _Refused as error:
        raise DataError(f"refused: it asks for {one_line(error)}, nothing was run", file=file) from None
    except Exception as error:  # damaged pickles fail in every way
        raise DataError(f"no pickle that can be read ({one_line(error) or type(error).__name__})", file=file) from None
    if not isinstance(found, dict):
        raise DataError(f"holds {shown(found)}, expected a mapping", file=file)
    return {key.encode() if isinstance(key, str) else key: value for key, value in found.items()}


def _check_codes(data: bytes) -> None:
    """Walk through a pickle without doing what it says.

    Its reader would make room for all memo positions below the highest, and overflow its stack on hashing tuples nested
    without end.
    """
    tuples = 0
    for count, (code, argument, _) in enumerate(pickletools.genops(data), start=1):
        if code.name not in _CODES:
            raise _Refused(f"code {code.name}")
        if "PUT" in code.name and int(argument or 0) > count:
            raise ValueError("memo positions out of line")
        tuples += "TUPLE" in code.name or code.name == "REDUCE"
        if tuples > _MAX_TUPLES:
            raise ValueError("more tuples than such a file has")
