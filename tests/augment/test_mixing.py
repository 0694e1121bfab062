import jax
import jax.numpy as jnp
import numpy as np

from jaxcv.augment import cutmix, cutout, mixup
from jaxcv.losses import cross_entropy

B, H, W, K = 60, 16, 20, 5
QUICK = {"xla_backend_optimization_level": 0}


def mixer(function):
    """With alpha traced, so that one program serves all values."""
    return jax.jit(lambda key, batch, alpha: function(key, batch, num_classes=K, alpha=alpha), compiler_options=QUICK)


blended, patched = mixer(mixup), mixer(cutmix)
covered = jax.jit(lambda key, batch, options: cutout(key, batch, **options), compiler_options=QUICK)


def some_batch():
    """Every picture one colour, another one than the next."""
    shades = np.arange(B) / B
    image = np.tile(shades[:, None, None, None], (1, H, W, 2))
    return {
        "image": jnp.asarray(image, jnp.float32),
        "label": jnp.asarray(np.arange(B) % K),
        "boxes": jnp.zeros((B, 0, 4)),
    }


def own_share(batch, out):
    """Of each pixel, from the shades alone."""
    own, other = np.asarray(batch["image"]), np.roll(np.asarray(batch["image"]), -1, 0)
    return (np.asarray(out) - other) / (own - other)


def test_strength_zero_changes_nothing_but_the_form_of_labels():
    batch = some_batch()
    for mix in (blended, patched):
        out = mix(jax.random.key(0), batch, 0.0)
        np.testing.assert_array_equal(out["image"], batch["image"])
        np.testing.assert_array_equal(out["label"], np.eye(K)[batch["label"]])
        assert out["boxes"].shape == (B, 0, 4)
    for options in ({"side": 0.0, "probability": 1.0}, {"side": 0.5, "probability": 0.0}):
        jax.tree.map(np.testing.assert_array_equal, covered(jax.random.key(0), batch, options | {"fill": 2.0}), batch)


def labels_say(share, batch):
    one_hot = np.eye(K)[batch["label"]]
    return share[:, None] * one_hot + (1 - share[:, None]) * np.roll(one_hot, -1, 0)


def test_mixup_blends_pictures_and_labels_alike():
    batch = some_batch()
    for alpha, spread in ((0.2, 0.4226), (1.0, 0.2887)):  # standard deviations of Beta(alpha, alpha)
        out = blended(jax.random.key(0), batch, alpha)
        share = own_share(batch, out["image"])
        assert share.std((1, 2, 3)).max() < 1e-3
        share = share.mean((1, 2, 3))
        np.testing.assert_allclose(out["label"], labels_say(share, batch), atol=1e-3)
        np.testing.assert_allclose(share.std(), spread, rtol=0.2)
        assert 0.35 < share.mean() < 0.65


def test_cutmix_counts_the_pixels_of_its_rectangle():
    batch = some_batch()
    out = patched(jax.random.key(1), batch, 1.0)
    own = own_share(batch, out["image"])
    assert set(np.round(np.unique(own), 3).tolist()) == {0.0, 1.0}
    stays = own[..., 0] > 0.5
    np.testing.assert_allclose(out["label"], labels_say(stays.mean((1, 2)), batch), atol=1e-5)
    for gone in ~stays:
        rows, columns = np.flatnonzero(gone.any(1)), np.flatnonzero(gone.any(0))
        if len(rows):
            assert gone[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all(), "no rectangle"
            assert gone.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert stays.mean((1, 2)).min() < 0.45 and stays.mean((1, 2)).max() > 0.95


def test_mixed_labels_can_be_mixed_again_and_trained_on():
    batch = some_batch()
    once = blended(jax.random.key(0), batch, 1.0)
    twice = patched(jax.random.key(1), once, 1.0)
    np.testing.assert_allclose(twice["label"].sum(-1), 1, rtol=1e-5)
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(B, K)), jnp.float32)
    share = own_share(batch, once["image"]).mean((1, 2, 3))
    own = cross_entropy(logits, batch, label_smoothing=0.1)["cross_entropy"]
    other = cross_entropy(logits, {"label": jnp.roll(batch["label"], -1)}, label_smoothing=0.1)["cross_entropy"]
    found = cross_entropy(logits, once, label_smoothing=0.1)["cross_entropy"]
    np.testing.assert_allclose(found, share * own + (1 - share) * other, atol=0.01)


def test_cutout_covers_a_square_that_may_reach_over_the_edge():
    batch = some_batch()
    out = np.asarray(covered(jax.random.key(0), batch, {"side": 0.5, "probability": 1.0, "fill": 2.0})["image"]) == 2
    assert (out.all(-1) == out.any(-1)).all()
    heights, widths = out.any((2, 3)).sum(1), out.any((1, 3)).sum(1)
    assert heights.max() == H // 2 and widths.max() == W // 2
    assert 1 <= heights.min() < H // 2 and 1 <= widths.min() < W // 2
    np.testing.assert_array_equal(out.sum((1, 2, 3)), 2 * heights * widths)
    half = np.asarray(
        covered(jax.random.key(0), batch, {"side": 0.5, "probability": 0.5, "fill": 2.0})["image"] == 2
    ).any((1, 2, 3))
    assert 0.25 < half.mean() < 0.75
