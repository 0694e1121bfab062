"""Tensors of torch's .pth files, without running the code that is pickled in them.

A pickle is a program that can import and call any function. Here it can name only a short list of functions and
classes, which are replaced by inert ones: a tensor becomes a record of its storage, offset, size and strides, a storage
one of its key in the file. Arrays are made afterwards, for the tensors of the state dict alone, once their bounds have
been checked. A file that names anything else is refused, and nothing has run.

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
# How the bytes are read. bfloat16, which numpy lacks, and bool, whose bytes may be other than 0 and 1, as integers.
_DTYPES = {name: np.dtype(name) for name in _STORAGES.values() if name not in ("bfloat16", "bool")}
_DTYPES |= {name: np.dtype(name) for name in ("uint16", "uint32", "uint64")}
_DTYPES |= {"bfloat16": np.dtype("uint16"), "bool": np.dtype("uint8")}

# Types that a checkpoint may contain beside its tensors; each becomes an empty object.
_IGNORED_TYPES = {
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

_MAX_PICKLE = 2**26  # bytes; a state dict takes about 200 per tensor
_MAX_DEPTH = 1_000  # of nested tuples: hashing one a hundred times deeper overflows the C stack
_MAX_BYTES, _MAX_RATIO = 2**27, 8  # arrays may take 128 MiB and 8 times the size of the file


@dataclass(frozen=True, eq=False)
class _Storage:
    """A storage in the file. The fields of these records are unchecked."""

    dtype: Any
    key: Any
    elements: Any
    start: Any = 0
    """First element, of a view of a storage."""


@dataclass(frozen=True, eq=False)
class _Tensor:
    storage: Any
    offset: Any
    size: Any
    stride: Any
    dtype: Any = None
    """If it is not the storage's."""
    metadata: Any = ()


class _StateDict(dict):
    """An OrderedDict; the attributes that torch pickles with it are dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Ignored:
    """An object that ignores its arguments, state and items."""

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
    **{(module, name): _Ignored for module, names in _IGNORED_TYPES.items() for name in names.split()},
    **{(module, "dict"): _StateDict for module in ("builtins", "__builtin__")},
    **{
        (m, f"{name}Storage"): dtype
        for m in ("torch", "torch.cuda", "torch.storage")
        for name, dtype in _STORAGES.items()
    },
    **{("torch", name): name for name in _DTYPES},
    ("collections", "OrderedDict"): _StateDict,
}


def _functions() -> dict[tuple[str, str], Any]:
    """Functions that pickles may call. New ones for each pickle, because a pickle can set attributes on them."""
    return {
        ("torch", "Size"): lambda size: size,
        ("torch._utils", "_rebuild_tensor"): lambda *note: _Tensor(*note),
        # note[4:6] are requires_grad and hooks; metadata marks a tensor as lazily conjugated or negated.
        ("torch._utils", "_rebuild_tensor_v2"): lambda *note: _Tensor(*note[:4], metadata=note[6:]),
        ("torch._utils", "_rebuild_tensor_v3"): lambda *note: _Tensor(*note[:4], dtype=note[6], metadata=note[7:]),
        ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        ("torch._utils", "_rebuild_parameter_with_state"): lambda tensor, *_: tensor,
        ("torch._tensor", "_rebuild_from_type_v2"): lambda function, _, note, __: function(*note),
    }


def from_zip(path: Path, archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """The tensors of a state dict that torch saved since 1.6, by name, in the file's order.

    A checkpoint that holds its state dict under a name such as `state_dict` or `model` is unwrapped, and a `module.`
    before every name removed. bfloat16 and float16 become float32. Arrays may be read-only, and share memory where the
    tensors did.

    Raises:
        DataError: If the pickle names anything but tensors and plain data, there is no state dict, or torch does not
            write such archives.
        Exception: Of any type, if the file is truncated or damaged.
    """
    entries = archive.infolist()
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise DataError("refused: a compressed archive, which torch does not write", file=path)
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
        raise DataError("refused: a pickle, but not one of torch's; nothing was run", file=path)
    for _ in range(2):  # version and machine
        _unpickle(path, stream)
    root, types = _unpickle(path, stream)
    keys, _ = _unpickle(path, stream)
    storages, position = {}, stream.tell()
    for key in keys:
        elements = int.from_bytes(data[position : position + 8], "little", signed=True)
        end = position + 8 + elements * _DTYPES[types[key]].itemsize
        if not position + 8 <= end <= len(data):
            raise EOFError(f"a storage of {elements:,} elements reaches beyond the end")
        storages[key] = memoryview(data)[position + 8 : end]
        position = end
    return _arrays(path, root, storages.__getitem__, "<")


def _unpickle(path: Path, stream: io.BytesIO) -> tuple[Any, dict[str, Any]]:
    """The object of the pickle at the stream's position, and the type of each storage; moves to the pickle's end."""
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
        """The inert replacement of what the pickle names."""
        if (module, name) not in self.known:
            _refuse(self.path, f"{module}.{name}")
        return self.known[module, name]

    def persistent_load(self, pid: Any, /) -> Any:
        """The record of a storage: ("storage", type, key, device, elements), then None or (key, start, elements)."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise ValueError("it refers to something other than a storage")
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
        f"refused: its pickle names {short(name)}, which is neither a tensor nor plain data; nothing was run. "
        "Save the state dict alone: torch.save(model.state_dict(), FILE)",
        file=path,
    )


