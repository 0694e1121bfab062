import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxcv import ops

few = hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
A = jnp.asarray([[0.0, 0.0], [3.0, 4.0]])
B = jnp.asarray([[3.0, 4.0], [0.0, -1.0], [0.0, 0.0]])
PAIRWISE = ["pairwise_squared_distances", "pairwise_distances", "pairwise_cosine_similarity"]


def naive(name, a, b):
    """The formula, every pair in turn, in double precision."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if name == "pairwise_cosine_similarity":
        return (a @ b.T) / (np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1))
    squares = np.square(a[:, None] - b).sum(-1)
    return squares if name == "pairwise_squared_distances" else np.sqrt(squares)


def test_by_hand():
    np.testing.assert_allclose(ops.pairwise_squared_distances(A, B), [[25, 1, 0], [0, 34, 25]])
    np.testing.assert_allclose(ops.pairwise_distances(A, B), [[5, 1, 0], [0, 34**0.5, 5]], rtol=1e-6)
    np.testing.assert_allclose(ops.pairwise_cosine_similarity(A, B), [[0, 0, 0], [1, -0.8, 0]], rtol=1e-6)
    np.testing.assert_allclose(ops.paired_squared_distances(A, B[:2]), [25, 34])
    np.testing.assert_allclose(ops.paired_distances(A, B[:2]), [5, 34**0.5], rtol=1e-6)
    np.testing.assert_allclose(ops.cosine_similarity(A, B[:2]), [0, -0.8], rtol=1e-6)


@few
@hypothesis.given(st.integers(0, 1000), st.sampled_from([1, 16, 33]), st.sampled_from(PAIRWISE))
def test_agrees_with_the_formula(seed, d, name):
    random = np.random.default_rng(seed)
    a, b = (jnp.asarray(random.normal(size=(n, d)), jnp.float32) for n in (4, 3))
    np.testing.assert_allclose(getattr(ops, name)(a, b), naive(name, a, b), rtol=1e-5, atol=1e-6)
    paired = name.replace("pairwise_cosine", "cosine").replace("pairwise", "paired")
    np.testing.assert_allclose(getattr(ops, paired)(a[:3], b), naive(name, a[:3], b).diagonal(), rtol=1e-5, atol=1e-6)


def test_small_distances_far_from_the_origin():
    """|a|^2 + |b|^2 - 2 a.b would give multiples of eight here."""
    a = 1000 + np.random.default_rng(0).normal(size=(20, 128)).astype(np.float32)
    b = a + np.float32(1 / 64)
    found = ops.pairwise_squared_distances(jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_allclose(found, naive("pairwise_squared_distances", a, b), rtol=1e-5)
    assert not ops.pairwise_distances(jnp.asarray(a), jnp.asarray(a)).diagonal().any()


@pytest.mark.parametrize("name", PAIRWISE)
def test_gradients(name):
    random = np.random.default_rng(1)
    a, b = (jnp.asarray(random.normal(size=(n, 18)), jnp.float32) for n in (5, 4))
    weights = jnp.asarray(random.normal(size=(5, 4)), jnp.float32)

    def plain(a, b):
        a, b = a[:, None], b[None]
        if name == "pairwise_cosine_similarity":
            found = (a * b).sum(-1) / jnp.sqrt(jnp.square(a).sum(-1) * jnp.square(b).sum(-1))
        else:
            found = jnp.square(a - b).sum(-1)
        return ((jnp.sqrt(found) if name == "pairwise_distances" else found) * weights).sum()

    found = jax.grad(lambda a, b: (getattr(ops, name)(a, b) * weights).sum(), argnums=(0, 1))(a, b)
    for ours, expected in zip(found, jax.grad(plain, argnums=(0, 1))(a, b), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*PAIRWISE, "paired_distances", "paired_squared_distances", "cosine_similarity"])
def test_gradients_between_equal_vectors_and_at_zero(name):
    a = jnp.asarray([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0]])
    for gradient in jax.grad(lambda a, b: getattr(ops, name)(a, b).sum(), argnums=(0, 1))(a, a):
        assert np.isfinite(gradient).all()


def test_close_vectors_pull_along_the_line_between_them():
    a = 10 + jnp.asarray(np.random.default_rng(2).normal(size=(1, 64)), jnp.float32)
    b = a + 1e-4
    gradient = jax.grad(lambda a: ops.pairwise_distances(a, b).sum())(a)
    np.testing.assert_allclose(gradient, (a - b) / jnp.linalg.norm(a - b), rtol=1e-3)


@pytest.mark.parametrize("name", PAIRWISE)
def test_nothing_to_compare(name):
    assert getattr(ops, name)(jnp.ones((0, 3)), jnp.ones((2, 3))).shape == (0, 2)
    assert not getattr(ops, name)(jnp.ones((2, 0)), jnp.ones((1, 0))).any()


def test_memory_is_that_of_the_result():
    a = jax.ShapeDtypeStruct((64, 1024), jnp.float32)
    step = jax.jit(jax.value_and_grad(lambda a, b: ops.pairwise_squared_distances(a, b).sum(), argnums=(0, 1)))
    memory = step.lower(a, a).compile().memory_analysis()
    assert memory is not None and memory.temp_size_in_bytes < 64 * 64 * 1024 * 4 / 4
