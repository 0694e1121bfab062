"""State dicts in torch's formats, written without torch; and files that would run something, which must not."""

import copyreg
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from torch_files import (
    Call,
    Global,
    Persistent,
    Raw,
    as_tensors,
    legacy_bytes,
    opcodes,
    pickled,
    tensor,
    write_legacy,
    write_zip,
)

from jaxcv.errors import DataError
from jaxcv.weights import load

FLOATS = np.arange(24, dtype=np.float32)
NAMES = Global("collections", "OrderedDict")


WRITERS = pytest.mark.parametrize("write", [write_zip, write_legacy])


def some_arrays():
    random = np.random.default_rng(0)
    return {
        "conv.weight": random.normal(size=(4, 3, 2, 2)).astype(np.float32),
        "conv.bias": random.normal(size=4).astype(np.float64),
        "norm.num_batches_tracked": np.array(7, np.int64),
        "mask": np.array([[True, False], [False, True]]),
        "bytes": np.arange(5, dtype=np.uint8),
        "short": np.arange(-3, 3, dtype=np.int16),
        "empty": np.zeros((0, 3), np.float32),
        "complex": np.array([1 + 2j, 3j], np.complex64),
    }


def same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert isinstance(found[name], np.ndarray) and found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name, strict=True)


@WRITERS
def test_a_state_dict(tmp_path, write):
    arrays = some_arrays()
    same(load(write(tmp_path / "a.pth", *as_tensors(arrays))), arrays)


@WRITERS
@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state"])
def test_a_checkpoint_is_unwrapped(tmp_path, write, wrapper):
    """Whatever else it carries is passed over, and so is the prefix of DataParallel."""
    tensors, storages = as_tensors({"a": FLOATS, "b": FLOATS[:3]})
    storages["9"] = (2, bytes(8))
    scalar = Call(Global("numpy.core.multiarray", "scalar"), (Call(Global("numpy", "dtype"), ("f8", False, True)), "x"))
    options = Raw(opcodes(Global("argparse", "Namespace")) + b")\x81" + opcodes({"lr": 0.1}) + b"b")
    milestones = Raw(opcodes(Call(Global("collections", "Counter"))) + b"(" + opcodes(30) + opcodes(1) + b"u")
    checkpoint = {
        "epoch": 3,
        "optimizer": {"state": {0: {"momentum": tensor("9", (2,), elements=2)}}, "seen": Raw(b"\x8f(K\x01\x90")},
        "best": scalar,
        "args": options,
        "milestones": milestones,
        "device": Call(Global("torch", "device"), ("cuda", 0)),
        wrapper: {f"module.{name}": tensor for name, tensor in tensors.items()},
    }
    same(load(write(tmp_path / "a.pth", checkpoint, storages)), {"a": FLOATS, "b": FLOATS[:3]})


def test_a_prefix_that_not_all_have_is_kept(tmp_path):
    tensors, storages = as_tensors({"module.a": FLOATS, "b": FLOATS})
    assert list(load(write_zip(tmp_path / "a.pth", tensors, storages))) == ["module.a", "b"]


@WRITERS
def test_views(tmp_path, write):
    """Strides and offsets on one storage: a column, a transpose, one value for many elements, a size of one."""
    views = {
        "whole": tensor("0", (4, 6), elements=24),
        "column": tensor("0", (4,), (6,), offset=2, elements=24),
        "transpose": tensor("0", (6, 4), (1, 6), elements=24),
        "expanded": tensor("0", (3, 5), (0, 1), offset=1, elements=24),
        "one": tensor("0", (1, 2), (10**30, 1), offset=22, elements=24),
        "number": tensor("0", (), offset=23, elements=24),
        "old": tensor("0", (2, 2), elements=24, version=1),
        "cut": tensor("0", (3,), offset=1, elements=24, view=(("0v", 20, 4),)),
        "parameter": Call(Global("torch._utils", "_rebuild_parameter"), (tensor("0", (2,), elements=24), True, {})),
    }
    whole = FLOATS.reshape(4, 6)
    same(
        load(write(tmp_path / "a.pth", views, {"0": (24, FLOATS.tobytes())})),
        {
            "whole": whole,
            "column": whole[:, 2],
            "transpose": whole.T,
            "expanded": np.broadcast_to(FLOATS[1:6], (3, 5)),
            "one": FLOATS[None, 22:],
            "number": FLOATS[23].reshape(()),
            "old": FLOATS[:4].reshape(2, 2),
            "cut": FLOATS[21:24],
            "parameter": FLOATS[:2],
        },
    )


