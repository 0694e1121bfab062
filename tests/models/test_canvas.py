"""A picture as parameters, a network that repaints, and the step with a line search, on a tiny trunk."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcv import losses, models, ops
from jaxcv.data import picture_data
from jaxcv.errors import UserError
from jaxcv.predict import stylised
from jaxcv.train import Experiment, optimizers
from jaxcv.train import step as pure
from jaxcv.weights import painter, repainted

TRUNK = models.VGG(stage_sizes=(1, 1), stage_channels=(4, 8), fc_width=4, pooling="avg")
LAYERS = {"content_layers": ("conv2_1",), "style_layers": ("conv1_1", "conv2_1")}
COSTS = partial(
    losses.style_transfer,
    alpha=1.0,
    beta=10.0,
    content_layers={"conv2_1": 1.0},
    style_layers={"conv1_1": 0.5, "conv2_1": 0.5},
)


def experiment(optimizer, *, start="content", colors: Any = "style", **fields):
    data = picture_data("china", image_size=48, others=("flower",))[0].batches(1, seed=0)
    model = models.Canvas(trunk=TRUNK, luminance=colors == "luminance", **LAYERS, **fields)
    return Experiment(
        model=model,
        initial=repainted("", model, data, styles=("flower",), style_size=48, start=start, colors=colors),
        trainable="picture",
        loss=COSTS,
        optimizer=optimizer,
        train_data=data,
        test_data=data,
        predict=stylised,
        steps=8,
    )


def begun(setup):
    fresh = jax.jit(lambda: pure.init(setup))()
    variables, report = setup.initial({"params": fresh.params, **fresh.collections})
    return pure.init(setup, variables), report


def trained(setup, steps=8):
    state, _ = begun(setup)
    step, batch, costs = jax.jit(partial(pure.step, setup)), setup.train_data.batch(0), []
    for _ in range(steps):
        state, logs = step(state, batch)
        costs.append(float(logs["loss"]))
    return state, costs


def test_the_content_costs_nothing_where_it_starts_from_it_and_the_trunk_stays():
    setup = experiment(optimizers.adamw(0.02, steps=8, weight_decay=0.0))
    state, report = begun(setup)
    assert "random weights" in report.summary
    content = setup.train_data.batch(0)["image"]
    np.testing.assert_allclose(
        stylised({"image": state.params["picture"]["0"][None]}).picture, content / 255, atol=1e-6
    )
    after, costs = trained(setup)
    _, logs = jax.jit(partial(pure.step, setup))(state, setup.train_data.batch(0))
    assert float(logs["content"]) < 1e-9 and costs[-1] < 0.8 * costs[0]
    for name in ("trunk", "picture"):
        same = jax.tree.map(np.array_equal, state.params[name], after.params[name])
        assert all(jax.tree.leaves(same)) == (name == "trunk")
    jax.tree.map(np.testing.assert_array_equal, state.collections, after.collections)


def test_layers_are_balanced():
    """On average over the pictures, a Gram matrix has norm 1: whatever the trunk's weights are."""
    setup = experiment(optax.sgd(0.1))
    state, _ = begun(setup)
    outputs, _ = setup.model.apply(
        state.evaluation_variables, jnp.asarray(setup.train_data.batch(0)["image"] / np.float32(255))
    )
    for layer in LAYERS["style_layers"]:
        ours, theirs = ops.gram_matrix(outputs["features"][layer], normalize=True)[0], outputs["grams"][layer][0]
        np.testing.assert_allclose((jnp.linalg.norm(ours) + jnp.linalg.norm(theirs)) / 2, 1, rtol=1e-4)


def test_a_line_search_is_given_what_it_asks_for():
    _, costs = trained(experiment(optax.lbfgs(), start="noise"))
    assert costs == sorted(costs, reverse=True) and costs[-1] < 0.3 * costs[0]


@pytest.mark.parametrize("colors", ["style", "luminance", "histogram"])
def test_octaves_start_from_the_style_in_the_colours_asked_for(colors):
    setup = experiment(optax.sgd(0.1), start="style", octaves=3, colors=colors)
    state, _ = begun(setup)
    assert [x.shape[:2] for _, x in sorted(state.params["picture"].items())] == [(32, 48), (16, 24), (8, 12)]
    content = jnp.asarray(setup.train_data.batch(0)["image"] / np.float32(255))
    made = setup.model.apply(state.evaluation_variables, content)[0]["image"]
    assert made.shape == content.shape
    if colors == "luminance":  # the differences between colours are the content's
        np.testing.assert_allclose(made[..., 0] - made[..., 1], content[..., 0] - content[..., 1], atol=1e-5)
    if colors == "histogram":
        np.testing.assert_allclose(made.mean((0, 1, 2)), content.mean((0, 1, 2)), atol=0.05)


def test_a_painter_learns_and_paints_pictures_of_other_sizes():
    data = picture_data("china", image_size=48)[0].batches(1, seed=0)
    net = models.TransformerNet(width=4, blocks=1)
    model = models.FastStyle(painter=net, trunk=TRUNK, **LAYERS)
    picture = jnp.asarray(data.batch(0)["image"], jnp.float32) / 255
    variables = jax.jit(model.init)(jax.random.key(0), picture)
    variables, report = painter("", model, data, styles=("flower",), style_size=48)(variables)
    assert "painter: randomly" in report.summary
    kept = {"params": {"trunk": variables["params"]["trunk"]}, "targets": variables["targets"]}

    def cost(params):
        outputs, _ = model.apply({**kept, "params": {**kept["params"], "painter": params}}, picture, train=True)
        return sum(value.sum() for value in COSTS(outputs, {}).values())

    step = jax.jit(jax.value_and_grad(cost))
    params, costs = variables["params"]["painter"], []
    for _ in range(6):
        value, grads = step(params)
        params = optax.apply_updates(params, optax.tree.scale(-0.01 / optax.tree.norm(grads), grads))
        costs.append(float(value))
    assert costs[-1] < costs[0]
    made, _ = net.apply({"params": params}, jnp.zeros((2, 24, 16, 3)))  # pyright: ignore[reportArgumentType]
    assert made.shape == (2, 24, 16, 3) and 0 < float(made.min()) and float(made.max()) < 1


def test_wrong_layers_and_pictures_to_start_from_are_refused_in_a_line():
    model = models.Canvas(trunk=TRUNK, content_layers=("conv9_1",), style_layers=("conv1_1",))
    with pytest.raises(UserError, match="VGG has no feature 'conv9_1' .* it has conv1_1 32x32"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    with pytest.raises(UserError, match="start=nowhere.png: expected noise, content, style, or the path"):
        experiment(optax.sgd(0.1), start="nowhere.png")
