import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv.losses import heatmaps, landmarks

# Picture of 20 x 10: fractions (0.5, 0.5) are the pixel (10, 5).
BATCH = {
    "image": jnp.zeros((2, 10, 20, 3)),
    "points": jnp.asarray([[[10.0, 5], [10, 8]], [[0, 0], [12, 5]]]),
    "visible": jnp.asarray([[True, True], [False, True]]),
}
OUTPUTS = jnp.full((2, 2, 2), 0.5)  # errors: (0, 0), (0, -3); not seen, (-2, 0)


def test_squares_by_hand():
    np.testing.assert_allclose(landmarks(OUTPUTS, BATCH, form="mse")["points"], [9 / 4, 4 / 2], rtol=1e-6)


def test_wing_by_hand():
    """Equation 5 with w = 2.5, epsilon = 0.5: 3 lies in the linear part, 2 in the other."""
    c = 2.5 - 2.5 * np.log(1 + 2.5 / 0.5)
    found = landmarks(OUTPUTS, BATCH, form="wing", width=2.5, curvature=0.5)["points"]
    np.testing.assert_allclose(found, [(3 - c) / 4, 2.5 * np.log(1 + 2 / 0.5) / 2], rtol=1e-6)


def test_wing_has_no_step_where_its_parts_meet():
    def at(error):
        batch = {**BATCH, "points": jnp.asarray([[[10 + error, 5.0]]]), "visible": jnp.ones((1, 1), bool)}
        return landmarks(OUTPUTS[:1, :1], batch, width=4.0, curvature=1.0)["points"][0]

    assert float(at(4 - 1e-4)) == pytest.approx(float(at(4 + 1e-4)), abs=1e-3)
    assert float(jax.grad(at)(4.5)) == pytest.approx(0.5)  # |x| - C over two coordinates


def test_points_not_seen_count_nowhere():
    batch = {**BATCH, "points": BATCH["points"].at[1, 0].set(jnp.nan)}
    for found, wanted in zip(
        (landmarks(OUTPUTS, batch), heatmaps(jnp.zeros((2, 3, 4, 2)), batch)),
        (landmarks(OUTPUTS, BATCH), heatmaps(jnp.zeros((2, 3, 4, 2)), BATCH)),
        strict=True,
    ):
        jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize("form", ["wing", "mse"])
def test_nothing_seen_is_no_loss_with_finite_gradients(form):
    batch = {**BATCH, "points": jnp.full((2, 2, 2), jnp.nan), "visible": jnp.zeros((2, 2), bool)}
    maps = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 2)), jnp.float32)
    for loss, outputs in ((landmarks, OUTPUTS), (heatmaps, maps)):

        def total(x, loss=loss):
            return sum(v.sum() for v in loss(x, batch, form=form).values())

        value, gradient = jax.value_and_grad(total)(outputs)
        assert value == 0 and (np.asarray(gradient) == 0).all()


def test_a_flat_map_costs_the_logarithm_of_its_cells_and_points_are_those_of_the_middle():
    found = heatmaps(jnp.zeros((2, 3, 4, 2)), BATCH, heatmap_weight=2.0)
    np.testing.assert_allclose(found["heatmap"], 2 * np.log(12), rtol=1e-5)
    np.testing.assert_allclose(found["points"], landmarks(OUTPUTS, BATCH)["points"], rtol=1e-5)


def test_without_visible_all_points_count():
    batch = {name: BATCH[name] for name in ("image", "points")}
    np.testing.assert_allclose(landmarks(OUTPUTS, batch, form="mse")["points"], [9 / 4, (100 + 25 + 4) / 4], rtol=1e-6)