@WRITERS
def test_half_and_bfloat16_become_float32(tmp_path, write):
    half = np.array([1.5, -0.0, 65504, np.inf, 6e-8], np.float16)
    top = np.array([0x3FC0, 0xC000, 0x7F80, 0x0001], np.uint16)
    tensors = {
        "half": tensor("0", (5,), elements=5, dtype="Half"),
        "b": tensor("1", (4,), elements=4, dtype="BFloat16"),
    }
    found = load(write(tmp_path / "a.pth", tensors, {"0": (5, half.tobytes()), "1": (4, top.tobytes())}))
    same(found, {"half": half.astype(np.float32), "b": np.array([1.5, -2.0, np.inf, 2.0**-133], np.float32)})


def test_types_beside_the_storage(tmp_path):
    """Since torch 2.3, types without a storage class stand beside bytes; big-endian machines say so."""
    bytes_ = np.arange(4, dtype=">u2").tobytes()
    dtype = (Global("torch", "uint16"),)
    tensors = {"a": tensor("0", (3,), offset=1, elements=8, dtype="Untyped", version=3, metadata=dtype)}
    path = write_zip(tmp_path / "a.pth", tensors, {"0": (8, bytes_)}, order="big")
    same(load(path), {"a": np.array([1, 2, 3], np.uint16)})


def test_attributes_of_names_are_dropped(tmp_path):
    """torch pickles `_metadata` as an attribute of the OrderedDict; no attribute may stand in for a method."""
    tensors, storages = as_tensors({"a": FLOATS})
    names = opcodes(Call(NAMES)) + opcodes(tensors)[1:] + opcodes({"_metadata": {}, "items": 1, "get": 1}) + b"b"
    same(load(write_zip(tmp_path / "a.pth", Raw(names), storages)), {"a": FLOATS})


class Reduced:
    def __init__(self, *recipe):
        self.recipe = recipe

    def __reduce__(self):
        return self.recipe


def hostile(command, python):
    """Opcodes that push one object and run something on the way, by how."""
    system = Global("os", "system")
    run, imported = opcodes(Call(system, (command,))), Call(Global("builtins", "__import__"), ("os",))
    text = Global("builtins", "str")
    yield "os.system", run
    yield "posix.system", opcodes(Call(Global("posix", "system"), (command,)))
    yield "STACK_GLOBAL", b"\x8c\x02os\x8c\x06system\x93" + opcodes((command,)) + b"R"
    yield "dotted name", b"\x80\x04\x8c\x02os\x8c\x0epath.os.system\x93" + opcodes((command,)) + b"R"
    yield "INST", b"(" + opcodes(command) + b"ios\nsystem\n"
    yield "OBJ", b"(csubprocess\ngetoutput\n" + opcodes(command) + b"o"
    yield "extension", b"\x82\xf0" + opcodes((command,)) + b"R"
    yield "eval", opcodes(Call(Global("builtins", "eval"), (python,)))
    yield "eval of Python 2", opcodes(Call(Global("__builtin__", "eval"), (python,)))
    yield "getattr", opcodes(Call(Call(Global("builtins", "getattr"), (imported, "system")), (command,)))
    yield "copyreg", opcodes(Call(Global("copyreg", "_reconstructor"), (text, text, "a"))) + b"0" + run
    yield "partial", opcodes(Call(Call(Global("functools", "partial"), (system, command))))
    yield "in a set", opcodes(Call(Global("builtins", "set"), (Call(Global("builtins", "map"), (system, [command])),)))
    for protocol in range(6):
        yield f"__reduce__, protocol {protocol}", pickle.dumps(Reduced(os.system, (command,)), protocol)[:-1]


