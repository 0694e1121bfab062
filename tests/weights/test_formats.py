"""Files of weights in every format: the same arrays back, and one clear line for each that cannot be read."""

import io
import json
import struct
import sys
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from torch_files import as_tensors, legacy_bytes, write_zip

from jaxcv.errors import DataError, UserError
from jaxcv.weights import load, save

VARIABLES = {
    "params": {
        "stem": {"conv": {"kernel": np.random.default_rng(0).normal(size=(3, 3, 1, 2)).astype(np.float32)}},
        "file": {"bias": jnp.arange(4, dtype=jnp.float32), "scale": np.array(2.5, np.float64)},
    },
    "batch_stats": {"norm": {"mean": np.zeros((0, 3), np.float16), "count": np.array([2**40, -1])}},
    "mask": np.array([[True], [False]]),
    "turned": np.arange(6, dtype=np.int32).reshape(2, 3).T,
}
FLAT = {
    "params/stem/conv/kernel": VARIABLES["params"]["stem"]["conv"]["kernel"],
    "params/file/bias": np.arange(4, dtype=np.float32),
    "params/file/scale": np.array(2.5, np.float64),
    "batch_stats/norm/mean": np.zeros((0, 3), np.float16),
    "batch_stats/norm/count": np.array([2**40, -1]),
    "mask": np.array([[True], [False]]),
    "turned": VARIABLES["turned"],
}
SUFFIXES = pytest.mark.parametrize("suffix", [".npz", ".safetensors"])


