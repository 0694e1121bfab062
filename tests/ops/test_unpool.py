import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv.ops import max_pool2d, max_pool2d_positions, max_unpool2d, upsample_bilinear

PICTURE = np.array([[1, 5, 2, 2], [3, 4, 0, 2], [-1, -2, 7, 8], [-3, -1, 9, 6]], np.float32)[None, :, :, None]


def test_positions_by_hand():
    """Of equal largest values the first; 7 is below 9."""
    values, positions = max_pool2d_positions(PICTURE, window=2)
    assert values[0, ..., 0].tolist() == [[5, 2], [-1, 9]]
    assert positions[0, ..., 0].tolist() == [[1, 2], [8, 14]]
    back = max_unpool2d(values, positions, size=(4, 4))
    assert back[0, ..., 0].tolist() == [[0, 5, 2, 0], [0, 0, 0, 0], [-1, 0, 0, 0], [0, 0, 9, 0]]
    np.testing.assert_array_equal(max_unpool2d(values, positions, size=(4, 4), window=2), back)


def test_a_window_in_the_padding_has_a_position_in_the_image():
    values, positions = max_pool2d_positions(np.full((1, 2, 2, 1), -np.inf, np.float32), window=2, padding=1)
    assert np.isneginf(values).all() and np.ravel(positions).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("window", "strides", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, "same")])
def test_unpooling_is_the_transpose_of_pooling(window, strides, padding):
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 6, 3)), jnp.float32)
    options = {"window": window, "strides": strides, "padding": padding}
    pooled, transpose = jax.vjp(lambda x: max_pool2d(x, **options), images)
    values, positions = max_pool2d_positions(images, **options)
    np.testing.assert_array_equal(values, pooled)
    np.testing.assert_allclose(max_unpool2d(values, positions, size=(7, 6)), transpose(values)[0], rtol=1e-6)
    if strides == window:
        np.testing.assert_array_equal(max_unpool2d(values, positions, size=(7, 6), window=window), transpose(values)[0])


def test_gradients_go_through_pooling_and_unpooling():
    def there_and_back(x):
        return (max_unpool2d(*max_pool2d_positions(x, window=2), size=(4, 4), window=2) ** 2).sum()

    gradient = jax.grad(there_and_back)(jnp.asarray(PICTURE))
    assert gradient[0, ..., 0].tolist() == [[0, 10, 4, 0], [0, 0, 0, 0], [-2, 0, 0, 0], [0, 0, 18, 0]]


def test_bilinear_upsampling_by_hand():
    line = jnp.asarray([0.0, 4.0]).reshape(1, 1, 2, 1)
    assert upsample_bilinear(line, size=(2, 4))[0, ..., 0].tolist() == [[0, 1, 3, 4]] * 2
