from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import abstract, filled, gradients, images, sizes

from jaxcv import models
from jaxcv.models import DepthwiseSeparable, InvertedResidual

SMALL = {
    "mobilenet_v1": partial(models.mobilenet_v1, width=0.25, num_classes=3, blocks=((32, 1), (64, 2))),
    "mobilenet_v2": partial(models.mobilenet_v2, width=0.25, num_classes=3, stages=((1, 32, 1, 2), (3, 32, 1, 1))),
}


def shapes(model):
    """Of the variables, without tracing the network twice."""
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x), image)


@pytest.mark.parametrize(
    ("network", "width", "expected"),
    [
        ("mobilenet_v1", 1.0, 4_231_976),
        ("mobilenet_v1", 0.75, 2_585_560),
        ("mobilenet_v1", 0.5, 1_331_592),
        ("mobilenet_v1", 0.25, 470_072),
        ("mobilenet_v2", 1.0, 3_504_872),
        ("mobilenet_v2", 1.4, 6_108_776),
        ("mobilenet_v2", 0.75, 2_636_424),
        ("mobilenet_v2", 0.5, 1_968_680),
    ],
)
def test_parameters(network, width, expected):
    variables = shapes(getattr(models, network)(width=width))
    assert sum(sizes(variables["params"]).values()) == expected


def test_table_1_of_version_1():
    variables, logits, features = abstract(models.mobilenet_v1(), 224, 224, 3)
    channels = (64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024)
    sides = (112, 56, 56, 28, 28, *(14,) * 6, 7, 7)
    blocks = {f"block{i}": (s, s, c) for i, (s, c) in enumerate(zip(sides, channels, strict=True), start=1)}
    expected = {"stem": (112, 112, 32), **blocks, "pool": (1024,)}
    assert {name: shape[1:] for name, shape in features.items()} == expected
    assert logits == (2, 1000)
    assert set(variables["params"]["block1"]) == {"depthwise", "pointwise"}
    assert variables["params"]["block2"]["depthwise"]["conv"]["kernel"].shape == (3, 3, 1, 64)


def test_folded_version_1_has_biases_only():
    variables = shapes(models.mobilenet_v1(norm=False))
    assert set(variables) == {"params"}
    assert set(variables["params"]["block3"]["depthwise"]) == {"conv"}
    assert set(variables["params"]["block3"]["depthwise"]["conv"]) == {"kernel", "bias"}
    # Each of the 10,944 channels has a bias instead of scale and bias.
    assert sum(sizes(variables["params"]).values()) == 4_231_976 - 10_944


def test_table_2_of_version_2():
    variables, logits, features = abstract(models.mobilenet_v2(), 224, 224, 3)
    channels = (16, 24, 24, 32, 32, 32, *(64,) * 4, *(96,) * 3, *(160,) * 3, 320)
    sides = (112, 56, 56, 28, 28, 28, *(14,) * 7, *(7,) * 4)
    blocks = {f"block{i}": (s, s, c) for i, (s, c) in enumerate(zip(sides, channels, strict=True), start=1)}
    expected = {"stem": (112, 112, 32), **blocks, "last": (7, 7, 1280), "pool": (1280,)}
    assert {name: shape[1:] for name, shape in features.items()} == expected
    assert logits == (2, 1000)
    assert set(variables["params"]["block1"]) == {"depthwise", "project"}
    assert set(variables["params"]["block2"]) == {"expand", "depthwise", "project"}
    assert variables["params"]["block2"]["depthwise"]["conv"]["kernel"].shape == (3, 3, 1, 96)


@pytest.mark.parametrize(
    ("width", "stem", "first", "second"), [(0.35, 16, 8, 8), (0.5, 16, 8, 16), (0.75, 24, 16, 24), (1.4, 48, 24, 32)]
)
def test_rounding_of_version_2(width, stem, first, second):
    """To multiples of 8: 11.2 to 16, for 8 is more than a tenth less; 5.6 and 8.4 to 8; 44.8 to 48; 33.6 to 32."""
    model = models.mobilenet_v2(width=width, stages=models.mobilenet_v2().stages[:2])
    features = abstract(model, 32, 32, 3)[2]
    assert tuple(features[name][-1] for name in ("stem", "block1", "block2")) == (stem, first, second)
    assert features["last"][-1] == (1792 if width == 1.4 else 1280)