def _check_opcodes(path: Path, stream: io.BytesIO) -> None:
    """Scan a pickle to its end without executing it.

    It must be complete and of credible length, and must not crash the unpickler: no memo index far beyond the number of
    opcodes (for which memory would be allocated), no tuples nested so deeply that hashing them overflows the stack.
    """
    start, mark = stream.tell(), pickletools.markobject
    stack: list[int] = []  # for each object on the pickle's stack, the depth of its tuples; -1 for a mark
    memo: dict[int, int] = {}
    for count, (opcode, arg, position) in enumerate(pickletools.genops(stream), start=1):
        name, taken = opcode.name, opcode.stack_before
        if name.startswith("EXT"):  # extension codes, whose meaning depends on the process
            _refuse(path, f"extension {arg}")
        if (position or 0) - start > _MAX_PICKLE or "PUT" in name and (arg or 0) > count:
            raise ValueError("a pickle that is too large")
        deepest = memo[arg or 0] if name.endswith("GET") else 0
        if mark in taken:
            taken = taken[: taken.index(mark)]
            while (depth := stack.pop()) >= 0:
                deepest = max(deepest, depth)
        deepest = max([deepest, *(stack.pop() for _ in taken)])
        deepest += name.startswith(("TUPLE", "FROZENSET", "REDUCE", "NEWOBJ"))
        if deepest > _MAX_DEPTH:
            raise ValueError("tuples that are nested too deeply")
        stack += [-1 if item is mark else deepest for item in opcode.stack_after]
        if "PUT" in name or name == "MEMOIZE":
            memo[len(memo) if arg is None else arg] = stack[-1]


def _arrays(path: Path, root: Any, read: Callable[[str], Any], order: _Order) -> dict[str, np.ndarray]:
    """Arrays for the tensors of the state dict within `root`."""
    arrays, budget = {}, _MAX_BYTES + _MAX_RATIO * path.stat().st_size
    for name, tensor in _state_dict(path, root).items():
        arrays[name] = _array(tensor, read, order, budget)
        budget -= arrays[name].nbytes
    return arrays


def _state_dict(path: Path, root: Any) -> dict[str, _Tensor]:
    """The mapping of names to tensors in a checkpoint, at its top or under one of the usual names."""
    state, seen = root, set()
    while isinstance(state, dict) and id(state) not in seen:
        seen.add(id(state))
        state = next((state[name] for name in _WRAPPERS if isinstance(state.get(name), dict)), state)
    tensors = {k: v for k, v in state.items() if isinstance(v, _Tensor)} if isinstance(state, dict) else {}
    if not tensors or not all(isinstance(name, str) for name in tensors):
        content = ", ".join(str(name) for name in list(state)[:9]) if isinstance(state, dict) else "something else"
        raise DataError(f"holds no state dict of names and tensors, but {short(content) or 'nothing'}", file=path)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _array(tensor: _Tensor, read: Callable[[str], Any], order: _Order, budget: int) -> np.ndarray:
    """The values of a tensor as a contiguous array of at most `budget` bytes."""
    storage, size, stride = tensor.storage, tensor.size, tensor.stride
    if not isinstance(storage, _Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise ValueError("a tensor without storage, size or strides")
    if any(tensor.metadata):
        raise ValueError("a tensor that is lazily conjugated or negated")
    for number in (*size, *stride, tensor.offset, storage.start, storage.elements):
        if type(number) is not int or number < 0:
            raise ValueError("a tensor whose size, strides or offset are not integers of at least 0")
    name, unit = tensor.dtype or storage.dtype, _DTYPES[storage.dtype].itemsize
    dtype = _DTYPES[name].newbyteorder(order)
    data = memoryview(read(storage.key))[storage.start * unit : (storage.start + storage.elements) * unit]
    if len(data) != storage.elements * unit:
        raise EOFError(f"{len(data):,} bytes where a storage has {storage.elements * unit:,}")
    elements, last = math.prod(size), tensor.offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if elements and last >= len(data) // dtype.itemsize:
        raise ValueError(f"a tensor that reaches beyond its storage of {len(data):,} bytes")
    if elements * max(dtype.itemsize, 4) > budget:
        raise ValueError(f"a tensor that is too large, {elements:,} elements")
    strides = [s * dtype.itemsize if n > 1 else 0 for n, s in zip(size, stride, strict=True)]
    start = tensor.offset * dtype.itemsize
    view = np.ndarray(size, dtype, data, start, strides) if elements else np.zeros(size, dtype)
    if name == "bool":
        return np.asarray(view != 0)
    if name == "bfloat16":  # the upper half of a float32
        return np.asarray(view.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(view, np.float32 if name == "float16" else dtype.newbyteorder("="), order="C")
