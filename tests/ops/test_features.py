import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv.ops import gram_matrix


def test_by_hand():
    features = jnp.asarray([[[1.0, 2.0], [3.0, 4.0]]])  # one row of two positions with two channels
    np.testing.assert_array_equal(gram_matrix(features), [[10.0, 14.0], [14.0, 20.0]])
    np.testing.assert_array_equal(gram_matrix(features, normalize=True), np.asarray([[10.0, 14.0], [14.0, 20.0]]) / 4)


@pytest.mark.parametrize("channels", [3, 513])
def test_few_channels_and_many(channels):
    """From 512 channels on it is put together of blocks."""
    features = np.random.default_rng(0).normal(size=(2, 3, 4, channels)).astype(np.float32)
    expected = np.einsum("bhwk,bhwl->bkl", features, features)
    found = gram_matrix(jnp.asarray(features))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found, np.swapaxes(found, 1, 2), rtol=1e-5, atol=1e-5)

    weights = jnp.asarray(np.random.default_rng(1).normal(size=expected.shape), jnp.float32)
    gradient = jax.grad(lambda x: (gram_matrix(x) * weights).sum())(jnp.asarray(features))
    expected = jax.grad(lambda x: (jnp.einsum("bhwk,bhwl->bkl", x, x) * weights).sum())(jnp.asarray(features))
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-3)


def test_many_positions():
    random = np.random.default_rng(3)
    features, weights = random.normal(size=(2, 40, 32, 16)), random.normal(size=(2, 16, 16))
    found, pull = jax.vjp(gram_matrix, jnp.asarray(features, jnp.float32))
    expected = np.einsum("bhwk,bhwl->bkl", features, features)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * expected.max())
    gradient = np.einsum("bhwl,bkl->bhwk", features, weights + np.swapaxes(weights, 1, 2))
    (pulled,) = pull(jnp.asarray(weights, jnp.float32))
    np.testing.assert_allclose(pulled, gradient, rtol=0, atol=1e-6 * np.abs(gradient).max())


def test_where_things_stand_does_not_matter():
    random = np.random.default_rng(2)
    features = random.normal(size=(12, 5)).astype(np.float32)
    moved = random.permutation(features).reshape(3, 4, 5)
    found = gram_matrix(jnp.asarray(moved), normalize=True)
    np.testing.assert_allclose(found, gram_matrix(jnp.asarray(features.reshape(3, 4, 5)), normalize=True), rtol=1e-5)


def test_no_position():
    assert not gram_matrix(jnp.ones((0, 4, 3)), normalize=True).any()


def test_derivatives_forwards():
    x = jnp.asarray(np.random.default_rng(3).normal(size=(3, 4, 5)), jnp.float32)
    _, forwards = jax.jvp(gram_matrix, (x,), (jnp.ones_like(x),))
    near = (gram_matrix(x + 1e-2) - gram_matrix(x - 1e-2)) / 2e-2  # exact for squares
    np.testing.assert_allclose(forwards, near, rtol=1e-3, atol=1e-3)
