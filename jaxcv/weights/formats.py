"""Files of weights as flat mappings of names to numpy arrays, and back.

A file's format is told by its first bytes, not its name. Nothing in a file is ever executed. Names are those of the
file. Arrays may be read-only. bfloat16, which numpy lacks, becomes float32 without loss. HDF5 is read by its own C
library, which a damaged file can hang: load it only from sources that you trust.
"""

import io
import itertools
import math
import os
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxcv.errors import DataError, UserError
from jaxcv.weights import pickles
from jaxcv.weights.archives import check_total, named_errors, open_zip, read_entry, short

_SAFETENSORS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1", "BOOL": "?", "C64": "<c8",
}  # fmt: skip
_HDF5 = b"\x89HDF\r\n\x1a\n"


def load(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a file of weights, by name.

    Args:
        path: `.npz`; `.safetensors`; `.pth`, a state dict or a checkpoint that holds one, in torch's format since 1.6
            or before (float16 becomes float32, too); `.h5` and `.keras`, for which h5py must be installed: Keras's
            named weights as `layer/kernel`, files without such names by their HDF5 paths, `layers/conv2d/vars/0`.

    Returns:
        Name to array, in the file's order.

    Raises:
        DataError: If there is no such file, or it is of another format, truncated, damaged, or holds code or objects.
    """
    path = Path(path).expanduser()
    with named_errors(path):
        head = _head(path)
        if head.startswith(b"PK"):
            tensors = _from_zip(path)
        elif head.startswith(_HDF5):
            tensors = _from_hdf5(path, path)
        elif head[:1] == b"\x80" and len(head) > 1 and head[1] <= 5:
            tensors = pickles.from_sequence(path)
        elif head[8:9] == b"{" or path.suffix == ".safetensors":
            tensors = _from_safetensors(path)
        else:
            what = "is Darknet's, which has no names: weights.from_darknet(model, FILE) reads it"
            raise DataError(what if path.suffix == ".weights" else _what_it_is(head), file=path)
        if not tensors:
            raise DataError("holds no arrays", file=path)
        return {name: _checked(path, name, tensor) for name, tensor in tensors.items()}


def _head(path: Path) -> bytes:
    """The first bytes of a file. Raises DataError if it is missing or empty."""
    if path.is_dir():
        raise DataError("is a folder; expected a file of weights: .npz, .safetensors, .h5 or .pth", file=path)
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        raise DataError("no such file", file=path) from None
    except OSError as error:
        raise DataError(f"cannot be opened: {error.strerror}", file=path) from None
    if not head:
        raise DataError("is empty; fetch the file again", file=path)
    return head


def _what_it_is(head: bytes) -> str:
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "is a web page, not weights, perhaps an error or a log-in page; fetch the file again"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not weights: fetch the file with git lfs pull"
    return f"starts with {head[:8].hex(' ')}, which is none of .npz, .safetensors, .h5 (HDF5) and .pth"


def _checked(path: Path, name: str, tensor: np.ndarray) -> np.ndarray:
    """The tensor in this machine's byte order. Raises DataError if it does not hold numbers."""
    if tensor.dtype.kind not in "biufc":
        raise DataError(f"refused: {short(name)} is of type {tensor.dtype}, expected numbers", file=path)
    return np.asarray(tensor, tensor.dtype.newbyteorder("="), order="C")


def _from_zip(path: Path) -> dict[str, np.ndarray]:
    with open_zip(path) as archive:
        names = archive.namelist()
        if any(f"/{name}".endswith("/data.pkl") for name in names):
            return pickles.from_zip(path, archive)
        if "model.weights.h5" in names:
            return _from_hdf5(path, io.BytesIO(read_entry(archive, "model.weights.h5")))
        arrays = [name for name in names if name.endswith(".npy")]
        if names and not arrays:
            raise DataError(f"a zip archive without weights; it holds {short(', '.join(names))}", file=path)
        return {name.removesuffix(".npy"): _from_npy(path, archive, name) for name in arrays}


def _from_npy(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    stream = io.BytesIO(data := read_entry(archive, name))
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = header[np.lib.format.read_magic(stream)](stream)
    if dtype.hasobject:
        raise DataError(f"refused: {short(name)} is an array of Python objects, expected numbers", file=path)
    size, actual = math.prod(shape) * dtype.itemsize, len(data) - stream.tell()
    if size != actual or min(shape, default=0) < 0:
        raise ValueError(f"{short(name)} has {actual:,} bytes instead of {size:,}")
    if not size:
        return np.zeros(shape, dtype)
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")


def _from_safetensors(path: Path) -> dict[str, np.ndarray]:
    import safetensors

    tensors = {}
    for name, note in safetensors.deserialize(path.read_bytes()):
        if note["dtype"] not in _SAFETENSORS:
            raise DataError(f"{short(name)} is of type {note['dtype']}, which is not supported", file=path)
        tensor = np.frombuffer(note["data"], _SAFETENSORS[note["dtype"]]).reshape(note["shape"])
        if note["dtype"] == "BF16":
            tensor = np.asarray(tensor.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = tensor
    return tensors


def _from_hdf5(path: Path, source: Path | io.BytesIO) -> dict[str, np.ndarray]:
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise DataError(
            "HDF5 is read with h5py, which is not installed: pip install 'jaxcv-research[keras]'", file=path
        ) from None
    with h5py.File(source, "r") as file:
        items: dict[str, Any] = {}
        file.visititems(items.__setitem__)  # follows hard links only, which stay within the file
        arrays = {name: item for name, item in items.items() if isinstance(item, h5py.Dataset)}
        for name, array in arrays.items():
            if array.external or array.is_virtual:
                raise DataError(f"refused: the values of {short(name)} lie in another file", file=path)
        check_total(path, sum(math.prod(array.shape or ()) * array.dtype.itemsize for array in arrays.values()))
        folder = "model_weights/" if "model_weights" in items else ""
        layers = _attribute(items["model_weights"] if folder else file, "layer_names")
        weights = {layer: _attribute(items[folder + layer], "weight_names") for layer in layers}
        names = _keras_names(weights) or {name: name for name in arrays if "optimizer" not in name.split("/")}
        return {name: np.asarray(arrays[folder + key][()]) for name, key in names.items()}


def _attribute(group: Any, name: str) -> list[str]:
    """A list of names in an attribute; Keras cuts long ones into `name0`, `name1` and so on."""
    pieces = (
        [name]
        if name in group.attrs
        else itertools.takewhile(group.attrs.__contains__, (f"{name}{i}" for i in itertools.count()))
    )
    texts = [text for piece in pieces for text in group.attrs[piece]]
    return [text.decode() if isinstance(text, bytes) else str(text) for text in texts]


def _keras_names(weights: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Name to HDF5 path of the weights in a file of named layers.

    The path is `conv1/conv1/kernel:0`: the layer, then the weight's name in it. Newer versions put the model's name
    before the weight's, old ones write `conv1_W_1:0`. All become `conv1/kernel`, unless two would become the same.
    """
    names = {}
    for layer, weight in ((layer, weight) for layer, there in weights.items() for weight in there):
        *modules, leaf = weight.partition(":")[0].split("/")
        if not modules:
            old = leaf.removeprefix(f"{layer}_").removesuffix("_1")
            modules, leaf = [layer], {"W": "kernel", "b": "bias"}.get(old, leaf)
        names[f"{layer}/{weight}"] = f"{modules[-1]}/{leaf}"
    count = Counter(names.values())
    return {name if count[name] == 1 else key.partition(":")[0]: key for key, name in names.items()}


def save(path: str | Path, variables: Mapping[str, Any]) -> None:
    """Write the variables of a network to one file, atomically.

    Args:
        path: ending in `.npz` or `.safetensors`.
        variables: nested mapping of arrays; names in the file are paths, `params/stem/conv/kernel`. `load`
            returns the same bits, bfloat16 as float32.

    Raises:
        UserError: If the suffix is another, a leaf is not an array of numbers, or the file cannot be written.
    """
    path = Path(path).expanduser()
    if path.suffix not in (".npz", ".safetensors"):
        raise UserError(f"{path}: weights are written as .npz or .safetensors, not as {path.suffix or 'a bare name'}")
    arrays = dict(_leaves(path, variables, ()))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.suffix == ".npz":
            with zipfile.ZipFile(temporary, "w") as archive:
                for name, array in arrays.items():
                    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                        np.lib.format.write_array(entry, array, allow_pickle=False)
        else:
            from safetensors.numpy import save_file

            save_file(arrays, temporary)
        os.replace(temporary, path)
    except Exception as error:  # safetensors raises its own for failed writes, too
        what = error.strerror if isinstance(error, OSError) else short(str(error))
        raise UserError(f"{path}: cannot be written: {what}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _leaves(path: Path, tree: Mapping[Any, Any], above: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray]]:
    for key, value in tree.items():
        name = "/".join((*above, str(key)))
        if not isinstance(key, str) or "/" in key:
            raise UserError(f"{path}: {key!r} in {name} cannot be part of a name")
        if isinstance(value, Mapping):
            yield from _leaves(path, value, (*above, key))
            continue
        try:
            array = np.asarray(value, order="C")
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: {name} is no array: {short(str(error))}") from None
        if array.dtype.name == "bfloat16":
            array = array.astype(np.float32)
        if array.dtype.kind not in "biufc":
            raise UserError(f"{path}: {name} is of type {array.dtype}, expected numbers")
        yield name, array
