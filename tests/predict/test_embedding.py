"""Verification, thresholds, and the search of galleries, against numpy."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcv import predict

RANDOM = np.random.default_rng(0)


def unit(n, d=6, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return jnp.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def test_vectors_have_length_one():
    vectors = predict.embeddings(jnp.asarray([[3.0, 4.0], [0.0, 0.0]])).vectors
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(predict.similarities(jnp.asarray([[0.0, np.log(3.0)]])).scores, [[0.5, 0.75]], rtol=1e-6)


def test_verification():
    a, b = jnp.asarray([[1.0, 0.0], [2.0, 0.0], [np.nan, 1.0]]), jnp.asarray([[1.0, 1.0], [0.0, 3.0], [1.0, 1.0]])
    assert predict.verify(a, b, 0.5).tolist() == [True, False, False]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 8), min_size=12, max_size=12), st.integers(0, 2**12 - 1), st.sampled_from([0.0, 0.25, 0.5])
)
def test_the_threshold_keeps_its_rate(scores, bits, rate):
    scores, same = np.array(scores, np.float32) / 8, np.array([bits >> i & 1 for i in range(12)], bool)
    threshold = float(predict.threshold_at(jnp.asarray(scores), jnp.asarray(same), false_accept_rate=rate))
    impostors = scores[~same]
    if not len(impostors):
        assert threshold == scores.min()
        return
    assert (impostors >= threshold).mean() <= rate
    lower = scores[scores < threshold]
    if len(lower):
        assert (impostors >= lower.max()).mean() > rate, "a lower threshold would accept too many"


@pytest.mark.parametrize(("n", "block", "k"), [(5, 8192, 9), (1000, 256, 7), (513, 128, 200)])
def test_search_is_a_sort(n, block, k):
    queries, gallery = unit(4, seed=1), unit(n, seed=2)
    values, rows = predict.search(queries, gallery, k=k, block=block)
    scores = np.asarray(queries) @ np.asarray(gallery).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    found = min(n, k)
    np.testing.assert_array_equal(rows[:, :found], order)
    np.testing.assert_allclose(values[:, :found], np.take_along_axis(scores, order, 1), rtol=1e-5, atol=1e-6)
    assert (rows[:, found:] == -1).all() and (values[:, found:] == -jnp.inf).all()


def test_recognition():
    gallery = jnp.eye(3)
    rows, cosines = predict.recognize(jnp.asarray([[0.0, 0.9, 0.1], [0.6, 0.6, 0.5], [np.nan, 0.0, 0.0]]), gallery, 0.8)
    assert rows.tolist() == [1, -1, -1]
    np.testing.assert_allclose(cosines[:2], [0.9, 0.6], rtol=1e-6)
    row, _ = predict.recognize(jnp.asarray([0.0, 0.0, 1.0]), gallery, 0.5)
    assert row.shape == () and row == 2
