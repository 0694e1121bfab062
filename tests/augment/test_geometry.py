"""One map for pixels, boxes, masks and points: pictures that say where each of their pixels came from."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxcv.augment import crop, warp
from jaxcv.augment.randomness import uniform_rows

few = hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
QUICK = {"xla_backend_optimization_level": 0}

B, H, W = 4, 48, 64
BOXES = np.array([[20, 10, 40, 30], [5, 25, 20, 45], [44, 4, 60, 20]], np.float32)
MIRRORED = (1, 0, 2, 3, 5, 4)


def some_batch(seed):
    """Channels: x and y of each pixel as shares of the side, the first box, a spot at the first point."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:H, :W] + 0.5
    points = rng.uniform([6, 6], [W - 6, H - 6], (B, 6, 2))
    spots = [np.exp(-((x - p[0, 0]) ** 2 + (y - p[0, 1]) ** 2) / 8) for p in points]
    x1, y1, x2, y2 = BOXES[0]
    inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
    # What float32 cannot hold at full precision is flushed to 0 on the way.
    image = np.stack([np.stack([x / W, y / H, inside, np.where(spot > 1e-9, spot, 0)], -1) for spot in spots])
    return {
        "image": jnp.asarray(image, jnp.float32),
        "boxes": jnp.asarray(np.tile(BOXES, (B, 1, 1))),
        "valid": jnp.asarray([[True, True, False]] * B),
        "ignored": jnp.asarray([[False, False, True]] * B),
        "mask": jnp.asarray(np.tile(np.arange(W), (B, H, 1)), jnp.uint8),
        "points": jnp.asarray(points, jnp.float32),
        "visible": jnp.asarray([[True] * 5 + [False]] * B),
        "label": jnp.arange(B),
    }


OFF = {
    "flip": 0.0,
    "flip_vertical": 0.0,
    "min_area": 1.0,
    "max_ratio": 1.0,
    "shift": 0.0,
    "scale": 0.0,
    "rotate": 0.0,
    "shear": 0.0,
    "elastic": 0.0,
    "fill": -1.0,
    "min_visible": 0.3,
}


def compiled(key, batch, options):
    return warp(key, batch, **options)


general = jax.jit(compiled, compiler_options=QUICK)
UPRIGHT = ("flip", "flip_vertical", "min_area", "max_ratio", "shift", "scale", "min_visible")


@functools.partial(jax.jit, compiler_options=QUICK)
def upright(seed, batch, options):
    return warp(jax.random.key(seed), batch, swap=MIRRORED, **options)


def moved_upright(seed, batch, **options):
    return jax.tree.map(np.asarray, upright(seed, batch, {name: OFF[name] for name in UPRIGHT} | options))


swapping = jax.jit(lambda key, batch, options: warp(key, batch, swap=MIRRORED, **options), compiler_options=QUICK)


def moved(seed, batch, **options):
    """Every option traced, so that one program serves all values."""
    return jax.tree.map(np.asarray, general(jax.random.key(seed), batch, OFF | options))


def bilinear(image, x, y):
    """The values of a picture at a place, and the least of the four pixels around it."""
    left, top = int(np.floor(x - 0.5)), int(np.floor(y - 0.5))
    four = image[top : top + 2, left : left + 2]
    fx, fy = x - 0.5 - left, y - 0.5 - top
    return np.einsum("yxc,y,x->c", four, [1 - fy, fy], [1 - fx, fx]), four.min((0, 1))


STRENGTHS = {
    "affine": {
        "flip": 0.5,
        "flip_vertical": 0.5,
        "min_area": 0.4,
        "max_ratio": 1.5,
        "shift": 0.15,
        "scale": 0.3,
        "rotate": 60.0,
        "shear": 20.0,
    },
    "elastic": {"elastic": 0.9},
}
STRENGTHS["both"] = STRENGTHS["affine"] | {"elastic": 0.6, "rotate": 25.0}


