import jax.numpy as jnp
import numpy as np

from jaxcv.predict import heatmaps, landmarks, localization


def test_localization_by_hand():
    """In 20 x 40 pixels a box around (0.25, 0.5), half as high and three quarters as wide: cut on the left."""
    logit = jnp.asarray([jnp.log(9.0), 0.25, 0.5, 0.5, 0.75])
    found = localization(jnp.concatenate([logit, jnp.log(jnp.asarray([0.3, 0.7]))])[None], image_size=(20, 40))
    np.testing.assert_allclose(found.score, [0.9], rtol=1e-5)
    np.testing.assert_allclose(found.box, [[0, 5, 25, 15]], rtol=1e-5)
    np.testing.assert_allclose(found.scores, [[0.3, 0.7]], rtol=1e-5)
    assert found.label.tolist() == [1]


def test_points_in_pixels():
    found = landmarks(jnp.asarray([[[0.5, 0.25], [1.0, -0.1]]]), image_size=(20, 40))
    np.testing.assert_allclose(found.points, [[[20, 5], [40, -2]]], rtol=1e-5)
    assert found.visible.all() and found.visible.shape == (1, 2)
    peak = jnp.zeros((1, 5, 4, 2)).at[0, 1, 2, 0].set(1e3).at[0, 4, 0, 1].set(1e3)
    np.testing.assert_allclose(heatmaps(peak, image_size=(20, 40)).points, [[[25, 6], [5, 18]]], rtol=1e-5)
