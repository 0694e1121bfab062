"""Every experiment file: it opens with its claim, composes, and takes one real training step."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv.cli.main import load_experiment
from jaxcv.errors import UserError
from jaxcv.train import hyperparameters, parts, program, resolve, step
from jaxcv.train.evaluate import evaluate
from jaxcv.train.feed import Streamed

FILES = sorted((__import__("pathlib").Path(__file__).parent.parent / "experiments").glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_opens_with_its_claim_and_explains_every_hyperparameter(path):
    experiment = load_experiment(path)
    doc = experiment.__globals__["__doc__"]
    assert "Claim:" in doc
    assert f"python launch.py experiments/{path.name}" in doc
    assert [h.name for h in hyperparameters(experiment).values() if not h.meaning] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_a_composition_of_few_lines_that_runs_without_arguments(path):
    assert len(path.read_text().splitlines()) <= 130
    doc = load_experiment(path).__globals__["__doc__"]
    assert f"python launch.py experiments/{path.name}" in [line.split("  # ")[0].strip() for line in doc.splitlines()]


NAMED = {name: "network" for name in ("alexnet", "vgg", "resnet", "inception", "mobilenet", "transfer", "fcn")}
NAMED |= {name: "network" for name in ("fast_style", "style_transfer", "what_it_sees")}
NAMED |= {name: "backbone" for name in ("yolo_v1", "yolo_v2", "yolo_v3")}


def test_every_choice_of_a_network_is_checked():
    """By the test below: an experiment with a new hyperparameter of these names belongs into the table."""
    found = {path.stem: set(hyperparameters(load_experiment(path))) & {"network", "backbone"} for path in FILES}
    assert {name: names for name, names in found.items() if names} == {name: {word} for name, word in NAMED.items()}


@pytest.mark.parametrize("name", NAMED)
def test_an_unknown_network_is_refused_with_the_near_one_and_all_there_are(name, load):
    default = hyperparameters(load(name))[NAMED[name]].default
    wrong = default + "x"
    with pytest.raises(UserError, match=f"unknown network '{wrong}': did you mean {default}.* There are .*{default}"):
        load(name)(**{NAMED[name]: wrong})


class First:
    """The first batch of test data alone; the data as one that a user has written, which cannot live on the device."""

    def __init__(self, data):
        self.data, self.spec = data, data.spec

    def __getattr__(self, name):
        if name in ("indices", "resident", "resident_bytes", "num_examples"):
            raise AttributeError(name)
        return getattr(self.data, name)

    def __len__(self):
        return 1

    def __iter__(self):
        return self

    def __next__(self):
        return self.data.batch(0)

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


IN_SHORT = ("transfer", "landmarks", "unet", "triplet", "faster_rcnn")
SLOWLY = [path if path.stem in IN_SHORT else pytest.param(path, marks=pytest.mark.slow) for path in FILES]


@pytest.mark.parametrize("path", SLOWLY, ids=lambda path: path.stem)
def test_the_network_computes_in_bfloat16_and_all_else_in_float32(path):
    """Traced, not run."""
    experiment = load_experiment(path)
    setup = experiment(**resolve(experiment, {"dtype": "bfloat16"}))
    batch = setup.train_data.batch(0)
    state = jax.eval_shape(lambda: step.init(setup))
    _, outputs, features, terms, grads = jax.eval_shape(partial(step.intermediates, setup), state, batch)
    after, _ = jax.eval_shape(partial(step.step, setup), state, batch)
    floating = {"float32"}
    for tree in (outputs, terms, grads, after.params, after.collections, after.opt_state):
        assert {str(x.dtype) for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)} <= floating
    kinds = [str(x.dtype) for x in jax.tree.leaves(features)]
    assert kinds.count("bfloat16") >= len(kinds) / 2 or not kinds


LIKE_ANOTHER = ("alexnet", "face_classifier", "fast_rcnn", "inception", "mobilenet", "yolo_v1", "yolo_v2")
TAKEN = [pytest.param(path, marks=pytest.mark.slow) if path.stem in LIKE_ANOTHER else path for path in FILES]


@pytest.mark.parametrize("name", LIKE_ANOTHER)
def test_a_step_is_composed(name, load):
    """Of experiments whose step is taken among the slow tests: traced, from the data to the new parameters."""
    values = resolve(load(name), {})
    setup = load(name)(**values)
    state, batch = jax.eval_shape(lambda: step.init(setup)), setup.train_data.batch(0)
    after, logs = jax.eval_shape(partial(step.step, setup, variant=setup.variants[0]), state, batch)
    assert jax.tree.map(jnp.shape, after.params) == jax.tree.map(jnp.shape, state.params)
    assert logs["loss"].shape == ()


PAIRS_IN_A_SMALL_BATCH = {"triplet": {"pictures": 2}, "siamese": {"pictures": 2}}


@pytest.mark.parametrize("path", TAKEN, ids=lambda path: path.stem)
@pytest.mark.usefixtures("quick_to_compile")
def test_it_takes_one_step_and_predicts(path):
    experiment = load_experiment(path)
    # A picture that is repainted has no batch size.
    batch_size = {"batch_size": 4} if "batch_size" in hyperparameters(experiment) else {}
    values = resolve(experiment, {**batch_size, **PAIRS_IN_A_SMALL_BATCH.get(path.stem, {})})
    shared, setup = program(experiment, values), experiment(**values)
    numbers = shared.hyperparameters(values)
    state = shared.compile("init", numbers)(numbers)
    before = jax.tree.map(np.array, state.params)
    step = shared.compile_step(values, setup.variants[0])
    state, logs = step(numbers, state, setup.train_data.batch(0))
    assert logs["finite"]
    assert float(logs["grad_norm"]) > 0
    # Warm-up begins at rate 0: a second step moves the parameters.
    state, logs = step(numbers, state, setup.train_data.batch(1))
    assert int(state.step) == 2
    trained = [jax.tree.leaves(parts.split(params, setup.trainable)[0]) for params in (before, state.params)]
    moved = [not np.array_equal(a, b) for a, b in zip(*trained, strict=True)]
    assert all(moved)

    first = First(setup.test_data)
    feed = Streamed(first, 1)  # pyright: ignore[reportArgumentType]
    short = replace(setup, test_data=first)
    found, shown = evaluate(shared, short, numbers, state.evaluation_variables, feed)
    feed.close()
    assert set(setup.metrics) <= set(found)
    assert np.isfinite(found["loss"])
    assert len(shown) == 1
