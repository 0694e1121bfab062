import colorsys

import jax.numpy as jnp
import numpy as np

from jaxcv import ops


def test_hue_by_hand():
    red = jnp.asarray([[[[1.0, 0, 0]]]])
    for shift, expected in (
        (0, [1, 0, 0]),
        (1 / 3, [0, 1, 0]),
        (2 / 3, [0, 0, 1]),
        (1 / 6, [1, 1, 0]),
        (-1 / 6, [1, 0, 1]),
    ):
        np.testing.assert_allclose(ops.adjust_hue(red, jnp.asarray([shift], jnp.float32))[0, 0, 0], expected, atol=1e-6)


def test_hue_is_that_of_hsv():
    image = np.random.default_rng(0).random((1, 5, 6, 3)).astype(np.float32)
    image[0, 0, 0] = 0.4  # grey
    found = np.asarray(ops.adjust_hue(jnp.asarray(image), jnp.asarray([0.3], jnp.float32)))
    for before, after in zip(image.reshape(-1, 3), found.reshape(-1, 3), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*before.tolist())
        np.testing.assert_allclose(after, colorsys.hsv_to_rgb((h + 0.3) % 1, s, v), atol=1e-5)


def test_no_shift_leaves_the_bits_and_other_pictures_have_no_hue():
    image = jnp.asarray(np.random.default_rng(1).random((2, 5, 6, 3)), jnp.float32)
    np.testing.assert_array_equal(ops.adjust_hue(image, jnp.zeros(2)), image)
    np.testing.assert_array_equal(ops.adjust_hue(image[..., :1], jnp.full(2, 0.2)), image[..., :1])
