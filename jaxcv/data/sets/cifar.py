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
from typing import Any, NamedTuple, NoReturn

import numpy as np

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
    files: dict[str, list[str]]
    """Pickles by split; binary files have `.bin` after the name."""
    label: bytes
    """Key of the classes in a pickle."""
    names: tuple[str, bytes]
    """File and key of the class names."""
    bytes_before: int
    """Before the pixels of a picture in a binary file; the last is its class."""
    names_text: str
    """File of the class names beside the binary files."""


_TEN = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
_HUNDRED, _FINE = {"train": ["train"], "test": ["test"]}, ("meta", b"fine_label_names")
_KINDS = {
    "cifar10": _Kind(10, _TEN, b"labels", ("batches.meta", b"label_names"), 1, "batches.meta.txt"),
    "cifar100": _Kind(100, _HUNDRED, b"fine_labels", _FINE, 2, "fine_label_names.txt"),
}


@cache
def _find(name: str, folder: Path) -> tuple[Path, str]:
    """The folder of the files, and how their names end."""
    find_folder(folder, f"data={name}:PATH needs the folder with its files")
    files = _KINDS[name].files
    for root in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        for end in ("", ".bin"):
            if all((root / f"{file}{end}").is_file() for file in (*files["train"], *files["test"])):
                return root, end
    expected = f"{', '.join(files['train'])}, {', '.join(files['test'])}"
    raise DataError(f"files are missing; expected {expected}, or the same with .bin; {holds(folder)}", file=folder)


@cache
def cifar_names(name: str, folder: Path) -> tuple[str, ...]:
    """The class names; numbers where their file is not there."""
    root, end = _find(name, folder)
    kind = _KINDS[name]
    file = root / (kind.names_text if end else kind.names[0])
    if not file.is_file():
        return tuple(map(str, range(kind.classes)))
    if end:
        names = [text for _, text in read_lines(file)]
    else:
        found = _unpickle(file).get(kind.names[1])
        found = found if isinstance(found, list) else []
        names = [n.decode("utf-8", "replace") for n in found if isinstance(n, bytes)]
    if len(set(names)) != kind.classes:
        raise DataError(f"{len(set(names))} class names, expected {kind.classes}; fetch the file again", file=file)
    return tuple(names)


@cache
def load_cifar(name: str, folder: Path, split: str) -> Labelled:
    """One split of `cifar10` or `cifar100`: 50,000 or 10,000 pictures of 32x32 pixels, RGB."""
    root, end = _find(name, folder)
    cifar_names(name, folder)
    kind, read = _KINDS[name], _read_binary if end else _read_pickle
    parts = [read(root / f"{file}{end}", kind) for file in kind.files[split]]
    pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return np.ascontiguousarray(pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)), labels


def _read_binary(file: Path, kind: _Kind) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [n 3072] and labels [n]."""
    data, row = read_bytes(file, limit=_MAX_BYTES), kind.bytes_before + _PIXELS
    if not data or len(data) % row:
        raise DataError(f"{len(data):,} bytes, expected a multiple of {row:,}; fetch the file again", file=file)
    rows = np.frombuffer(data, np.uint8).reshape(-1, row)
    return rows[:, kind.bytes_before :], _checked(rows[:, kind.bytes_before - 1], kind, file)


def _read_pickle(file: Path, kind: _Kind) -> tuple[np.ndarray, np.ndarray]:
    content = _unpickle(file)
    pixels, labels = content.get(b"data"), content.get(kind.label)
    if not isinstance(pixels, _Array) or pixels.values.shape[1:] != (_PIXELS,):
        raise DataError(f"data is {_what(pixels)}, expected an array [n {_PIXELS}] of bytes; fetch it again", file=file)
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 2**31 for label in labels):
        key = kind.label.decode()
        raise DataError(f"{key} is {_what(labels)}, expected a list of numbers; fetch the file again", file=file)
    if len(labels) != len(pixels.values):
        raise DataError(f"{len(labels):,} labels for {len(pixels.values):,} pictures; fetch it again", file=file)
    return pixels.values, _checked(np.array(labels, np.int64), kind, file)


def _what(value: Any) -> str:
    return f"an array {list(value.values.shape)}" if isinstance(value, _Array) else shown(value) if value else "missing"


def _checked(labels: np.ndarray, kind: _Kind, file: Path) -> np.ndarray:
    if len(labels) == 0:
        raise DataError("holds no picture; fetch the file again", file=file)
    if labels.max() >= kind.classes:
        first = int(np.argmax(labels >= kind.classes))
        message = f"label {labels[first]} of picture {first}, expected 0 to {kind.classes - 1}; fetch the file again"
        raise DataError(message, file=file)
    return labels.astype(np.int32)


class _Dtype:
    """Stands for `numpy.dtype` while a pickle is read."""

    def __init__(self, name: Any = None, *_: Any):
        self.name = name if isinstance(name, str) else name.decode("latin-1") if isinstance(name, bytes) else ""

    def __setstate__(self, state: Any) -> None:
        pass


class _Array:
    """Stands for `numpy.ndarray` while a pickle is read: takes bytes, and nothing else."""

    values = np.zeros(0, np.uint8)

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or dtype.name not in ("u1", "|u1", "uint8") or not isinstance(data, bytes):
            raise ValueError("an array that does not hold bytes")
        if not isinstance(shape, tuple) or len(shape) > 2 or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("an array of absurd shape")
        self.values = np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")


_KNOWN = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): lambda text, encoding="latin1": text.encode("latin-1"),
    ("__builtin__", "bytes"): bytes,
    ("builtins", "bytes"): bytes,
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
        _refuse(file, f"it asks for {one_line(error)}, which no such file needs; nothing was run")
    except Exception as error:  # damaged pickles fail in every way
        _refuse(file, f"no pickle that can be read ({one_line(error) or type(error).__name__})")
    if not isinstance(found, dict):
        what = shown(found) if isinstance(found, int | float | str) else "something"
        _refuse(file, f"holds {what}, expected a mapping")
    return {key.encode() if isinstance(key, str) else key: value for key, value in found.items()}


def _refuse(file: Path, why: str) -> NoReturn:
    raise DataError(f"refused: {why}; fetch the file again", file=file)


def _check_codes(data: bytes) -> None:
    """Walk through a pickle without doing what it says.

    Its reader would make room for all memo positions below the highest, and overflow its stack on hashing tuples nested
    without end.
    """
    tuples = 0
    for count, (code, argument, _) in enumerate(pickletools.genops(data), start=1):
        if code.name not in _CODES:
            raise _Refused(f"code {code.name}")
        if "PUT" in code.name and isinstance(argument, int) and argument > count:
            raise ValueError("memo positions out of line")
        tuples += "TUPLE" in code.name or code.name == "REDUCE"
        if tuples > _MAX_TUPLES:
            raise ValueError("more tuples than such a file has")
