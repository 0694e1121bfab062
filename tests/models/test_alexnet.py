from functools import partial

import jax
import numpy as np
import pytest
from networks import abstract, filled, gradients, images, parameters

from jaxcv import models, ops

SMALL = partial(models.AlexNet, channels=(4, 8, 6, 6, 8), fc_width=16, fc_map_size=2, num_classes=3)


def test_as_torchvision_has_it():
    variables, logits, features = abstract(models.alexnet(), 224, 224, 3)
    assert {name: shape[1:] for name, shape in features.items()} == {
        "conv1": (55, 55, 64),
        "pool1": (27, 27, 64),
        "conv2": (27, 27, 192),
        "pool2": (13, 13, 192),
        "conv3": (13, 13, 384),
        "conv4": (13, 13, 256),
        "conv5": (13, 13, 256),
        "pool5": (6, 6, 256),
        "fc6": (4096,),
        "fc7": (4096,),
    }
    assert logits == (2, 1000)
    assert parameters(models.alexnet(), 224, 224, 3) == 61_100_840
    assert set(variables["params"]) == {*(f"conv{i}" for i in range(1, 6)), "fc6", "fc7", "head"}


def test_as_the_paper_has_it():
    variables, _, features = abstract(models.alexnet_2012(), 227, 227, 3)
    assert [features[f"conv{i}"][1:] for i in range(1, 6)] == [
        (55, 55, 96),
        (27, 27, 256),
        (13, 13, 384),
        (13, 13, 384),
        (13, 13, 256),
    ]
    assert (features["norm1"], features["norm2"]) == (features["conv1"], features["conv2"])
    assert [features[f"pool{i}"][1] for i in (1, 2, 5)] == [27, 13, 6]
    # In two groups, a filter has the depth of half the maps.
    depths = [variables["params"][f"conv{i}"]["kernel"].shape[2] for i in range(1, 6)]
    assert depths == [3, 48, 256, 192, 192]
    assert parameters(models.alexnet_2012(), 227, 227, 3) == 60_965_224


def test_small_pictures_want_fewer_parameters():
    """9216 x 4096 + 4096 x 4096 of the weights become 256 x 512 + 512 x 512."""
    small = parameters(models.alexnet(fc_width=512, fc_map_size=1, num_classes=10), 64, 64, 3)
    assert small == 2_469_696 + 257 * 512 + 513 * 512 + 513 * 10
    # Whatever the size of the picture.
    assert small == parameters(models.alexnet(fc_width=512, fc_map_size=1, num_classes=10), 200, 150, 3)


@pytest.mark.parametrize("form", [{}, {"groups": (1, 2, 1, 2, 2), "response_norm": True, "padding": 0}])
def test_every_parameter_learns(form):
    model = SMALL(dropout=0.0, **form)
    for path, gradient in gradients(model, filled(model, 90, 80, 3), images(2, 90, 80, 3)).items():
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 1e-6, path


def test_response_norm_is_between_convolution_and_pooling():
    model = SMALL(response_norm=True)
    features = jax.jit(model.apply)(filled(model, 80, 80, 3), images(1, 80, 80, 3))[1]
    normed = ops.local_response_norm(features["conv2"])
    assert np.abs(normed - features["conv2"]).max() > 1e-3
    np.testing.assert_allclose(features["norm2"], normed, rtol=1e-6)
    np.testing.assert_array_equal(features["pool2"], ops.max_pool2d(features["norm2"], window=3, strides=2))


@pytest.fixture(scope="module")
def trained():
    """The small network while training: a function of where dropout is, its rate and its seed, compiled once each."""
    pictures = images(2, 80, 80, 3)
    variables = filled(SMALL(), 80, 80, 3)

    @partial(jax.jit, static_argnames=("layers", "rate"))
    def train(key, *, layers, rate=0.5):
        return SMALL(dropout_at=layers, dropout=rate).apply(variables, pictures, train=True, rngs={"dropout": key})

    return train, *jax.jit(SMALL().apply)(variables, pictures)


@pytest.mark.parametrize("layers", [("pool5", "fc6"), ("fc7",)])
def test_dropout_while_training_only(trained, layers):
    train, logits, features = trained
    first, again, other = (train(jax.random.key(seed), layers=layers) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    assert np.abs(first[0] - other[0]).max() > 1e-3
    assert np.abs(first[0] - logits).max() > 1e-3
    # The features are those before dropout.
    np.testing.assert_allclose(first[1][layers[0]], features[layers[0]], rtol=1e-4, atol=1e-5)


def test_dropout_of_nothing_is_off(trained):
    train, logits, _ = trained
    np.testing.assert_allclose(train(jax.random.key(1), layers=("fc6", "fc7"), rate=0.0)[0], logits, rtol=1e-4)


def test_dropout_may_be_a_traced_number():
    """So that a sweep over it is one program."""
    images = jax.ShapeDtypeStruct((2, 80, 80, 3), np.float32)

    def logits(rate, variables, images):
        return SMALL(dropout=rate).apply(variables, images, train=True, rngs={"dropout": jax.random.key(1)})[0]

    assert jax.eval_shape(logits, 0.5, abstract(SMALL(), 80, 80, 3)[0], images).shape == (2, 3)
