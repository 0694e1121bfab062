import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv.losses import cross_entropy, hard_negative_cross_entropy


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
    value, gradient = jax.jit(
        jax.value_and_grad(lambda x, s: cross_entropy(x, batch, label_smoothing=s)["cross_entropy"].sum())
    )(logits, 0.1)
    assert np.isfinite(value) and np.isfinite(gradient).all()


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


def test_the_hardest_of_the_background_count_and_all_objects():
    # Probability of the background: objects 1 and 4, and background of losses -log 0.5, 0.9, 0.2, 0.99, 0.6.
    share = np.array([0.5, 0.3, 0.9, 0.2, 0.7, 0.99, 0.6], np.float32)
    logits = jnp.log(jnp.stack([share, 1 - share], axis=1))
    batch = {"label": jnp.asarray([0, 1, 0, 0, 1, 0, 0])}

    def weights(ratio, **more):
        return hard_negative_cross_entropy(logits, batch | more, ratio=ratio)["cross_entropy"][1].tolist()

    assert weights(1.0) == [1, 1, 0, 1, 1, 0, 0]
    assert weights(1.5) == [1, 1, 0, 1, 1, 0, 1]
    assert weights(9.0) == [1] * 7
    assert weights(0.0) == [0, 1, 0, 0, 1, 0, 0]
    padded = jnp.asarray([True, True, True, False, True, True, True])
    assert weights(0.5, example_valid=padded)[:3] == [1, 1, 0]  # padding is no hard example
    values = hard_negative_cross_entropy(logits, batch)["cross_entropy"][0]
    np.testing.assert_array_equal(values, cross_entropy(logits, batch)["cross_entropy"])
    alike = hard_negative_cross_entropy(jnp.zeros((4, 2)), {"label": jnp.zeros(4, jnp.int32)}, ratio=2.0)
    assert alike["cross_entropy"][1].tolist() == [1, 1, 0, 0]  # no object: as many as for one


def test_only_what_counts_has_a_gradient():
    logits = jnp.asarray(np.random.default_rng(2).normal(size=(9, 3)), jnp.float32)
    batch = {"label": jnp.asarray([0, 0, 2, 0, 0, 1, 0, 0, 0])}

    def total(logits, ratio):
        values, weights = hard_negative_cross_entropy(logits, batch, ratio=ratio)["cross_entropy"]
        return (values * weights).sum()

    gradient = np.asarray(jax.jit(jax.grad(total))(logits, 1.0))
    counted = np.asarray(hard_negative_cross_entropy(logits, batch, ratio=1.0)["cross_entropy"][1])
    assert counted.sum() == 4 and np.isfinite(gradient).all()
    np.testing.assert_array_equal(np.abs(gradient).sum(1) > 0, counted > 0)
