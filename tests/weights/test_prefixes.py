"""Networks saved as a part of something else: what stands before every name is taken off, and said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_files import as_tensors, write_zip
from torch_tensors import TINY, tensors

from jaxcv import models, weights
from jaxcv.errors import UserError
from jaxcv.weights.matching import common_prefixes
from jaxcv.weights.start import shapes

PREFIXES = ["model.", "net.", "student.", "backbone.", "teacher.", "network.", "_orig_mod.", "module.", "classifier."]
PREFIXES += ["module.model.", "_orig_mod.module.", "module._orig_mod.net.", "a.b.c.d.", "model/"]


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_all(prefix):
    plain, _ = weights.match(TINY, shapes(TINY, 32), tensors())
    found, report = weights.match(TINY, shapes(TINY, 32), {prefix + name: t for name, t in tensors().items()})
    same(found, plain)
    assert report.prefix == prefix
    assert report.summary == f"torchvision names without their prefix {prefix!r}: 32 matched, 6 ignored"
    line = next(line for line in report.lines() if line.startswith("params/head/kernel"))
    assert line.split()[1] == f"{prefix}fc.weight"
    for scheme in ("torchvision", "timm"):
        same(
            weights.match(TINY, shapes(TINY, 32), {prefix + n: t for n, t in tensors().items()}, scheme=scheme)[0],
            plain,
        )


def test_names_that_fit_keep_their_beginning():
    """The convolutions of VGG all begin with `features.`, our own names with `params/`."""
    vgg = models.vgg11(num_classes=3)
    variables = shapes(vgg, 32)
    rng = np.random.default_rng(0)
    ours = {
        "/".join(key.key for key in path): rng.normal(size=leaf.shape).astype(np.float32)
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }
    assert common_prefixes(ours) == ["params/"]
    _, report = weights.match(vgg, variables, ours)
    assert report.prefix == "" and report.scheme == "jaxcv"
    _, report = weights.match(vgg, variables, {f"net.{name}": tensor for name, tensor in ours.items()})
    assert report.prefix == "net." and report.scheme == "jaxcv"
    _, report = weights.match(TINY, shapes(TINY, 32), tensors())
    assert report.prefix == ""


def test_features_alone_are_not_taken_for_a_prefix():
    vgg = models.vgg11(num_classes=3)
    whole = shapes(vgg, 32)
    rng = np.random.default_rng(0)
    convolutions = [
        (0, 3, 64),
        (3, 64, 128),
        (6, 128, 256),
        (8, 256, 256),
        (11, 256, 512),
        *[(i, 512, 512) for i in (13, 16, 18)],
    ]
    theirs = {}
    for index, c, o in convolutions:
        theirs[f"features.{index}.weight"] = rng.normal(size=(o, c, 3, 3)).astype(np.float32)
        theirs[f"features.{index}.bias"] = np.zeros(o, np.float32)
    lacking = "|".join(name for name in whole["params"] if not name.startswith("conv"))
    for prefix in ("", "model."):
        named = {prefix + name: tensor for name, tensor in theirs.items()}
        fresh = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), whole)
        _, report = weights.match(vgg, fresh, named, skip=lacking)
        assert report.prefix == prefix and len(report.having("matched")) == 16


@pytest.mark.parametrize("prefix", ["model.", "module.student.", "net."])
@pytest.mark.parametrize("kind", ["safetensors", "npz", "pth"])
def test_files(tmp_path, kind, prefix):
    """Lightning's wrapper in `.pth`, the bare names in the others; a new head, and the number of classes found."""
    named = {prefix + name: tensor for name, tensor in tensors().items()}
    path = tmp_path / f"a.{kind}"
    if kind == "pth":
        wrapped, storages = as_tensors(named)
        write_zip(
            path, {"epoch": 3, "global_step": 9, "state_dict": wrapped, "hyper_parameters": {"lr": 0.1}}, storages
        )
    else:
        weights.save(path, named)
    plain, _ = weights.match(TINY, shapes(TINY, 32), tensors())
    found, report = weights.pretrained(path, TINY)(shapes(TINY, 32))
    same(found, plain)
    assert report.prefix == prefix.removeprefix("module." if kind == "pth" else "")
    two = models.ResNet(stage_sizes=(1, 1), num_classes=2, width=4)
    fresh = dict(two.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3))))
    found, report = weights.pretrained(path, two, new_head=True)(fresh)
    assert not found["params"]["head"]["kernel"].any() and "prefix" in report.summary
    same(found["params"]["stem"], plain["params"]["stem"])


def test_the_fields_of_a_network_are_found_under_a_prefix():
    """torchvision's GoogLeNet and MobileNet say by their names and shapes what network they are of."""
    model = models.resnet18(num_classes=7)
    rng = np.random.default_rng(0)
    theirs = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes(model)):
        theirs["/".join(key.key for key in path)] = rng.normal(size=leaf.shape).astype(np.float32)
    from jaxcv.weights.start import _build

    assert _build("resnet18", {f"student.{name}": tensor for name, tensor in theirs.items()}, {}).num_classes == 7
    assert _build("resnet18", theirs, {}).num_classes == 7


def test_two_networks_in_one_file_are_refused_with_their_names():
    both = {f"{part}.{name}": tensor for part in ("student", "teacher") for name, tensor in tensors().items()}
    with pytest.raises(UserError, match=r"its names begin with student\., teacher\.: save the network alone"):
        weights.match(TINY, shapes(TINY, 32), both)
    extra = {f"model.{name}": tensor for name, tensor in tensors().items()} | {"loss.weight": np.zeros(3, np.float32)}
    with pytest.raises(UserError, match=r"its names begin with model\., loss\.: save"):
        weights.match(TINY, shapes(TINY, 32), extra)


def test_common_prefixes():
    assert common_prefixes({}) == common_prefixes({"a": 0, "a.b": 0}) == common_prefixes({"weight": 0}) == []
    assert common_prefixes({"a.b.c": 0, "a.b.d": 0}) == ["a.", "a.b."]
    assert common_prefixes({"model.a": 0, "module.a": 0}) == []
    assert common_prefixes({"conv1.weight": 0, "conv10.weight": 0}) == []
