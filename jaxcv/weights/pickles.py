"""Tensors of torch's .pth files, without running what is pickled in them.

A pickle is a program that may name any function of this machine and call it. Here it can name a short list of things,
and all of them are stand-ins that do nothing: a tensor becomes a note of its storage, offset, size and strides, a
storage a note of its place in the file. Arrays are made afterwards, for the tensors of the state dict alone, once
their bounds have been checked. Whatever else a file names is refused by name, and nothing has run.

Two formats. Since torch 1.6 a zip archive: FOLDER/data.pkl, FOLDER/byteorder, and each storage's bytes under
FOLDER/data/. Before, one pickle after the other (magic number, version, machine, the object, keys of the storages),
then for each key the number of elements and their bytes, little-endian.
"""

import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from jaxcv.errors import DataError
from jaxcv.weights.archives import read_entry, short

_MAGIC = 0x1950A86A20F9469CFC6C
_Order = Literal["<", ">"]

_STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128", "Untyped": "uint8",
}  # fmt: skip
# How the bytes are read; what numpy lacks, or what may hold more than it should, as plain integers.
_DTYPES = {name: np.dtype(name) for name in _STORAGES.values() if name not in ("bfloat16", "bool")}
_DTYPES |= {name: np.dtype(name) for name in ("uint16", "uint32", "uint64")}
_DTYPES |= {"bfloat16": np.dtype("uint16"), "bool": np.dtype("uint8")}

# What a checkpoint may carry beside its tensors. It becomes something empty that nobody reads.
_UNREAD = {
    "builtins": "set frozenset complex slice bytearray list tuple int float",
    "__builtin__": "set frozenset complex slice bytearray list tuple int float",  # Python 2's name, used by protocol 2
    "collections": "Counter defaultdict deque",
    "argparse": "Namespace",
    "pathlib": "Path PosixPath WindowsPath",
    "pathlib._local": "Path PosixPath WindowsPath",  # Python 3.13
    "numpy": "dtype float32 float64 int64",
    "numpy.core.multiarray": "scalar",
    "numpy._core.multiarray": "scalar",
    "_codecs": "encode",
    "torch": "device Tensor",
    "torch.nn.parameter": "Parameter",
}

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net")
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile

_MAX_PICKLE = 2**26  # bytes; a state dict takes about 200 a tensor
_MAX_DEPTH = 1_000  # of tuples in tuples: hashing one a hundred times deeper overflows the C stack
_ROOM, _RATIO = 2**27, 8  # bytes that arrays may take: so many, and so many times the file


@dataclass(frozen=True, eq=False)
class _Storage:
    """Where a storage lies. The fields of these notes hold whatever the file said."""

    dtype: Any
    key: Any
    elements: Any
    start: Any = 0
    """First element of a view of a storage."""


@dataclass(frozen=True, eq=False)
class _Tensor:
    storage: Any
    offset: Any
    size: Any
    stride: Any
    dtype: Any = None
    """Where it is not the storage's."""
    metadata: Any = ()


