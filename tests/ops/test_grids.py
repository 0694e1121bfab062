import hypothesis
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from jaxcv.ops import decode_yolo, encode_yolo

few = hypothesis.settings(max_examples=25, deadline=None, derandomize=True)

ANCHORS = jnp.asarray([[16.0, 16.0], [40.0, 10.0]])


def test_course_example():
    """3 x 3 cells, two anchor boxes: a wide car in the lower middle belongs to cell (2, 1), anchor box 2."""
    target = encode_yolo(jnp.asarray([[24.0, 74.0, 76.0, 90.0]]), ANCHORS, grid_size=(3, 3), image_size=(96, 96))
    assert target.slot.tolist() == [(2 * 3 + 1) * 2 + 1]
    np.testing.assert_allclose(target.offset, [[50 / 32 - 1, 82 / 32 - 2]], rtol=1e-5)
    np.testing.assert_allclose(target.log_scale, [[np.log(52 / 40), np.log(16 / 10)]], rtol=1e-5)


def test_decode_by_hand():
    boxes = decode_yolo(jnp.zeros((2, 3, 2, 7)), ANCHORS, image_size=(64, 96))
    assert boxes.shape == (2, 3, 2, 4)
    np.testing.assert_allclose(boxes[0, 0], [[8, 8, 24, 24], [-4, 11, 36, 21]])
    np.testing.assert_allclose(boxes[1, 2, 0], [72, 40, 88, 56])


def test_a_centre_on_an_edge_belongs_to_the_last_cell():
    boxes = jnp.asarray([[60.0, 60.0, 68.0, 68.0], [-4.0, 28.0, 4.0, 36.0], [90.0, 90.0, 99.0, 99.0]])
    target = encode_yolo(boxes, ANCHORS, grid_size=(2, 2), image_size=(64, 64))
    assert (target.slot // 2).tolist() == [3, 2, 3]
    np.testing.assert_allclose(target.offset, [[1, 1], [0, 0], [1, 1]])


def test_wild_outputs_and_empty_boxes_stay_finite():
    assert np.isfinite(decode_yolo(jnp.full((1, 1, 2, 5), 1e6), ANCHORS, image_size=(8, 8))).all()
    target = encode_yolo(jnp.zeros((1, 4)), ANCHORS, grid_size=(2, 2), image_size=(8, 8))
    assert target.slot.tolist() == [0] and np.isfinite(target.log_scale).all()
    assert encode_yolo(jnp.zeros((0, 4)), ANCHORS, grid_size=(2, 2), image_size=(8, 8)).slot.shape == (0,)


@few
@hypothesis.given(st.integers(0, 10_000))
def test_decode_inverts_encode(seed):
    random = np.random.default_rng(seed)
    grid, size = (3, 4), (60, 120)
    centres, sizes = random.uniform(1, (119, 59), (5, 2)), random.uniform(2, 60, (5, 2))
    boxes = jnp.asarray(np.concatenate([centres - sizes / 2, centres + sizes / 2], -1), jnp.float32)
    target = encode_yolo(boxes, ANCHORS, grid_size=grid, image_size=size)
    for box, slot, offset, log_scale in zip(boxes, *target, strict=True):
        said = np.zeros((*grid, 2, 4), np.float32)
        said.reshape(-1, 4)[slot] = [*np.log(offset / (1 - offset + 1e-9) + 1e-9), *log_scale]
        decoded = decode_yolo(jnp.asarray(said), ANCHORS, image_size=size).reshape(-1, 4)[slot]
        np.testing.assert_allclose(decoded, box, atol=1e-2)
