"""Darknet's files: written by numpy from the format's description, read back, and read by a network of numpy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import abstract, filled, images

from jaxcv import models, weights
from jaxcv.errors import DataError, UserError
from jaxcv.models.yolos import darknet_reorganised
from jaxcv.weights.names import darknet as names

ANCHORS = ((10.0, 20.0), (30.0, 30.0), (60.0, 40.0), (20.0, 80.0), (90.0, 90.0))
NINE, SIX = ((10.0, 10.0),) * 9, ((10.0, 10.0),) * 6


@pytest.mark.parametrize(
    ("model", "numbers"),
    [
        (models.YOLOv3(NINE), (248_007_048 - 20) // 4),
        (models.yolo_v3_tiny(SIX), (35_434_956 - 20) // 4),
        (models.YOLOv2(ANCHORS), (202_704_260 - 16) // 4),
    ],
    ids=["yolov3.weights", "yolov3-tiny.weights", "yolov2-voc.weights"],
)
def test_published_files_hold_as_many_numbers(model, numbers):
    """Sizes of the files in bytes, as their server gives them."""
    variables, _, _ = (*_shapes(model), None, None)
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(variables)) == numbers
    paths = {path for path in names.order(model)}
    units = {
        "/".join(key.key for key in keys[:-1]) for keys, _ in jax.tree_util.tree_leaves_with_path(variables["params"])
    }
    assert {unit.removesuffix("/conv").removesuffix("/norm") for unit in units} == paths
    assert len(paths) == len(names.order(model))


def _shapes(model):
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return (dict(jax.eval_shape(lambda x: model.init(jax.random.key(0), x), image)),)


def small(**fields):
    """A plain network of three convolutions."""
    return models.PlainDarknet(layers=((8, 3), "M", (16, 1), "M", (8, 3)), num_classes=5, **fields)


def test_by_hand(tmp_path):
    """Every number encodes its layer, its array in the layer, and for kernels out, in, row and column."""
    sizes = [(8, 3, 3), (16, 8, 1), (8, 16, 3)]
    parts = [np.asarray([0, 2, 0], "<i4").tobytes(), np.asarray([12_345], "<i8").tobytes()]
    kernels = []
    for layer, (out, inputs, side) in enumerate(sizes):
        for kind in range(4):  # bias, scale, mean, variance
            parts.append((100 * layer + 10 * kind + np.arange(out) / 100 + 1).astype("<f4").tobytes())
        kernels.append(np.random.default_rng(layer).normal(size=(out, inputs, side, side)).astype("<f4"))
        parts.append(kernels[-1].tobytes())
    head = np.random.default_rng(9).normal(size=(5, 8)).astype("<f4")
    parts += [np.arange(5, dtype="<f4").tobytes(), head.tobytes()]
    (tmp_path / "a.weights").write_bytes(b"".join(parts))

    found = weights.from_darknet(small(), tmp_path / "a.weights", image_size=32)
    params, statistics = found["params"], found["batch_stats"]
    np.testing.assert_array_equal(params["conv2"]["conv"]["kernel"], kernels[1].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(params["conv3"]["conv"]["kernel"][2, 1, 7, 4], kernels[2][4, 7, 2, 1])
    np.testing.assert_allclose(params["conv2"]["norm"]["bias"][3], 101.03, rtol=1e-6)
    np.testing.assert_allclose(params["conv2"]["norm"]["scale"][3], 111.03, rtol=1e-6)
    np.testing.assert_allclose(statistics["conv2"]["norm"]["mean"][3], 121.03, rtol=1e-6)
    np.testing.assert_allclose(statistics["conv2"]["norm"]["var"][3], 131.03, rtol=1e-6)
    np.testing.assert_array_equal(params["head"]["kernel"], head.T)
    np.testing.assert_array_equal(params["head"]["bias"], np.arange(5))


V2 = models.YOLOv2(ANCHORS, num_classes=3, backbone=models.darknet19(width=10), width=64)
V3 = models.yolo_v3_tiny(SIX, num_classes=3, backbone=models.darknet_tiny(width=10), neck_channels=(8, 16))


@pytest.mark.parametrize("model", [small(), V2, V3], ids=["plain", "v2", "tiny v3"])
def test_round_trip(model, tmp_path):
    variables = filled_detector(model)
    weights.write_darknet(tmp_path / "a.weights", model, variables)
    again = weights.from_darknet(model, tmp_path / "a.weights", image_size=64)
    jax.tree.map(np.testing.assert_array_equal, again, dict(variables))
    order = names.order(model)
    assert len(set(order)) == len(order)


def filled_detector(model):
    shapes = _shapes(model)[0]
    random = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(random.uniform(0.5, 1.5, leaf.shape), leaf.dtype), shapes)


def test_another_number_of_classes_and_a_trunk_alone(tmp_path):
    """A detector of seven classes starts one of three, but for its heads; a classifier starts its trunk."""
    seven = V3.clone(num_classes=7)
    variables = filled_detector(seven)
    weights.write_darknet(tmp_path / "seven.weights", seven, variables)
    fresh = jax.tree.map(jnp.zeros_like, filled_detector(V3))
    with pytest.raises(UserError, match="wrong shape"):
        weights.pretrained(tmp_path / "seven.weights", V3)(fresh)
    found, report = weights.pretrained(tmp_path / "seven.weights", V3, skip="head[12]")(fresh)
    np.testing.assert_array_equal(
        found["params"]["neck2_conv1"]["conv"]["kernel"], variables["params"]["neck2_conv1"]["conv"]["kernel"]
    )
    assert not found["params"]["head1"]["kernel"].any()
    assert {path.split("/")[1] for path in report.randomly_initialised} == {"head1", "head2"}

    trunk = models.darknet_tiny(width=10)
    classifier = filled(trunk, 64, 64, 3)
    weights.write_darknet(tmp_path / "trunk.weights", trunk, classifier)
    start = weights.pretrained(tmp_path / "trunk.weights", trunk, within="backbone")
    found, report = start(fresh)
    assert set(found["params"]["backbone"]) == {f"conv{i}" for i in range(1, 8)}
    jax.tree.map(np.testing.assert_array_equal, found["batch_stats"]["backbone"], classifier["batch_stats"])
    assert not found["params"]["neck1_last"]["conv"]["kernel"].any()
    assert (
        all("backbone" not in path for path in report.randomly_initialised)
        and "params/head1/bias" in report.randomly_initialised
    )
    # A file that ends with the trunk, as those for training are published.
    data = (tmp_path / "trunk.weights").read_bytes()
    cut = data[: -4 * sum(leaf.size for leaf in jax.tree.leaves(classifier["params"]["head"]))]
    (tmp_path / "cut.weights").write_bytes(cut)
    again, _ = weights.pretrained(tmp_path / "cut.weights", trunk, within="backbone")(fresh)
    jax.tree.map(np.testing.assert_array_equal, again, found)


def test_refused(tmp_path):
    path = tmp_path / "a.weights"
    model = small()
    weights.write_darknet(path, model, filled(model, 32, 32, 3))
    data = path.read_bytes()
    cases = {
        data[:-1]: "not a header and whole float32",
        data[:-44]: "another network, or truncated",
        data + b"\0" * 8: "another network, or truncated|more than the network",
        b"PK\3\4" + data: "does not begin with a version",
        b"": "does not begin with a version",
    }
    for content, message in cases.items():
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            weights.from_darknet(model, path, image_size=32)
    with pytest.raises(DataError, match="no names"):
        path.write_bytes(data)
        weights.load(path)
    with pytest.raises(UserError, match="order of ResNet's layers"):
        weights.from_darknet(models.resnet18(), path)
    with pytest.raises(DataError, match="No such file"):
        weights.from_darknet(model, tmp_path / "b.weights")


def test_reorganisation_by_darknets_own_arithmetic():
    """Its two index formulas, number by number."""
    c, h, w, stride = 8, 4, 6, 2
    x = np.random.default_rng(0).normal(size=(c, h, w)).astype(np.float32)
    flat, out = x.reshape(-1), np.zeros(c * h * w, np.float32)
    out_c = c // stride**2
    for k, j, i in np.ndindex(c, h, w):
        plane, offset = k % out_c, k // out_c
        w2, h2 = i * stride + offset % stride, j * stride + offset // stride
        out[i + w * (j + h * k)] = flat[w2 + w * stride * (h2 + h * stride * plane)]
    expected = out.reshape(4 * c, h // 2, w // 2)
    found = darknet_reorganised(jnp.asarray(x.transpose(1, 2, 0)[None]))[0]
    np.testing.assert_array_equal(np.asarray(found).transpose(2, 0, 1), expected)


def test_a_network_on_published_layout_agrees_with_numpy(tmp_path):
    """Convolution, batch normalisation and leaky ReLU by loops over the numbers as they stand in the file."""
    model = models.PlainDarknet(layers=((8, 3), (8, 1)), num_classes=2)
    variables = filled(model, 8, 8, 3)
    weights.write_darknet(tmp_path / "a.weights", model, variables)
    numbers = np.frombuffer((tmp_path / "a.weights").read_bytes()[20:], "<f4").astype(np.float64)
    image = images(1, 8, 8, 3)
    x = np.asarray(image[0], np.float64).transpose(2, 0, 1)
    for out, side in ((8, 3), (8, 1)):
        bias, scale, mean, var = numbers[: 4 * out].reshape(4, out)
        count = out * len(x) * side * side
        kernel, numbers = (
            numbers[4 * out : 4 * out + count].reshape(out, len(x), side, side),
            numbers[4 * out + count :],
        )
        padded = np.pad(x, [(0, 0), (side // 2,) * 2, (side // 2,) * 2])
        x = np.asarray(
            [[[(padded[:, r : r + side, c : c + side] * k).sum() for c in range(8)] for r in range(8)] for k in kernel]
        )
        x = (x - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None] * scale[:, None, None] + bias[:, None, None]
        x = np.where(x > 0, x, 0.1 * x)
    expected = numbers[:2] + numbers[2:].reshape(2, 8) @ x.mean((1, 2))
    found, _ = jax.jit(model.apply)(weights.from_darknet(model, tmp_path / "a.weights", image_size=8), image)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)


def test_shapes_of_the_classifiers():
    assert abstract(models.darknet19(), 64, 64, 3)[1] == (2, 1000)
    assert abstract(models.darknet53(), 64, 64, 3)[2]["stage5"] == (2, 2, 2, 1024)