class _Names(dict):
    """An OrderedDict; the attributes that torch pickles with it are dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Unread:
    """Takes everything and keeps nothing."""

    def __new__(cls, *args: Any) -> Any:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    add = append


_KNOWN: dict[tuple[str, str], Any] = {
    **{(module, name): _Unread for module, names in _UNREAD.items() for name in names.split()},
    **{(module, "dict"): _Names for module in ("builtins", "__builtin__")},
    **{
        (m, f"{name}Storage"): dtype
        for m in ("torch", "torch.cuda", "torch.storage")
        for name, dtype in _STORAGES.items()
    },
    **{("torch", name): name for name in _DTYPES},
    ("collections", "OrderedDict"): _Names,
}


def _functions() -> dict[tuple[str, str], Any]:
    """What pickles may call besides. Made anew for each: the attributes that one may set on them are gone with it."""
    return {
        ("torch", "Size"): lambda size: size,
        ("torch._utils", "_rebuild_tensor"): lambda *note: _Tensor(*note),
        # requires_grad and hooks stand between; metadata says that a tensor is to be conjugated or negated when read.
        ("torch._utils", "_rebuild_tensor_v2"): lambda *note: _Tensor(*note[:4], metadata=note[6:]),
        ("torch._utils", "_rebuild_tensor_v3"): lambda *note: _Tensor(*note[:4], dtype=note[6], metadata=note[7:]),
        ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        ("torch._utils", "_rebuild_parameter_with_state"): lambda tensor, *_: tensor,
        ("torch._tensor", "_rebuild_from_type_v2"): lambda function, _, note, __: function(*note),
    }


def from_zip(path: Path, archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """The tensors of a state dict that torch saved since 1.6, by name, in the file's order.

    A checkpoint that holds its state dict under a name such as `state_dict` or `model` is unwrapped, and a `module.`
    before every name dropped. bfloat16 and half become float32. Arrays may be read-only, and share memory where the
    tensors did.

    Raises:
        DataError: a pickle that names anything but tensors and plain data; no state dict; an archive torch would not
            write. Other exceptions, of any type, where the file is truncated or damaged.
    """
    entries = archive.infolist()
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise DataError("refused: unpacks to more than its size, and torch does not write such files", file=path)
    names = archive.namelist()
    folder = next(name for name in names if f"/{name}".endswith("/data.pkl")).removesuffix("data.pkl")
    order = read_entry(archive, f"{folder}byteorder") if f"{folder}byteorder" in names else b"little"
    root, _ = _unpickle(path, io.BytesIO(read_entry(archive, f"{folder}data.pkl")))
    storages = cache(lambda key: read_entry(archive, f"{folder}data/{key}"))
    return _arrays(path, root, storages, ">" if order == b"big" else "<")


def from_sequence(path: Path) -> dict[str, np.ndarray]:
    """The same from a file that torch wrote before 1.6."""
    stream = io.BytesIO(data := path.read_bytes())
    if _unpickle(path, stream)[0] != _MAGIC:
        raise DataError("refused: a pickle, but none of torch's; nothing was run", file=path)
    for _ in range(2):  # version and machine
        _unpickle(path, stream)
    root, types = _unpickle(path, stream)
    keys, _ = _unpickle(path, stream)
    storages, place = {}, stream.tell()
    for key in keys:
        elements = int.from_bytes(data[place : place + 8], "little", signed=True)
        end = place + 8 + elements * _DTYPES[types[key]].itemsize
        if not place + 8 <= end <= len(data):
            raise EOFError(f"a storage of {elements:,} elements reaches beyond the end")
        storages[key] = memoryview(data)[place + 8 : end]
        place = end
    return _arrays(path, root, storages.__getitem__, "<")


def _unpickle(path: Path, stream: io.BytesIO) -> tuple[Any, dict[str, Any]]:
    """The object of the pickle that begins here, and the type of each storage it names; goes on to the pickle's end."""
    start = stream.tell()
    _check_opcodes(path, stream)
    reader = _Reader(path, stream.getvalue()[start : stream.tell()])
    return reader.load(), reader.types


