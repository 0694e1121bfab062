"""A network's parameters drawn together are random numbers like any others."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import models
from jaxcv.models.layers import Conv, Dense
from jaxcv.ops.initializers import VarianceScaling, he_normal, initialize, lecun_normal

IMAGE = jnp.zeros((1, 32, 32, 3))


def draw(model, seed=0):
    return jax.jit(lambda key: initialize(model, key, IMAGE))(jax.random.key(seed))


@pytest.mark.parametrize(("initializer", "fan"), [(he_normal, 3 * 3 * 64), (lecun_normal, 3 * 3 * 32)])
def test_moments(initializer, fan):
    numbers = np.asarray(initializer(jax.random.key(0), (3, 3, 32, 64)))
    assert numbers.dtype == np.float32
    assert numbers.std() == pytest.approx(np.sqrt(initializer.scale / fan), rel=0.02)
    assert abs(numbers.mean()) < 4 * numbers.std() / numbers.size**0.5
    assert np.abs(numbers).max() <= 2 / 0.8796 * np.sqrt(initializer.scale / fan)
    assert len(np.unique(numbers)) > 0.99 * numbers.size


def test_shape_key_and_dtype():
    ones = VarianceScaling(1.0, "fan_in")
    assert ones(jax.random.key(0), (0, 4)).shape == (0, 4)
    assert ones(jax.random.key(0), (5, 4), jnp.bfloat16).dtype == jnp.bfloat16
    a, b = (np.asarray(ones(jax.random.key(seed), (5, 4))) for seed in (0, 1))
    assert not np.array_equal(a, b)


def test_a_network_has_the_shapes_and_the_spread_of_its_own_init():
    model = models.ResNet(stage_sizes=(1, 1), width=16, num_classes=7)
    together, alone = draw(model), jax.jit(model.init)(jax.random.key(0), IMAGE)
    assert jax.tree.structure(together) == jax.tree.structure(dict(alone))
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(together), jax.tree.leaves(alone), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        if path[-1].key == "kernel":
            assert np.asarray(a).std() == pytest.approx(np.asarray(b).std(), rel=0.3), path
            assert not np.array_equal(a, b)
        else:
            np.testing.assert_array_equal(a, b)
    kernels = [np.asarray(leaf).ravel()[:50] for leaf in jax.tree.leaves(together) if leaf.ndim > 1]
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels)


def test_a_function_of_the_key_and_the_path_alone():
    class Two(nn.Module):
        first: str

        @nn.compact
        def __call__(self, images, *, train=False):
            x = Conv(4, 3, name=self.first)(images)
            return Dense(2, name="head")(x.mean((1, 2))), {}

    a, b, other = draw(Two("one")), draw(Two("another")), draw(Two("one"), seed=1)
    np.testing.assert_array_equal(a["params"]["head"]["kernel"], b["params"]["head"]["kernel"])
    assert not np.array_equal(a["params"]["head"]["kernel"], other["params"]["head"]["kernel"])
    assert not np.array_equal(a["params"]["one"]["kernel"], b["params"]["another"]["kernel"])


def test_flax_own_initializers_and_scanned_layers_still_work():
    class Plain(nn.Module):
        @nn.compact
        def __call__(self, images, *, train=False):
            return nn.Dense(3, name="flax")(images), {}

    assert np.std(draw(Plain())["params"]["flax"]["kernel"]) > 0

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return Dense(3, name="dense")(x), None

    class Scanned(nn.Module):
        @nn.compact
        def __call__(self, images, *, train=False):
            layers = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=4)
            return layers(name="layers")(images, None)[0], {}

    kernels = np.asarray(draw(Scanned())["params"]["layers"]["dense"]["kernel"])
    assert kernels.shape == (4, 3, 3)
    assert len(np.unique(kernels)) == kernels.size
