"""All examples of a class are turned alike, every class its own way, by all eight symmetries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv.augment import class_symmetries, segmentation, transpose

SQUARE = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
EIGHT = {np.rot90(x, k).tobytes() for x in (SQUARE[0], SQUARE[0, ::-1]) for k in range(4)}


def batch(labels):
    return {"image": jnp.asarray(SQUARE.repeat(len(labels), 0)), "label": jnp.asarray(labels)}


def test_a_class_is_turned_alike_and_classes_by_all_eight_symmetries():
    labels = np.arange(200).repeat(2)
    images = np.asarray(jax.jit(class_symmetries)(jax.random.key(0), batch(labels))["image"])
    np.testing.assert_array_equal(images[::2], images[1::2])
    counts = [sum(image.tobytes() == one for image in images[::2]) for one in EIGHT]
    assert sum(counts) == 200 and min(counts) >= 10


def test_probability_zero_leaves_the_pixels():
    images = class_symmetries(jax.random.key(0), batch([0, 1, 2]), probability=0.0)["image"]
    np.testing.assert_array_equal(images, SQUARE.repeat(3, 0))


def test_only_squares():
    with pytest.raises(ValueError, match="3x2"):
        class_symmetries(jax.random.key(0), {"image": jnp.zeros((1, 3, 2, 1)), "label": jnp.zeros(1, jnp.int32)})


def test_transposing_takes_the_mask_and_its_weights_along():
    image = jax.random.uniform(jax.random.key(1), (8, 5, 5, 2))
    batch = {"image": image, "mask": image[..., 0], "pixel_weights": image[..., 1], "label": jnp.arange(8)}
    some = transpose(jax.random.key(2), batch)
    kept = np.array([bool((a == b).all()) for a, b in zip(some["image"], image, strict=True)])
    assert 0 < kept.sum() < 8
    np.testing.assert_array_equal(some["mask"], some["image"][..., 0])
    np.testing.assert_array_equal(some["pixel_weights"], some["image"][..., 1])
    every = segmentation(jax.random.key(3), batch, transposed=1.0)
    np.testing.assert_allclose(every["image"], image.swapaxes(1, 2), atol=1e-6)
    with pytest.raises(ValueError, match="5x4: only squares"):
        segmentation(jax.random.key(3), {"image": image[:, :, :4], "mask": image[:, :, :4, 0]}, transposed=0.5)
