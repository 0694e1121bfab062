"""One pass over a picture equals the loop over its crops."""

from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import filled, images

from jaxcv import models, ops, predict

ALEXNET = partial(models.AlexNet, channels=(4, 6, 4, 6, 4), fc_width=8, num_classes=3, padding="valid")
VGG = partial(models.VGG, stage_sizes=(1, 2), stage_channels=(4, 6), fc_width=16, num_classes=3, padding="valid")
QUICK = {"xla_backend_optimization_level": 0}
"""To compile: many shapes are computed once each."""
NETWORKS = {
    "lenet5": (models.LeNet(num_classes=3), 32, 1),
    "lenet5 of a larger window": (models.LeNet(num_classes=3), 35, 1),
    "alexnet, map repeated": (ALEXNET(), 227, 3),
    "alexnet_2012, normalised, in groups": (
        ALEXNET(fc_map_size=2, response_norm=True, groups=(1, 2, 1, 2, 2), dropout_at=("fc6", "fc7")),
        229,
        3,
    ),
    "vgg_bn, map averaged": (VGG(fc_map_size=2, norm=True), 30, 3),
    "vgg": (VGG(fc_map_size=3), 28, 3),
}


@cache
def trained(name):
    model, window, channels = NETWORKS[name]
    return model, filled(model, window, window, channels), window, channels


@cache
def classify(name):
    return jax.jit(lambda variables, crops: trained(name)[0].apply(variables, crops)[0], compiler_options=QUICK)


def compare(name: str, height: int, width: int, strides: int | tuple[int, int] | None):
    """Largest difference between both, and the shape; crop by crop with numpy's indices, none of ours."""
    model, variables, window, channels = trained(name)
    net, filters = models.convolutionalize(model, variables, window=window, strides=strides)
    picture = images(2, height, width, channels)
    found = np.asarray(jax.jit(net.apply, compiler_options=QUICK)(filters, picture)[0])
    down, across = net.strides
    rows, columns = range(0, height - window + 1, down), range(0, width - window + 1, across)
    assert found.shape == (2, len(rows), len(columns), 3)
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            crop = picture[:, y : y + window, x : x + window]
            np.testing.assert_allclose(found[:, i, j], classify(name)(variables, crop), rtol=1e-5, atol=1e-5)
    return found


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(data=st.data())
def test_one_pass_is_the_loop_over_crops(name, data):
    window, large = trained(name)[2], "alexnet" in name
    extra, stride = st.integers(0, 37 if large else 17), st.integers(3, 35) if large else st.integers(1, 9)
    height, width = window + data.draw(extra), window + data.draw(extra)
    compare(name, height, width, (data.draw(stride), data.draw(stride)))


@pytest.mark.parametrize(
    ("name", "size", "strides"),
    [
        ("lenet5", (47, 41), None),
        ("lenet5", (38, 35), 1),
        ("alexnet, map repeated", (261, 229), None),
        ("alexnet, map repeated", (243, 237), 8),
        ("vgg", (37, 33), 1),
    ],
)
def test_at_the_networks_own_stride_and_finer(name, size, strides):
    found = compare(name, size[0], size[1], strides)
    assert np.abs(found[:, 0, 0] - found[:, -1, -1]).max() > 1e-3  # windows differ, so the comparison means something


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "window", "size", "strides"),
    [
        (models.lenet5(), 32, (95, 71), 3),
        (models.alexnet(padding="valid"), 227, (293, 261), 8),
        (models.alexnet(padding="valid"), 355, (389, 371), 16),
        (models.alexnet_2012(padding="valid"), 227, (263, 241), (9, 13)),
        (models.vgg11(padding="valid"), 225, (275, 241), 16),
        (models.vgg16(padding="valid"), 224, (257, 241), 32),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "apply") else str(value),
)
def test_the_published_widths(network, window, size, strides):
    channels = 1 if window == 32 else 3
    variables = filled(network, window, window, channels)
    picture = images(1, *size, channels)
    net, filters = models.convolutionalize(network, variables, window=window, strides=strides)
    found = np.asarray(jax.jit(net.apply)(filters, picture)[0])
    crops = ops.sliding_windows(picture, window=window, strides=strides)[0][0]
    one = jax.jit(lambda crop: network.apply(variables, crop[None])[0][0])
    wanted = np.stack([one(crop) for crop in crops]).reshape(found.shape)
    scale = np.abs(wanted).max()  # of single logits thousands of products cancel
    assert scale > 0.1
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * max(scale, 1.0))


