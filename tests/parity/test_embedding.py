"""Triplets and their mining against torch, optax and pytorch-metric-learning."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcv.losses import triplet

torch = pytest.importorskip("torch")
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(12, 5)).astype(np.float32)
PATTERNS = {
    "several": RANDOM.integers(0, 4, 12),
    "pairs": np.repeat(np.arange(6), 2),
    "one identity": np.zeros(12, np.int64),
    "all distinct": np.arange(12),
}
MARGIN = 0.6


def ours(x, label, **how):
    def step(x):
        terms = triplet(x, {"label": jnp.asarray(label)}, **how).values()
        return sum((v * w).sum() / jnp.maximum(w.sum(), 1e-8) for v, w in terms)

    return jax.value_and_grad(step)(jnp.asarray(x))


def of_torch(x, loss):
    tensor = torch.tensor(x, requires_grad=True)
    value = loss(tensor)
    value.backward()
    return value.item(), np.zeros_like(x) if tensor.grad is None else tensor.grad.numpy()


def close(a, b):
    np.testing.assert_allclose(a[0], b[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(a[1], b[1], rtol=1e-3, atol=1e-5)


def test_given_triplets_are_those_of_torch():
    """With the unsquared distance; torch adds 1e-6 to each difference."""
    loss = torch.nn.TripletMarginLoss(margin=1.0, p=2)
    theirs = of_torch(X, lambda x: loss(x[0::3], x[1::3], x[2::3]))
    close(ours(X, np.zeros(12), mining="given", distance="euclidean", margin=1.0), theirs)


def test_given_triplets_are_those_of_optax():
    if not hasattr(optax.losses, "triplet_margin_loss"):
        pytest.skip("this optax has none")
    theirs = jax.value_and_grad(
        lambda x: optax.losses.triplet_margin_loss(x[0::3], x[1::3], x[2::3], margin=1.0).mean()
    )(jnp.asarray(X))
    close(ours(X, np.zeros(12), mining="given", distance="euclidean", margin=1.0), theirs)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("mining", ["hard", "semihard", "all"])
def test_mining_is_that_of_pytorch_metric_learning(mining, distance, pattern):
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning import distances, losses, miners, reducers  # pyright: ignore[reportMissingImports]

    label = PATTERNS[pattern]
    apart = (
        distances.LpDistance(normalize_embeddings=False) if distance == "euclidean" else distances.CosineSimilarity()
    )
    miner = {
        "hard": miners.BatchHardMiner(distance=apart),
        "semihard": miners.TripletMarginMiner(MARGIN, "semihard", distance=apart),
        "all": miners.TripletMarginMiner(1e9, "all", distance=apart),
    }[mining]
    loss = losses.TripletMarginLoss(MARGIN, distance=apart, reducer=reducers.MeanReducer())
    labels = torch.tensor(label)
    theirs = of_torch(X, lambda x: loss(x, labels, miner(x, labels)) + 0 * x.sum())
    close(ours(X, label, mining=mining, distance=distance, margin=MARGIN), theirs)
