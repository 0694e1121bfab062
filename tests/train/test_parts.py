"""Frozen parts keep their bits, and the cached features of a frozen trunk train the same head."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

from jaxcv import models
from jaxcv.data.dataset import Dataset
from jaxcv.errors import UserError
from jaxcv.models.layers import BatchNorm, ConvNormAct, Dropout, global_avg_pool
from jaxcv.train import Experiment, by_part, fit, parts, program
from jaxcv.train import step as pure
from jaxcv.weights.matching import Entry, Report

TREE = {"stem": {"kernel": jnp.ones(2)}, "stage1": {"a": {"bias": jnp.zeros(3)}}, "stage10": {"bias": jnp.ones(1)}}


def test_patterns_name_whole_words_of_paths():
    names = [path for path, _ in parts._paths(parts.split(TREE, "stage1")[0])]
    assert names == [("stage1", "a", "bias")]
    trained, frozen = parts.split(TREE, "stage1/a|stem")
    assert set(trained) == {"stage1", "stem"} and set(frozen) == {"stage10"}
    assert jax.tree.structure(parts.merge(trained, frozen)) == jax.tree.structure(TREE)
    assert parts.split(TREE, ".*")[1] == {}
    assert parts.describe(TREE, "stem") == (
        "trained: 2 of 6 parameters (stem); frozen, with their batch statistics: stage1, stage10"
    )


def test_a_pattern_that_names_nothing_is_refused():
    with pytest.raises(UserError, match="names no parameter; their paths begin with stage1, stage10, stem"):
        parts.split(dict(sorted(TREE.items())), "heads")


class Small(nn.Module):
    """Trunk with batch normalisation and dropout, and a head; `flax_norm` puts Flax's own layer straight in between."""

    flax_norm: bool = False

    @nn.compact
    def __call__(self, images, *, train=False):
        x = Trunk(name="trunk")(images, train=train)
        x = global_avg_pool(x)
        if self.flax_norm:
            x = nn.BatchNorm(use_running_average=not train, name="between")(x)
        return nn.Dense(2, name="head")(x), {"pool": x}


class Trunk(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        x = ConvNormAct(3, name="stem")(x - 0.5, train=train)
        return Dropout(0.5)(BatchNorm(name="norm")(x, train=train), train=train)


class Head(nn.Module):
    @nn.compact
    def __call__(self, features, *, train=False):
        return nn.Dense(2, name="head")(features), {}


def start(variables):
    """Variables such as somebody else may have trained: no statistic is 0 or 1."""
    rng = np.random.default_rng(0)
    leaves, tree = jax.tree.flatten(variables)
    new = [jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32) for leaf in leaves]
    head = dict(variables["params"])["head"]
    variables = jax.tree.unflatten(tree, new)
    variables["params"]["head"] = head
    return variables, Report("test", (Entry("params/head/kernel", "", "randomly initialised"),))


def experiment(
    *,
    trainable: str = "head",
    flax_norm: bool = False,
    cached: bool = False,
    lr: float = 0.1,
    ema: float | None = None,
    steps: int = 20,
    seed: int = 0,
) -> Experiment:
    extract = Extract(flax_norm)
    train, test = (d.with_features(extract) if cached else d for d in (TRAIN, TEST))
    return Experiment(
        model=Head() if cached else Small(flax_norm),
        inputs=("features",) if cached else ("image",),
        initial=None if cached else start,
        trainable=".*" if cached else trainable,
        loss=problems.cross_entropy,
        optimizer=optax.adamw(lr, weight_decay=0.1),
        train_data=train.batches(8, seed=seed),
        test_data=test.batches(8),
        predict=None,
        ema=ema,
        steps=steps,
        previews=0,
        seed=seed,
    )


TRAIN, TEST = Dataset(problems.Points(60), image_size=4), Dataset(problems.Points(21), image_size=4)


class Extract:
    """The trunk as `start` gives it."""

    def __init__(self, flax_norm):
        self.model, self.calls = Small(flax_norm), 0
        shape = jnp.zeros((1, 4, 4, 1))
        self.variables, _ = start(dict(self.model.init(jax.random.key(0), shape)))

    def __eq__(self, other):
        return isinstance(other, Extract) and self.model == other.model

    def __hash__(self):
        return hash(self.model)

    def __call__(self, images):
        self.calls += 1
        return self.model.apply(self.variables, jnp.asarray(images, jnp.float32) / 255)[1]["pool"]

    def spec(self, image):
        return jax.ShapeDtypeStruct((3,), jnp.float32)


def trained(values):
    shared, setup = program(experiment, values), experiment(**values)
    hyperparameters = shared.hyperparameters(values)
    state, _ = shared.first_state(values)
    first = jax.tree.map(np.array, {"params": state.params, **state.collections})
    step = jax.jit(shared.step)
    for number in range(setup.steps):
        state, _ = step(hyperparameters, state, setup.train_data.batch(number))
    return first, state


@pytest.mark.parametrize("flax_norm", [False, True])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_what_is_frozen_keeps_its_bits(flax_norm, ema):
    first, state = trained({"flax_norm": flax_norm, "ema": ema})
    last = {"params": state.params, **state.collections}
    for variables in [last] + ([] if ema is None else [state.ema]):
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            before = first
            for key in path:
                before = before[key.key]
            same = np.asarray(leaf).tobytes() == before.tobytes()
            assert same == ("head" not in name), name


