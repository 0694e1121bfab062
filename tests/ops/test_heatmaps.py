import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv.ops import gaussian_heatmaps, soft_argmax


def test_the_mean_position_by_hand():
    """Two cells of a 2 x 4 map with three quarters and one quarter of all: x (0.5 * 3 + 3.5) / 4 cells of 4."""
    probability = np.full((2, 4, 1), 1e-9, np.float32)
    probability[0, 0], probability[1, 3] = 0.75, 0.25
    np.testing.assert_allclose(
        soft_argmax(jnp.log(probability)), [[(0.5 * 3 + 3.5) / 4 / 4, (0.5 * 3 + 1.5) / 4 / 2]], rtol=1e-5
    )


def test_a_flat_map_is_its_middle_and_a_high_peak_its_cell():
    np.testing.assert_allclose(soft_argmax(jnp.zeros((3, 5, 2))), np.full((2, 2), 0.5), rtol=1e-6)
    peak = jnp.zeros((3, 5, 1)).at[2, 1, 0].set(1e4)
    np.testing.assert_allclose(soft_argmax(peak), [[1.5 / 5, 2.5 / 3]], rtol=1e-6)
    assert np.isfinite(jax.grad(lambda x: soft_argmax(x).sum())(peak)).all()


def test_a_bell_by_hand():
    bell = gaussian_heatmaps(jnp.asarray([[0.5, 0.25]]), size=(2, 3), sigma=1.0)[..., 0]
    row, column = np.exp([0, -0.5]), np.exp([-0.5, 0, -0.5])
    np.testing.assert_allclose(bell, np.outer(row / row.sum(), column / column.sum()), rtol=1e-5)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_soft_argmax_undoes_bells_that_fit_into_the_map(sigma):
    points = jnp.asarray(np.random.default_rng(0).uniform(0.45, 0.55, (2, 5, 2)), jnp.float32)
    maps = gaussian_heatmaps(points, size=(32, 40), sigma=sigma)
    np.testing.assert_allclose(maps.sum((-3, -2)), 1, rtol=1e-5)
    np.testing.assert_allclose(soft_argmax(jnp.log(maps + 1e-30)), points, atol=2e-3)


def test_points_outside_are_finite():
    points = jnp.asarray([[-50.0, 0.5], [1e6, -1e6]])
    maps = gaussian_heatmaps(points, size=(4, 4), sigma=0.3)
    assert np.isfinite(maps).all() and maps[..., 0].sum(0)[0] == pytest.approx(1.0)