@few
@hypothesis.given(st.integers(0, 10_000), st.sampled_from(sorted(STRENGTHS)))
def test_everything_moves_by_the_same_map(seed, kind):
    batch = some_batch(seed)
    out = moved(seed, batch, min_visible=0.0, **STRENGTHS[kind])
    bent = kind != "affine"
    points, image = np.asarray(batch["points"]), out["image"]
    found = 0
    for i in range(B):
        outside = (image[i] == -1).all(-1)

        # Points: where a point is now, the picture says where it was.
        for j, (x, y) in enumerate(out["points"][i]):
            inside = 0 <= x <= W and 0 <= y <= H
            assert out["visible"][i, j] == (inside and j < 5)
            if 2 < x < W - 2 and 2 < y < H - 2:
                was, least = bilinear(image[i, ..., :2], x, y)
                if least.min() >= 0:
                    np.testing.assert_allclose(was * [W, H], points[i, j], atol=0.15 if bent else 2e-3)
                    found += 1

        # The mask is the nearest pixel's, and to be ignored exactly where there is no picture.
        np.testing.assert_array_equal(out["mask"][i] == 255, outside)
        x = image[i, ..., 0] * W
        whole = ~outside & (x > 0.6) & (x < W - 0.6)  # at the very edge the last pixel is repeated
        assert (np.abs(out["mask"][i] + 0.5 - x)[whole] <= 0.5 + 1e-3).all()

        # The box covers its object, which touches it.
        ys, xs = np.nonzero(image[i, ..., 2] > 0.5)
        if len(xs) == 0:
            continue
        x1, y1, x2, y2 = out["boxes"][i, 0]
        assert out["valid"][i, 0] and 0 <= x1 < x2 <= W and 0 <= y1 < y2 <= H
        slack = 0.3 if bent else 1e-3
        assert (xs + 0.5 >= x1 - slack).all() and (xs + 0.5 <= x2 + slack).all()
        assert (ys + 0.5 >= y1 - slack).all() and (ys + 0.5 <= y2 + slack).all()
        if x1 > 0 and y1 > 0 and x2 < W and y2 < H:  # else what touched it may lie beyond the border
            ys, xs = np.nonzero(image[i, ..., 2] > 0.05)  # a sharp corner covers no pixel by half
            edge = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            np.testing.assert_allclose([x1, y1, x2, y2], edge, atol=2.5)
    hypothesis.target(float(found))
    np.testing.assert_array_equal(out["label"], batch["label"])


@few
@hypothesis.given(st.integers(0, 10_000), st.sampled_from(sorted(STRENGTHS)))
def test_a_marked_pixel_ends_where_its_point_says(seed, kind):
    out = moved(seed, some_batch(seed), fill=0.0, **STRENGTHS[kind])
    y, x = np.mgrid[:H, :W] + 0.5
    for i, (px, py) in enumerate(out["points"][:, 0]):
        if 8 < px < W - 8 and 8 < py < H - 8:
            near = np.hypot(x - px, y - py) < 7
            spot = out["image"][i, ..., 3] * near
            at = np.array([(spot * x).sum(), (spot * y).sum()]) / spot.sum()
            np.testing.assert_allclose(at, [px, py], atol=0.6)
            assert spot.max() > 0.8


def test_strength_zero_changes_nothing():
    batch = some_batch(0)
    out = moved(1, batch, min_visible=1.0)
    for name in ("image", "points"):
        np.testing.assert_allclose(out.pop(name), batch.pop(name), atol=1e-4)
    np.testing.assert_array_equal(out.pop("boxes"), batch.pop("boxes"))
    jax.tree.map(np.testing.assert_array_equal, out, batch)
    jax.tree.map(np.testing.assert_array_equal, moved_upright(1, some_batch(0)), some_batch(0))


