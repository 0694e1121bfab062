"""Variables under torch's names and in its layouts, and torch's file of them, written without torch.

The file is what `torch.save` writes since 1.6: a zip archive with a pickle of the state dict, in which each tensor
names its storage, and the bytes of each storage.
"""

import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcv.errors import UserError
from jaxcv.weights import names

_STORAGES = {
    "float32": "Float",
    "float64": "Double",
    "float16": "Half",
    "int64": "Long",
    "int32": "Int",
    "uint8": "Byte",
}
_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def to_torch(model: Any, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The variables of a network as a state dict of arrays, which torchvision's network of that name loads.

    Kernels of convolutions become [out in h w], those of dense layers [out in]; where such a layer reads a flattened
    map, its inputs are in torch's order [c h w]. A network that torchvision has not keeps its own names, with dots:
    `neck.conv1.weight`.

    Args:
        model: the network.
        variables: its variables, `{"params": ..., "batch_stats": ...}`.
    """
    scheme = names.of(model).get("torchvision", lambda path: path.replace("/", "."))
    flattened, state = names.flattened(model), {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(dict(variables)):
        keys = [key.key for key in path]
        module, name = "/".join(keys[1:-1]), keys[-1]
        array = np.asarray(leaf)
        if name == "kernel" and array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        elif name == "kernel" and array.ndim == 2:
            array = array.T
            if (channels := flattened.get(module)) is not None:
                array = array.reshape(len(array), -1, channels).swapaxes(1, 2).reshape(array.shape)
        key = ".".join(part for part in (scheme(module), _LEAVES.get(name, name)) if part)
        state[key] = np.asarray(array, np.float32 if array.dtype.name == "bfloat16" else array.dtype, order="C")
    return state


def write_torch(path: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name as a file that `torch.load` and `load` read, atomically.

    Raises:
        UserError: an array of another type than floats and integers, or the file cannot be written.
    """
    path = Path(path).expanduser()
    for name, array in tensors.items():
        if array.dtype.name not in _STORAGES:
            raise UserError(f"{path}: {name} is of type {array.dtype}, expected one of {', '.join(_STORAGES)}")
    items = b"".join(_push(name) + _tensor(str(i), array) for i, (name, array) in enumerate(tensors.items()))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr(zipfile.ZipInfo("archive/data.pkl"), b"\x80\x02}(" + items + b"u.")
            archive.writestr(zipfile.ZipInfo("archive/byteorder"), "little")
            for i, array in enumerate(tensors.values()):
                data = array.astype(array.dtype.newbyteorder("<")).tobytes()
                with archive.open(zipfile.ZipInfo(f"archive/data/{i}"), "w", force_zip64=True) as entry:
                    entry.write(data)
            archive.writestr(zipfile.ZipInfo("archive/version"), "3\n")
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _tensor(key: str, array: np.ndarray) -> bytes:
    """Opcodes that push `torch._utils._rebuild_tensor_v2(storage, offset, size, strides, requires_grad, hooks)`."""
    kind = _global("torch", f"{_STORAGES[array.dtype.name]}Storage")
    storage = _push(("storage", kind, key, "cpu", array.size)) + b"Q"
    strides = tuple(stride // array.itemsize for stride in np.empty(array.shape, array.dtype).strides)
    hooks = _global("collections", "OrderedDict") + b")R"
    arguments = (storage, 0, array.shape, strides, b"\x89", hooks)
    return _global("torch._utils", "_rebuild_tensor_v2") + _push(arguments) + b"R"


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _push(value: Any) -> bytes:
    """Opcodes of protocol 2 that push a text, a number or a tuple; bytes are opcodes already."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_push, value)) + b"t"
    data = int(value).to_bytes(int(value).bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data
