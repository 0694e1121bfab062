import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import models

SMALL = models.ResNet(stage_sizes=(1, 1, 1), width=8)
BACKBONES = {
    "resnet": (SMALL, 64),
    "mobilenet_v1": (models.mobilenet_v1(width=0.125), 64),
    "mobilenet_v2": (models.mobilenet_v2(width=0.25), 64),
    "vgg11": (models.vgg11(), 32),
    "alexnet": (models.alexnet(), 64),
    "lenet5": (models.lenet5(), 32),
    "googlenet": (models.googlenet(), 64),
}


def shapes(model, side):
    image = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    return variables, jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, image)


@pytest.mark.parametrize("name", BACKBONES)
def test_any_network_may_be_the_trunk_and_leaves_its_dense_layers_behind(name):
    backbone, side = BACKBONES[name]
    for model, shape in (
        (models.Localizer(backbone=backbone, num_classes=7), (2, 12)),
        (models.LandmarkRegressor(backbone=backbone, num_points=68), (2, 68, 2)),
    ):
        variables, (outputs, features) = shapes(model, side)
        assert outputs.shape == shape and features["neck"].shape[0] == 2
        paths = [
            "/".join(str(k.key) for k in path) for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])
        ]
        assert not [p for p in paths if p.startswith("backbone/") and ("head" in p or "fc" in p)]
        assert [p for p in paths if p.startswith("backbone/")]


@pytest.mark.parametrize("name", ["resnet", "mobilenet_v1", "mobilenet_v2"])
def test_heat_maps_have_the_stride_asked_for(name):
    backbone, _ = BACKBONES[name]
    for stride in (4, 8):
        _, (outputs, features) = shapes(models.LandmarkHeatmaps(backbone=backbone, num_points=5, stride=stride), 64)
        assert outputs.shape == (2, 64 // stride, 64 // stride, 5)
        assert "up1" in features


def test_maps_that_do_not_double_are_refused():
    with pytest.raises(ValueError, match="expected doublings"):
        shapes(models.LandmarkHeatmaps(backbone=SMALL, num_points=5), 60)


def test_every_parameter_has_a_gradient():
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 32, 32, 3)), jnp.float32)
    for model in (
        models.Localizer(backbone=SMALL, num_classes=3),
        models.LandmarkRegressor(backbone=SMALL, num_points=4),
        models.LandmarkHeatmaps(backbone=SMALL, num_points=4),
    ):
        variables = jax.jit(lambda m=model: m.init(jax.random.key(0), images, train=False))()

        def total(params, m=model, v=variables):
            (out, _), _ = m.apply({**v, "params": params}, images, train=True, mutable=["batch_stats"])
            return jnp.square(out + 0.3).sum()

        gradients = jax.jit(jax.grad(total))(variables["params"])
        silent = [jax.tree_util.keystr(p) for p, s in jax.tree_util.tree_leaves_with_path(gradients) if not np.any(s)]
        assert not [p for p in silent if "head" in p or "kernel" in p]
        assert all(np.isfinite(s).all() for s in jax.tree.leaves(gradients))