@pytest.mark.parametrize("axis", ["flip", "flip_vertical"])
def test_mirrors_by_hand(axis):
    batch = some_batch(2)
    out = moved_upright(0, batch, **{axis: 1.0})
    turn = (slice(None), slice(None), slice(None, None, -1)) if axis == "flip" else (slice(None), slice(None, None, -1))
    np.testing.assert_array_equal(out["image"], np.asarray(batch["image"])[turn])
    np.testing.assert_array_equal(out["mask"], np.asarray(batch["mask"])[turn])
    points = np.asarray(batch["points"])[:, list(MIRRORED)]
    x, y = points[..., 0], points[..., 1]
    np.testing.assert_allclose(out["points"], np.stack([W - x, y] if axis == "flip" else [x, H - y], -1), atol=1e-5)
    np.testing.assert_array_equal(out["visible"], [[True] * 4 + [False, True]] * B)
    first = [W - 40, 10, W - 20, 30] if axis == "flip" else [20, H - 30, 40, H - 10]
    np.testing.assert_array_equal(out["boxes"][:, 0], [first] * B)


def test_points_change_sides_in_one_mirror_not_in_two_nor_when_turned():
    batch = some_batch(3)
    for options in ({"flip": 1.0, "flip_vertical": 1.0}, {"rotate": 170.0}):
        swapped = swapping(jax.random.key(4), batch, OFF | options)
        np.testing.assert_array_equal(moved(4, batch, **options)["points"], swapped["points"])
    swapped = swapping(jax.random.key(4), batch, OFF | {"flip": 1.0, "rotate": 170.0})["points"]
    np.testing.assert_array_equal(moved(4, batch, flip=1.0, rotate=170.0)["points"][:, list(MIRRORED)], swapped)
    with pytest.raises(ValueError, match="no order of the 6 points"):
        warp(jax.random.key(0), batch, swap=(0, 1, 2))


def over_seeds(count, batch, **options):
    """The rows of many batches as one."""
    outs = [moved_upright(seed, batch, **options) for seed in range(count)]
    return {name: np.concatenate([out[name] for out in outs]) for name in batch}


def test_boxes_that_are_hardly_seen_are_ignored_or_gone():
    batch = some_batch(0)
    every, half = (over_seeds(20, batch, shift=0.7, min_visible=share) for share in (0.0, 0.5))
    boxes, whole = every["boxes"][:, :2], np.prod(BOXES[:2, 2:] - BOXES[:2, :2], -1)
    seen = np.prod(boxes[..., 2:] - boxes[..., :2], -1) / whole
    np.testing.assert_array_equal(every["valid"][:, :2], seen > 0)
    sure = np.abs(seen - 0.5) > 1e-3
    np.testing.assert_array_equal(half["valid"][:, :2][sure], (seen > 0.5)[sure])
    np.testing.assert_array_equal(half["ignored"][:, :2], (seen > 0) & ~half["valid"][:, :2])
    assert not half["valid"][:, 2].any(), "what was ignored never becomes a truth"
    gone = ~(half["valid"] | half["ignored"])
    assert gone.any() and (half["boxes"][gone] == 0).all()
    assert 5 < (seen == 0).sum() and 5 < ((seen > 0) & (seen < 0.5)).sum()


def test_windows_have_the_areas_and_ratios_that_were_asked_for():
    """What is shown of the picture is read off two points, its corners."""
    corners = jnp.tile(jnp.asarray([[[0.0, 0.0], [W, H]]]), (B, 3, 1))
    out = over_seeds(50, some_batch(0) | {"points": corners}, min_area=0.25, max_ratio=1.5)["points"]
    width, height = (out[:, 1] - out[:, 0]).T
    area, ratio = W * H / (width * height), (height / H) / (width / W)
    assert 0.25 - 1e-4 < area.min() < 0.3 and 0.95 < area.max() <= 1 + 1e-5
    assert (ratio < 1.5 + 1e-4).all() and (ratio > 1 / 1.5 - 1e-4).all() and ratio.max() > 1.4 and ratio.min() < 0.75
    assert (out[:, 0] <= 1e-3).all() and (out[:, 1] >= [W - 1e-3, H - 1e-3]).all(), "nothing but the picture is shown"


