from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import abstract, filled, images, sizes

from jaxcv import models
from jaxcv.models import AuxiliaryLogits, Dropout, InceptionModule
from jaxcv.models.inception import AuxiliaryHead


def shapes(model, side):
    """Of the variables, without tracing the network twice."""
    image = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x), image)


@pytest.mark.parametrize(
    ("compatible", "trunk", "heads"), [(False, 6_998_552, 6_379_728), (True, 6_624_904, 6_379_984)]
)
def test_table_1_of_googlenet(compatible, trunk, heads):
    model = models.googlenet(torchvision_compatible=compatible, aux_logits=True)
    variables, logits, features = abstract(model, 224, 224, 3)
    assert {name: shape[1:] for name, shape in features.items()} == {
        "conv1": (112, 112, 64),
        "pool1": (56, 56, 64),
        "conv2": (56, 56, 192),
        "pool2": (28, 28, 192),
        "inception3a": (28, 28, 256),
        "inception3b": (28, 28, 480),
        "inception4a": (14, 14, 512),
        "inception4b": (14, 14, 512),
        "inception4c": (14, 14, 512),
        "inception4d": (14, 14, 528),
        "inception4e": (14, 14, 832),
        "inception5a": (7, 7, 832),
        "inception5b": (7, 7, 1024),
        "pool": (1024,),
    }
    assert logits == (2, 1000)
    counts = sizes(variables["params"])
    assert sum(counts.values()) == trunk + heads
    assert counts["aux1"] + counts["aux2"] == heads
    module = variables["params"]["inception3a"]
    large = 3 if compatible else 5
    assert {name: part["conv"]["kernel"].shape for name, part in module.items()} == {
        "branch1x1": (1, 1, 192, 64),
        "branch3x3_reduce": (1, 1, 192, 96),
        "branch3x3": (3, 3, 96, 128),
        "branch5x5_reduce": (1, 1, 192, 16),
        "branch5x5": (large, large, 16, 32),
        "branch_pool": (1, 1, 192, 32),
    }
    assert set(module["branch1x1"]) == ({"conv", "norm"} if compatible else {"conv"})
    # Without the heads, for any image, the rest is the same.
    plain = shapes(models.googlenet(torchvision_compatible=compatible), 33)["params"]
    assert jax.tree.map(jnp.shape, plain) == jax.tree.map(
        jnp.shape, {name: part for name, part in variables["params"].items() if not name.startswith("aux")}
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    # A scale and a bias for each of 7,280 channels instead of a bias, or the other way round.
    [({"norm": True}, 6_998_552 + 7_280), ({"norm": False, "torchvision_compatible": True}, 6_624_904 - 7_280)],
)
def test_batch_norm_in_either_form_of_googlenet(options, expected):
    assert sum(sizes(shapes(models.googlenet(**options), 33)["params"]).values()) == expected


def test_auxiliary_heads_of_googlenet():
    image = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    model = models.googlenet(num_classes=7, aux_logits=True, dropout=0.0)
    made = [jax.eval_shape(partial(model.init, train=train), jax.random.key(0), image) for train in (False, True)]
    assert jax.tree.structure(made[0]) == jax.tree.structure(made[1])
    # No stream of random numbers is needed: dropout=0.0 turns off that of the heads too.
    outputs, features = jax.eval_shape(partial(model.apply, train=True), made[0], image)
    assert isinstance(outputs, AuxiliaryLogits)
    assert outputs.main.shape == (2, 7) and [a.shape for a in outputs.auxiliary] == [(2, 7), (2, 7)]
    logits, others = jax.eval_shape(model.apply, made[0], image)
    assert logits.shape == (2, 7) and features == others
    # A network that has no heads takes the parameters of one that has.
    plain = models.googlenet(num_classes=7, dropout=0.0)
    assert jax.eval_shape(partial(plain.apply, train=True), made[0], image)[0].shape == (2, 7)


def test_inception_v3():
    """Shapes of every stage, its head, and the sizes of images it takes."""
    model = models.inception_v3(aux_logits=True, dropout=0.0)
    variables, logits, features = abstract(model, 299, 299, 3)
    assert {name: shape[1:] for name, shape in features.items()} == {
        "Conv2d_1a_3x3": (149, 149, 32),
        "Conv2d_2a_3x3": (147, 147, 32),
        "Conv2d_2b_3x3": (147, 147, 64),
        "MaxPool_3a_3x3": (73, 73, 64),
        "Conv2d_3b_1x1": (73, 73, 80),
        "Conv2d_4a_3x3": (71, 71, 192),
        "MaxPool_5a_3x3": (35, 35, 192),
        "Mixed_5b": (35, 35, 256),
        "Mixed_5c": (35, 35, 288),
        "Mixed_5d": (35, 35, 288),
        **{f"Mixed_6{letter}": (17, 17, 768) for letter in "abcde"},
        "Mixed_7a": (8, 8, 1280),
        "Mixed_7b": (8, 8, 2048),
        "Mixed_7c": (8, 8, 2048),
        "pool": (2048,),
    }
    assert logits == (2, 1000)
    counts = sizes(variables["params"])
    assert sum(counts.values()) == 27_161_264
    assert sum(counts.values()) - counts["AuxLogits"] == 23_834_568
    fork = variables["params"]["Mixed_7b"]
    assert fork["branch3x3_2a"]["conv"]["kernel"].shape == (1, 3, 384, 384)
    assert fork["branch3x3_2b"]["conv"]["kernel"].shape == (3, 1, 384, 384)

    def train(side):
        image = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
        apply = partial(model.apply, train=True, mutable=["batch_stats"])
        return jax.eval_shape(apply, variables, image)[0][0]

    outputs = train(299)
    assert isinstance(outputs, AuxiliaryLogits)
    assert outputs.main.shape == (2, 1000) and [a.shape for a in outputs.auxiliary] == [(2, 1000)]
    with pytest.raises(ValueError, match="a map of 8x8: .* at least 17x17"):
        train(160)


