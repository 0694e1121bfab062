"""Files in torch's two formats, written by hand opcode by opcode, so that tests can write what torch would not."""

import struct
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

TYPES = {"float32": "Float", "float64": "Double", "float16": "Half", "int64": "Long", "int32": "Int", "int16": "Short"}
TYPES |= {"int8": "Char", "uint8": "Byte", "bool": "Bool", "complex64": "ComplexFloat"}


@dataclass(frozen=True)
class Global:
    module: str
    name: str


@dataclass(frozen=True)
class Call:
    function: Any
    arguments: tuple = ()


@dataclass(frozen=True)
class Persistent:
    pid: Any


@dataclass(frozen=True)
class Raw:
    """Opcodes as they are."""

    opcodes: bytes


def opcodes(value):
    """What pushes a value, in protocol 2."""
    match value:
        case Raw():
            return value.opcodes
        case Global():
            return f"c{value.module}\n{value.name}\n".encode()
        case Call():
            return opcodes(value.function) + opcodes(value.arguments) + b"R"
        case Persistent():
            return opcodes(value.pid) + b"Q"
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(data)]) + data
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(opcodes, value)) + b"e"
        case dict():
            return b"}(" + b"".join(opcodes(k) + opcodes(v) for k, v in value.items()) + b"u"
    raise TypeError(value)


def pickled(value):
    return b"\x80\x02" + opcodes(value) + b"."


def tensor(key, size, stride=None, *, elements, offset=0, dtype="Float", version=2, view=None, metadata=()):
    """A tensor on the storage of that key; strides as of rows unless given."""
    if stride is None:
        stride = tuple(int(np.prod(size[i + 1 :], dtype=int)) for i in range(len(size)))
    storage = Persistent(("storage", Global("torch", f"{dtype}Storage"), key, "cuda:0", elements, *(view or ())))
    hooks = Call(Global("collections", "OrderedDict"))
    more = () if version == 1 else (False, hooks, *metadata)
    name = "_rebuild_tensor" if version == 1 else f"_rebuild_tensor_v{version}"
    return Call(Global("torch._utils", name), (storage, offset, size, stride, *more))


def as_tensors(arrays):
    """The tensors and the storages, (elements, bytes) by key, for some arrays."""
    tensors, storages = {}, {}
    for key, (name, array) in enumerate(arrays.items()):
        storages[str(key)] = (array.size, array.tobytes())
        tensors[name] = tensor(str(key), array.shape, elements=array.size, dtype=TYPES[array.dtype.name])
    return tensors, storages


def write_zip(path, root, storages=(), *, folder="archive", order="little", pack=zipfile.ZIP_STORED, extra=()):
    with zipfile.ZipFile(path, "w", pack) as archive:
        archive.writestr(f"{folder}/data.pkl", pickled(root))
        archive.writestr(f"{folder}/byteorder", order)
        for key, (_, data) in dict(storages).items():
            archive.writestr(f"{folder}/data/{key}", data)
        archive.writestr(f"{folder}/version", "3\n")
        for name, data in dict(extra).items():
            archive.writestr(name, data)
    return path


def legacy_bytes(root, storages=(), *, magic=0x1950A86A20F9469CFC6C, machine=None, keys=None):
    storages = dict(storages)
    machine = machine or {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4}}
    pickles = (magic, 1001, machine, root, list(storages) if keys is None else keys)
    data = b"".join(map(pickled, pickles))
    return data + b"".join(struct.pack("<q", elements) + values for elements, values in storages.values())


def write_legacy(path, root, storages=(), **options):
    path.write_bytes(legacy_bytes(root, storages, **options))
    return path
