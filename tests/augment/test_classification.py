import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from jaxcv.augment import images

few = hypothesis.settings(max_examples=25, deadline=None, derandomize=True)

H, W = 24, 32


def some_batch(b=4, c=3):
    pictures = np.random.default_rng(0).random((b, H, W, c))
    return {"image": jnp.asarray(pictures, jnp.float32), "label": jnp.arange(b)}


def spot():
    """A soft bright spot, whose place can be measured to a fraction of a pixel."""
    y, x = np.mgrid[:H, :W] + 0.5
    bright = np.exp(-((x - 20) ** 2 + (y - 9) ** 2) / 8)
    return {"image": jnp.asarray(np.tile(bright[None, :, :, None], (4, 1, 1, 1)), jnp.float32), "label": jnp.arange(4)}


def place(pictures):
    weights = np.asarray(pictures)[..., 0]
    y, x = np.mgrid[:H, :W] + 0.5
    total = weights.sum((1, 2))
    return np.stack([(weights * x).sum((1, 2)) / total, (weights * y).sum((1, 2)) / total], -1)


@functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
def compiled(key, batch, options):
    return images(key, batch, **options)


def augment(seed, batch, **options):
    """Every option traced, so that one program serves all values."""
    zero = {"flip": 0.0, "shift": 0.0, "rotate": 0.0, "scale": 0.0, "color": 0.0}
    return compiled(jax.random.key(seed), batch, zero | options)


def test_strength_zero_changes_nothing():
    batch = some_batch()
    out = augment(0, batch)
    assert out.keys() == batch.keys()
    np.testing.assert_array_equal(out["label"], batch["label"])
    np.testing.assert_allclose(out["image"], batch["image"], atol=1e-5)


def test_flip():
    batch = some_batch()
    np.testing.assert_allclose(augment(0, batch, flip=1.0)["image"], batch["image"][:, :, ::-1], atol=1e-5)


@few
@hypothesis.given(st.integers(0, 10_000), st.sampled_from([0.05, 0.15]))
def test_shift_stays_within_bounds(seed, shift):
    moved = np.abs(place(augment(seed, spot(), shift=shift)["image"]) - [[20, 9]])
    assert (moved <= np.asarray([[W, H]]) * shift + 0.1).all() and moved.max() > 0.1


@few
@hypothesis.given(st.integers(0, 10_000), st.sampled_from([5.0, 30.0]))
def test_rotation_keeps_the_distance_from_the_centre(seed, rotate):
    arm = place(augment(seed, spot(), rotate=rotate)["image"]) - [[W / 2, H / 2]]
    np.testing.assert_allclose(np.hypot(*arm.T), 5.0, atol=0.15)
    angle = np.degrees(np.arctan2(*arm.T[::-1]) - np.arctan2(-3, 4))
    assert (np.abs(angle) <= rotate + 0.5).all() and np.abs(angle).max() > 0.1


@few
@hypothesis.given(st.integers(0, 10_000), st.sampled_from([0.1, 0.3]))
def test_scale_stays_within_bounds(seed, scale):
    arm = place(augment(seed, spot(), scale=scale)["image"]) - [[W / 2, H / 2]]
    factor = np.hypot(*arm.T) / 5
    assert (factor <= 1 + scale + 0.03).all() and (factor >= 1 / (1 + scale) - 0.03).all()
    assert np.abs(factor - 1).max() > 0.003


def test_everything_at_once_stays_a_picture():
    batch = some_batch()
    options = {"flip": 0.5, "shift": 0.2, "rotate": 45.0, "scale": 0.5, "color": 0.5}
    out = augment(0, batch, **options)["image"]
    assert out.shape == batch["image"].shape and out.dtype == jnp.float32
    assert np.isfinite(out).all() and out.min() >= 0 and out.max() <= 1
    np.testing.assert_array_equal(out, augment(0, batch, **options)["image"])
    assert np.abs(out - augment(1, batch, **options)["image"]).max() > 0.1


def test_both_pictures_of_a_pair_change_each_in_its_own_way():
    image = jnp.asarray(np.random.default_rng(9).random((6, 16, 20, 3)), jnp.float32)
    pair = {"image": image, "other": image, "same": jnp.ones(6, bool)}
    changed = jax.jit(lambda batch, options: images(jax.random.key(1), batch, **options))
    still = changed(pair, {"flip": 0.0, "shift": 0.0, "color": 0.0})
    for name in ("image", "other"):
        np.testing.assert_allclose(still[name], image, atol=1e-5)
    out = changed(pair, {"flip": 0.5, "shift": 0.2, "color": 0.3})
    alone = changed({"image": image}, {"flip": 0.5, "shift": 0.2, "color": 0.3})
    np.testing.assert_array_equal(out["image"], alone["image"])
    assert (np.abs(out["other"] - image).max((1, 2, 3)) > 0.1).all()
    assert (np.abs(out["other"] - out["image"]).max((1, 2, 3)) > 0.1).all()
    np.testing.assert_array_equal(out["same"], pair["same"])