class _Reader(pickle.Unpickler):
    def __init__(self, path: Path, data: bytes):
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self.path, self.known = path, _KNOWN | _functions()
        self.types: dict[str, Any] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        """The stand-in for what the pickle names."""
        if (module, name) not in self.known:
            _refuse(self.path, f"{module}.{name}")
        return self.known[module, name]

    def persistent_load(self, pid: Any, /) -> Any:
        """The note for a storage: ("storage", type, key, device, elements), then None or (key, start, elements)."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise ValueError("it refers to something that is no storage")
        _, dtype, key, _, elements, *view = pid
        if not isinstance(key, str) or not isinstance(dtype, str):
            raise ValueError("a storage without a name or a type")
        self.types.setdefault(key, dtype)
        if not view or view[0] is None:
            return _Storage(dtype, key, elements)
        _, start, elements = view[0]
        return _Storage(dtype, key, elements, start)


def _refuse(path: Path, name: str) -> NoReturn:
    raise DataError(
        f"refused: its pickle asks for {short(name)}, which is neither a tensor nor plain data; nothing was run. "
        "Save the state dict alone: torch.save(model.state_dict(), FILE)",
        file=path,
    )


def _check_opcodes(path: Path, stream: io.BytesIO) -> None:
    """Walk to the end of a pickle without doing what it says.

    It must be whole and of credible length, and must not break its reader: no memo places far out of line (room would
    be made for all before them), no tuples nested so deep that hashing them overflows the stack.
    """
    start, mark = stream.tell(), pickletools.markobject
    stack: list[int] = []  # how deep tuples are nested in what lies there; -1 for a mark
    memo: dict[int, int] = {}
    for count, (opcode, arg, place) in enumerate(pickletools.genops(stream), start=1):
        name, taken = opcode.name, opcode.stack_before
        if name.startswith("EXT"):  # codes whose meaning depends on the process
            _refuse(path, f"extension {arg}")
        if (place or 0) - start > _MAX_PICKLE or "PUT" in name and (arg or 0) > count:
            raise ValueError("a pickle of absurd size")
        deepest = memo[arg or 0] if name.endswith("GET") else 0
        if mark in taken:
            taken = taken[: taken.index(mark)]
            while (depth := stack.pop()) >= 0:
                deepest = max(deepest, depth)
        deepest = max([deepest, *(stack.pop() for _ in taken)])
        deepest += name.startswith(("TUPLE", "FROZENSET", "REDUCE", "NEWOBJ"))
        if deepest > _MAX_DEPTH:
            raise ValueError("tuples nested without end")
        stack += [-1 if item is mark else deepest for item in opcode.stack_after]
        if "PUT" in name or name == "MEMOIZE":
            memo[len(memo) if arg is None else arg] = stack[-1]


def _arrays(path: Path, root: Any, read: Callable[[str], Any], order: _Order) -> dict[str, np.ndarray]:
    """Arrays for the tensors of the state dict within `root`."""
    arrays, room = {}, _ROOM + _RATIO * path.stat().st_size
    for name, tensor in _state_dict(path, root).items():
        arrays[name] = _array(tensor, read, order, room)
        room -= arrays[name].nbytes
    return arrays


def _state_dict(path: Path, root: Any) -> dict[str, _Tensor]:
    """The mapping of names to tensors in a checkpoint, on top or under one of the usual names."""
    found, seen = root, set()
    while isinstance(found, dict) and id(found) not in seen:
        seen.add(id(found))
        found = next((found[name] for name in _WRAPPERS if isinstance(found.get(name), dict)), found)
    tensors = {k: v for k, v in found.items() if isinstance(v, _Tensor)} if isinstance(found, dict) else {}
    if not tensors or not all(isinstance(name, str) for name in tensors):
        held = ", ".join(str(name) for name in list(found)[:9]) if isinstance(found, dict) else "something else"
        raise DataError(f"holds no state dict, a tensor for each name, but {short(held) or 'nothing'}", file=path)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _array(tensor: _Tensor, read: Callable[[str], Any], order: _Order, room: int) -> np.ndarray:
    """The values of a tensor in rows, if they take no more bytes than there is room for."""
    storage, size, stride = tensor.storage, tensor.size, tensor.stride
    if not isinstance(storage, _Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise ValueError("a tensor without storage, size or strides")
    if any(tensor.metadata):
        raise ValueError("a tensor that is not what its storage holds")
    for number in (*size, *stride, tensor.offset, storage.start, storage.elements):
        if type(number) is not int or number < 0:
            raise ValueError("a tensor whose size, strides or offset are no numbers")
    name, unit = tensor.dtype or storage.dtype, _DTYPES[storage.dtype].itemsize
    dtype = _DTYPES[name].newbyteorder(order)
    data = memoryview(read(storage.key))[storage.start * unit : (storage.start + storage.elements) * unit]
    if len(data) != storage.elements * unit:
        raise EOFError(f"{len(data):,} bytes where a storage has {storage.elements * unit:,}")
    elements, last = math.prod(size), tensor.offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if elements and last >= len(data) // dtype.itemsize:
        raise ValueError(f"a tensor that reaches beyond its storage of {len(data):,} bytes")
    if elements * max(dtype.itemsize, 4) > room:
        raise ValueError(f"a tensor of absurd size, {elements:,} elements")
    strides = [s * dtype.itemsize if n > 1 else 0 for n, s in zip(size, stride, strict=True)]
    start = tensor.offset * dtype.itemsize
    view = np.ndarray(size, dtype, data, start, strides) if elements else np.zeros(size, dtype)
    if name == "bool":
        return np.asarray(view != 0)
    if name == "bfloat16":  # the upper half of a float32
        return np.asarray(view.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(view, np.float32 if name == "float16" else dtype.newbyteorder("="), order="C")
