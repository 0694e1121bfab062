"""A detector's augmentation is its three parts, one after the other."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import augment

H, W = 24, 32
KEY = jax.random.key(3)


def some_batch(b=4):
    rng = np.random.default_rng(0)
    boxes = np.tile(np.asarray([[2, 3, 12, 15], [14, 8, 30, 20], [0, 0, 0, 0]], np.float32), (b, 1, 1))
    return {
        "image": jnp.asarray(rng.uniform(size=(b, H, W, 3)), jnp.float32),
        "boxes": jnp.asarray(boxes),
        "classes": jnp.asarray([[i, i + 1, 0] for i in range(b)]),
        "valid": jnp.asarray([[True, True, False]] * b),
    }


def test_strength_zero_changes_nothing():
    batch = some_batch()
    chex.assert_trees_all_equal(augment.detector(KEY, batch), batch)


@pytest.mark.parametrize("together", [{}, {"mosaic": 0.5}, {"mixup": 0.5}, {"mosaic": 1.0, "mixup": 1.0}], ids=str)
def test_it_is_its_parts_with_keys_of_their_own(together):
    options = {"flip": 0.5, "flip_vertical": 0.5, "crop": 0.3, "color": 0.2}
    found = augment.detector(KEY, some_batch(), **together, **options, size=(16, 40))
    keys, wanted = jax.random.split(KEY, 3), some_batch()
    if "mosaic" in together:
        wanted = augment.mosaic(keys[1], wanted, probability=together["mosaic"], max_boxes=6)
    if "mixup" in together:
        wanted = augment.mixup_boxes(keys[2], wanted, probability=together["mixup"])
    wanted = augment.detection(keys[0], wanted, **options, size=(16, 40))
    assert found["image"].shape == (4, 16, 40, 3)
    chex.assert_trees_all_close(found, wanted, rtol=0, atol=1e-5)
    assert found["valid"].sum() > 0
