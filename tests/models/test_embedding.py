"""Embeddings of length one, siamese pairs, and identities: shapes, symmetry, and what they compute."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv.models import EmbeddingEnsemble, EmbeddingNet, IdentityClassifier, PlainDarknet, Siamese

TINY = PlainDarknet(layers=((8, 3), "M", (8, 3)))
IMAGES = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 8, 8, 1)), jnp.float32)


def applied(model, variables, images=IMAGES) -> Any:
    return model.apply(variables, images, train=False)


@pytest.mark.parametrize("pool", ["average", "flatten"])
def test_embeddings_have_length_one(pool):
    model = EmbeddingNet(TINY, dimensions=6, pool=pool)
    variables = model.init(jax.random.key(0), IMAGES)
    outputs, features = applied(model, variables)
    assert outputs.shape == (4, 6) and features["pool"].shape == (4, 8 if pool == "average" else 8 * 16)
    np.testing.assert_allclose(jnp.linalg.norm(outputs, axis=1), 1.0, rtol=1e-5)
    assert not [name for name in variables["params"]["backbone"] if name == "head"], "the classifier is left out"
    (trained, _), changed = model.apply(variables, IMAGES, train=True, mutable=["batch_stats"])
    cosines = trained @ trained.T
    assert (cosines - jnp.diag(jnp.diag(cosines))).mean() < 0, "spread around zero from the first step on"
    assert set(changed["batch_stats"]) == {"backbone", "norm"}


def test_a_vector_of_zeros_stays_so_and_has_a_gradient():
    model = EmbeddingNet(TINY, dimensions=3, standardize=False)
    variables = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), IMAGES))
    outputs, _ = model.apply(variables, IMAGES, train=False)
    assert (outputs == 0).all()
    gradient = jax.grad(lambda v: model.apply(v, IMAGES, train=False)[0].sum())(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_a_picture_and_its_mirror_image_are_evaluated_together():
    model = EmbeddingNet(TINY, dimensions=6, mirror=True)
    variables = model.init(jax.random.key(0), IMAGES)
    outputs, features = applied(model, variables)
    np.testing.assert_allclose(outputs, applied(model, variables, IMAGES[:, :, ::-1])[0], rtol=1e-5, atol=1e-6)
    alone, maps = applied(model.clone(mirror=False), variables)
    assert jax.tree.map(jnp.shape, features) == jax.tree.map(jnp.shape, maps)
    assert not np.allclose(outputs, alone, atol=1e-3)


def test_networks_side_by_side_are_one_embedding_of_length_one():
    model = EmbeddingEnsemble(tuple(EmbeddingNet(TINY.clone(), dimensions=6) for _ in range(2)))
    variables = model.init(jax.random.key(0), IMAGES)
    outputs, features = applied(model, variables)
    np.testing.assert_allclose(jnp.linalg.norm(outputs, axis=1), 1.0, rtol=1e-5)
    for i in range(2):
        own = {kind: tree[f"networks_{i}"] for kind, tree in variables.items()}
        one, maps = applied(EmbeddingNet(TINY, dimensions=6), own)
        np.testing.assert_allclose(outputs[:, 6 * i : 6 * i + 6], one / 2**0.5, rtol=1e-5, atol=1e-6)
        assert all((features[f"{name}_{i}"] == value).all() for name, value in maps.items())


@pytest.mark.parametrize("similarity", ["weighted", "chi_square", "cosine"])
def test_all_pairs_are_the_pairs_one_by_one(similarity):
    model = Siamese(TINY, similarity=similarity, dimensions=5)
    variables: Any = model.init(jax.random.key(0), IMAGES)
    every, features = applied(model, variables)
    assert every.shape == (4, 4) and features["embedding"].shape == (4, 5)
    np.testing.assert_allclose(every, every.T, atol=1e-5)
    one, _ = model.apply(variables, IMAGES, IMAGES[jnp.asarray([1, 2, 3, 0])], train=False)
    np.testing.assert_allclose(one, every[jnp.arange(4), jnp.asarray([1, 2, 3, 0])], rtol=1e-4, atol=1e-5)
    f, w = np.asarray(features["embedding"]), np.asarray(variables["params"]["weight"])
    bias = float(variables["params"]["bias"])
    expected = {
        "weighted": np.abs(f[0] - f[1]) @ w if similarity != "cosine" else 0,
        "chi_square": np.square(f[0] - f[1]) / (f[0] + f[1]) @ w if similarity != "cosine" else 0,
        "cosine": w[0] * f[0] @ f[1] / np.linalg.norm(f[0]) / np.linalg.norm(f[1]),
    }[similarity]
    np.testing.assert_allclose(every[0, 1], expected + bias, rtol=1e-4, atol=1e-5)
    assert (jnp.diag(every) >= every.max(1) - 1e-4).all(), "nothing is more like a picture than itself"


def test_another_similarity_is_refused():
    with pytest.raises(Exception, match="similarity"):
        Siamese(TINY, similarity="psychic").init(jax.random.key(0), IMAGES)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("cosine", [False, True])
def test_identities(cosine):
    model = IdentityClassifier(EmbeddingNet(TINY, dimensions=6), num_classes=3, cosine=cosine)
    variables = model.init(jax.random.key(0), IMAGES)
    outputs, _ = model.apply(variables, IMAGES, train=False)
    assert outputs.embedding.shape == (4, 6) and outputs.logits.shape == (4, 3)
    if cosine:
        kernel = np.asarray(variables["params"]["identities"])
        expected = np.asarray(outputs.embedding) @ (kernel / np.linalg.norm(kernel, axis=0))
        np.testing.assert_allclose(outputs.logits, expected, rtol=1e-4, atol=1e-5)
