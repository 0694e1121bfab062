"""Tensors are matched to variables, or refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_tensors import TINY, tensors

from jaxcv import models, weights
from jaxcv.errors import UserError
from jaxcv.weights.start import shapes


def test_every_layout():
    theirs = tensors()
    variables, report = weights.match(TINY, shapes(TINY, 32), theirs)
    params = variables["params"]
    np.testing.assert_array_equal(params["stem"]["conv"]["kernel"], theirs["conv1.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(params["head"]["kernel"], theirs["fc.weight"].T)
    np.testing.assert_array_equal(params["stem"]["norm"]["scale"], theirs["bn1.weight"])
    statistics = variables["batch_stats"]["stage2"]["block1"]["shortcut"]["norm"]
    np.testing.assert_array_equal(statistics["var"], theirs["layer2.0.downsample.1.running_var"])
    assert report.scheme == "torchvision"
    assert {entry.status for entry in report.entries} == {"matched", "ignored"}
    assert len(report.having("matched")) == len(jax.tree.leaves(variables)) == 32
    assert report.summary == "torchvision names: 32 matched, 6 ignored"
    line = next(line for line in report.lines() if line.startswith("params/head/kernel"))
    assert line.split() == ["params/head/kernel", "fc.weight", "8x3", "from", "3x8", "matched"]


def test_a_skipped_head_keeps_what_it_has():
    theirs = tensors()
    two = models.ResNet(stage_sizes=(1, 1), num_classes=2, width=4)
    fresh = dict(two.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3))))
    variables, report = weights.match(two, fresh, theirs, skip="head")
    np.testing.assert_array_equal(variables["params"]["head"]["kernel"], fresh["params"]["head"]["kernel"])
    assert report.randomly_initialised == ["params/head/bias", "params/head/kernel"]
    assert report.summary == "torchvision names: 30 matched, 2 randomly initialised, 6 ignored (head)"


def test_a_new_head_starts_at_zero_where_the_classes_are_others(tmp_path):
    three = dict(TINY.init(jax.random.key(1), jnp.zeros((1, 32, 32, 3))))
    weights.save(tmp_path / "tiny.npz", three)
    fresh = dict(TINY.clone(num_classes=2).init(jax.random.key(0), jnp.zeros((1, 32, 32, 3))))
    initial = weights.pretrained(tmp_path / "tiny.npz", TINY.clone(num_classes=2), new_head=True)
    variables, report = initial(fresh)
    assert report.randomly_initialised == ["params/head/bias", "params/head/kernel"]
    assert report.summary == "jaxcv names: 30 matched, 2 new, zero (head)"
    assert not np.any(variables["params"]["head"]["kernel"])
    np.testing.assert_array_equal(
        variables["params"]["stem"]["conv"]["kernel"], three["params"]["stem"]["conv"]["kernel"]
    )
    same, report = weights.pretrained(tmp_path / "tiny.npz", TINY, new_head=True)(shapes(TINY, 32))
    assert report.randomly_initialised == []
    np.testing.assert_array_equal(same["params"]["head"]["bias"], three["params"]["head"]["bias"])
    with pytest.raises(UserError, match="params/head/bias is \\(2,\\)"):
        weights.pretrained(tmp_path / "tiny.npz", TINY.clone(num_classes=2))(fresh)


def test_the_network_of_a_file(tmp_path):
    variables = dict(jax.eval_shape(TINY.init, jax.random.key(1), jnp.zeros((1, 32, 32, 3))))
    weights.save(tmp_path / "tiny.npz", jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), variables))
    assert weights.network("resnet18", tmp_path / "tiny.npz").num_classes == 3
    assert weights.network("resnet18", tmp_path / "tiny.npz", num_classes=5).num_classes == 5
    assert weights.network("resnet18", "").num_classes == 1000


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda t: t.pop("layer2.0.conv1.weight"),
            r"no tensor for params/stage2/block1/unit1/conv/kernel \(looked for",
        ),
        (lambda t: t.update({"fc.bias": np.zeros(4)}), r"fc.bias is \(4,\), params/head/bias is \(3,\)"),
        (lambda t: t.update({"layer1.1.conv1.weight": np.zeros(4)}), "unused: layer1.1.conv1.weight"),
        (lambda t: t["bn1.running_var"].fill(np.nan), "infinite or NaN values in bn1.running_var"),
    ],
)
def test_half_a_network_is_refused_by_name(spoil, message):
    theirs = tensors()
    spoil(theirs)
    with pytest.raises(UserError, match=message) as error:
        weights.match(TINY, shapes(TINY, 32), theirs, file="tiny.pth")
    assert str(error.value).startswith("tiny.pth: does not fit ResNet")
    assert "\n" not in str(error.value)


def test_many_faults_are_counted():
    with pytest.raises(UserError, match="and 29 more"):
        weights.match(TINY, shapes(TINY, 32), {})


def test_another_networks_weights_are_refused():
    theirs = tensors()
    one_stage = models.ResNet(stage_sizes=(1,), num_classes=3, width=4)
    with pytest.raises(UserError, match="wrong shape: fc.weight is .*unused: layer2.0"):
        weights.match(one_stage, shapes(one_stage, 32), theirs)


def test_our_own_names_come_back(tmp_path):
    variables = dict(TINY.init(jax.random.key(1), jnp.zeros((1, 32, 32, 3))))
    for name in ("tiny.npz", "tiny.safetensors"):
        weights.save(tmp_path / name, variables)
        again, report = weights.pretrained(tmp_path / name, TINY)(shapes(TINY, 32))
        assert report.scheme == "jaxcv"
        jax.tree.map(np.testing.assert_array_equal, variables, again)


def test_keras_depthwise_and_dense_layouts():
    model = models.MobileNetV1(width=0.25, num_classes=3)
    want = shapes(model, 32)
    rng = np.random.default_rng(0)
    theirs = {"conv_preds/kernel": rng.normal(size=(1, 1, 256, 3)), "conv_preds/bias": rng.normal(size=3)}
    blocks = [("conv1", "kernel", want["params"]["stem"])]
    for i in range(1, 14):
        block = want["params"][f"block{i}"]
        blocks += [(f"conv_dw_{i}", "depthwise_kernel", block["depthwise"])]
        blocks += [(f"conv_pw_{i}", "kernel", block["pointwise"])]
    for name, leaf, unit in blocks:
        h, w, i, o = unit["conv"]["kernel"].shape
        theirs[f"{name}/{leaf}"] = rng.normal(size=(h, w, o, 1) if leaf.startswith("depthwise") else (h, w, i, o))
        for part in ("gamma", "beta", "moving_mean", "moving_variance"):
            theirs[f"{name}_bn/{part}"] = rng.uniform(0.5, 1, o)
    variables = weights.from_keras("mobilenet_v1", theirs)
    depthwise = variables["params"]["block2"]["depthwise"]["conv"]["kernel"]
    np.testing.assert_allclose(depthwise[1, 2, 0], theirs["conv_dw_2/depthwise_kernel"][1, 2, :, 0], rtol=1e-6)
    np.testing.assert_allclose(variables["params"]["head"]["kernel"], theirs["conv_preds/kernel"][0, 0], rtol=1e-6)


def test_unknown_networks_and_schemes():
    with pytest.raises(UserError, match="unknown network 'resnet_50': did you mean resnet50"):
        weights.from_torchvision("resnet_50", {})
    with pytest.raises(UserError, match="no torchvision names are known for mobilenet_v1"):
        weights.from_torchvision("mobilenet_v1", {})


def test_features_of_a_file(tmp_path):
    variables = dict(TINY.init(jax.random.key(1), jnp.zeros((1, 32, 32, 3))))
    weights.save(tmp_path / "tiny.npz", variables)
    extract = weights.extractor(tmp_path / "tiny.npz", TINY)
    assert extract is weights.extractor(tmp_path / "tiny.npz", TINY)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    _, features = TINY.apply(variables, jnp.asarray(images, jnp.float32) / 255)
    np.testing.assert_allclose(extract(images), np.asarray(features["pool"]), rtol=1e-5, atol=1e-6)
    assert extract.spec(jax.ShapeDtypeStruct((32, 32, 3), np.uint8)) == jax.ShapeDtypeStruct((8,), np.float32)
    with pytest.raises(UserError, match="has no feature 'fc7', only conv1, pool1, conv2_x, conv3_x, pool"):
        weights.extractor(tmp_path / "tiny.npz", TINY, feature="fc7").spec(jax.ShapeDtypeStruct((32, 32, 3), np.uint8))