def same(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert isinstance(found[name], np.ndarray), name
        np.testing.assert_array_equal(found[name], array, err_msg=name, strict=True)


def write(path, arrays):
    """A file of the format that the suffix says."""
    tensors, storages = as_tensors(arrays)
    match path.suffix:
        case ".npz" | ".safetensors":
            save(path, arrays)
        case ".pth":
            write_zip(path, tensors, storages)
        case ".pt":
            path.write_bytes(legacy_bytes(tensors, storages))
        case ".h5":
            h5py = pytest.importorskip("h5py")
            with h5py.File(path, "w") as file:
                for name, array in arrays.items():
                    file[name] = array
    return path


@SUFFIXES
def test_what_is_saved_comes_back_bit_for_bit(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    save(path, VARIABLES)
    found = load(path)
    same(found, FLAT)
    assert all(found[name].tobytes() == array.tobytes() for name, array in FLAT.items())
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing is left beside it"
    first = path.read_bytes()
    save(str(path), VARIABLES)
    assert path.read_bytes() == first


@SUFFIXES
def test_bfloat16_comes_back_as_float32(tmp_path, suffix):
    array = jnp.asarray([1.5, -3e38, 1e-40, jnp.inf], jnp.bfloat16)
    save(tmp_path / f"w{suffix}", {"a": array, "b": array[0]})
    same(load(tmp_path / f"w{suffix}"), {"a": np.asarray(array, np.float32), "b": np.array(1.5, np.float32)})


def test_bfloat16_of_others(tmp_path):
    from safetensors.numpy import save_file

    array = np.asarray(jnp.asarray([1.5, -3e38, 1e-40], jnp.bfloat16))
    save_file({"a": array, "b": np.array(array[0])}, tmp_path / "a.safetensors")
    found = load(tmp_path / "a.safetensors")
    same(found, {"a": array.astype(np.float32), "b": array[0].astype(np.float32)[...]})


def test_files_of_others(tmp_path):
    """numpy's own writer, packed or not, in either byte order and row order; the suffix does not matter."""
    arrays = {"a/b": np.arange(6, dtype=">f4").reshape(2, 3), "c": np.asfortranarray(np.eye(3)), "d": np.array(3)}
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    (tmp_path / "a.npz").rename(tmp_path / "a.pth")
    for path in (tmp_path / "a.pth", tmp_path / "b.npz"):
        same(load(path), {name: array.astype(array.dtype.newbyteorder("=")) for name, array in arrays.items()})


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pth", ".pt", ".h5"])
def test_a_file_cut_anywhere_is_refused(tmp_path, suffix):
    arrays = {"a": np.arange(3, dtype=np.float32), "b": np.arange(4).reshape(2, 2)}
    data = write(tmp_path / f"a{suffix}", arrays).read_bytes()
    same(load(tmp_path / f"a{suffix}"), arrays)
    cut = tmp_path / f"cut{suffix}"
    places = np.random.default_rng(0).permutation(len(data))[:120]
    for place in sorted({0, 1, 2, 7, 8, 9, len(data) - 1, *places.tolist()}):
        cut.write_bytes(data[:place])
        with pytest.raises(DataError) as error:
            load(cut)
        assert str(error.value).startswith(f"{cut}: ") and str(error.value).isprintable()
        if place >= 16:
            assert "truncated or damaged" in str(error.value), place


@pytest.mark.parametrize("suffix", [".npz", ".pth"])
def test_a_changed_byte_among_the_values_is_detected(tmp_path, suffix):
    arrays = {"a": np.full(400, 7, np.uint8)}
    path = write(tmp_path / f"a{suffix}", arrays)
    data = bytearray(path.read_bytes())
    data[data.index(bytes([7] * 400)) + 100] = 8
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"damaged \(Bad CRC-32 for file .*\); fetch the file again"):
        load(path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_damage_never_shows_another_face(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", {"a": np.arange(3, dtype=np.float32), "b": np.arange(4).reshape(2, 2)})
    data, random, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(100):
        changed = bytearray(data)
        for place in random.integers(min(len(data), 700), size=3):
            changed[place] = random.integers(256)
        path.write_bytes(changed)
        try:
            load(path)
        except DataError as error:
            refused += 1
            assert str(error).isprintable()
    assert refused > 20


def zipped(**entries):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name.replace("__", "."), content)
    return data.getvalue()


def npy(shape, descr="'<f4'", data=bytes(8), version=1):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(header)) + header + data


def tensors(header, data=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty; fetch the file again"),
        (b"<!DOCTYPE html><html><title>Sign in</title>", "is a web page, not weights"),
        (b"\xef\xbb\xbf\n  <html>", "is a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a", "is a Git LFS pointer, not weights"),
        (b"\x1f\x8b\x08\x00 and so on", "starts with 1f 8b 08 00 20 61 6e 64, which is none of .npz, .safetensors"),
        (b"PK\x03\x04 and so on", "is truncated or damaged: no directory of the archive"),
        (b"\x89HDF\r\n\x1a\n", "HDF5 is read with h5py|truncated or damaged"),
        (zipped(readme__txt="a"), "a zip archive without weights; it holds readme.txt"),
        (zipped(), "holds no arrays"),
        (tensors({}), "holds no arrays"),
        (zipped(a__npy=npy("(2,)")[:-1]), "damaged .a.npy has 7 bytes instead of 8"),
        (zipped(a__npy=npy("(3,)")), "damaged .a.npy has 8 bytes instead of 12"),
        (zipped(a__npy=npy(f"({2**40}, {2**40})")), "damaged .a.npy has 8 bytes instead of"),
        (zipped(a__npy=npy("(-1, -2)")), "damaged .a.npy has 8 bytes"),
        (zipped(a__npy=npy("(2,)", version=9)), "truncated or damaged"),
        (zipped(a__npy=npy("(1,)", "'|O'")), "refused: a.npy is an array of Python objects, expected numbers"),
        (zipped(a__npy=npy("(1,)", "[('x', '|O')]")), "refused: a.npy is an array of Python objects"),
        (zipped(a__npy=npy("(2,)", "'|S4'")), r"refused: a is of type \|S4, expected numbers"),
        (zipped(a__npy=npy("(4,)", "'|V2'")), r"refused: a is of type \|V2, expected numbers"),
        (zipped(**{"../a__npy": npy("(2,)")}), "is a path outside the archive"),
        (
            tensors({"a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}, b"a"),
            "a is of type F8_E4M3, which",
        ),
        (tensors({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, b"abcd"), "damaged"),
        (tensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"abcde"), "damaged"),
        (struct.pack("<Q", 2**62) + b"{", "truncated or damaged"),
    ],
)
def test_files_that_are_refused(tmp_path, data, message):
    path = tmp_path / "a.pth"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: ") and str(error.value).isprintable()


def test_paths_without_a_file(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.npz: no such file"):
        load(tmp_path / "nowhere.npz")
    with pytest.raises(DataError, match="is a folder; expected a file of weights"):
        load(tmp_path)
    (tmp_path / "a").touch()
    with pytest.raises(DataError, match="a/b.npz: cannot be opened: Not a directory"):
        load(tmp_path / "a" / "b.npz")


def test_objects_of_numpy_are_not_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    np.savez(tmp_path / "a.npz", a=np.array([Evil()], object))
    with pytest.raises(DataError, match="refused: a.npy is an array of Python objects"):
        load(tmp_path / "a.npz")
    assert not (tmp_path / "ran").exists()
    with np.load(tmp_path / "a.npz", allow_pickle=True) as arrays:
        arrays["a"]
    assert (tmp_path / "ran").exists(), "it would have run"


def test_bombs(tmp_path, monkeypatch):
    """A few kilobytes that say they are gigabytes, refused before they are unpacked; and those that lie about it."""
    path = tmp_path / "a.npz"
    for count in (4_000, 2**28):
        content = npy(f"({count},)", data=bytes(4 * 4_000))
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.npy", content)
        data = bytearray(path.read_bytes())
        size = struct.pack("<I", len(content))
        said = struct.pack("<I", 2**30 + 200 if count > 4_000 else 200)
        path.write_bytes(bytes(data).replace(size, said))
        with pytest.raises(
            DataError, match="refused: .* would unpack to 1,073,742,024" if count > 4_000 else "damaged"
        ):
            load(path)


@SUFFIXES
def test_what_cannot_be_saved(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    save(path, {"a": np.ones(2)})
    for variables, message in (
        ({"a": {"b": None}}, "a/b is of type object, expected numbers"),
        ({"a": np.array(["x"])}, "a is of type <U1, expected numbers"),
        ({"a": [np.ones(2), np.ones(3)]}, "a is no array"),
        ({"a/b": np.ones(2)}, "'a/b' in a/b cannot be part of a name"),
        ({"a": {1: np.ones(2)}}, "1 in a/1 cannot be part of a name"),
    ):
        with pytest.raises(UserError, match=message):
            save(path, variables)
    with pytest.raises(UserError, match=r"nowhere/w.* cannot be written"):
        save(tmp_path / "nowhere" / path.name, {"a": np.ones(2)})
    with pytest.raises(UserError, match=r"written as \.npz or \.safetensors, not as \.h5"):
        save(tmp_path / "w.h5", {"a": np.ones(2)})
    same(load(path), {"a": np.ones(2)})
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@SUFFIXES
def test_a_save_that_fails_leaves_the_old_file(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"w{suffix}"
    save(path, {"a": np.ones(2)})

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        save(path, {"a": np.zeros(2)})
    same(load(path), {"a": np.ones(2)})
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_hdf5_without_h5py_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(DataError, match=r"a\.h5: HDF5 .*: pip install 'jaxcv-research\[keras\]'"):
        load(tmp_path / "a.h5")


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py")


def keras_file(file, layers, *, pieces=0):
    """Named layers as Keras has written them since 2015; `pieces`: names in so many attributes."""
    file.attrs["layer_names"] = [name.encode() for name in layers]
    for layer, weights in layers.items():
        group = file.create_group(layer)
        names = np.array([name.encode() for name in weights], "S")
        for i, some in enumerate(np.array_split(names, pieces) if pieces else [names]):
            group.attrs[f"weight_names{i}" if pieces else "weight_names"] = some
        for name, array in weights.items():
            group[name] = array


def test_layers_of_keras(tmp_path, h5py):
    a, b, c = (np.full((2, 3), value, np.float32) for value in range(3))
    layers = {
        "conv1": {"conv1/kernel:0": a, "conv1/bias:0": b},
        "newer": {"sequential/newer/kernel": c},
        "old": {"old_W_1:0": a, "old_b_1:0": b},
        "older": {"older_W:0": b, "gamma:0": c},
        "inner": {"bn/gamma:0": b, "bn/beta:0": c},
        "relu": {},
    }
    expected = {"conv1/kernel": a, "conv1/bias": b, "newer/kernel": c, "old/kernel": a, "old/bias": b}
    expected |= {"older/kernel": b, "older/gamma": c, "bn/gamma": b, "bn/beta": c}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        keras_file(file, layers)
    same(load(tmp_path / "a.h5"), expected)
    with h5py.File(tmp_path / "b.h5", "w") as file:  # a whole model, with what its optimizer keeps
        keras_file(file.create_group("model_weights"), layers, pieces=2)
        file["optimizer_weights/adam/iteration"] = 3
    same(load(tmp_path / "b.h5"), expected)


def test_layers_of_keras_that_would_fall_together_keep_their_full_names(tmp_path, h5py):
    a, b = np.zeros(2), np.ones(2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        keras_file(file, {"left": {"left/conv/kernel:0": a}, "right": {"right/conv/kernel:0": b}})
    same(load(tmp_path / "a.h5"), {"left/left/conv/kernel": a, "right/right/conv/kernel": b})


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_numbered_weights_of_keras_3_stand_as_they_are(tmp_path, h5py, suffix):
    path, a, b = tmp_path / f"a{suffix}", np.ones((3, 3, 1, 2), np.float32), np.zeros(2, np.float32)
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        file["layers/conv2d/vars/0"], file["layers/conv2d/vars/1"] = a, b
        file["optimizer/vars/0"] = 3
    path.write_bytes(data.getvalue() if suffix != ".keras" else zipped(model__weights__h5=data.getvalue()))
    same(load(path), {"layers/conv2d/vars/0": a, "layers/conv2d/vars/1": b})


def test_hdf5_stays_within_its_file(tmp_path, h5py):
    (tmp_path / "secret").write_bytes(b"12345678")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = np.ones(2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", (8,), "u1", external=[(str(tmp_path / "secret"), 0, 8)])
    with pytest.raises(DataError, match="refused: the values of a lie in another file"):
        load(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        layout = h5py.VirtualLayout((2,), "f8")
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "a", (2,))
        file.create_virtual_dataset("a", layout)
    with pytest.raises(DataError, match="refused: the values of a lie in another file"):
        load(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "a")
        file["b"] = np.zeros(3)
    same(load(tmp_path / "a.h5"), {"b": np.zeros(3)})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("a", (2**40,), "f8", chunks=(2**10,), compression="gzip")
    with pytest.raises(DataError, match="would unpack to 8,796,093,022,208 are no weights"):
        load(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = "text"
    with pytest.raises(DataError, match="a is of type .*, expected numbers"):
        load(tmp_path / "a.h5")


def test_real_files(real_data):
    folder = real_data("weights")
    counts = {path.name: len(load(path)) for path in folder.glob("*.npz")}
    assert counts["squeezenet_v1.1.npz"] == 52 and counts["mobilenet_v1_0.25_224_keras.npz"] == 137
    trunk = load(folder / "vgg16_hed_trunk_fp16.npz")
    assert trunk["block1_conv1/kernel"].shape == (3, 3, 3, 64) and trunk["block1_conv1/kernel"].dtype == np.float16
