"""Files that torch itself writes, against torch's own reading of them; and the list of published weights."""

import collections
import os

import numpy as np
import pytest

from jaxcv.errors import DataError
from jaxcv.weights import load, published

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")

FORMATS = pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "sequence"])


def reference(tensor):
    wide = tensor.detach().to(torch.float32) if tensor.dtype in (torch.half, torch.bfloat16) else tensor.detach()
    return wide.numpy()


def same(found, path):
    """As torch reads it: names in order, types, shapes, every bit."""
    expected = torch.load(path, weights_only=False)
    assert list(found) == list(expected) and len(found) > 0
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], reference(tensor), err_msg=name, strict=True)
        assert found[name].tobytes() == np.ascontiguousarray(reference(tensor)).tobytes(), name


def tensors():
    torch.manual_seed(0)
    whole = torch.randn(6, 5, 4)
    return {
        "whole": whole,
        "rows": whole[2:4],
        "column": whole[:, 1],
        "turned": whole.permute(2, 0, 1),
        "stepped": whole[::2, ::3, 1::2],
        "flat": whole.view(-1)[7:],
        "expanded": torch.randn(3, 1).expand(3, 100),
        "parameter": torch.nn.Parameter(torch.randn(3, 3)),
        "half": torch.randn(33).half(),
        "bfloat16": torch.cat([torch.randn(30), torch.tensor([torch.inf, -0.0, 1e-40])]).bfloat16(),
        "bfloat16 number": torch.tensor(1.5, dtype=torch.bfloat16),
        "double": torch.randn(3, dtype=torch.double),
        "number": torch.tensor(2**40),
        "last": torch.arange(9)[8],
        "bool": torch.tensor([[True, False], [False, True]]),
        "bools turned": torch.tensor([[True, False, True]]).T,
        "int": torch.arange(-3, 3, dtype=torch.int32),
        "short": torch.arange(-3, 3, dtype=torch.int16),
        "char": torch.arange(-3, 3, dtype=torch.int8),
        "byte": torch.arange(3, dtype=torch.uint8),
        "uint16": torch.arange(3).to(torch.uint16)[1:],
        "uint64": torch.arange(3).to(torch.uint64),
        "complex": torch.randn(3, dtype=torch.cfloat),
        "empty": torch.zeros(0),
        "empty rows": torch.zeros(3, 0, 2),
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }


@FORMATS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_kind_of_tensor(tmp_path, options, protocol):
    path, saved = tmp_path / "a.pth", tensors()
    if options:  # torch writes these in its old format, too, but cannot read them there
        del saved["uint16"], saved["uint64"]
    torch.save(saved, path, pickle_protocol=protocol, **options)
    same(load(path), path)


@FORMATS
def test_a_whole_network(tmp_path, options):
    model = torchvision.models.resnet18()
    path = tmp_path / "a.pth"
    torch.save(model.state_dict(), path, **options)
    found = load(path)
    same(found, path)
    assert len(found) == 122 and found["bn1.num_batches_tracked"].dtype == np.int64


@FORMATS
def test_a_checkpoint_of_a_training(tmp_path, options):
    """As torchvision's own training scripts write it, with the optimizer's momenta, and over several devices."""
    import argparse

    model = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.ones(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 6])
    checkpoint = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": schedule.state_dict(),
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1, device=torch.device("cpu"), dtype=torch.float16, seen={1}),
        "best": np.float64(0.5),
        "history": collections.defaultdict(list, loss=[1.0]),
        "size": torch.Size([1, 2]),
    }
    torch.save(checkpoint, tmp_path / "a.pth", **options)
    torch.save(model.module.state_dict(), tmp_path / "b.pth", **options)
    same(load(tmp_path / "a.pth"), tmp_path / "b.pth")


@FORMATS
def test_a_tensor_with_attributes(tmp_path, options):
    weight = torch.nn.Parameter(torch.arange(3.0))
    weight.note = "mine"
    plain = torch.arange(4.0)
    plain.note = "mine"
    torch.save({"a": weight, "b": plain}, tmp_path / "a.pth", **options)
    found = load(tmp_path / "a.pth")
    assert {name: array.tolist() for name, array in found.items()} == {"a": [0, 1, 2], "b": [0, 1, 2, 3]}


@FORMATS
@pytest.mark.filterwarnings("ignore")  # torch's, about sources it cannot find
def test_a_pickled_network_is_refused(tmp_path, options):
    for model in (torch.nn.Linear(2, 2), torchvision.models.resnet18()):
        torch.save(model, tmp_path / "a.pth", **options)
        name = f"{type(model).__module__}.{type(model).__name__}"
        with pytest.raises(DataError, match=rf"names {name}, .*torch\.save\(model\.state_dict\(\), FILE\)"):
            load(tmp_path / "a.pth")


def test_tensors_that_numpy_has_no_word_for(tmp_path):
    for tensor in (
        torch.ones(2).to(torch.float8_e4m3fn),
        torch.eye(2).to_sparse(),
        torch.ones(2, dtype=torch.cfloat).conj(),
    ):
        torch.save({"a": tensor}, tmp_path / "a.pth")
        with pytest.raises(
            DataError, match=r"a\.pth: (refused: its pickle names torch|.*lazily conjugated or negated)"
        ):
            load(tmp_path / "a.pth")


@FORMATS
def test_hostile_beside_real_tensors(tmp_path, options):
    """Torch would run it when told to read everything; here nothing runs."""

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"state_dict": {"a": torch.ones(2)}, "evil": Evil()}, tmp_path / "a.pth", **options)
    with pytest.raises(DataError, match="refused: its pickle names posix.system"):
        load(tmp_path / "a.pth")
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert (tmp_path / "ran").exists()


@FORMATS
def test_cut_anywhere(tmp_path, options):
    path = tmp_path / "a.pth"
    torch.save(tensors(), path, **options)
    data = path.read_bytes()
    for place in np.linspace(1, len(data) - 1, 60).astype(int):
        path.write_bytes(data[:place])
        with pytest.raises(DataError, match="truncated or damaged|none of"):
            load(path)


def test_published_weights_are_those_of_torchvision():
    theirs = {}
    for name in {name.partition(":")[0] for name in published.FILES}:
        for entry in torchvision.models.get_model_weights(name):
            if entry.name != "IMAGENET1K_FEATURES":  # VGG-16 without its head
                suffix = {"IMAGENET1K_V1": "", "IMAGENET1K_V2": ":v2"}[entry.name]
                theirs[name + suffix] = entry.url
    assert {name: published.SERVER + file for name, file in published.FILES.items()} == theirs
