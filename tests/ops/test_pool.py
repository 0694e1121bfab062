"""What max pooling picks, and where its gradient goes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import ops
from jaxcv.models.layers import BatchNorm, Conv, MaxPool


def test_the_first_of_equals_takes_the_gradient_and_nan_is_largest():
    image = jnp.asarray([[1.0, 2.0, 2.0], [2.0, 0.0, 1.0]]).reshape(1, 2, 3, 1)
    gradient = jax.grad(lambda x: ops.max_pool2d(x, window=(2, 3)).sum())(image)
    np.testing.assert_array_equal(gradient[0, ..., 0], [[0, 1, 0], [0, 0, 0]])
    spoilt = image.at[0, 1, 1, 0].set(jnp.nan)
    assert np.isnan(ops.max_pool2d(spoilt, window=(2, 3))).all()
    assert np.isnan(jax.value_and_grad(lambda x: ops.max_pool2d(x, window=(2, 3)).sum())(spoilt)[0])


@pytest.mark.parametrize(
    ("window", "strides", "padding"), [(3, 2, 1), (2, 2, "valid"), (3, 1, "same"), (2, 3, "valid")]
)
def test_gradients_and_their_gradients(window, strides, padding):
    pool = lambda x: ops.max_pool2d(x, window=window, strides=strides, padding=padding)  # noqa: E731
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.permutation(2 * 7 * 6 * 3).reshape(2, 7, 6, 3) / 10, jnp.float32)  # nothing nearly equal
    way = jnp.asarray(rng.normal(size=image.shape), jnp.float32)
    small = 1e-3
    forward = (pool(image + small * way) - pool(image - small * way)) / (2 * small)
    weight = jnp.asarray(rng.normal(size=forward.shape), jnp.float32)
    gradient = jax.grad(lambda x: (weight * pool(x)).sum())(image)
    np.testing.assert_allclose((gradient * way).sum(), (weight * forward).sum(), rtol=1e-2)
    np.testing.assert_allclose(gradient.sum(), weight.sum(), rtol=1e-4)  # every window has one winner

    def squares(x):
        return jnp.square(pool(x)).sum()

    second = jax.grad(lambda x: (way * jax.grad(squares)(x)).sum())(image)
    np.testing.assert_allclose(second, jax.jvp(jax.grad(squares), (image,), (way,))[1], rtol=1e-5, atol=1e-5)
    step = jax.grad(squares)(image + small * way) - jax.grad(squares)(image - small * way)
    np.testing.assert_allclose(second, step / (2 * small), rtol=1e-2, atol=0.1)


def test_no_gradient_is_lost_where_what_is_pooled_is_computed_twice():
    """XLA normalises once for the pooled values and once more for the gradient, and rounds differently."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = Conv(192, 3, padding="valid", name="first")(x)
            x = nn.relu(BatchNorm(name="norm")(x, train=True))
            return nn.relu(BatchNorm(name="last")(Conv(32, 1)(MaxPool(3, strides=2)(x)), train=True))

    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.uniform(size=(2, 17, 17, 80)), jnp.float32)
    weight = jnp.asarray(rng.normal(size=(2, 7, 7, 32)), jnp.float32)
    variables = jax.jit(Net().init)(jax.random.key(0), x)

    def loss(params):
        out, _ = Net().apply({**variables, "params": params}, x, mutable=["batch_stats"])
        return (out * weight).mean()

    compiled, by_hand = jax.jit(jax.grad(loss))(variables["params"]), jax.grad(loss)(variables["params"])
    for a, b in zip(*map(jax.tree.leaves, (compiled["first"]["kernel"], by_hand["first"]["kernel"])), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())
