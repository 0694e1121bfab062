import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxcv.ops import kmeans_anchor_boxes, match_anchor_boxes, shape_iou

few = hypothesis.settings(max_examples=25, deadline=None, derandomize=True)

SHAPES = np.asarray([[8.0, 8.0], [10.0, 40.0], [40.0, 12.0], [80.0, 90.0]], np.float32)


def planted(n=400, noise=0.05):
    random = np.random.default_rng(0)
    return jnp.asarray(SHAPES[random.integers(0, 4, n)] * random.normal(1, noise, (n, 2)), jnp.float32)


def fit(sizes, centres):
    return float(shape_iou(sizes, centres).max(-1).mean())


def test_shape_iou_by_hand():
    found = shape_iou(jnp.asarray([[2.0, 2.0], [4.0, 1.0], [0.0, 5.0]]), jnp.asarray([[2.0, 2.0], [2.0, 4.0]]))
    np.testing.assert_allclose(found, [[1, 0.5], [1 / 3, 2 / 10], [0, 0]], rtol=1e-6)


def test_match_by_hand():
    anchor_boxes = jnp.asarray(SHAPES)
    sizes = jnp.asarray([[9.0, 7.0], [12.0, 30.0], [30.0, 12.0], [300.0, 300.0], [0.0, 0.0]])
    assert match_anchor_boxes(sizes, anchor_boxes).tolist() == [0, 1, 2, 3, 0]
    assert match_anchor_boxes(sizes, anchor_boxes[jnp.asarray([0, 0, 1])]).tolist() == [0, 2, 2, 2, 0]


def test_finds_planted_clusters():
    found = kmeans_anchor_boxes(planted(), k=4)
    np.testing.assert_allclose(found, SHAPES, rtol=0.05)


def test_sizes_that_do_not_count_change_nothing():
    sizes = planted()
    junk = jnp.asarray([[500.0, 500.0], [0.0, 3.0], [-1.0, 5.0], [np.nan, 5.0], [np.inf, 1.0]])
    valid = jnp.arange(405) < 400
    np.testing.assert_allclose(
        kmeans_anchor_boxes(jnp.concatenate([sizes, junk]), k=4, valid=valid),
        kmeans_anchor_boxes(sizes, k=4),
        rtol=1e-5,
    )
    without_mask = kmeans_anchor_boxes(jnp.concatenate([sizes, junk[1:]]), k=4)
    np.testing.assert_allclose(without_mask, kmeans_anchor_boxes(sizes, k=4), rtol=1e-5)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_fewer_sizes_than_anchor_boxes(k):
    found = np.asarray(kmeans_anchor_boxes(jnp.asarray([[4.0, 8.0], [20.0, 10.0]]), k=k))
    assert np.isfinite(found).all() and (found > 0).all()
    if k > 1:
        assert {tuple(row) for row in found.tolist()} == {(4.0, 8.0), (20.0, 10.0)}


def test_identical_sizes():
    np.testing.assert_allclose(kmeans_anchor_boxes(jnp.tile(jnp.asarray([[3.0, 5.0]]), (7, 1)), k=3), [[3, 5]] * 3)


def test_no_size_at_all():
    np.testing.assert_array_equal(kmeans_anchor_boxes(jnp.zeros((0, 2)), k=2), np.ones((2, 2)))
    np.testing.assert_array_equal(kmeans_anchor_boxes(jnp.zeros((9, 2)), k=2), np.ones((2, 2)))


@few
@hypothesis.given(st.integers(0, 10_000))
def test_sorted_within_the_sizes_and_no_worse_than_the_start(seed):
    sizes = jnp.asarray(np.random.default_rng(seed).lognormal(3, 1, (60, 2)), jnp.float32)
    found = kmeans_anchor_boxes(sizes, k=5)
    assert (np.diff(np.prod(found, -1)) >= 0).all()
    assert (found >= sizes.min(0)[None] - 1e-3).all() and (found <= sizes.max(0)[None] + 1e-3).all()
    assert fit(sizes, found) >= fit(sizes, kmeans_anchor_boxes(sizes, k=5, iterations=0)) - 1e-5
    np.testing.assert_array_equal(found, kmeans_anchor_boxes(sizes, k=5))
