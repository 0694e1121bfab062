import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxcv import ops

few = hypothesis.settings(max_examples=25, deadline=None, derandomize=True)

THREE = jnp.asarray([[0.0, 0.0, 100.0, 100.0], [0.0, 0.0, 50.0, 50.0], [200.0, 200.0, 300.0, 300.0]])

DEGENERATE = {
    "empty": [5.0, 5.0, 5.0, 5.0],
    "line": [0.0, 3.0, 9.0, 3.0],
    "inverted": [9.0, 9.0, 1.0, 1.0],
    "origin": [0.0, 0.0, 0.0, 0.0],
    "tiny": [1e-20, 0.0, 2e-20, 1e-20],
    "huge": [-1e6, -1e6, 1e6, 1e6],
}


@st.composite
def some_boxes(draw, n=4, largest=40):
    """Integer corners, so that touching, nested, identical and empty boxes are common."""
    corner = st.integers(-largest, largest)
    side = st.integers(0, largest)
    rows = [(draw(corner), draw(corner), draw(side), draw(side)) for _ in range(n)]
    return jnp.asarray([[x, y, x + w, y + h] for x, y, w, h in rows], jnp.float32)


def test_iou_by_hand():
    expected = [[1.0, 0.25, 0.0], [0.25, 1.0, 0.0], [0.0, 0.0, 1.0]]
    np.testing.assert_allclose(ops.box_iou(THREE, THREE), expected, rtol=1e-6)
    np.testing.assert_allclose(ops.paired_box_iou(THREE[:1], THREE[1:2]), [0.25])


def test_generalized_iou_by_hand():
    expected = [[1.0, 0.25, -7 / 9], [0.25, 1.0, -31 / 36], [-7 / 9, -31 / 36, 1.0]]
    np.testing.assert_allclose(ops.generalized_box_iou(THREE, THREE), expected, rtol=1e-6)
    np.testing.assert_allclose(ops.paired_generalized_box_iou(THREE[:1], THREE[2:]), [-7 / 9], rtol=1e-6)


