import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import ops


def test_by_hand():
    """Neighbours in twos at the edges and threes between, alpha not divided by their number."""
    x = jnp.asarray([1.0, 2.0, 0.0, 3.0]).reshape(1, 1, 1, 4)
    found = ops.local_response_norm(x, size=3, alpha=1.0, beta=1.0, k=1.0).ravel()
    np.testing.assert_allclose(found, [1 / 6, 2 / 6, 0, 3 / 10], rtol=1e-6)
    found = ops.local_response_norm(x, size=2, alpha=1.0, beta=1.0, k=1.0).ravel()  # the own one and that before it
    np.testing.assert_allclose(found, [1 / 2, 2 / 6, 0, 3 / 10], rtol=1e-6)


def test_defaults_are_the_paper_s():
    x = jnp.full((1, 1, 1, 7), 10.0)
    found = ops.local_response_norm(x).ravel()
    counts = np.array([3, 4, 5, 5, 5, 4, 3])
    np.testing.assert_allclose(found, 10 / (2 + 1e-4 * 100 * counts) ** 0.75, rtol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 5, 20])
def test_positions_are_independent(size):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 6)), jnp.float32)
    whole = ops.local_response_norm(x, size=size, alpha=0.1)
    np.testing.assert_allclose(
        whole[1:, 1:2, 2:3], ops.local_response_norm(x[1:, 1:2, 2:3], size=size, alpha=0.1), rtol=1e-6
    )


def test_gradients_at_zero():
    gradient = jax.grad(lambda x: ops.local_response_norm(x).sum())(jnp.zeros((1, 2, 2, 6)))
    np.testing.assert_allclose(gradient, 2**-0.75, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(4, 60, 70, 3), (0, 5, 6, 3)])
def test_batch_norm_with_relu_is_relu_of_batch_norm(dtype, shape):
    """Value and all gradients; in half precision too the gradients are cut where the value is 0, not near it."""
    random = np.random.default_rng(0)
    x, dy = (jnp.asarray(random.normal(size=shape), dtype) for _ in range(2))
    scale, bias = (jnp.asarray(random.normal(size=3), jnp.float32) for _ in range(2))
    apart, back = jax.vjp(lambda *args: jax.nn.relu(ops.batch_norm(*args)[0]), x, scale, bias)
    together, back_together = jax.vjp(lambda *args: ops.batch_norm(*args, relu=True)[0], x, scale, bias)
    np.testing.assert_array_equal(together, apart)
    for found, expected in zip(back_together(dy), back(dy), strict=True):
        assert found.dtype == expected.dtype
        wide = np.asarray(expected, np.float32)
        np.testing.assert_allclose(np.asarray(found, np.float32), wide, rtol=0, atol=1e-6 * np.abs(wide).max(initial=1))


def test_instance_norm_by_hand():
    """Two images of two positions: (0, 4) becomes (-1, 1), whatever the other image holds; scale 3, bias 1."""
    x = jnp.asarray([[[[0.0], [4.0]]], [[[10.0], [10.0]]]])
    found = ops.instance_norm(x, jnp.asarray([3.0]), jnp.asarray([1.0]), epsilon=1e-9)
    np.testing.assert_allclose(found.reshape(2, 2), [[-2, 4], [1, 1]], rtol=1e-6)
    assert ops.instance_norm(jnp.zeros((2, 0, 3, 1)), jnp.ones(1), jnp.ones(1)).shape == (2, 0, 3, 1)
