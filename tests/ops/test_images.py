import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import ops


def pictures(b=3, h=6, w=9, c=3, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random((b, h, w, c)), jnp.float32)


def window(*sides, b=3):
    return jnp.tile(jnp.asarray([sides], jnp.float32), (b, 1))


def test_to_float():
    found = ops.to_float(jnp.asarray([0, 51, 255], jnp.uint8))
    np.testing.assert_allclose(found, [0, 0.2, 1], rtol=1e-6)
    assert found[2] == 1
    assert ops.to_float(jnp.ones(2, jnp.bfloat16)).dtype == jnp.float32
    with pytest.raises(TypeError, match="uint8 or float, not int32"):
        ops.to_float(jnp.asarray([1]))


def test_the_whole_picture_is_itself():
    images = pictures()
    np.testing.assert_array_equal(ops.resized_crop(images, window(0, 0, 9, 6), fill=0.5), images)
    np.testing.assert_array_equal(ops.resized_crop(images, window(9, 0, 0, 6)), images[:, :, ::-1])
    np.testing.assert_array_equal(ops.resized_crop(images, window(0, 6, 9, 0)), images[:, ::-1])


def test_a_window_on_pixels_is_a_slice():
    images = pictures()
    np.testing.assert_array_equal(ops.resized_crop(images, window(2, 1, 7, 5), size=(4, 5)), images[:, 1:5, 2:7])


def test_outside_the_picture():
    images = pictures()
    filled = ops.resized_crop(images, window(-2, 0, 9, 6), size=(6, 11), fill=0.5)
    np.testing.assert_array_equal(filled[:, :, :2], np.full((3, 6, 2, 3), 0.5))
    np.testing.assert_array_equal(filled[:, :, 2:], images)
    repeated = ops.resized_crop(images, window(-2, 0, 9, 6), size=(6, 11))
    np.testing.assert_array_equal(repeated[:, :, 0], images[:, :, 0])


def test_resampling_agrees_with_jax_image():
    images = pictures(1)
    x1, y1, x2, y2, rows, columns = 1.3, 0.4, 7.9, 5.5, 8, 10
    scale = jnp.asarray([rows / (y2 - y1), columns / (x2 - x1)])
    shift = -jnp.asarray([y1, x1]) * scale
    resample = functools.partial(
        jax.image.scale_and_translate,
        shape=(1, rows, columns, 3),
        spatial_dims=(1, 2),
        method="linear",
        antialias=False,
    )
    expected = jax.jit(resample)(images, scale=scale, translation=shift)
    found = ops.resized_crop(images, window(x1, y1, x2, y2, b=1), size=(rows, columns))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    matrix = jnp.asarray([[[(x2 - x1) / columns, 0, x1], [0, (y2 - y1) / rows, y1]]])
    np.testing.assert_allclose(ops.affine(images, matrix, size=(rows, columns)), expected, atol=1e-5)


def test_affine_by_hand():
    images = pictures(1, 5, 5)
    quarter = jnp.asarray([[[0.0, -1.0, 5.0], [1.0, 0.0, 0.0]]])
    np.testing.assert_allclose(ops.affine(images, quarter), np.rot90(images, axes=(1, 2)), atol=1e-6)
    right = jnp.asarray([[[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]]])
    moved = ops.affine(images, right, fill=0.25)
    np.testing.assert_array_equal(moved[:, :, 1:], images[:, :, :-1])
    np.testing.assert_array_equal(moved[:, :, 0], np.full((1, 5, 3), 0.25))


def test_boxes_in_window_by_hand():
    boxes = jnp.asarray([[10.0, 10.0, 20.0, 30.0]])
    windows = jnp.asarray([10.0, 0.0, 30.0, 40.0])
    np.testing.assert_allclose(ops.boxes_in_window(boxes, windows, size=(80, 20)), [[0, 20, 10, 60]])
    mirrored = jnp.asarray([30.0, 0.0, 10.0, 40.0])
    np.testing.assert_allclose(ops.boxes_in_window(boxes, mirrored, size=(80, 20)), [[10, 20, 20, 60]])


def test_colors_by_hand():
    image = jnp.asarray([[[[0.2, 0.4, 0.6]], [[0.6, 0.4, 0.2]]]])
    one, half, none = jnp.ones(1), jnp.full(1, 0.5), jnp.zeros(1)
    gray = np.asarray([[0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6], [0.299 * 0.6 + 0.587 * 0.4 + 0.114 * 0.2]])
    np.testing.assert_array_equal(ops.adjust_colors(image, one, one, one), image)
    np.testing.assert_allclose(ops.adjust_colors(image, half, one, one), image / 2, rtol=1e-6)
    np.testing.assert_allclose(ops.adjust_colors(image, one, none, one), np.full((1, 2, 1, 3), gray.mean()), rtol=1e-5)
    np.testing.assert_allclose(ops.adjust_colors(image, one, one, none)[0, :, 0], np.repeat(gray, 3, 1), rtol=1e-5)
    assert ops.adjust_colors(image, 9 * one, one, one).max() == 1.0


def test_colors_are_the_three_steps_one_after_another():
    images = pictures() * 0.2 + 0.4
    b, c, s = (jnp.asarray(row, jnp.float32) for row in ([0.9, 1.1, 1.0], [1.2, 0.8, 0.9], [0.7, 1.3, 1.1]))
    one = jnp.ones(3)
    step = ops.adjust_colors(ops.adjust_colors(ops.adjust_colors(images, b, one, one), one, c, one), one, one, s)
    np.testing.assert_allclose(ops.adjust_colors(images, b, c, s), step, atol=1e-5)


def test_pictures_without_color_have_no_saturation():
    images, one = pictures(c=1), jnp.ones(3)
    np.testing.assert_allclose(ops.adjust_colors(images, one, one, 0 * one), images, rtol=1e-6)


def test_upsample_by_hand():
    np.testing.assert_array_equal(
        ops.upsample2x(jnp.asarray([[1.0, 2.0]]).reshape(1, 1, 2, 1))[0, ..., 0], [[1, 1, 2, 2], [1, 1, 2, 2]]
    )