def test_area_by_hand():
    boxes = jnp.asarray([[0.0, 0.0, 100.0, 50.0], [1.0, 1.0, 1.0, 9.0], [5.0, 5.0, 1.0, 1.0]])
    np.testing.assert_array_equal(ops.box_area(boxes), [5000.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("name", "numbers"), [("xyxy", (10, 20, 30, 60)), ("xywh", (10, 20, 20, 40)), ("cxcywh", (20, 40, 20, 40))]
)
def test_convert_by_hand(name, numbers):
    corners, other = jnp.asarray([[10.0, 20.0, 30.0, 60.0]]), jnp.asarray([numbers], jnp.float32)
    np.testing.assert_array_equal(ops.box_convert(corners, source="xyxy", target=name), other)
    np.testing.assert_array_equal(ops.box_convert(other, source=name, target="xyxy"), corners)


def test_clip_by_hand():
    boxes = jnp.asarray([[-5.0, -5.0, 5.0, 5.0], [10.0, 10.0, 90.0, 90.0], [70.0, 0.0, 80.0, 9.0]])
    expected = [[0, 0, 5, 5], [10, 10, 60, 40], [60, 0, 60, 9]]
    np.testing.assert_array_equal(ops.clip_boxes_to_image(boxes, image_size=(40, 60)), expected)


def test_encode_by_hand():
    reference, box = jnp.asarray([[0.0, 0.0, 10.0, 20.0]]), jnp.asarray([[5.0, 0.0, 25.0, 10.0]])
    np.testing.assert_allclose(
        ops.encode_boxes(box, reference, weights=(10.0, 10.0, 5.0, 5.0)),
        [[10.0, -2.5, 5 * np.log(2), -5 * np.log(2)]],
        rtol=1e-6,
    )


def test_decode_cuts_off_the_exponent():
    reference = jnp.asarray([[0.0, 0.0, 16.0, 16.0]])
    wide = ops.decode_boxes(jnp.asarray([[0.0, 0.0, 500.0, 0.0]]), reference)
    np.testing.assert_allclose(wide, [[8 - 500, 0, 8 + 500, 16]], rtol=1e-5)


@few
@hypothesis.given(some_boxes(), some_boxes())
def test_iou_is_symmetric_and_a_fraction(a, b):
    iou, giou = np.asarray(ops.box_iou(a, b)), np.asarray(ops.generalized_box_iou(a, b))
    a, b = np.asarray(a), np.asarray(b)
    assert (iou >= 0).all() and (iou <= 1).all()
    assert (giou >= -1).all() and (giou <= iou + 1e-6).all()
    np.testing.assert_array_equal(iou, np.asarray(ops.box_iou(jnp.asarray(b), jnp.asarray(a))).T)
    np.testing.assert_allclose(np.diag(iou), ops.paired_box_iou(jnp.asarray(a), jnp.asarray(b)))
    np.testing.assert_allclose(np.diag(giou), ops.paired_generalized_box_iou(jnp.asarray(a), jnp.asarray(b)))
    # An integer grid makes areas countable.
    grid = np.mgrid[-40:80, -40:80] + 0.5
    inside = [
        [(x1 < grid[1]) & (grid[1] < x2) & (y1 < grid[0]) & (grid[0] < y2) for x1, y1, x2, y2 in c] for c in (a, b)
    ]
    for i in range(len(a)):
        for j in range(len(b)):
            both, either = (inside[0][i] & inside[1][j]).sum(), (inside[0][i] | inside[1][j]).sum()
            assert iou[i, j] == pytest.approx(both / either if either else 0.0, abs=1e-6)


@few
@hypothesis.given(some_boxes(), st.sampled_from(["xyxy", "xywh", "cxcywh"]), st.sampled_from(["xywh", "cxcywh"]))
def test_convert_there_and_back(boxes, source, target):
    there = ops.box_convert(boxes, source=source, target=target)
    np.testing.assert_allclose(ops.box_convert(there, source=target, target=source), boxes, atol=1e-4)


@few
@hypothesis.given(some_boxes(), some_boxes())
def test_decode_inverts_encode(boxes, references):
    grow = jnp.asarray([[0.0, 0.0, 1.0, 1.0]])
    boxes, references = boxes + grow, references + grow
    weights = (10.0, 10.0, 5.0, 5.0)
    deltas = ops.encode_boxes(boxes, references, weights=weights)
    np.testing.assert_allclose(ops.decode_boxes(deltas, references, weights=weights), boxes, atol=1e-3)


@jax.jit
@functools.partial(jax.value_and_grad, argnums=(0, 1))
def everything(a, b):
    values = [
        ops.box_iou(a, b),
        ops.generalized_box_iou(a, b),
        ops.paired_box_iou(a, b),
        ops.paired_generalized_box_iou(a, b),
        ops.box_area(a),
        ops.clip_boxes_to_image(a, image_size=(10, 10)),
    ]
    return functools.reduce(jnp.add, (value.sum() for value in values))


@pytest.mark.parametrize("a", DEGENERATE)
@pytest.mark.parametrize("b", DEGENERATE)
def test_degenerate_boxes_have_finite_values_and_gradients(a, b):
    a, b = (jnp.asarray([DEGENERATE[name]]) for name in (a, b))
    value, gradients = everything(a, b)
    assert np.isfinite(value) and all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("name", [name for name in DEGENERATE if name not in ("huge", "tiny")])
def test_degenerate_boxes_encode_to_finite_deltas(name):
    degenerate, fine = jnp.asarray([DEGENERATE[name]]), jnp.asarray([[0.0, 0.0, 8.0, 8.0]])
    for box, reference in ((degenerate, fine), (fine, degenerate), (degenerate, degenerate)):
        value, gradient = jax.value_and_grad(lambda b, r=reference: ops.encode_boxes(b, r).sum())(box)
        assert np.isfinite(value) and np.isfinite(gradient).all()
        assert np.isfinite(ops.decode_boxes(jnp.full((1, 4), 1e4), reference)).all()


def test_no_boxes():
    none = jnp.zeros((0, 4))
    assert ops.box_iou(none, THREE).shape == (0, 3)
    assert ops.generalized_box_iou(THREE, none).shape == (3, 0)
    assert jax.grad(lambda b: ops.box_iou(b, THREE).sum())(none).shape == (0, 4)
    assert ops.encode_boxes(none, none).shape == ops.decode_boxes(none, none).shape == (0, 4)


def test_the_largest_box_is_the_first_among_equals_that_count():
    index, present = ops.largest_box(THREE, jnp.asarray([True, True, True]))
    assert (int(index), bool(present)) == (0, True), "the third is as large"
    index, present = ops.largest_box(THREE, jnp.asarray([False, True, True]))
    assert (int(index), bool(present)) == (2, True)


def test_boxes_without_area_and_those_that_are_not_finite_are_never_the_largest():
    boxes = jnp.asarray([[0.0, 0, jnp.inf, 9], [jnp.nan] * 4, [9, 9, 1, 1], [0, 0, 2, 2]])
    index, present = ops.largest_box(boxes, jnp.ones(4, bool))
    assert (int(index), bool(present)) == (3, True)
    index, present = ops.largest_box(boxes[:3], jnp.ones(3, bool))
    assert (int(index), bool(present)) == (0, False)
