"""Optimizers that experiments share, against the same put together by hand."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax.contrib import MuonDimensionNumbers
from optax.contrib import muon as optax_muon

from jaxcv.errors import UserError
from jaxcv.train import by_part, kernels, optimizers, schedules

PARAMS = {
    "stem": {"kernel": jnp.ones((3, 3, 2, 4))},
    "conv": {"kernel": jnp.full((3, 3, 4, 4), 0.5), "bias": jnp.ones(4)},
}


@pytest.fixture(autouse=True)
def promotion_as_optax_wants_it():
    with jax.numpy_dtype_promotion("standard"):
        yield


def walked(optimizer, steps=6) -> Any:
    """The parameters after a few steps with gradients that have no symmetry."""

    @jax.jit
    def step(params, state, number):
        gradients = jax.tree.map(lambda x: jnp.sin(number + jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    params: Any = PARAMS
    state = optimizer.init(params)
    for number in range(steps):
        params, state = step(params, state, jnp.float32(number))
    return params


def cosine(peak, warmup_steps, total_steps):
    return schedules.warmup_cosine(peak, warmup_steps=warmup_steps, total_steps=total_steps)


def test_adamw_clips_before_it_and_decays_what_the_mask_names():
    by_hand = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(cosine(0.1, 4, 40), weight_decay=0.3, mask=kernels)
    )
    ours = optimizers.adamw(0.1, steps=40, warmup=0.1, weight_decay=0.3, mask=kernels, clip=1.0)
    chex.assert_trees_all_equal(walked(ours), walked(by_hand))
    others = (optimizers.adamw(0.1, steps=40, warmup=0.1, weight_decay=0.3, clip=clip) for clip in (1.0, None))
    for other in others:
        assert not np.array_equal(walked(other)["conv"]["bias"], walked(ours)["conv"]["bias"])


def test_accumulation_counts_updates():
    by_hand = optax.MultiSteps(optax.adamw(cosine(0.1, 2, 20), weight_decay=0.01), 2).gradient_transformation()
    ours = optimizers.adamw(0.1, steps=41, warmup=0.1, accumulate=2)
    chex.assert_trees_all_equal(walked(ours), walked(by_hand))
    with pytest.raises(UserError, match="accumulate=0: expected at least 1"):
        optimizers.adamw(0.1, steps=40, accumulate=0)


def test_sgd_adds_the_decay_to_the_gradients():
    by_hand = optax.chain(
        optax.add_decayed_weights(0.2, mask=kernels), optax.sgd(cosine(0.1, 2, 40), momentum=0.9, nesterov=True)
    )
    chex.assert_trees_all_equal(walked(optimizers.sgd(0.1, steps=40, weight_decay=0.2, mask=kernels)), walked(by_hand))


def test_muon_makes_inner_convolutions_orthogonal():
    numbers = {"stem": {"kernel": None}, "conv": {"kernel": MuonDimensionNumbers((0, 1, 2), 3), "bias": None}}
    by_hand = optax_muon(
        cosine(0.1, 2, 40),
        weight_decay=0.01,
        adam_learning_rate=cosine(0.02, 2, 40),
        adam_weight_decay=0.01,
        muon_weight_dimension_numbers=numbers,
    )
    by_hand = optax.chain(optax.clip_by_global_norm(5.0), by_hand)
    chex.assert_trees_all_equal(walked(optimizers.muon(0.1, adam_lr=0.02, steps=40, clip=5.0)), walked(by_hand))


def test_rates_may_be_traced():
    def moved(lr, decay, clip):
        optimizer = optimizers.adamw(lr, steps=40, warmup=0.0, weight_decay=decay, clip=clip)
        updates: Any = optimizer.update(PARAMS, optimizer.init(PARAMS), PARAMS)[0]
        return updates["conv"]["bias"][0]

    assert jax.jit(moved)(0.1, 0.0, 1.0) == pytest.approx(-0.1, rel=1e-4)
    assert jax.jit(moved)(0.2, 0.5, 1.0) == pytest.approx(-0.2 - 0.2 * 0.5, rel=1e-4)


def test_rates_are_told_to_the_records():
    count, params = jnp.int32(5), {"head": {"kernel": jnp.ones((2, 2))}, "stem": {"kernel": jnp.ones((2, 2))}}

    def told(optimizer, updates=count):
        rates = optimizers.rates_of(optimizer, optimizer.init(params), updates)
        return {name: pytest.approx(float(rate), rel=1e-6) for name, rate in rates.items()}

    assert told(optimizers.adamw(1.0, steps=100, warmup=0.1)) == {"learning_rate": 0.5}
    assert told(optimizers.sgd(2.0, steps=100, warmup=0.1)) == {"learning_rate": 1.0}
    accumulating = optimizers.adamw(1.0, steps=200, warmup=0.1, accumulate=2)
    assert told(accumulating) == {"learning_rate": 0.5}
    both = optimizers.muon(1.0, adam_lr=0.1, steps=100, warmup=0.1)
    assert told(both) == {"learning_rate": 0.5, "learning_rate_adam": 0.05}
    parts = by_part({"head": optimizers.adamw(1.0, steps=100, warmup=0.1), ".*": optax.sgd(0.1)})
    assert told(parts) == {"learning_rate/head": 0.5}
    assert told(optax.inject_hyperparams(optax.adam)(learning_rate=0.25)) == {"learning_rate": 0.25}
    assert told(optax.adam(0.25)) == {}
