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
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from jaxcv.data.dataset import Dataset
from jaxcv.data.io.images import resize_images
from jaxcv.data.io.text import find_folder, holds, one_line, read_bytes, read_lines, shown
from jaxcv.data.sources.in_memory import Labelled, LabelledImages
from jaxcv.types import DataError

_SIDE, _PIXELS = 32, 3 * 32 * 32
_MAX_BYTES = 2**28


class _Kind(NamedTuple):
    """How one of the sets is published."""

    classes: int
    pickled: dict[str, list[str]]
    """Files by split."""
    label: bytes
    """Key of the classes in a pickle."""
    names: tuple[str, bytes]
    """File and key of the class names."""
    binary: dict[str, list[str]]
    bytes_before: int
    """Before the pixels of a picture in a binary file; the last is its class."""
    names_text: str
    """File of the class names beside the binary files."""


_TEN = [f"data_batch_{i}" for i in range(1, 6)]
_KINDS = {
    "cifar10": _Kind(
        10,
        {"train": _TEN, "test": ["test_batch"]},
        b"labels",
        ("batches.meta", b"label_names"),
        {"train": [f"{name}.bin" for name in _TEN], "test": ["test_batch.bin"]},
        1,
        "batches.meta.txt",
    ),
    "cifar100": _Kind(
        100,
        {"train": ["train"], "test": ["test"]},
        b"fine_labels",
        ("meta", b"fine_label_names"),
        {"train": ["train.bin"], "test": ["test.bin"]},
        2,
        "fine_label_names.txt",
    ),
}


def open_cifar(
    name: str, folder: Path, *, image_size: int, channels: int = 3, on_error: str = "raise"
) -> tuple[Dataset, Dataset]:
    """Open `cifar10` or `cifar100`: the 50,000 training and 10,000 test pictures of 32x32 pixels, uint8 [b s s c].

    Args:
      name: which of the two.
      folder: see the module; class folders are opened as `data=folder:PATH`.
      image_size: side of the square that pictures are resized to, in pixels.
      channels: 3 for RGB, 1 for grey.
      on_error: for class folders.
    """
    if folder.is_dir() and any((folder / split).is_dir() for split in ("train", "test")):
        from jaxcv.data.sources.class_folders import open_folder

        return open_folder(folder, image_size=image_size, channels=channels, on_error=on_error)
    train, test = (
        Dataset(
            LabelledImages(
                split,
                partial(_names, name, folder),
                image_size,
                load=partial(_load, name, folder, split),
                fit=partial(resize_images, size=image_size),
                file_size=_SIDE,
                channels=channels,
                in_color=True,
            ),
            image_size,
        )
        for split in ("train", "test")
    )
    return train, test


@cache
def _find(name: str, folder: Path) -> tuple[Path, bool]:
    """The folder of the files, and whether they are pickles."""
    find_folder(folder, f"data={name}:PATH needs the folder with its files")
    kind = _KINDS[name]
    for root in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        for files, pickled in ((kind.pickled, True), (kind.binary, False)):
            if all((root / file).is_file() for file in (*files["train"], *files["test"])):
                return root, pickled
    expected = f"{', '.join(kind.pickled['train'])}, {', '.join(kind.pickled['test'])}"
    raise DataError(f"files are missing; expected {expected}, or the same with .bin; {holds(folder)}", file=folder)


@cache
def _names(name: str, folder: Path) -> tuple[str, ...]:
    root, pickled = _find(name, folder)
    kind = _KINDS[name]
    file = root / (kind.names[0] if pickled else kind.names_text)
    if not file.is_file():
        return tuple(map(str, range(kind.classes)))
    if pickled:
        found = _unpickle(file).get(kind.names[1])
        names = (
            [n.decode("utf-8", "replace") for n in found or [] if isinstance(n, bytes)]
            if isinstance(found, list)
            else []
        )
    else:
        names = [text for _, text in read_lines(file)]
    if len(set(names)) != kind.classes:
        raise DataError(f"{len(set(names))} class names, expected {kind.classes}; fetch the file again", file=file)
    return tuple(names)


@cache
def _load(name: str, folder: Path, split: str) -> Labelled:
    root, pickled = _find(name, folder)
    _names(name, folder)
    kind = _KINDS[name]
    read = _read_pickle if pickled else _read_binary
    parts = [read(root / file, kind) for file in (kind.pickled if pickled else kind.binary)[split]]
    pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    images = np.ascontiguousarray(pixels.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1))
    return images, labels


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
        place = int(np.argmax(labels >= kind.classes))
        message = f"label {labels[place]} of picture {place}, expected 0 to {kind.classes - 1}; fetch the file again"
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
        _refuse(
            file, f"holds {shown(found) if isinstance(found, int | float | str) else 'something'}, expected a mapping"
        )
    return {key.encode() if isinstance(key, str) else key: value for key, value in found.items()}


def _refuse(file: Path, why: str) -> NoReturn:
    raise DataError(f"refused: {why}; fetch the file again", file=file)


def _check_codes(data: bytes) -> None:
    """Walk through a pickle without doing what it says.

    Its reader would make room for all memo places below the highest, and overflow its stack on hashing tuples nested
    without end.
    """
    tuples = 0
    for count, (code, argument, _) in enumerate(pickletools.genops(data), start=1):
        if code.name not in _CODES:
            raise _Refused(f"code {code.name}")
        if "PUT" in code.name and isinstance(argument, int) and argument > count:
            raise ValueError("memo places out of line")
        tuples += "TUPLE" in code.name or code.name == "REDUCE"
        if tuples > _MAX_TUPLES:
            raise ValueError("more tuples than such a file has")