def test_1998s_lenet_at_its_own_stride_and_at_every_second_pixel():
    model = models.LeNet1998(num_classes=3)
    variables = filled(model, 32, 32, 1)
    picture = images(1, 41, 37, 1)
    for strides in (None, 2):
        net, filters = models.convolutionalize(model, variables, strides=strides)
        found = net.apply(filters, picture)[0]
        crops, _ = ops.sliding_windows(picture, window=32, strides=net.strides)
        wanted = model.apply(variables, crops[0])[0].reshape(found.shape)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def own_grid(model, shapes):
    found = []
    jax.eval_shape(lambda variables: found.append(models.convolutionalize(model, variables)[0]) or 0, shapes)
    return found[0].window, found[0].strides


def test_fully_connected_layers_become_filters():
    model, variables, _, _ = trained("lenet5")
    net, filters = models.convolutionalize(model, variables)
    assert (net.window, net.strides) == ((32, 32), (4, 4))
    assert filters["params"]["fc3"]["kernel"].shape == (5, 5, 16, 120)
    assert filters["params"]["fc4"] is variables["params"]["fc4"]
    sizes = [
        (models.alexnet(padding="valid"), 355),
        (models.alexnet_2012(padding="valid"), 355),
        (models.vgg11(padding="valid"), 342),
        (models.vgg16_bn(padding="valid"), 404),
    ]
    for model, side in sizes:
        shapes = jax.eval_shape(partial(model.init, jax.random.key(0)), jnp.zeros((1, side, side, 3)))
        assert own_grid(model, shapes) == ((side, side), (32, 32))


def test_valid_networks_have_the_parameters_of_the_padded_ones():
    for network in (models.alexnet, models.vgg11):
        plain, valid = (
            jax.eval_shape(partial(network(padding=p).init, jax.random.key(0)), jnp.zeros((1, 224, 224, 3)))
            for p in (1, "valid")
        )
        assert jax.tree.map(jnp.shape, plain) == jax.tree.map(jnp.shape, valid)


class Padded(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False):
        return models.Dense(2)(models.Flatten()(models.MaxPool(3, padding=1)(images))), {}


class Unflattened(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False):
        return models.Dense(2)(models.Conv(4, padding="valid")(images).mean((1, 2))), {}


def test_what_cannot_be_equal_is_refused():
    for model, side, words in [
        (models.AlexNet(channels=(4, 4, 4, 4, 4), fc_width=4), 64, 'conv1 is padded.*padding="valid"'),
        (models.AlexNet(channels=(4, 4, 4, 4, 4), fc_width=4, padding=0), 67, "conv2 is padded"),
        (models.VGG(stage_sizes=(1,), stage_channels=(4,), fc_width=4), 8, "conv1_1/conv is padded"),
        (Padded(), 8, "is padded"),
        (Unflattened(), 8, "must come after a `Flatten`"),
    ]:
        with pytest.raises(ValueError, match=words):
            models.convolutionalize(model, filled(model, side, side, 3))
    model, variables, _, _ = trained("lenet5")
    for options, words in [
        ({"window": 40}, "a map of 7x7"),
        ({"window": 9}, "too small"),
        ({"strides": 0}, "at least one pixel"),
    ]:
        with pytest.raises(ValueError, match=words):
            models.convolutionalize(model, variables, **options)
    net, filters = models.convolutionalize(model, variables)
    with pytest.raises(ValueError, match="no window"):
        net.apply(filters, images(1, 31, 40, 1))
    with pytest.raises(ValueError, match="train the classifier on crops"):
        net.apply(filters, images(1, 40, 40, 1), train=True)


def test_the_scanner_classifies_crops_and_scans_pictures():
    classifier = VGG(fc_map_size=2, norm=True, num_classes=2)
    scanner = models.WindowScanner(classifier, (22, 22), strides=(4, 4), ratio=1.5)
    crops = images(2, 22, 22, 3)
    variables = jax.jit(scanner.init)(jax.random.key(0), crops)
    inner = {name: tree["classifier"] for name, tree in variables.items()}
    logits, features = scanner.apply(variables, crops)
    np.testing.assert_array_equal(logits, classifier.apply(inner, crops)[0])
    assert "fc7" in features
    picture = images(2, 47, 41, 3)
    (found, boxes), _ = jax.jit(scanner.apply)(variables, picture)
    scales = ops.pyramid_scales(image_size=(47, 41), window=22, ratio=1.5)
    assert scales == (1.0, 1 / 1.5)
    cut, where = ops.sliding_windows(picture, window=22, strides=4, scales=scales)
    np.testing.assert_array_equal(boxes, where)
    wanted = jax.vmap(lambda crops: classifier.apply(inner, crops)[0])(cut)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    (nothing, nowhere), _ = scanner.apply(variables, images(2, 21, 60, 3))
    assert nothing.shape == (2, 0, 2) and nowhere.shape == (0, 4)
    assert not predict.sliding_windows((nothing, nowhere)).valid.any()