def test_the_output_may_have_another_size():
    batch = some_batch(5)
    batch["pixel_weights"] = batch["mask"].astype(jnp.float32)
    twice = jax.jit(lambda key, batch: warp(key, batch, size=(2 * H, 2 * W)), compiler_options=QUICK)
    out = twice(jax.random.key(0), batch)
    assert out["image"].shape == (B, 2 * H, 2 * W, 4) and out["mask"].shape == (B, 2 * H, 2 * W)
    np.testing.assert_allclose(out["points"], 2 * batch["points"], atol=1e-4)
    np.testing.assert_array_equal(out["boxes"][:, :2], 2 * batch["boxes"][:, :2])
    np.testing.assert_array_equal(out["mask"], np.asarray(batch["mask"]).repeat(2, 1).repeat(2, 2))
    np.testing.assert_array_equal(out["pixel_weights"], out["mask"])


@few
@hypothesis.given(st.integers(0, 10_000), st.sampled_from([0, 5]))
def test_crops_are_whole_pixels(seed, padding):
    batch = some_batch(6)
    out = jax.tree.map(np.asarray, crop_compiled(jax.random.key(seed), batch, padding))
    padded = np.pad(batch["image"], ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=-1)
    shifts = out["points"][:, 0] - np.asarray(batch["points"])[:, 0]
    for i, (x, y) in enumerate(np.round(padding - shifts).astype(int)):
        np.testing.assert_array_equal(out["image"][i], padded[i, y : y + 30, x : x + 40])
    np.testing.assert_allclose(shifts, np.round(shifts), atol=1e-4)
    assert len({tuple(shift) for shift in np.round(shifts).tolist()}) > 1


@functools.partial(jax.jit, compiler_options=QUICK)
def crop_compiled(key, batch, padding):
    return crop(key, batch, size=(30, 40), padding=padding, fill=-1.0)


def test_a_crop_larger_than_the_picture_has_it_in_the_middle():
    batch = {"image": jnp.ones((B, 4, 6, 1)), "label": jnp.arange(B)}
    out = np.asarray(crop(jax.random.key(0), batch, size=(8, 6), flip=0.5)["image"])
    np.testing.assert_array_equal(out[0, :, 0, 0], [0, 0, 1, 1, 1, 1, 0, 0])


def test_every_example_has_numbers_of_its_own_whatever_the_batch():
    draws = jax.jit(lambda key: (uniform_rows(key, 4, 6), uniform_rows(key, 2, 9)), compiler_options=QUICK)
    numbers, others = draws(jax.random.key(5))
    assert len(np.unique(numbers)) == 24
    np.testing.assert_array_equal(others[:, :6], numbers[:2])
    batch = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), some_batch(7))
    out = moved(5, batch, **STRENGTHS["both"])
    assert len({row.tobytes() for row in out["points"]}) == B
    jax.tree.map(np.testing.assert_array_equal, out, moved(5, batch, **STRENGTHS["both"]))


def test_empty_and_degenerate_input_stays_finite():
    batch = some_batch(8)
    batch |= {name: batch[name][:, :0] for name in ("boxes", "valid", "ignored", "points", "visible")}
    wild = {"scale": 1e6, "shift": 1e6, "max_ratio": 1e6, "min_area": 0.0, "elastic": 5.0, "rotate": 1e4}
    out = moved(0, batch, **wild)
    assert out["boxes"].shape == (B, 0, 4) and out["points"].shape == (B, 0, 2)
    assert np.isfinite(out["image"]).all()
    full = moved(0, some_batch(8), **wild)
    assert np.isfinite(full["boxes"]).all() and np.isfinite(full["points"]).all()
