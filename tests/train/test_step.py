import dataclasses
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest
from compiled import convolutions_of_the_library

from jaxcv.errors import UserError
from jaxcv.train import Experiment, make_train_step, program, resolve, runtime, sharding
from jaxcv.train.feed import open_feed


def one_step(experiment, values, batch=None):
    values = resolve(experiment, values)
    shared = program(experiment, values)
    hyperparameters = shared.hyperparameters(values)
    state = jax.jit(shared.init)(hyperparameters)
    batch = batch or experiment(**values).train_data.batch(0)
    return jax.jit(shared.step)(hyperparameters, state, batch)


def test_values_of_floats_and_seed_share_one_trace():
    programs = [
        program(problems.experiment, {"lr": lr, "decay": decay, "seed": seed, "log_every": 11})
        for lr in (1e-2, 3, 1e-4)
        for decay in (0.0, 0.1)
        for seed in (0, 1)
    ]
    assert all(other is programs[0] for other in programs)
    assert programs[0].traces == 1


def test_an_int_makes_another_program():
    first = program(problems.experiment, {"batch_size": 8})
    assert first is not program(problems.experiment, {"batch_size": 4})
    assert first is program(problems.experiment, {"batch_size": 8, "lr": 0.5})


def test_programs_of_settings_long_unused_are_let_go():
    """Each is mapped into memory in many pieces, of which a process may have so many and no more."""
    old = weakref.ref(program(problems.experiment, {"batch_size": 3}))
    for steps in range(41, 49):
        last = program(problems.experiment, {"batch_size": 3, "steps": steps})
    assert old() is None
    assert program(problems.experiment, {"batch_size": 3, "steps": 48}) is last


