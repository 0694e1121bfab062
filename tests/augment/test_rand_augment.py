"""RandAugment, blur and grey; their values are in tests/parity."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcv import augment
from jaxcv.augment.rand_augment import OPERATIONS, operated

QUICK = {"xla_backend_optimization_level": 0}


def some_batch(b=6):
    return {"image": jnp.asarray(np.random.default_rng(0).random((b, 12, 16, 3)), jnp.float32), "label": jnp.arange(b)}


def test_each_operation_does_what_its_name_says():
    levels = jnp.linspace(0.2, 0.8, 12)[None, :, None, None] * jnp.ones((1, 1, 16, 3))
    image = levels * jnp.asarray([1.0, 0.9, 0.8])[None, None, None]
    chosen, strength = jnp.arange(len(OPERATIONS)), jnp.ones(len(OPERATIONS))
    pictures = jnp.broadcast_to(image, (len(OPERATIONS), 12, 16, 3))
    found = np.asarray(jax.jit(operated, compiler_options=QUICK)(pictures, chosen, strength))
    out = dict(zip(OPERATIONS, found, strict=True))
    before = np.asarray(image[0])
    np.testing.assert_array_equal(out["identity"], before)
    np.testing.assert_array_equal(out["translate_y"][5:], before[:-5])  # 150 / 331 of 12 pixels
    assert (out["translate_y"][:5] == 0.5).all() and (out["translate_x"][:, :7] == 0.5).all()
    np.testing.assert_allclose(out["brightness"], np.minimum(1.9 * before, 1), atol=1e-6)
    assert len(np.unique(out["posterize"])) <= 16 < len(np.unique(before))
    np.testing.assert_allclose(out["solarize"], 1 - before, atol=1e-6)
    np.testing.assert_array_equal(out["equalize"], before, err_msg="of fewer pixels than levels nothing is spread")
    np.testing.assert_allclose(out["autocontrast"].min((0, 1)), 0, atol=1e-6)
    np.testing.assert_allclose(out["autocontrast"].max((0, 1)), 1, atol=1e-6)
    gray = before @ np.array([0.2989, 0.587, 0.114], np.float32)
    assert (np.abs(out["color"] - gray[..., None]) >= np.abs(before - gray[..., None]) - 1e-6).all()
    assert out["contrast"].std() > 1.5 * before.std()
    np.testing.assert_array_equal(out["sharpness"][[0, -1]], before[[0, -1]])


def test_an_example_depends_on_the_key_and_its_position_alone():
    function = jax.jit(
        lambda key, batch: augment.images(key, batch, randaugment=9.0, blur=0.5, gray=0.5), compiler_options=QUICK
    )
    batch, key = some_batch(), jax.random.key(1)
    whole, part = function(key, batch), function(key, {name: x[:2] for name, x in batch.items()})
    assert np.isclose(whole["image"][:2], part["image"], atol=1e-6).mean() > 0.99, "but for what is rounded otherwise"
    np.testing.assert_array_equal(whole["label"], batch["label"])
    assert (np.abs(whole["image"] - batch["image"]).max((1, 2, 3)) > 0.05).sum() >= 4
    assert np.asarray(whole["image"]).min() >= 0 and np.asarray(whole["image"]).max() <= 1


def test_probability_zero_changes_nothing():
    batch, key = some_batch(2), jax.random.key(0)
    for function in (augment.blur, augment.grayscale):
        np.testing.assert_array_equal(function(key, batch, probability=0.0)["image"], batch["image"])
    gray = np.asarray(augment.grayscale(key, batch, probability=1.0)["image"])
    assert gray.shape == (2, 12, 16, 3) and (gray == gray[..., :1]).all()
    even = {"image": jnp.full((2, 12, 16, 3), 0.3)}
    np.testing.assert_allclose(augment.blur(key, even, probability=1.0)["image"], 0.3, atol=1e-6)