def test_training_everything_moves_the_statistics_too():
    first, state = trained({"trainable": ".*"})
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), first, {"params": state.params, **state.collections})
    assert all(jax.tree.leaves(moved))


def test_the_optimizer_keeps_nothing_for_what_is_frozen():
    _, state = trained({"steps": 1})
    assert {leaf.shape for leaf in jax.tree.leaves(state.opt_state)} <= {(), (3, 2), (2,)}


def test_cached_features_train_the_same_head(tmp_path):
    _, frozen = trained({})
    _, head = trained({"cached": True})
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), frozen.params["head"], head.params["head"]
    )
    extract = Extract(False)
    assert TRAIN.with_features(extract) is TRAIN.with_features(Extract(False))
    result = fit(experiment, {"cached": True}, tmp_path / "run")
    assert np.isfinite(result.test["loss"])


def test_a_start_is_told_and_kept(tmp_path):
    fit(experiment, {"steps": 2}, tmp_path / "run")
    assert "randomly initialised" in (tmp_path / "run" / "initial.txt").read_text()


def test_a_start_of_another_shape_is_refused(tmp_path):
    def bad(*, seed: int = 0) -> Experiment:
        def initial(variables):
            variables = jax.tree.map(lambda x: x, variables)
            variables["params"]["head"]["bias"] = jnp.zeros(3)
            return variables, None

        setup = experiment()
        return Experiment(**{**setup.__dict__, "initial": initial})

    with pytest.raises(UserError, match=r"params/head/bias of shape \(2,\), the starting variables \(3,\)"):
        fit(bad, {}, tmp_path / "run")


def test_rates_by_part():
    params = {"head": {"bias": jnp.ones(1)}, "stem": {"bias": jnp.ones(1)}, "rest": {"bias": jnp.ones(1)}}
    optimizer = by_part({"head": optax.sgd(0.5), "stem": optax.sgd(0.0), ".*": optax.sgd(0.25)})
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    chex.assert_trees_all_equal(
        updates, {n: {"bias": jnp.asarray([u])} for n, u in (("head", -0.5), ("stem", 0.0), ("rest", -0.25))}
    )
    with pytest.raises(UserError, match="no optimizer for stem/bias"):
        by_part({"head|rest": optax.sgd(0.5)}).init(params)


def test_a_part_of_a_real_network():
    variables = jax.eval_shape(models.lenet5().init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    line = parts.describe(variables["params"], "fc4|head")
    assert line.startswith("trained: 11,014 of 62,006 parameters (fc4, head)")


class Drift(nn.Module):
    """Counts its calls in a collection of its own, whatever it is told."""

    @nn.compact
    def __call__(self, x):
        calls = self.variable("drift", "calls", jnp.zeros, ())
        if not self.is_initializing():
            calls.value = calls.value + 1.0
        return x


class Bare(nn.Module):
    """A trunk of layers without parameters, told in every way of training, and a head with such a layer of its own."""

    @nn.compact
    def __call__(self, images, *, train=False):
        x = images.reshape(images.shape[0], -1)
        x = nn.BatchNorm(use_running_average=not train, use_scale=False, use_bias=False, name="norm")(x)
        x = Middle(name="middle")(x, train)
        x = nn.Dropout(0.5, deterministic=not train, name="dropout")(x)
        x = Drift(name="counted")(x)
        x = nn.Dense(3, name="stem")(x)
        return Top(name="head")(x, train=train), {"pool": x}


class Middle(nn.Module):
    @nn.compact
    def __call__(self, x, training):
        return nn.BatchNorm(use_scale=False, use_bias=False)(x, use_running_average=not training)


class Top(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        x = nn.BatchNorm(use_running_average=not train, use_scale=False, use_bias=False, name="norm")(x)
        return nn.Dense(2)(x)


@pytest.mark.parametrize(("trainable", "moving"), [("head", {"head"}), ("head|norm", {"head", "norm"})])
def test_freezing_goes_by_path_and_not_by_the_presence_of_parameters(trainable, moving):
    def bare(*, lr: float = 0.1, seed: int = 0) -> Experiment:
        setup = experiment(seed=seed)
        changed = {"model": Bare(), "initial": None, "optimizer": optax.sgd(lr), "trainable": trainable}
        return Experiment(**{**setup.__dict__, **changed})

    shared, batch = program(bare, {}), TRAIN.batches(8, seed=0).batch(0)
    hyperparameters = shared.hyperparameters({})
    state = jax.jit(shared.init)(hyperparameters)
    after, _ = jax.jit(shared.step)(hyperparameters, state, batch)
    for collection, tree in after.collections.items():
        for path, leaf in parts._paths(tree):
            same = np.array_equal(leaf, dict(parts._paths(state.collections[collection]))[path])
            assert same == (path[0] not in moving), (collection, path)
    _, _, features, _, _ = pure.intermediates(shared.at(hyperparameters), state, batch)
    if moving == {"head"}:  # all below the head runs as in evaluation
        variables, images = {"params": state.params, **state.collections}, batch["image"] / np.float32(255)
        expected = Bare().apply(variables, images, train=False, mutable=["drift"])
        np.testing.assert_allclose(features["pool"], expected[0][1]["pool"], rtol=1e-5, atol=1e-6)