HOSTILE = pytest.mark.parametrize("kind", [kind for kind, _ in hostile("", "")])


@pytest.fixture
def bomb(tmp_path):
    """What a kind of hostile pickle would make is `tmp_path / "ran"`."""
    path = tmp_path / "ran"
    copyreg.add_extension("os", "system", 0xF0)
    pickle.loads(b"\x80\x02\x82\xf0.")  # from now on, this code means os.system without anybody being asked
    yield lambda kind: Raw(dict(hostile(f"touch {path}", f"open({str(path)!r}, 'w').close()"))[kind])
    copyreg.remove_extension("os", "system", 0xF0)
    copyreg.clear_extension_cache()


@HOSTILE
def test_the_hostile_pickles_are_live(tmp_path, bomb, kind):
    """Else the tests below could not fail."""
    pickle.loads(pickled(bomb(kind)))
    assert (tmp_path / "ran").exists()


def places(evil):
    """Files with something hidden in them: how to write each, by position."""
    good, storages = as_tensors({"a": FLOATS})
    roots = {
        "root": evil,
        "value": {**good, "b": evil},
        "key": Raw(b"}(" + opcodes(evil) + b"Nu"),
        "below": {"optimizer": {"state": [(1, evil)]}, "state_dict": good},
        "size": {"a": tensor("0", (evil,), (1,), elements=24)},
        "storage": {"a": Call(Global("torch._utils", "_rebuild_tensor"), (Persistent(("storage", evil)), 0, (), ()))},
        "attribute": Raw(opcodes(Call(NAMES)) + opcodes({"_metadata": evil}) + b"b"),
    }
    for place, root in roots.items():
        yield place, write_zip, root, storages, {}
        yield f"legacy {place}", write_legacy, root, storages, {}
    for place in ("magic", "machine", "keys"):
        yield f"legacy {place}", write_legacy, good, storages, {place: evil}


@HOSTILE
def test_a_hostile_file_is_refused_and_runs_nothing(tmp_path, bomb, kind):
    for place, write, root, storages, options in places(bomb(kind)):
        path = write(tmp_path / "a.pth", root, storages, **options)
        with pytest.raises(DataError, match=r"a\.pth: refused: its pickle names .*nothing was run") as error:
            load(path)
        assert "\n" not in str(error.value), place
        assert not (tmp_path / "ran").exists(), place


def test_what_is_refused_is_named(tmp_path):
    for module, name in (("os", "system"), ("torchvision.models.resnet", "ResNet"), ("torch", "load"), ("torch", "os")):
        path = write_zip(tmp_path / "a.pth", {"a": Global(module, name)})
        with pytest.raises(DataError, match=f"names {module}.{name}, .*state_dict"):
            load(path)
    long = b"\x8c\x03a\nb\x8c\xff" + b"\x1b[0m" * 63 + b"xyz" + b"\x93"
    with pytest.raises(DataError, match=r"names a b\.\\x1b\[0m") as error:
        load(write_zip(tmp_path / "a.pth", Raw(long)))
    assert str(error.value).isprintable() and len(str(error.value)) < 400


