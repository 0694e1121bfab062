import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv.losses import margin_cross_entropy

COSINES = np.asarray([[0.6, -0.2, 0.1], [0.3, -0.95, 0.9]], np.float32)
BATCH = {"label": jnp.asarray([0, 1])}


def expected(angular, cosine, scale):
    values = []
    for row, label in zip(COSINES.astype(np.float64), (0, 1), strict=True):
        theta, logits = np.arccos(row[label]), scale * row
        own = np.cos(theta + angular) if theta + angular <= np.pi else row[label] - angular * np.sin(angular)
        logits[label] = scale * (own - cosine)
        values.append(np.log(np.exp(logits).sum()) - logits[label])
    return values


@pytest.mark.parametrize(("angular", "cosine"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.35), (0.3, 0.2)])
def test_the_margins_of_both_papers(angular, cosine):
    values = jax.jit(margin_cross_entropy)(COSINES, BATCH, angular=angular, cosine=cosine, scale=8.0)["identity"]
    np.testing.assert_allclose(values, expected(angular, cosine, 8.0), rtol=1e-5)


def test_gradients_are_finite_at_the_poles():
    poles = jnp.asarray([[1.0, -1.0, 0.0], [1.0, -1.0, 0.0]])
    gradient = jax.grad(lambda x: margin_cross_entropy(x, BATCH, angular=0.5)["identity"].sum())(poles)
    assert np.isfinite(gradient).all()
