import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import ops

A = jnp.asarray([[0.0, 0.0, 10.0, 10.0]])


def test_by_hand():
    """Two squares of 10 moved by 5: IoU 1/3, centres 5 apart, hull 15 x 10; then one of 20 x 10 for the shape."""
    np.testing.assert_allclose(
        ops.distance_box_iou(A, A + jnp.asarray([[5.0, 0, 5, 0]])), [[1 / 3 - 25 / 325]], rtol=1e-5
    )
    wide = jnp.asarray([[-5.0, 0.0, 15.0, 10.0]])
    v = 4 / np.pi**2 * (np.arctan(2) - np.arctan(1)) ** 2
    np.testing.assert_allclose(ops.distance_box_iou(A, wide), [[0.5]], rtol=1e-5)
    np.testing.assert_allclose(ops.complete_box_iou(A, wide), [[0.5 - v * v / (0.5 + v)]], rtol=1e-5)
    np.testing.assert_allclose(ops.complete_box_iou(A, A), [[1.0]], rtol=1e-6)


@pytest.mark.parametrize("name", ["distance_box_iou", "complete_box_iou"])
def test_pairs_are_the_diagonal(name):
    random = np.random.default_rng(0)
    corners = random.uniform(0, 50, (2, 6, 2))
    a, b = jnp.asarray(np.concatenate([corners, corners + random.uniform(0, 30, (2, 6, 2))], -1), jnp.float32)
    every, pairs = getattr(ops, name)(a, b), getattr(ops, f"paired_{name}")(a, b)
    np.testing.assert_allclose(np.diagonal(every), pairs, rtol=1e-6)


@pytest.mark.parametrize("other", [[0, 0, 10, 10], [3, 3, 3, 3], [0, 0, 0, 0], [30, 30, 40, 40], [5, 5, 2, 2]])
@pytest.mark.parametrize("name", ["paired_distance_box_iou", "paired_complete_box_iou"])
def test_gradients_of_odd_boxes_are_finite(name, other):
    for a in (A[0], jnp.asarray(other, jnp.float32)):
        gradient = jax.grad(getattr(ops, name))(a, jnp.asarray(other, jnp.float32))
        assert np.isfinite(gradient).all()


def test_no_boxes():
    assert ops.complete_box_iou(jnp.zeros((0, 4)), A).shape == (0, 1)