def test_inception_v3_on_small_images():
    """With the same parameters, also those of a head that cannot be trained there."""
    variables, logits, features = abstract(models.inception_v3(aux_logits=True, num_classes=10), 75, 90, 3)
    assert features["Mixed_7c"] == (2, 1, 1, 2048) and logits == (2, 10)
    assert sum(sizes(variables["params"]).values()) == 27_161_264 - 990 * (2_049 + 769)


def test_dropout_of_the_auxiliary_heads():
    """0.7 of the 1,024 values, as soon as there is any dropout."""
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    model = models.googlenet(aux_logits=True, dropout=0.1)
    rates = []

    def note(call, args, kwargs, context):
        if isinstance(context.module, Dropout):
            rates.append(context.module.rate)
        return call(*args, **kwargs)

    variables = shapes(model, 32)
    with nn.intercept_methods(note):
        keys = {"dropout": jax.random.key(0)}
        jax.eval_shape(partial(model.apply, train=True, mutable=["batch_stats"], rngs=keys), variables, image)
    assert sorted(rates) == [0.1, 0.7, 0.7]


def test_pooling_of_the_auxiliary_heads():
    """The paper's 5x5 by 3 on 14x14, means of another kind in torchvision; the same on any other map."""
    heads: list[Any] = [AuxiliaryHead(4, norm=False, adaptive=adaptive, dropout=0.0) for adaptive in (False, True)]
    for side, differ in ((14, True), (9, False)):
        x = jax.random.normal(jax.random.key(1), (1, side, side, 3))
        variables = heads[0].init(jax.random.key(0), x, train=False)
        assert variables["params"]["fc1"]["kernel"].shape == (2048, 1024)
        a, b = (head.apply(variables, x, train=False) for head in heads)
        assert (np.abs(a - b).max() > 1e-4) == differ


def test_local_response_norm_of_the_paper():
    """Before conv2_reduce: pool1 / (1 + 1e-4 / 5 * sum of five squares)^0.75, for images that make this matter."""
    model, pictures = models.googlenet(num_classes=3, std=(0.002,) * 3), images(1, 32, 32, 3)
    variables = filled(model, *pictures.shape[1:])

    @jax.jit
    def run(variables, pictures):  # the rest of the network is never compiled
        (_, features), inside = model.apply(
            variables, pictures, capture_intermediates=lambda module, _: module.name == "conv2_reduce"
        )
        return features["pool1"], inside["intermediates"]["conv2_reduce"]["__call__"][0]

    pool1, found = run(variables, pictures)
    x = np.asarray(pool1, np.float64)
    squares = np.pad(x**2, ((0, 0), (0, 0), (0, 0), (2, 2)))
    total = sum(squares[..., i : i + 64] for i in range(5))
    normed = x / (1 + 1e-4 / 5 * total) ** 0.75
    assert np.median(normed / np.maximum(x, 1e-9)) < 0.9
    part = variables["params"]["conv2_reduce"]["conv"]
    expected = np.maximum(normed @ np.asarray(part["kernel"][0, 0], np.float64) + np.asarray(part["bias"]), 0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * expected.max())


@pytest.mark.parametrize("norm", [False, True])
def test_a_module_alone_learns(norm):
    module, x = InceptionModule((4, 2, 6, 2, 3, 5), norm=norm), images(2, 9, 8, 7)
    variables = module.init(jax.random.key(0), x, train=False)

    @jax.jit
    def gradients(params):
        def loss(params):
            y, _ = module.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
            return (y * jax.random.normal(jax.random.key(1), y.shape)).mean(), y

        return jax.grad(loss, has_aux=True)(params)

    gradient, y = gradients(variables["params"])
    assert y.shape == (2, 9, 8, 4 + 6 + 3 + 5)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 1e-6, path


def test_branches_see_so_far():
    """A point of light reaches the neighbours of its branch's kernel: 1x1, 3x3, 5x5, 3x3, in this order."""
    module: Any = InceptionModule((1, 1, 1, 1, 1, 1), norm=False)
    image = jnp.zeros((1, 9, 9, 1))
    variables = jax.tree.map(jnp.ones_like, module.init(jax.random.key(0), image, train=False))
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.zeros_like(leaf) if path[-1].key == "bias" else leaf, variables
    )
    y = module.apply(variables, image.at[0, 4, 4, 0].set(1.0), train=False)
    assert [int((y[0, ..., i] > 0).sum()) for i in range(4)] == [1, 9, 25, 9]