def test_depthwise_convolves_each_channel_and_pointwise_each_position_alone():
    block: Any = DepthwiseSeparable(5, strides=2, norm=False, activation=nn.tanh)
    image = images(1, 8, 8, 4)
    variables = block.init(jax.random.key(0), image, train=False)

    def run(x):
        y, inside = block.apply(variables, x, train=False, capture_intermediates=True)
        return inside["intermediates"]["depthwise"]["__call__"][0], y

    (depthwise, y), (changed, y2) = run(image), run(image.at[..., 2].add(0.5))
    assert depthwise.shape == (1, 4, 4, 4) and y.shape == (1, 4, 4, 5)
    np.testing.assert_array_equal(depthwise[..., [0, 1, 3]], changed[..., [0, 1, 3]])
    assert np.abs(depthwise[..., 2] - changed[..., 2]).max() > 1e-3
    assert np.abs(y - y2).max() > 1e-3


def test_same_padding_and_torchs_look_at_other_pixels():
    """With stride 2 and even height and width, `same` pads below and to the right only."""
    params = {"kernel": jnp.zeros((3, 3, 1, 1)).at[0, 0].set(1.0), "bias": jnp.zeros(1)}
    image = jnp.arange(1.0, 17.0).reshape(1, 4, 4, 1) / 4
    cases: list[tuple[Any, Any]] = [("same", [[0.25, 0.75], [2.25, 2.75]]), (1, [[0.0, 0.0], [0.0, 1.5]])]
    for padding, expected in cases:
        block: Any = DepthwiseSeparable(1, strides=2, norm=False, padding=padding)
        variables = block.init(jax.random.key(0), image, train=False)
        variables["params"]["depthwise"]["conv"] = params
        variables["params"]["pointwise"]["conv"] = {"kernel": jnp.ones((1, 1, 1, 1)), "bias": jnp.zeros(1)}
        np.testing.assert_allclose(block.apply(variables, image, train=False)[0, ..., 0], expected)


@pytest.mark.parametrize(("features", "strides", "added"), [(4, 1, True), (4, 2, False), (6, 1, False)])
def test_inverted_residual_adds_where_it_can(features, strides, added):
    """With a projection of nothing, what is left is the input or nothing; and the projection may go below zero."""
    block: Any = InvertedResidual(features, strides)
    image = images(1, 6, 6, 4)
    variables = block.init(jax.random.key(0), image, train=False)
    norm = variables["params"]["project"]["norm"]
    norm["scale"], norm["bias"] = jnp.zeros(features), jnp.full(features, -1.0)
    y = block.apply(variables, image, train=False)
    expected = image - 1 if added else jnp.full((1, 6 // strides, 6 // strides, features), -1.0)
    np.testing.assert_allclose(y, expected, atol=1e-6)


@pytest.mark.parametrize("network", ["mobilenet_v1", "mobilenet_v2"])
def test_relu_ends_at_6(network):
    model, pictures = SMALL[network](std=(1e-3,) * 3), images(1, 16, 16, 3)
    variables = filled(model, *pictures.shape[1:])
    assert jax.jit(model.apply)(variables, pictures)[1]["stem"].max() == 6


@pytest.mark.parametrize(
    ("network", "options"), [("mobilenet_v1", {}), ("mobilenet_v1", {"norm": False}), ("mobilenet_v2", {})]
)
def test_every_parameter_learns(network, options):
    model, pictures = SMALL[network](dropout=0.0, **options), images(4, 24, 16, 3)
    variables = filled(model, *pictures.shape[1:])
    for path, gradient in gradients(model, variables, pictures).items():
        assert np.isfinite(gradient).all(), path
        # A shift of the projection's outputs is taken out again by the next batch normalisation.
        if not path.endswith("project/norm/bias"):
            assert np.abs(gradient).max() > 1e-6, path


@pytest.mark.parametrize("network", ["mobilenet_v1", "mobilenet_v2"])
def test_training_changes_batch_statistics_and_dropout_needs_randomness(network):
    model, pictures = SMALL[network](dropout=0.5), images(2, 32, 32, 3)
    variables = filled(model, *pictures.shape[1:])
    apply = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))
    (first, _), changed = apply(variables, pictures, rngs={"dropout": jax.random.key(1)})
    (second, _), _ = apply(variables, pictures, rngs={"dropout": jax.random.key(2)})
    assert np.abs(first - second).max() > 1e-3
    old, new = (jax.tree.leaves(v["batch_stats"]) for v in (variables, changed))
    assert all(not np.array_equal(a, b) for a, b in zip(old, new, strict=True))
