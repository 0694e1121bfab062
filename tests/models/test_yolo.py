import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import models

ANCHORS = np.array([[10.0, 20.0], [30.0, 30.0]], np.float32)


@pytest.fixture(scope="module")
def net():
    model = models.YOLO(num_classes=3, anchor_boxes=ANCHORS, stage_channels=(8, 8, 16), neck_channels=8)
    return model, jax.jit(lambda key: model.init(key, jnp.zeros((1, 64, 96, 3))))(jax.random.key(0))


def test_grid_and_features(net):
    model, variables = net
    image = jax.random.uniform(jax.random.key(1), (2, 64, 96, 3))
    outputs, features = jax.jit(model.apply)(variables, image)
    assert outputs.shape == (2, 8, 12, 2, 5 + 3)
    shapes = {name: f.shape[1:3] for name, f in features.items()}
    assert shapes == {"stage1": (16, 24), "stage2": (8, 12), "stage3": (4, 6), "neck": (8, 12)}


def test_training_changes_batch_statistics_and_evaluation_does_not(net):
    model, variables = net
    image = jax.random.uniform(jax.random.key(1), (2, 64, 96, 3))
    _, changed = model.apply(variables, image, train=True, mutable=["batch_stats"])
    old, new = (jax.tree.leaves(v["batch_stats"]) for v in (variables, changed))
    assert all(not np.array_equal(a, b) for a, b in zip(old, new, strict=True))
    first, second = (model.apply(variables, image)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_cell_predicts_from_its_own_position(net):
    """What changes far to the right of a cell does not change what it says."""
    model, variables = net
    image = jax.random.uniform(jax.random.key(2), (1, 64, 512, 3))
    changed = image.at[:, :, 448:].set(0.0)
    a, b = (jax.jit(model.apply)(variables, x)[0] for x in (image, changed))
    np.testing.assert_allclose(a[:, :, 0], b[:, :, 0], rtol=1e-4, atol=1e-5)
    assert np.abs(a[:, :, 60] - b[:, :, 60]).max() > 0.01
