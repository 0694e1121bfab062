"""The functions by task are one warp and one change of colour."""

import csv
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from jaxcv import augment
from jaxcv.augment import COCO_17, FACE_68

H, W = 24, 32
QUICK = {"xla_backend_optimization_level": 0}


def some_batch(b=3):
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.random((b, H, W, 3)), jnp.float32),
        "mask": jnp.asarray(rng.integers(0, 9, (b, H, W)), jnp.int32),
        "points": jnp.asarray(rng.uniform(0, H, (b, 68, 2)), jnp.float32),
        "label": jnp.arange(b),
    }


def test_everything_is_off_by_default():
    off = {"min_area": 1.0, "max_ratio": 1.0, "min_visible": 0.3}
    for name in ("images", "detection", "segmentation", "landmarks", "warp", "colors"):
        for parameter in list(inspect.signature(getattr(augment, name)).parameters.values())[2:]:
            assert parameter.default in (None, off.get(parameter.name, 0.0))


def test_they_move_as_warp_does():
    batch, key = some_batch(), jax.random.key(3)
    where = {"flip": 0.5, "shift": 0.1, "scale": 0.2, "rotate": 20.0, "shear": 10.0, "elastic": 0.5}

    def every(color):
        task = {name: getattr(augment, name)(key, batch, **where, **color) for name in ("images", "segmentation")}
        task["landmarks"] = augment.landmarks(key, batch, **where, **color, swap=FACE_68)
        return task, augment.warp(key, batch, **where, swap=FACE_68)

    every = jax.jit(every, compiler_options=QUICK)
    plain, warped = every({"color": 0.0, "hue": 0.0})
    colored, _ = every({"color": 0.3, "hue": 0.1})
    assert np.abs(warped["image"] - batch["image"]).max() > 0.1
    for name, out in plain.items():
        for field in ("image", "mask", "label", *(["points"] if name == "landmarks" else [])):
            np.testing.assert_allclose(out[field], warped[field], atol=1e-4)
        assert np.abs(colored[name]["image"] - out["image"]).max() > 0.05
        for field in ("mask", "points", "label"):
            np.testing.assert_array_equal(colored[name][field], out[field])
    assert np.abs(plain["images"]["points"] - warped["points"]).max() > 1, "only landmarks have sides"


def test_pictures_that_are_not_warped_keep_their_pixels():
    batch, key = some_batch(8), jax.random.key(3)
    where = {"flip": 0.5, "flip_vertical": 0.5, "color": 0.3, "min_area": 0.5, "max_ratio": 2.0, "shift": 0.1}
    where |= {"scale": 0.2, "rotate": 20.0, "shear": 10.0, "elastic": 0.5}
    mirrored = augment.segmentation(key, batch, flip=0.5, flip_vertical=0.5, color=0.3)
    augmented = jax.jit(lambda p: augment.segmentation(key, batch, **where, warp_probability=p), compiler_options=QUICK)
    never, some, always = augmented(0.0), augmented(0.5), augmented(1.0)
    np.testing.assert_allclose(never["image"], mirrored["image"], atol=1e-6)
    np.testing.assert_array_equal(never["mask"], mirrored["mask"])
    kept = (np.abs(some["image"] - never["image"]) < 1e-6).all(axis=(1, 2, 3))
    assert 0 < kept.sum() < 8
    np.testing.assert_allclose(some["image"][~kept], always["image"][~kept], atol=1e-6)


def test_detection_turns_bends_and_changes_hue_where_it_is_told_to():
    boxes = jnp.tile(jnp.asarray([[8.0, 6, 24, 18]]), (3, 1, 1))
    batch = {**some_batch(), "boxes": boxes, "valid": jnp.ones((3, 1), bool)}
    plain = {"rotate": 0.0, "shear": 0.0, "elastic": 0.0, "hue": 0.0}
    augmented = jax.jit(lambda options: augment.detection(jax.random.key(0), batch, **options), compiler_options=QUICK)
    still = augmented(plain)
    np.testing.assert_allclose(still["boxes"], boxes, atol=1e-4)
    np.testing.assert_allclose(still["image"], batch["image"], atol=1e-4)
    for option in ({"rotate": 30.0}, {"shear": 30.0}, {"elastic": 0.9}, {"hue": 0.4}):
        out = augmented(plain | option)
        assert np.abs(out["image"] - still["image"]).max() > 0.1
        assert (np.abs(out["boxes"] - boxes).max() > 0.2) == ("hue" not in option)
    turned = augmented(plain | {"rotate": 30.0})["boxes"]
    assert (turned[..., 2:] - turned[..., :2] > boxes[..., 2:] - boxes[..., :2]).all(), "around what became of it"


@pytest.mark.parametrize(("swap", "count", "still"), [(FACE_68, 68, 10), (COCO_17, 17, 1)])
def test_swaps_are_pairs(swap, count, still):
    assert sorted(swap) == list(range(count))
    assert [swap[i] for i in swap] == list(range(count))
    assert sum(i == j for i, j in enumerate(swap)) == still


def test_the_mean_face_is_its_own_mirror_image(real_data):
    """Every point of the mirrored mean of 186 faces lies nearest to the point that FACE_68 names."""
    with open(real_data("landmarks_youtube_faces") / "training_frames_keypoints.csv", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    points = np.array([row[1:] for row in rows], np.float32).reshape(len(rows), 68, 2)
    low, high = points.min(1, keepdims=True), points.max(1, keepdims=True)
    mean = ((points - low) / (high - low)).mean(0)
    mirrored = mean * [-1, 1] + [1, 0]
    distance = np.linalg.norm(mirrored[:, None] - mean[None], axis=-1)
    _, nearest = linear_sum_assignment(distance)
    assert nearest.tolist() == list(FACE_68)