def test_a_traced_value_does_what_the_constant_does():
    batch = problems.TRAIN.batches(8, seed=0).batch(0)

    def constant(*, steps: int = 40) -> Experiment:
        return problems.experiment(lr=0.05, decay=0.3, steps=steps)

    traced, _ = one_step(problems.experiment, {"lr": 0.05, "decay": 0.3}, batch)
    fixed, _ = one_step(constant, {}, batch)
    for a, b in zip(jax.tree.leaves(traced.params), jax.tree.leaves(fixed.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_a_float_that_is_branched_on_is_made_static_and_named():
    def branching(*, lr: float = 1e-2, momentum: float = 0.5, seed: int = 0) -> Experiment:
        optimizer = optax.sgd(lr, momentum=0.9) if momentum > 0.2 else optax.sgd(lr)
        return problems_with(optimizer, seed)

    def problems_with(optimizer, seed):
        base = problems.experiment()
        return Experiment(
            model=base.model,
            loss=base.loss,
            optimizer=optimizer,
            train_data=problems.TRAIN.batches(8, seed=seed),
            test_data=base.test_data,
            steps=10,
            seed=seed,
        )

    found = program(branching, {})
    assert found.static == {"momentum": 0.5}
    assert found.traced == ("lr", "seed")
    assert "test_step.py" in found.reasons["momentum"]
    assert program(branching, {"lr": 3.0}) is found
    assert program(branching, {"momentum": 0.1}) is not found


def test_an_experiment_that_is_wrong_raises_its_own_error():
    def wrong(*, lr: float = 1e-2) -> Experiment:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        program(wrong, {})


def test_hyperparameters_stay_weakly_typed():
    seen = {}

    def half(*, scale: float = 2.0) -> Experiment:
        base = problems.experiment()

        def loss(outputs, batch):
            product = outputs.astype(jnp.bfloat16) * scale
            seen["dtype"] = product.dtype
            return {"squares": jnp.square(product).astype(jnp.float32).sum(-1)}

        return Experiment(
            model=base.model,
            loss=loss,
            optimizer=optax.sgd(0.1),
            train_data=base.train_data,
            test_data=base.test_data,
            steps=1,
        )

    program(half, {})
    assert seen["dtype"] == jnp.bfloat16


def test_the_sum_of_terms_is_the_loss_and_padding_weighs_nothing():
    batch = problems.TRAIN.batches(8, seed=0).batch(0)
    spoilt = {**batch, "example_valid": np.arange(8) < 5, "label": np.where(np.arange(8) < 5, batch["label"], 10**6)}

    def twice(*, factor: float = 2.0) -> Experiment:
        base = problems.experiment()

        def loss(outputs, batch):
            one = problems.cross_entropy(outputs, batch)["cross_entropy"]
            weighted = (jnp.ones_like(one), jnp.arange(8.0))
            return {"one": one, "two": factor * one, "three": weighted}

        return Experiment(
            model=base.model,
            loss=loss,
            optimizer=optax.sgd(0.1),
            train_data=base.train_data,
            test_data=base.test_data,
            steps=1,
        )

    _, logs = one_step(twice, {}, batch)
    logs = {name: float(value) for name, value in logs.items()}
    assert logs["two"] == pytest.approx(2 * logs["one"], rel=1e-6)
    assert logs["three"] == pytest.approx(1.0)
    assert logs["loss"] == pytest.approx(logs["one"] + logs["two"] + logs["three"], rel=1e-6)
    _, padded = one_step(twice, {}, spoilt)
    assert np.isfinite(padded["loss"])


def test_a_step_that_is_not_finite_changes_nothing():
    batch = problems.TRAIN.batches(8, seed=0).batch(0)
    values = resolve(problems.experiment, {})
    shared = program(problems.experiment, values)
    hyperparameters = shared.hyperparameters(values)
    state = jax.jit(shared.init)(hyperparameters)
    step = jax.jit(shared.step)
    bad = {**batch, "image": np.full((8, 4, 4, 1), np.nan, np.float32)}
    after, logs = step(hyperparameters, state, bad)
    assert not logs["finite"]
    assert problems.leaves(after.replace(finite=state.finite)) == problems.leaves(state)
    later, logs = step(hyperparameters, after, batch)
    assert not logs["finite"], "once stopped, a state stays stopped"
    assert problems.leaves(later) == problems.leaves(after)


def test_make_train_step_is_jitted_and_donates():
    values = resolve(problems.experiment, {})
    shared = program(problems.experiment, values)
    hyperparameters = shared.hyperparameters(values)
    state = jax.jit(shared.init)(hyperparameters)
    old = jax.tree.leaves(state.params)[0]
    step = make_train_step(problems.experiment, values)
    state, logs = step(hyperparameters, state, problems.TRAIN.batches(8, seed=0).batch(0))
    assert int(state.step) == 1
    assert old.is_deleted()
    assert set(logs) == {"loss", "cross_entropy", "grad_norm", "finite"}


def test_moving_average_lies_between_start_and_end():
    state, _ = one_step(problems.experiment, {"lr": 0.1})
    shared = program(problems.experiment, {})
    start = jax.jit(shared.init)(shared.hyperparameters(resolve(problems.experiment, {"lr": 0.1})))
    for first, last, mean in zip(
        *(map(jax.tree.leaves, (start.params, state.params, state.ema["params"]))), strict=True
    ):
        np.testing.assert_allclose(mean, first + 0.9 * (last - first), rtol=1e-4, atol=1e-6)


@pytest.mark.devices(2)
def test_two_devices_train_like_one():
    def plain(*, seed: int = 0) -> Experiment:  # Adam would blow up the rounding of gradients that are zero
        return dataclasses.replace(problems.experiment(seed=seed), optimizer=optax.sgd(0.1))

    shared = program(plain, {})
    hyperparameters = shared.hyperparameters({"seed": 0})
    batch = plain().train_data.batch(0)
    alone, _ = one_step(plain, {}, batch)
    state = sharding.place(shared.how.mesh, shared.compile("init", hyperparameters)(hyperparameters))
    together, _ = shared.compile_step({})(hyperparameters, state, batch)
    assert len(jax.tree.leaves(together.params)[0].sharding.device_set) == 2
    for a, b in zip(jax.tree.leaves(alone.params), jax.tree.leaves(together.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(runtime.compiler_options() is None, reason="no option for this backend or jaxlib")
def test_no_convolution_is_left_to_the_slow_library(load):
    experiment = load("lenet")
    values = resolve(experiment, {"steps": 2})
    text = program(experiment, values).compile_step(values).as_text()
    assert " convolution(" in text and not convolutions_of_the_library(text)
    untouched = jax.jit(lambda x, w: jax.lax.conv(x, w, (1, 1), "SAME"))
    text = untouched.lower(jnp.ones((8, 32, 32, 16)), jnp.ones((16, 32, 3, 3))).compile().as_text() or ""
    if not convolutions_of_the_library(text):
        pytest.skip("this jaxlib leaves no convolution to the library on this processor")


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match="did you mean lr"):
        program(problems.experiment, {"lrr": 1.0})


def with_loss(loss):
    def experiment(*, lr: float = 0.1, seed: int = 0) -> Experiment:
        return dataclasses.replace(problems.experiment(seed=seed), loss=loss, optimizer=optax.sgd(lr))

    return experiment


def _cross(outputs, batch):
    return problems.cross_entropy(outputs, batch)["cross_entropy"]


BAD_LOSSES = {
    "a scalar": (lambda o, b: {"one": _cross(o, b), "two": _cross(o, b).mean()}, "'two' is a scalar, of 8 examples"),
    "a float": (lambda o, b: {"two": 1.5}, "'two' is a float"),
    "weights a scalar": (lambda o, b: {"two": (_cross(o, b), jnp.float32(1.0))}, "weights a scalar"),
    "weights too few": (lambda o, b: {"two": (o, jnp.ones(8))}, r"values float32\[8, 2\] and weights float32\[8\]"),
    "no dict": (_cross, r"the loss returns float32\[8\]"),
    "a tuple": (lambda o, b: (_cross(o, b), {}), "the loss returns a tuple of 2"),
    "nothing": (lambda o, b: None, "the loss returns a NoneType"),
    "an empty dict": (lambda o, b: {}, "the loss returns an empty dict"),
    "half of the examples": (lambda o, b: {"two": _cross(o, b)[:4]}, r"'two' is float32\[4\], of 8 examples"),
    "integers": (lambda o, b: {"two": b["label"]}, r"'two' is int32\[8\]"),
    "booleans": (lambda o, b: {"two": b["label"] > 0}, r"'two' is bool\[8\]"),
    "a triple": (lambda o, b: {"two": (_cross(o, b),) * 3}, "'two' is a tuple of 3"),
    "a list": (lambda o, b: {"two": [_cross(o, b), _cross(o, b)]}, "'two' is a list of 2"),
    "a dict within": (lambda o, b: {"two": {"three": _cross(o, b)}}, "'two' is a dict"),
    "a taken name": (lambda o, b: {"grad_norm": _cross(o, b)}, "'grad_norm': the records use this name"),
    "a sum's name": (lambda o, b: {"loss": _cross(o, b), "two": _cross(o, b)}, "'loss': the records"),
}


@pytest.mark.parametrize("kind", BAD_LOSSES)
def test_a_loss_that_is_not_per_example_is_refused_by_name_and_contract(kind):
    loss, message = BAD_LOSSES[kind]
    with pytest.raises(UserError, match=message) as caught:
        program(with_loss(loss), {})
    if "records" not in message and "weights" not in message:
        assert '{"name": [b] or (values, weights)}' in str(caught.value)


def test_the_same_in_evaluation():
    training = True

    def loss(outputs, batch):
        one = _cross(outputs, batch)
        return {"one": one if training else one.mean()}

    bad = with_loss(loss)
    shared = program(bad, {})
    state = shared.state_spec({})
    training = False
    with pytest.raises(UserError, match="'one' is a scalar, of 8 examples"):
        data = open_feed(bad().test_data, 1).spec()
        shared.trace("evaluate_all", shared.hyperparameters({}), state.evaluation_variables, *data)


def test_weights_may_be_a_mask():
    def loss(outputs, batch):
        return {"one": (_cross(outputs, batch), batch["label"] == 1)}

    batch = problems.TRAIN.batches(8, seed=0).batch(0)
    _, logs = one_step(with_loss(loss), {}, batch)
    _, other = one_step(
        with_loss(lambda o, b: {"one": (_cross(o, b), (b["label"] == 1).astype(jnp.float32))}), {}, batch
    )
    assert logs["loss"] == other["loss"]


INJECTED = ["adafactor", "adamw", "sgd", "lion", "rmsprop", "lamb", "adam"]


@pytest.mark.parametrize("name", INJECTED)
@pytest.mark.parametrize("scheduled", [False, True])
def test_hyperparameters_may_be_injected_into_optimizers(name, scheduled):
    def injected(*, lr: float = 0.01, seed: int = 0) -> Experiment:
        static = ("min_dim_size_to_factor", "decay_offset") if name == "adafactor" else ()
        make = optax.inject_hyperparams(getattr(optax, name), static_args=static)
        rate = optax.cosine_decay_schedule(1e-2, 10) if scheduled else lr
        return dataclasses.replace(problems.experiment(seed=seed), optimizer=make(learning_rate=rate))

    state, logs = one_step(injected, {})
    assert np.isfinite(logs["loss"]) and "lr" in program(injected, {}).traced
    np.testing.assert_allclose(state.opt_state.hyperparams["learning_rate"], 0.01, rtol=1e-6)


def test_what_optax_refuses_to_inject_is_said():
    def injected(*, lr: float = 0.01) -> Experiment:
        return dataclasses.replace(problems.experiment(), optimizer=optax.inject_hyperparams(optax.adafactor)(lr))

    with pytest.raises(
        UserError, match=r"optax.inject_hyperparams .* of adafactor, .* static_args=\('min_dim_size_to_f"
    ):
        program(injected, {})
