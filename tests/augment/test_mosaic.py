import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxcv.augment import mosaic

few = hypothesis.settings(max_examples=25, deadline=None, derandomize=True)

B, M, H, W = 5, 3, 40, 60
BOXES = [[10, 6, 26, 30], [30, 12, 50, 30], [0, 0, 0, 0]]


def some_batch():
    """Channels: which picture a pixel is of, its x and its y there, as shares."""
    y, x = np.mgrid[:H, :W] + 0.5
    image = np.stack([np.stack([np.full((H, W), i / B), x / W, y / H], -1) for i in range(B)])
    return {
        "image": jnp.asarray(image, jnp.float32),
        "mask": jnp.asarray(np.tile(np.arange(B)[:, None, None], (1, H, W)), jnp.uint8),
        "boxes": jnp.asarray(np.tile(np.asarray(BOXES, np.float32), (B, 1, 1))),
        "classes": jnp.asarray([[2 * i, 2 * i + 1, 0] for i in range(B)]),
        "valid": jnp.asarray([[True, True, False]] * B),
        "ignored": jnp.zeros((B, M), bool),
        "label": jnp.arange(B),
    }


QUICK = {"xla_backend_optimization_level": 0}


@functools.partial(jax.jit, compiler_options=QUICK)
def compiled(key, batch, options):
    return mosaic(key, batch, **options)


def made(seed, **options):
    every = {"probability": 1.0, "spread": 0.5, "min_visible": 0.3} | options
    return jax.tree.map(np.asarray, compiled(jax.random.key(seed), some_batch(), every))


@few
@hypothesis.given(st.integers(0, 10_000))
def test_boxes_lie_where_their_pixels_are(seed):
    out = made(seed, min_visible=0.0)
    assert out["boxes"].shape == (B, 4 * M, 4)
    y, x = np.mgrid[:H, :W] + 0.5
    for i in range(B):
        picture = np.round(out["image"][i, ..., 0] * B).astype(int)
        np.testing.assert_array_equal(out["mask"][i], picture)
        # The example's own part is upper left, the next ones follow clockwise.
        corners = picture[0, 0], picture[0, -1], picture[-1, -1], picture[-1, 0]
        assert corners == tuple((i + k) % B for k in range(4))
        middle = int((picture[0] == i).sum()), int((picture[:, 0] == i).sum())
        assert W // 4 <= middle[0] <= 3 * W // 4 and H // 4 <= middle[1] <= 3 * H // 4

        valid = out["valid"][i]
        assert (np.diff(valid.astype(int)) <= 0).all(), "truths come first"
        for box, class_index in zip(out["boxes"][i][valid], out["classes"][i][valid], strict=True):
            x1, y1, x2, y2 = BOXES[class_index % 2]
            shown = (
                (picture == class_index // 2)
                & (out["image"][i, ..., 1] * W >= x1)
                & (out["image"][i, ..., 1] * W <= x2)
            )
            shown &= (out["image"][i, ..., 2] * H >= y1) & (out["image"][i, ..., 2] * H <= y2)
            inside = (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])
            assert (inside | ~shown).all(), "the box covers its object"
            assert inside.sum() <= shown.sum() + 2 * (shown.any(0).sum() + shown.any(1).sum()) + 4
        # None is forgotten: a pixel of an object lies in some box.
        for k in range(4):
            for j in range(2):
                x1, y1, x2, y2 = BOXES[j]
                u, v = out["image"][i, ..., 1] * W, out["image"][i, ..., 2] * H
                part = (picture == (i + k) % B) & (u > x1 + 1) & (u < x2 - 1) & (v > y1 + 1) & (v < y2 - 1)
                assert not part.any() or (2 * ((i + k) % B) + j) in out["classes"][i][valid]


def test_scales_keep_the_shape_and_lie_between_filling_and_one():
    out = made(0)["image"]
    for i in range(B):
        picture = np.round(out[i, ..., 0] * B).astype(int)
        for k in range(4):
            part = picture == (i + k) % B
            steps = []
            for channel, axis, side in ((1, 1, W), (2, 0, H)):
                change = np.diff(out[i, ..., channel] * side, axis=axis)
                both = part[:, 1:] & part[:, :-1] if axis else part[1:] & part[:-1]
                within = change[both]
                assert within.max() - within[within > 0.5].min() < 0.6  # but at the picture's edge, which is repeated
                steps.append(np.median(within))
            np.testing.assert_allclose(*steps, rtol=1e-3)
            assert 1 - 1e-3 <= steps[0] <= 4


def test_probability_zero_keeps_picture_and_boxes():
    out, batch = made(3, probability=0.0), some_batch()
    for name in ("image", "mask", "label"):
        np.testing.assert_array_equal(out[name], batch[name])
    for boxes, valid in zip(out["boxes"], out["valid"], strict=True):
        assert valid.sum() == 2
        assert sorted(boxes[valid].tolist()) == sorted(BOXES[:2])
    mixed = np.stack([made(seed, probability=0.5)["mask"][:, -1, -1] == np.arange(B) for seed in range(8)])
    assert 0.2 < mixed.mean() < 0.8


def test_fewer_boxes_keep_the_largest_truths():
    fewer = jax.jit(lambda key, batch: mosaic(key, batch, max_boxes=3), compiler_options=QUICK)
    every, three = made(2), fewer(jax.random.key(2), some_batch())
    assert three["classes"].shape == (B, 3) and three["boxes"].shape == (B, 3, 4)
    np.testing.assert_array_equal(three["boxes"], every["boxes"][:, :3])
    area = np.prod(every["boxes"][..., 2:] - every["boxes"][..., :2], -1)
    area = np.where(every["valid"], area, -1)
    assert (np.diff(area, axis=1)[np.asarray(every["valid"])[:, 1:]] <= 0).all()
    gone = ~(every["valid"] | every["ignored"])
    assert (every["boxes"][gone] == 0).all() and (every["classes"][gone] == 0).all()


def test_no_boxes_and_points():
    batch = some_batch()
    empty = batch | {name: batch[name][:, :0] for name in ("boxes", "classes", "valid", "ignored")}
    out = jax.eval_shape(lambda batch: mosaic(jax.random.key(0), batch), empty)
    assert out["boxes"].shape == (B, 0, 4)
    with pytest.raises(ValueError, match="points is not defined"):
        mosaic(jax.random.key(0), {"image": batch["image"], "points": jnp.zeros((B, 2, 2))})
