"""The published YOLOs: shapes over any trunk, counts of their papers, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import filled, images

from jaxcv import models

NINE = tuple((10.0 * i, 12.0 * i) for i in range(1, 10))
FIVE, SIX = NINE[:5], NINE[:6]


def outline(model, *sides):
    """Shapes of the variables, of every output, and of the features."""
    image = jax.ShapeDtypeStruct((2, *sides, 3), jnp.float32)
    (outputs, features), variables = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x), image)
    return variables, [x.shape for x in jax.tree.leaves(outputs)], features


def test_as_published():
    """Grids and channels of the papers at their sizes."""
    _, shapes, features = outline(models.YOLOv1(), 448, 448)
    assert shapes == [(2, 7, 7, 30)] and features["fc"].shape == (2, 4096)
    _, shapes, features = outline(models.YOLOv2(FIVE), 416, 416)
    assert shapes == [(2, 13, 13, 5, 25)] and features["conv13"].shape == (2, 26, 26, 512)
    _, shapes, _ = outline(models.YOLOv3(NINE), 416, 416)
    assert shapes == [(2, 52, 52, 3, 85), (2, 26, 26, 3, 85), (2, 13, 13, 3, 85)]
    variables, shapes, _ = outline(models.yolo_v3_tiny(SIX), 416, 416)
    assert shapes == [(2, 26, 26, 3, 85), (2, 13, 13, 3, 85)]
    assert len([name for name in variables["params"]["backbone"]]) == 7


@pytest.mark.parametrize(
    "trunk",
    [
        models.resnet18(),
        models.vgg11(),
        models.mobilenet_v1(width=0.25),
        models.mobilenet_v2(),
        models.googlenet(aux_logits=False),
        models.darknet53(),
    ],
    ids=lambda trunk: type(trunk).__name__,
)
def test_over_any_trunk(trunk):
    """Grids by stride, without naming features; the trunk's dense layers are not there."""
    sides = (96, 160)
    if isinstance(trunk, models.ResNet):
        _, shapes, _ = outline(models.YOLOv1(3, backbone=trunk, width=8, fc_width=0), *sides)
        assert shapes == [(2, 2, 3, 13)]
        _, shapes, _ = outline(models.YOLOv2(FIVE, 3, backbone=trunk, width=16), *sides)
        assert shapes == [(2, 3, 5, 5, 8)]
    variables, shapes, _ = outline(models.YOLOv3(NINE, 3, backbone=trunk, neck_channels=(8, 8, 8)), *sides)
    assert shapes == [(2, 12, 20, 3, 8), (2, 6, 10, 3, 8), (2, 3, 5, 3, 8)]
    names = {name for name in variables["params"]["backbone"]}
    assert not names & {"head", "fc6", "fc7", "classifier"}
    kernels = [leaf for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim == 2]
    assert kernels == []


def test_features_by_name_and_refusals():
    named = models.YOLOv2(FIVE, 3, backbone=models.resnet18(), coarse="conv4_x", fine="conv3_x", width=16)
    assert outline(named, 64, 64)[1] == [(2, 4, 4, 5, 8)]
    with pytest.raises(ValueError, match="ResNet has no feature 'conv9_x' of 64x64 pixels; it has conv1 32x32"):
        outline(named.clone(coarse="conv9_x"), 64, 64)
    with pytest.raises(ValueError, match="no feature of stride 64"):
        outline(named.clone(coarse=64), 64, 64)
    with pytest.raises(ValueError, match="expected a ratio of 2"):
        outline(named.clone(fine="pool1"), 64, 64)
    with pytest.raises(ValueError, match="5 anchor boxes cannot be divided evenly among 3 grids"):
        outline(models.YOLOv3(FIVE), 64, 64)


QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

SMALL = {
    "v1": models.YOLOv1(3, backbone=models.extraction(width=5), width=8, fc_width=16, dropout=0.0),
    "v2": models.YOLOv2(FIVE, 3, backbone=models.darknet19(width=5), width=16),
    "v3": models.yolo_v3_tiny(SIX, 3, backbone=models.darknet_tiny(width=10), neck_channels=(8, 8)),
}


@pytest.mark.parametrize("name", SMALL)
def test_evaluation_is_pure_and_training_moves_every_parameter(name):
    model = SMALL[name]
    pictures = images(2, 64, 64, 3)
    shapes, _, _ = outline(model, 64, 64)
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: jnp.asarray(random.uniform(-0.3, 0.5, x.shape), x.dtype), dict(shapes))
    variables["batch_stats"] = jax.tree.map(jnp.ones_like, variables["batch_stats"])

    def loss(params):
        outputs, _ = model.apply(
            {**variables, "params": params}, pictures, train=True, mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )  # fmt: skip
        return sum(jnp.square(x).mean() for x in jax.tree.leaves(outputs[0]))

    gradients = jax.jit(jax.grad(loss), compiler_options=QUICK)(variables["params"])
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(leaf).all() and (leaf != 0).any(), jax.tree_util.keystr(path)


def test_the_trunk_is_the_classifier_without_its_head():
    """Features of a network inside a detector are its own, to the bit."""
    trunk = models.darknet_tiny(width=10)
    variables = filled(trunk, 64, 64, 3)
    pictures = images(1, 64, 64, 3)
    expected = jax.jit(lambda v: trunk.apply(v, pictures)[1]["conv7"])(variables)
    model = SMALL["v3"]
    shapes, _, _ = outline(model, 64, 64)
    whole = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), dict(shapes))
    for collection in whole:
        mine = {name: variables[collection][name] for name in whole[collection]["backbone"]}
        whole[collection] = {**whole[collection], "backbone": mine}
    found = jax.jit(lambda v: model.apply(v, pictures)[1]["conv7"])(whole)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
