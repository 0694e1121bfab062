"""A float whose type Python looks at is a constant of the program, and never another result."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

from jaxcv.train import Experiment, program, resolve


def weighted(function, where="body"):
    """An experiment whose loss is multiplied by a function of the hyperparameter `a`, computed here or there."""

    def experiment(*, a: float = 0.5, b: float = 2.0, lr: float = 0.1, seed: int = 0) -> Experiment:
        base: Any = problems.experiment(seed=seed, ema=None)
        early: Any = function(a) if where == "body" else None

        def factor():
            return early if where == "body" else function(a)

        def loss(outputs, batch):
            return {"one": factor() * b * problems.cross_entropy(outputs, batch)["cross_entropy"]}

        def augment(key, batch):
            return {**batch, "image": batch["image"] * factor()}

        def predict(outputs):
            return jax.tree.map(lambda x: x * factor() if x.dtype == jnp.float32 else x, base.predict(outputs))

        parts: dict[str, Any] = {
            "body": {"loss": loss},
            "loss": {"loss": loss},
            "augment": {"augment": augment},
            "predict": {"predict": predict},
            "schedule": {"optimizer": optax.sgd(lambda count: lr * factor())},
            "ema": {"ema": factor()},
            "network": {"model": problems.Net(lambda x: factor() * x)},
        }
        return dataclasses.replace(base, **{"optimizer": optax.sgd(lr), **parts[where]})

    return experiment


def tried(a):
    try:
        return 2 * float(a)
    except TypeError:
        return a


def tried_anything(a):
    try:
        return 2 * float(a)
    except Exception:
        return a


LOOKS = {
    "isinstance": lambda a: 2 * a if isinstance(a, float) else a,
    "type": lambda a: 2 * a if type(a) is float else a,
    "hasattr": lambda a: 2 * a if hasattr(a, "is_integer") else a,
    "array": lambda a: a if isinstance(a, jax.Array) else 2 * a,
    "try": tried,
    "try anything": tried_anything,
    "text": lambda a: {"0.5": 2.0}.get(str(a), 1.0) * a,
    "format": lambda a: {"0.50": 2.0}.get(f"{a!s:.3}0", 1.0) * a,
    "in": lambda a: 2 * a if a in (0.5, 1.0) else a,
    "key": lambda a: {0.5: 2.0}.get(a, 1.0) * a,
    "isclose": lambda a: 2 * a if math.isclose(a, 0.5) else a,
    "numpy": lambda a: float(np.float32(a)) * 2,
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_float_that_python_looks_at_is_a_constant(look):
    experiment = weighted(LOOKS[look])
    found = program(experiment, {})
    assert "a" in found.static and set(found.traced) == {"b", "lr", "seed"}
    assert "Python" in found.reasons["a"]
    assert program(experiment, {"b": 3.0}) is found
    values = resolve(experiment, {})
    shared = program(experiment, values)
    hyperparameters = shared.hyperparameters(values)
    state = jax.jit(shared.init)(hyperparameters)
    batch = problems.TRAIN.batches(8, seed=0).batch(0)
    _, logs = jax.jit(shared.step)(hyperparameters, state, batch)
    plain = program(problems.experiment, {"ema": None})
    _, expected = jax.jit(plain.step)(plain.hyperparameters({}), state.replace(opt_state=plain_state(plain)), batch)
    np.testing.assert_allclose(logs["loss"], 2 * expected["loss"], rtol=1e-5)


def plain_state(plain):
    return jax.jit(plain.init)(plain.hyperparameters({})).opt_state


@pytest.mark.parametrize("where", ["loss", "augment", "predict", "schedule", "ema", "network"])
@pytest.mark.parametrize("look", ["isinstance", "text"])
def test_wherever_it_is_looked_at(where, look):
    found = program(weighted(LOOKS[look], where), {})
    assert set(found.static) == {"a"}


def test_a_value_that_shows_nothing_serves_that_value_alone():
    """Twice nothing is nothing: what Python does with the number shows at the next value."""
    experiment = weighted(lambda a: 1.0 + (2 * a if isinstance(a, float) else a))
    first = program(experiment, {"a": 0.0})
    second = program(experiment, {"a": 0.25})
    assert first.traced == ("a", "b", "lr", "seed") and second.static == {"a": 0.25}
    assert program(experiment, {"a": 0.0}).static == {"a": 0.0}
    assert program(experiment, {"a": 0.25, "b": 7.0}) is second


def test_two_floats_that_are_looked_at_together():
    def experiment(*, a: float = 0.5, b: float = 0.5, lr: float = 0.1) -> Experiment:
        base = problems.experiment(ema=None)
        factor = 2.0 if isinstance(a, float) and isinstance(b, float) else 1.0
        loss = lambda outputs, batch: {"one": factor * problems.cross_entropy(outputs, batch)["cross_entropy"]}  # noqa: E731
        return dataclasses.replace(base, loss=loss, optimizer=optax.sgd(lr))

    found = program(experiment, {})
    assert {"a", "b"} <= set(found.static)


def test_another_network_structure_or_dtype_is_found():
    def experiment(*, a: float = 0.5, b: float = 0.5, lr: float = 0.1) -> Experiment:
        base = problems.experiment(ema=None)
        poison = (lambda x: x) if isinstance(a, float) else (lambda x: 3 * x)
        optimizer = optax.sgd(lr, momentum=0.9) if type(b) is float else optax.sgd(lr)
        return dataclasses.replace(base, model=problems.Net(poison), optimizer=optimizer)

    assert program(experiment, {}).traced == ("lr",)


@pytest.mark.parametrize(
    "function",
    [
        lambda a: (1 - a) ** 3 / (a + 1e-3) % 0.3 // 0.01,
        lambda a: jnp.exp(-a) + jnp.clip(a, 0.1, 0.9) + jnp.where(a > 0.2, a, 0.0),
        lambda a: jnp.array([a, 0.5, 2 * a])[1] + round(a, 2) + abs(-a) + a**2.0 + a**2 + 2.0**a,
        lambda a: jnp.linspace(0.0, a, 5).mean() + jnp.full((3,), a).sum() + jnp.float32(1.0) * a,
        lambda a: jax.lax.cond(a > 0.3, lambda x: x * a, lambda x: x - a, 2.0),
        lambda a: jax.lax.fori_loop(0, 3, lambda i, x: x * a + 1.0, a),
        lambda a: jax.lax.scan(lambda c, x: (c + a * x, c), a, jnp.ones(4))[0],
        lambda a: jax.jit(lambda x: x * a + 0.1)(a) + jax.nn.relu(a) + jax.nn.silu(a) + jax.checkpoint(jnp.sin)(a),
    ],
)
@pytest.mark.parametrize("where", ["body", "loss", "network"])
def test_what_only_computes_with_a_float_stays_traced(function, where):
    assert program(weighted(function, where), {}).static == {}


@pytest.mark.parametrize("name", ["lenet", "localization", "yolo", "sliding_window", "landmarks"])
def test_our_own_experiments_keep_their_floats_traced(name, load):
    small = {"yolo": {"image_size": 64}}.get(name, {})
    found = program(load(name), small)
    assert not [reason for reason in found.reasons.values() if "by its type" in reason]


@pytest.mark.parametrize("decay", [0.0, 1.0, 0.3])
def test_what_a_library_leaves_out_at_zero_or_one_is_no_other_result(decay):
    """optax's weight decay looks whether it is the number 0, and adds nothing then."""

    def experiment(*, decay: float = 0.0, scale: float = 1.0, lr: float = 0.1) -> Experiment:
        chain = optax.chain(optax.add_decayed_weights(decay), optax.scale(scale), optax.sgd(lr))
        return dataclasses.replace(problems.experiment(ema=None), optimizer=chain)

    assert program(experiment, {"decay": decay}).static == {}
