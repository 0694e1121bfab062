import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcv import ops


def test_four_windows_by_hand():
    picture = jnp.arange(12.0).reshape(1, 3, 4, 1)
    crops, boxes = ops.sliding_windows(picture, window=2, strides=(1, 2))
    assert crops.shape == (1, 4, 2, 2, 1)
    np.testing.assert_array_equal(
        crops[0, :, :, :, 0], [[[0, 1], [4, 5]], [[2, 3], [6, 7]], [[4, 5], [8, 9]], [[6, 7], [10, 11]]]
    )
    np.testing.assert_array_equal(boxes, [[0, 0, 2, 2], [2, 0, 4, 2], [0, 1, 2, 3], [2, 1, 4, 3]])


@settings(max_examples=15, deadline=None)
@given(*[st.integers(1, 9)] * 4, *[st.integers(1, 4)] * 2)
def test_every_window_is_what_its_box_says(h, w, wh, ww, down, across):
    picture = np.random.default_rng(0).uniform(size=(2, h, w, 3)).astype(np.float32)
    crops, boxes = ops.sliding_windows(jnp.asarray(picture), window=(wh, ww), strides=(down, across))
    wanted = [(y, x) for y in range(0, h - wh + 1, down) for x in range(0, w - ww + 1, across)]
    assert crops.shape == (2, len(wanted), wh, ww, 3)
    np.testing.assert_array_equal(boxes, np.reshape([(x, y, x + ww, y + wh) for y, x in wanted], (-1, 4)))
    for i, (y, x) in enumerate(wanted):
        np.testing.assert_array_equal(crops[:, i], picture[:, y : y + wh, x : x + ww])


def test_windows_of_a_smaller_picture_are_larger():
    # A bright square of 8 pixels at (8, 4): at half the size the window of 4 at (4, 2) is all bright.
    picture = np.zeros((1, 16, 24, 1), np.float32)
    picture[:, 4:12, 8:16] = 1
    crops, boxes = ops.sliding_windows(jnp.asarray(picture), window=4, strides=1, scales=(1.0, 0.5, 0.1))
    assert len(boxes) == 13 * 21 + 5 * 9
    place = 13 * 21 + 2 * 9 + 4
    np.testing.assert_allclose(boxes[place], [8, 4, 16, 12])
    brightness = crops.mean((0, 2, 3, 4))
    assert brightness[13 * 21 :].argmax() == place - 13 * 21
    assert brightness[place] > 0.85


def test_boxes_reach_the_edge_where_sizes_are_rounded():
    boxes = ops.window_boxes(image_size=(21, 31), window=10, strides=1, scales=(0.5,))
    assert boxes.shape == (1 * 7, 4)  # 10 x 16 pixels
    np.testing.assert_allclose(boxes[-1], [31 - 10 * 31 / 16, 0, 31, 21], rtol=1e-6)


def test_pyramid():
    picture = jnp.ones((2, 20, 30, 3))
    sizes = [level.shape[1:3] for level in ops.image_pyramid(picture, scales=(2.0, 1.0, 0.5, 0.01))]
    assert sizes == [(40, 60), (20, 30), (10, 15), (1, 1)]
    assert ops.image_pyramid(picture, scales=(1.0,))[0] is not None
    assert ops.pyramid_scales(image_size=(100, 50), window=25, ratio=2.0) == (1.0, 0.5)
    assert ops.pyramid_scales(image_size=(100, 50), window=25, ratio=2.0, smallest=12.5) == (2.0, 1.0, 0.5)
    assert ops.pyramid_scales(image_size=(100, 20), window=25, ratio=2.0) == ()


def test_refused():
    with pytest.raises(ValueError, match="at least one pixel"):
        ops.sliding_windows(jnp.ones((1, 4, 4, 1)), window=0)
    with pytest.raises(ValueError, match="at least one pixel"):
        ops.window_boxes(image_size=(4, 4), window=2, strides=0)
    for options in ({"ratio": 1.0}, {"ratio": 2.0, "smallest": 0.0}):
        with pytest.raises(ValueError):
            ops.pyramid_scales(image_size=(4, 4), window=2, **options)
