"""A classifier's file starts the trunk of a detector."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import models, weights
from jaxcv.errors import UserError

ANCHORS = ((10.0, 20.0), (30.0, 30.0))


def variables_of(model):
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), image)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), dict(shapes))


def test_published_mobilenet_as_a_trunk(real_data):
    file = real_data("weights") / "mobilenet_v1_0.25_224_keras.npz"
    trunk = weights.network("mobilenet_v1", file)
    model = models.YOLOv2(ANCHORS, num_classes=3, backbone=trunk, width=16)
    fresh = variables_of(model)
    found, report = weights.pretrained(file, trunk, within="backbone")(fresh)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a.shape, b.shape), found, fresh)
    tensors = weights.load(file)
    np.testing.assert_array_equal(found["params"]["backbone"]["stem"]["conv"]["kernel"], tensors["conv1/kernel"])
    assert all(leaf.any() for leaf in jax.tree.leaves(found["batch_stats"]["backbone"]))
    assert not any(leaf.any() for leaf in jax.tree.leaves(found["params"]["head"]))
    parts = {path.split("/")[1] for path in report.randomly_initialised}
    assert parts == {"conv19", "conv20", "conv21", "conv22", "head"}
    assert "randomly initialised" in report.summary and not report.having("missing", "unused")


def test_a_trunk_of_another_kind_is_refused(tmp_path):
    small = models.PlainDarknet(layers=((8, 3), "M", (16, 3)), num_classes=5)
    weights.save(tmp_path / "small.npz", variables_of(small))
    other = models.PlainDarknet(layers=((8, 3), "M", (24, 3)), num_classes=5)
    model = models.YOLOv1(3, backbone=other, feature="conv2", width=8, fc_width=0)
    with pytest.raises(UserError, match="wrong shape"):
        weights.pretrained(tmp_path / "small.npz", other, within="backbone")(variables_of(model))


def ones(model):
    return jax.tree.map(jnp.ones_like, variables_of(model))


def test_a_detector_starts_with_its_trunk_or_with_all_but_its_head(tmp_path):
    """From a classifier's file where it has a trunk of the zoo, else from its own kind's."""
    trunk = models.PlainDarknet(layers=((8, 3), "M", (16, 3)), num_classes=5)
    over = models.YOLOv1(3, backbone=trunk, feature="conv2", width=8, fc_width=0)
    weights.save(tmp_path / "trunk.npz", ones(trunk))
    own = models.YOLO(3, ANCHORS, stage_channels=(8, 8, 8), stage_depths=(0, 0, 0), neck_channels=8)
    weights.save(tmp_path / "own.npz", ones(own))
    for model, file, started in (
        (over, "trunk.npz", {"backbone"}),
        (own, "own.npz", set(ones(own)["params"]) - {"head"}),
    ):
        start = weights.pretrained_detector(tmp_path / file, model)
        assert start is not None
        params = start(variables_of(model))[0]["params"]
        moved = {name for name, part in params.items() if all(leaf.all() for leaf in jax.tree.leaves(part))}
        assert moved == started
    assert weights.pretrained_detector("", own) is None