def test_stand_ins_do_not_outlive_their_file(tmp_path):
    """BUILD sets attributes on what it is given; given a stand-in itself, it must not change the next file's."""
    tensors, storages = as_tensors({"a": FLOATS})
    for module, name in (("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"), ("torch", "device")):
        state = Raw(b"N" + opcodes({"__defaults__": (), "__call__": 1, "__new__": 1, "__init__": 1}) + b"\x86")
        evil = Raw(opcodes(Global(module, name)) + opcodes(state) + b"b")
        try:
            load(write_zip(tmp_path / "a.pth", {"x": evil, **tensors}, storages))
        except DataError:
            pass
        same(load(write_zip(tmp_path / "b.pth", tensors, storages)), {"a": FLOATS})


def faulty_tensors():
    yield "beyond", tensor("0", (25,), elements=24)
    yield "beyond by its offset", tensor("0", (4, 6), offset=1, elements=24)
    yield "beyond by its strides", tensor("0", (2, 2), (23, 2), elements=24)
    yield "huge", tensor("0", (2**40, 2**40), (0, 0), elements=24)
    yield "large by repeating", tensor("0", (2**28,), (0,), elements=24)
    yield "negative size", tensor("0", (-1,), (1,), elements=24)
    yield "negative stride", tensor("0", (2,), (-1,), offset=1, elements=24)
    yield "negative offset", tensor("0", (2,), (1,), offset=-1, elements=24)
    yield "more strides", tensor("0", (2,), (1, 1), elements=24)
    yield "size no tuple", tensor("0", [2], (1,), elements=24)
    yield "size of text", tensor("0", ("2",), (1,), elements=24)
    yield "more elements than stored", tensor("0", (25,), elements=25)
    yield "no storage of this key", tensor("1", (2,), elements=24)
    yield "a path for a key", tensor("../../version", (1,), elements=1, dtype="Byte")
    yield "a storage for a tensor", Call(Global("torch._utils", "_rebuild_tensor_v2"), ("0", 0, (2,), (1,), False, {}))
    yield "conjugate", tensor("0", (2,), elements=24, metadata=({"conj": True},))
    yield "too few arguments", Call(Global("torch._utils", "_rebuild_tensor_v2"))
    yield "a view beyond", tensor("0", (3,), elements=24, view=(("0v", 22, 3),))


@WRITERS
@pytest.mark.parametrize(("kind", "bad"), [pytest.param(*pair, id=pair[0]) for pair in faulty_tensors()])
def test_tensors_that_cannot_be(tmp_path, write, kind, bad):
    path = write(tmp_path / "a.pth", {"good": tensor("0", (24,), elements=24), "bad": bad}, {"0": (24, bytes(96))})
    what = "reaches beyond its storage" if kind.startswith("beyond") else ""
    with pytest.raises(DataError, match=rf"a\.pth: is truncated or damaged \(.*{what}.*\); fetch the file again"):
        load(path)


def test_many_tensors_may_not_repeat_one_storage_without_end(tmp_path):
    """300 pairs of columns of 1 MB, each of which has to be copied."""
    views = {str(i): tensor("0", (2, 2**17), (1, 2), elements=2**18) for i in range(300)}
    with pytest.raises(DataError, match="too large"):
        load(write_zip(tmp_path / "a.pth", views, {"0": (2**18, bytes(2**20))}))


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ({}, "no state dict of .* but nothing"),
        ({"epoch": 3, "lr": 0.1}, "but epoch, lr"),
        ([], "but something else"),
        (tensor("0", (2,), elements=24), "but something else"),
        ({3: tensor("0", (2,), elements=24)}, "but 3"),
        ({"encoder": {"a": tensor("0", (2,), elements=24)}}, "but encoder"),
        (Raw(b"}q\x00X\x05\x00\x00\x00modelh\x00s"), "but model"),  # a mapping that holds itself
    ],
)
@WRITERS
def test_no_state_dict(tmp_path, write, root, message):
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / "a.pth", root, {"0": (24, bytes(96))} if b"Q" in opcodes(root) else {}))


