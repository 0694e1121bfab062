import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv.losses import cross_entropy


def test_by_hand():
    logits = jnp.log(jnp.asarray([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]]))
    values = cross_entropy(logits, {"label": jnp.asarray([0, 2])})
    np.testing.assert_allclose(values["cross_entropy"], [-np.log(0.7), -np.log(0.25)], rtol=1e-6)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
def test_smoothing_mixes_the_target_with_the_uniform_one(label_smoothing):
    logits = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    label = np.asarray([0, 1, 4, 2])
    target = (1 - label_smoothing) * np.eye(5)[label] + label_smoothing / 5
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    found = cross_entropy(jnp.asarray(logits), {"label": jnp.asarray(label)}, label_smoothing=label_smoothing)
    np.testing.assert_allclose(found["cross_entropy"], -(target * log_p).sum(-1), rtol=1e-5)


def test_smoothing_may_be_traced_and_huge_logits_stay_finite():
    batch = {"label": jnp.asarray([1, 0])}
    logits = jnp.asarray([[1e4, -1e4], [1e4, -1e4]])
    value, slope = jax.jit(
        jax.value_and_grad(lambda x, s: cross_entropy(x, batch, label_smoothing=s)["cross_entropy"].sum())
    )(logits, 0.1)
    assert np.isfinite(value) and np.isfinite(slope).all()


def test_half_precision_logits_are_summed_in_single():
    values = cross_entropy(jnp.zeros((2, 7), jnp.bfloat16), {"label": jnp.zeros(2, jnp.int32)})
    assert values["cross_entropy"].dtype == jnp.float32
    np.testing.assert_allclose(values["cross_entropy"], np.log(7), rtol=1e-6)


def test_auxiliary_heads_weigh_less():
    rng = np.random.default_rng(1)
    main, *heads = (jnp.asarray(rng.normal(size=(3, 4)), jnp.float32) for _ in range(3))
    batch = {"label": jnp.asarray([0, 3, 1])}
    found = cross_entropy((main, tuple(heads)), batch, auxiliary_weight=0.25)
    alone = [cross_entropy(logits, batch)["cross_entropy"] for logits in (main, *heads)]
    np.testing.assert_array_equal(found["cross_entropy"], alone[0])
    np.testing.assert_allclose(found["auxiliary"], 0.25 * (alone[1] + alone[2]), rtol=1e-6)
    assert cross_entropy((main, ()), batch).keys() == {"cross_entropy"}
