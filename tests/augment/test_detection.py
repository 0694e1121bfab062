import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxcv.augment import detection

few = hypothesis.settings(max_examples=25, deadline=None, derandomize=True)

H, W = 32, 48
SHOWN = [[10, 6, 22, 20], [30, 12, 44, 30], [2, 20, 9, 29]]


def some_batch(b=4, ignored=False):
    """Black pictures, on which each box is painted in a channel of its own."""
    images = np.zeros((b, H, W, 3), np.float32)
    boxes = np.zeros((b, 5, 4), np.float32)
    boxes[:, :3] = SHOWN
    for channel, (x1, y1, x2, y2) in enumerate(SHOWN):
        images[:, y1:y2, x1:x2, channel] = 1
    batch = {
        "image": jnp.asarray(images),
        "boxes": jnp.asarray(boxes),
        "classes": jnp.asarray([[0, 1, 2, 0, 0]] * b),
        "valid": jnp.asarray([[True] * 3 + [False] * 2] * b),
    }
    return batch | {"ignored": jnp.zeros((b, 5), bool)} if ignored else batch


def augment(seed, batch, **options):
    """Every option traced, so that one program serves all values."""
    return compiled(jax.random.key(seed), batch, {"flip": 0.0, "crop": 0.0, "color": 0.0, "min_visible": 0.3} | options)


@functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
def compiled(key, batch, options):
    return detection(key, batch, **options)


def test_strength_zero_changes_nothing():
    batch = some_batch()
    out = augment(0, batch)
    assert out.keys() == batch.keys()
    jax.tree.map(np.testing.assert_array_equal, out, batch)


def test_flip_mirrors_pixels_and_boxes():
    batch = some_batch()
    out = augment(0, batch, flip=1.0)
    np.testing.assert_array_equal(out["image"], batch["image"][:, :, ::-1])
    np.testing.assert_array_equal(out["boxes"][:, 0], [[W - 22, 6, W - 10, 20]] * 4)
    assert (out["boxes"][:, 3:] == 0).all()
    back = augment(7, out, flip=1.0)
    jax.tree.map(np.testing.assert_array_equal, back, batch)


def test_half_of_the_pictures_are_mirrored():
    batch = some_batch()
    mirrored = np.stack([augment(seed, batch, flip=0.5)["boxes"][:, 0, 0] != 10 for seed in range(25)])
    assert 0.3 < mirrored.mean() < 0.7


@few
@hypothesis.given(st.integers(0, 10_000), st.sampled_from([0.1, 0.4, 0.8]))
def test_boxes_move_with_the_pixels(seed, crop):
    batch = some_batch()
    out = jax.tree.map(np.asarray, augment(seed, batch, flip=0.5, crop=crop))
    picture = np.arange(0.5, W), np.arange(0.5, H)
    moved = 0
    for i in range(4):
        for j in range(3):
            painted = out["image"][i, :, :, j] > 0.5
            if not out["valid"][i, j]:
                continue
            x1, y1, x2, y2 = out["boxes"][i, j]
            assert 0 <= x1 < x2 <= W and 0 <= y1 < y2 <= H
            ys, xs = np.nonzero(painted)
            # Pixels are painted where the box is, to within what a pixel can show.
            found = [picture[0][xs.min()] - 0.5, picture[1][ys.min()] - 0.5, picture[0][xs.max()] + 0.5]
            np.testing.assert_allclose([x1, y1, x2], found, atol=1.5)
            np.testing.assert_allclose(y2, picture[1][ys.max()] + 0.5, atol=1.5)
            moved += abs(x1 - SHOWN[j][0]) > 0.01
    assert moved > 0


@few
@hypothesis.given(st.integers(0, 10_000), st.sampled_from([0.2, 0.6]))
def test_the_zoom_stays_within_bounds(seed, crop):
    out = augment(seed, some_batch(), crop=crop, min_visible=0.0)
    # Box 0 lies in the middle and is never cut at these strengths by more than its outside.
    whole = np.asarray(out["boxes"][:, 0])
    inside = (whole[:, 0] > 0) & (whole[:, 2] < W)
    factor = (whole[:, 2] - whole[:, 0])[inside] / 12
    assert (factor >= 1 / (1 + crop) - 1e-3).all() and (factor <= 1 / (1 - crop) + 1e-3).all()


def test_what_lies_outside_is_grey():
    batch = some_batch()
    out = np.asarray(augment(3, batch | {"image": jnp.ones((4, H, W, 3))}, crop=0.8)["image"])
    assert set(np.unique(out).tolist()) == {0.5, 1.0}
    assert (out == 0.5).all(-1).sum() == (out == 0.5).any(-1).sum()


def test_boxes_out_of_sight_are_dropped_or_ignored():
    batch = some_batch(b=100, ignored=True)
    strict, lax = augment(1, batch, crop=0.9, min_visible=1.0), augment(1, batch, crop=0.9, min_visible=0.0)
    np.testing.assert_array_equal(strict["image"], lax["image"])
    cut = np.asarray(lax["valid"] & ~strict["valid"])
    assert 10 < cut[:, :3].sum() < 250 and not cut[:, 3:].any()
    np.testing.assert_array_equal(strict["ignored"], cut)
    assert not lax["ignored"].any()
    gone = ~np.asarray(strict["valid"] | strict["ignored"])
    assert (np.asarray(strict["boxes"])[gone] == 0).all()


def test_colors_change_within_bounds_and_boxes_do_not():
    batch = some_batch()
    batch["image"] = jnp.asarray(np.random.default_rng(0).random((4, H, W, 3)), jnp.float32)
    out = augment(0, batch, color=0.4)
    assert out["image"].min() >= 0 and out["image"].max() <= 1
    assert np.abs(out["image"] - batch["image"]).mean((1, 2, 3)).min() > 0.01
    np.testing.assert_array_equal(out["boxes"], batch["boxes"])


def test_every_example_has_a_key_of_its_own():
    options = {"flip": 0.5, "crop": 0.5, "color": 0.3}
    batch = some_batch()
    out = augment(5, batch, **options)
    jax.tree.map(np.testing.assert_array_equal, out, augment(5, batch, **options))
    assert len({row.tobytes() for row in np.asarray(out["boxes"])}) == 4
    assert np.abs(out["boxes"] - augment(6, batch, **options)["boxes"]).max() > 1


def test_no_boxes_and_old_keys():
    batch = some_batch()
    empty = batch | {name: batch[name][:, :0] for name in ("boxes", "classes", "valid")}
    out = detection(jax.random.PRNGKey(0), empty, flip=0.5, crop=0.5)
    assert out["boxes"].shape == (4, 0, 4) and np.isfinite(out["image"]).all()


@pytest.mark.parametrize("crop", [1.0, 5.0])
def test_too_strong_a_crop_stays_finite(crop):
    out = augment(0, some_batch(), crop=crop)
    assert np.isfinite(out["boxes"]).all() and np.isfinite(out["image"]).all()
