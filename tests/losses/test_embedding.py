import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcv.errors import UserError
from jaxcv.losses import contrastive, pair_cross_entropy, triplet

LINE = jnp.asarray([[0.0], [1.0], [3.0], [4.0]])
LABEL = {"label": jnp.asarray([0, 0, 1, 0])}


def brute(embeddings, label, *, distance, margin, valid):
    """Every anchor's hardest triplet by looking at all of them."""
    x = np.asarray(embeddings, np.float64)

    def d(i, j):
        if distance == "cosine":
            return 1 - x[i] @ x[j] / (np.linalg.norm(x[i]) * np.linalg.norm(x[j]))
        square = np.square(x[i] - x[j]).sum()
        return square if distance == "squared" else np.sqrt(square)

    n, losses = len(x), {}
    for a in range(n):
        found = [
            d(a, p) - d(a, q)
            for p in range(n)
            for q in range(n)
            if valid[a] and valid[p] and valid[q] and p != a and label[p] == label[a] != label[q]
        ]
        if found:
            losses[a] = np.log1p(np.exp(max(found))) if margin is None else max(max(found) + margin, 0)
    return losses


def test_by_hand():
    """On a line, class 0 at 0, 1 and 4, class 1 at 3: the third stands between those of the first."""
    values, weights = triplet(LINE, LABEL, distance="euclidean", margin=1.0)["triplet"]
    # 0: farthest 4, nearest other 3. 1: 3 and 2. 4: 4 and 1. Nobody else is of class 1.
    np.testing.assert_allclose(values[jnp.asarray([0, 1, 3])], [4 - 3 + 1, 3 - 2 + 1, 4 - 1 + 1])
    assert weights.tolist() == [1, 1, 0, 1]
    values, _ = triplet(LINE, LABEL, margin=2.0)["triplet"]
    np.testing.assert_allclose(values[jnp.asarray([0, 1, 3])], [16 - 9 + 2, 9 - 4 + 2, 16 - 1 + 2])
    values, _ = triplet(LINE, LABEL, distance="euclidean", margin=None)["triplet"]
    np.testing.assert_allclose(values[0], np.log(1 + np.e), rtol=1e-6)
    values, _ = triplet(-LINE[:3], {"label": jnp.asarray([0, 0, 1])}, distance="euclidean", margin=1.0)["triplet"]
    np.testing.assert_allclose(values[:2], [0.0, 0.0])  # far enough


@pytest.mark.parametrize("distance", ["squared", "euclidean", "cosine"])
@pytest.mark.parametrize("margin", [0.5, None])
def test_the_hardest_of_all(distance, margin):
    random = np.random.default_rng(0)
    embeddings, label = random.normal(size=(12, 5)).astype(np.float32), random.integers(0, 4, 12)
    valid = np.arange(12) < 10
    batch = {"label": jnp.asarray(label), "example_valid": jnp.asarray(valid)}
    values, weights = triplet(jnp.asarray(embeddings), batch, distance=distance, margin=margin)["triplet"]
    expected = brute(embeddings, label, distance=distance, margin=margin, valid=valid)
    assert np.flatnonzero(weights).tolist() == sorted(expected)
    np.testing.assert_allclose(
        values[jnp.asarray(sorted(expected))], [expected[a] for a in sorted(expected)], rtol=1e-4
    )


def test_cosine_pulls_the_right_way():
    embeddings = jnp.asarray([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 1.0]])
    batch = {"label": jnp.asarray([0, 0, 1, 1])}

    def total(x):
        values, weights = triplet(x, batch, distance="cosine", margin=0.5)["triplet"]
        return (values * weights).sum()

    moved = embeddings - 0.1 * jax.grad(total)(embeddings)
    cosine = [x[0] @ x[1] / jnp.linalg.norm(x[0]) / jnp.linalg.norm(x[1]) for x in (embeddings, moved)]
    assert cosine[1] > cosine[0] and total(moved) < total(embeddings)