@pytest.mark.parametrize(
    ("evil", "message"),
    [
        (b"r\xff\xff\xff\x7f", "too large"),  # a memo index for which two billion entries would be allocated
        (b"}q\x01" + b")" + b"\x85" * 2_000_000 + b"Ns", "nested too deeply"),  # hashing it would overflow the stack
        (b"})" + b"N\x86" * 500_000 + b"Ns", "nested too deeply"),
        (b"\x8f()" + b"\x85" * 2_000_000 + b"\x90", "nested too deeply"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", "expected 9223372036854775807 bytes"),
        (b"\x96\x00\x00\x00\x00\x10\x00\x00\x00", "expected 68719476736 bytes"),
        (b"h\x63", "there is no 99"),  # a memo index that was never set
        (b"tttt", "empty list"),
        (b"0000", "empty list"),
    ],
    ids=["memo", "deep key", "deep pairs", "deep in a set", "bytes", "bytearray", "get", "no marks", "empty stack"],
)
def test_pickles_that_break_their_reader(tmp_path, evil, message):
    with pytest.raises(DataError, match=rf"truncated or damaged \(.*({message})"):
        load(write_zip(tmp_path / "a.pth", Raw(b"N" + evil)))
    (tmp_path / "b.pth").write_bytes(legacy_bytes(Raw(b"N" + evil)))
    with pytest.raises(DataError, match=rf"truncated or damaged \(.*({message})"):
        load(tmp_path / "b.pth")


def test_archives_that_torch_would_not_write(tmp_path):
    tensors, storages = as_tensors({"a": np.zeros(2**20, np.float32)})
    with pytest.raises(DataError, match="refused: a compressed archive"):
        load(write_zip(tmp_path / "a.pth", tensors, storages, pack=zipfile.ZIP_DEFLATED))
    for name in ("../evil", "/etc/evil", "archive/../../evil", "..\\evil"):
        with pytest.raises(DataError, match="is a path outside the archive"):
            load(write_zip(tmp_path / "a.pth", tensors, storages, extra={name: b"x"}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth"]
    path = write_zip(tmp_path / "a.pth", tensors, storages)
    data = bytearray(path.read_bytes())
    directory = data.rindex(b"PK\1\2")
    for place, value in ((8, b"\x01"), (10, b"\x0e")):  # encrypted; packed with LZMA
        changed = bytearray(data)
        changed[directory + place : directory + place + 1] = value
        path.write_bytes(changed)
        with pytest.raises(DataError, match="encrypted or packed in an unusual way"):
            load(path)


def test_a_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    """Two GiB of zeros in two MB: refused before any of it is read."""
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a/data.pkl", pickled({}))
        archive.writestr("a/data/0", bytes(2**20))
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1) + 24
    data[place : place + 4] = struct.pack("<I", 2**31)
    path.write_bytes(data)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_, **__: pytest.fail("it is read"))
    with pytest.raises(DataError, match="refused: .* that would unpack to 2,147,483"):
        load(path)


def test_other_pickles(tmp_path):
    (tmp_path / "a.pth").write_bytes(pickled({"a": 1}))
    with pytest.raises(DataError, match="refused: a pickle, but not one of torch's"):
        load(tmp_path / "a.pth")


@WRITERS
def test_damage_never_shows_another_face(tmp_path, write):
    """Bytes changed at random: a DataError, or arrays; a fault in a storage of the zip format is always found."""
    arrays = {name: array for name, array in some_arrays().items() if array.size}
    path = write(tmp_path / "a.pth", *as_tensors(arrays))
    data, random, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        changed = bytearray(data)
        for place in random.integers(len(data), size=random.integers(1, 4)):
            changed[place] = random.integers(256)
        path.write_bytes(changed)
        try:
            found = load(path)
            if write is write_zip:
                assert all(np.array_equal(array, arrays[name]) for name, array in found.items() if name in arrays)
        except DataError as error:
            refused += 1
            assert str(error).isprintable()
    assert refused > 40