@pytest.mark.parametrize("mining", ["hard", "semihard", "all", "random"])
@pytest.mark.parametrize("form", ["mean", "active", "sum"])
def test_members_mine_for_themselves(mining, form):
    """The step's mean over anchors is that of the members' own losses, weighted by how many triplets each has."""
    random = np.random.default_rng(0)
    apart = [jnp.asarray(random.normal(size=(8, 3)), jnp.float32) for _ in range(3)]
    batch, how = {"label": jnp.arange(8) // 2}, {"mining": mining, "margin": 0.5, "form": form}
    values, counts = triplet(jnp.concatenate(apart, 1) / 3**0.5, batch, **how, members=3)["triplet"]
    alone = [triplet(x, batch, **how)["triplet"] for x in apart]
    weighted = sum(float((v * c).sum()) for v, c in alone)
    np.testing.assert_allclose(counts.sum(), sum(float(c.sum()) for _, c in alone) / 3, rtol=1e-5)
    np.testing.assert_allclose((values * counts).sum(), weighted / 3, rtol=1e-4)


def test_the_margin_may_be_traced():
    loss = jax.jit(lambda margin: triplet(LINE, LABEL, margin=margin)["triplet"][0])
    np.testing.assert_allclose(loss(2.0), triplet(LINE, LABEL, margin=2.0)["triplet"][0])


@pytest.mark.parametrize("distance", ["squared", "euclidean", "cosine"])
@pytest.mark.parametrize("label", [[0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 1, 1]])
def test_finite_where_all_are_equal_or_nothing_can_be_learnt(distance, label):
    batch = {"label": jnp.asarray(label)}

    def total(x):
        values, weights = triplet(x, batch, distance=distance)["triplet"]
        return (values * weights).sum(), weights

    for embeddings in (jnp.ones((4, 3)), jnp.zeros((4, 3))):
        (value, weights), gradient = jax.value_and_grad(total, has_aux=True)(embeddings)
        assert np.isfinite(value) and np.isfinite(gradient).all()
        assert weights.sum() == (4 if label == [0, 0, 1, 1] else 0)
        np.testing.assert_allclose(value, 0.2 * weights.sum(), rtol=1e-6)


def test_gradients_are_those_of_the_mined_triplets():
    random = np.random.default_rng(1)
    embeddings = jnp.asarray(random.normal(size=(8, 5)), jnp.float32)
    batch = {"label": jnp.asarray([0, 0, 1, 1, 2, 2, 3, 3])}

    def every(x):
        apart = jnp.square(x[:, None] - x[None]).sum(-1)
        same = batch["label"][:, None] == batch["label"][None]
        positive = jnp.where(same, apart, -1.0).max(1)
        return jax.nn.relu(positive - jnp.where(same, jnp.inf, apart).min(1) + 3.0).sum()

    found = jax.grad(lambda x: triplet(x, batch, margin=3.0)["triplet"][0].sum())(embeddings)
    np.testing.assert_allclose(found, jax.grad(every)(embeddings), rtol=1e-4, atol=1e-5)


N, MARGIN = 7, 0.8
PATTERNS = st.lists(st.integers(0, 6), min_size=N, max_size=N) | st.sampled_from([[3] * N, list(range(N))])


def triplets_of(mining, x, label, valid):
    """The triplets that count, by looking at all of them; and whose loss they share."""
    n, apart = len(label), np.square(x[:, None] - x[None]).sum(-1)
    if mining == "given":
        return [(i, i + 1, i + 2) for i in range(0, n - 2, 3) if valid[i : i + 3].all()]
    every = [
        (a, p, q)
        for a in range(n)
        for p in range(n)
        for q in range(n)
        if valid[[a, p, q]].all() and a != p and label[a] == label[p] != label[q]
    ]
    if mining == "all":
        return every
    if mining == "semihard":
        return [(a, p, q) for a, p, q in every if apart[a, p] < apart[a, q] <= apart[a, p] + MARGIN]
    rank = {
        "hard": lambda a, p, q: apart[a, p] - apart[a, q],
        "random": lambda a, p, q: -n * ((p - a) % n) - (q - a - n // 2) % n,
    }[mining]
    return [max((t for t in every if t[0] == a), key=lambda t: rank(*t)) for a in sorted({t[0] for t in every})]


def step_loss(x, label, valid, mining, form):
    """As the training step reduces it."""
    batch = {"label": label, "example_valid": valid}
    values, weights = triplet(x, batch, mining=mining, margin=MARGIN, form=form)["triplet"]
    return (values * weights).sum() / jnp.maximum(weights.sum(), 1e-8)


STEP = jax.jit(jax.value_and_grad(step_loss), static_argnames=("mining", "form"))


@pytest.mark.parametrize("form", ["mean", "active", "sum"])
@pytest.mark.parametrize("mining", ["hard", "semihard", "all", "random", "given"])
@settings(max_examples=12, deadline=None)
@given(label=PATTERNS, real=st.integers(N - 2, N), seed=st.integers(0, 9))
def test_mining_is_the_loop_over_all_triplets(mining, form, label, real, seed):
    """Values and gradients; one identity alone and all distinct are among the patterns."""
    x = np.random.default_rng(seed).normal(size=(N, 3)).astype(np.float32) * 0.6
    label, valid = np.array(label), np.arange(N) < real
    value, gradient = STEP(x, label, valid, mining=mining, form=form)
    total, wanted_gradient, counted = 0.0, np.zeros_like(x), 0
    chosen = triplets_of(mining, x, label, valid)
    for a, p, q in chosen:
        loss = np.square(x[a] - x[p]).sum() - np.square(x[a] - x[q]).sum() + MARGIN
        if loss > 0:
            total += loss
            counted += 1
            wanted_gradient[[a, p, q]] += 2 * np.stack([x[q] - x[p], x[p] - x[a], x[a] - x[q]])
    divisor = {"mean": len(chosen), "active": counted, "sum": 1}[form] or 1
    np.testing.assert_allclose(value, total / divisor, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradient, wanted_gradient / divisor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("mining", ["semihard", "all", "random", "given"])
@pytest.mark.parametrize("distance", ["squared", "euclidean", "cosine"])
def test_finite_where_all_are_equal_however_mined(mining, distance):
    for label in ([0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 1, 1]):
        for x in (jnp.ones((4, 3)), jnp.zeros((4, 3))):
            how = {"mining": mining, "distance": distance}
            loss = lambda x, how=how, label=label: sum(  # noqa: E731
                (v * w).sum() for v, w in triplet(x, {"label": jnp.asarray(label)}, **how).values()
            )
            value, gradient = jax.value_and_grad(loss)(x)
            assert np.isfinite(value) and np.isfinite(gradient).all()


def test_semi_hard_needs_a_margin():
    with pytest.raises(UserError, match="needs a margin"):
        triplet(LINE, LABEL, mining="semihard", margin=None)


def test_contrastive_by_hand():
    """Class 0 at 0, 1 and 4, class 1 at 3; margin 3."""
    terms = contrastive(LINE, LABEL, margin=3.0)
    values, weights = terms["same"]
    np.testing.assert_allclose(values, [(1 + 16) / 4, (1 + 9) / 4, 0, (16 + 9) / 4])
    assert weights.tolist() == [2, 2, 0, 2]
    values, weights = terms["different"]
    np.testing.assert_allclose(values, [0, 0.5, (0 + 0.5 + 2) / 3, 2])
    assert weights.tolist() == [1, 1, 3, 1]
    gradient = jax.grad(lambda x: contrastive(x, LABEL)["different"][0].sum())(jnp.zeros((4, 1)))
    assert np.isfinite(gradient).all()


def test_pairs_by_hand():
    logits = jnp.asarray([0.0, 1.0, -2.0])
    values = pair_cross_entropy(logits, {"same": jnp.asarray([True, True, False])})["pairs"]
    np.testing.assert_allclose(values, np.log1p(np.exp([0.0, -1.0, -2.0])), rtol=1e-6)
    every = jnp.asarray([[9.0, 1.0, -2.0], [1.0, 9.0, 3.0], [-2.0, 3.0, 9.0]])
    label, valid = jnp.asarray([5, 5, 1]), jnp.asarray([True, True, True])
    terms = pair_cross_entropy(every, {"label": label, "example_valid": valid})
    np.testing.assert_allclose(terms["same"][0], [*np.log1p(np.exp([-1.0, -1.0])), 0], rtol=1e-6)
    np.testing.assert_allclose(
        terms["different"][0],
        [np.log1p(np.exp(-2)), np.log1p(np.exp(3)), (np.log1p(np.exp(-2)) + np.log1p(np.exp(3))) / 2],
        rtol=1e-6,
    )
    assert terms["same"][1].tolist() == [1, 1, 0] and terms["different"][1].tolist() == [1, 1, 2]
