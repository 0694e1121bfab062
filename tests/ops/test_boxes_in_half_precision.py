"""Boxes in half precision, or of integers: what is computed of them is that of the same numbers in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import losses, ops, predict

HALVES = [jnp.float16, jnp.bfloat16]
EVERY = ["box_iou", "generalized_box_iou", "distance_box_iou", "complete_box_iou"]
PAIRED = [f"paired_{name}" for name in EVERY]
# Numbers that both hold exactly: large, of one pixel, empty, inverted, and far apart.
BOXES = np.asarray(
    [
        [512, 512, 960, 960],
        [0, 0, 8192, 8192],
        [128, 128, 129, 129],
        [640, 512, 640, 960],
        [0, 0, 0, 0],
        [256, 256, 128, 512],
        [-32768, -32768, 32768, 32768],
        [16384, 16384, 32768, 32768],
        [512, 512, 960, 896],
    ],
    np.float32,
)


@pytest.mark.parametrize("dtype", [*HALVES, jnp.int32])
def test_a_large_box_is_itself(dtype):
    box = jnp.asarray([[500, 500, 900, 900]], dtype)
    wanted = 1.0
    for name in EVERY:
        assert getattr(ops, name)(box, box) == wanted
    for name in PAIRED:
        assert getattr(ops, name)(box, box) == wanted
    side = float(box[0, 2]) - float(box[0, 0])
    assert ops.box_area(box) == side * side and ops.box_area(box).dtype == jnp.float32


@pytest.mark.parametrize("dtype", [*HALVES, jnp.int32])
def test_as_in_float32(dtype):
    half, wide = jnp.asarray(BOXES, dtype), jnp.asarray(BOXES)
    assert (np.asarray(half, np.float32) == BOXES).all()
    for name in [*EVERY, "encode_boxes"]:
        values = [getattr(ops, name)(boxes, boxes[::-1]) for boxes in (half, wide)]
        np.testing.assert_array_equal(*values)
        assert np.isfinite(values[0]).all() and values[0].dtype == jnp.float32
    for name in PAIRED:
        np.testing.assert_array_equal(getattr(ops, name)(half, half[::-1]), getattr(ops, name)(wide, wide[::-1]))
    np.testing.assert_array_equal(ops.box_area(half), ops.box_area(wide))
    for source, target in (
        ("xyxy", "cxcywh"),
        ("cxcywh", "xyxy"),
        ("xywh", "xyxy"),
        ("xyxy", "xywh"),
        ("xyxy", "xyxy"),
    ):
        converted = [ops.box_convert(boxes, source=source, target=target) for boxes in (half, wide)]
        np.testing.assert_array_equal(*converted)
    # 1333 is no number of bfloat16: the next is 1336, outside the image.
    clipped = [ops.clip_boxes_to_image(boxes, image_size=(800, 1333)) for boxes in (half, wide)]
    np.testing.assert_array_equal(*clipped)
    assert clipped[0].max() == 1333
    chosen = [ops.largest_box(boxes, jnp.arange(9) != 6) for boxes in (half, wide)]
    np.testing.assert_array_equal(*chosen)
    assert chosen[0][0] == 7


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", [*EVERY, "box_area"])
def test_gradients_are_finite_and_those_of_float32(name, dtype):
    def total(boxes):
        value = ops.box_area(boxes) / 1e6 if name == "box_area" else getattr(ops, name)(boxes, jnp.asarray(BOXES[::-1]))
        return value.sum()

    half, wide = jax.grad(total)(jnp.asarray(BOXES, dtype)), jax.grad(total)(jnp.asarray(BOXES))
    assert half.dtype == dtype and np.isfinite(half.astype(jnp.float32)).all() and np.isfinite(wide).all()
    np.testing.assert_allclose(half.astype(jnp.float32), wide, rtol=1e-2, atol=1e-6)


def test_half_and_whole_go_together():
    half, wide = jnp.asarray(BOXES, jnp.bfloat16), jnp.asarray(BOXES)
    for name in EVERY:
        np.testing.assert_array_equal(getattr(ops, name)(half, wide), getattr(ops, name)(wide, half).T)


@pytest.mark.parametrize("dtype", HALVES)
def test_decoding_what_was_encoded(dtype):
    references = jnp.asarray([[500, 500, 900, 900], [0, 0, 2000, 2000]], dtype)
    boxes = jnp.asarray([[520, 480, 960, 880], [1000, 1000, 1008, 1200]], dtype)
    back = ops.decode_boxes(ops.encode_boxes(boxes, references), references)
    assert back.dtype == jnp.float32
    np.testing.assert_allclose(back, boxes.astype(jnp.float32), rtol=1e-5, atol=1e-2)
    # Deltas in half precision, as a network in it gives them: no more is lost than they lack.
    back = ops.decode_boxes(ops.encode_boxes(boxes, references).astype(dtype), references)
    np.testing.assert_allclose(back, boxes.astype(jnp.float32), rtol=2e-2)


@pytest.mark.parametrize("dtype", [*HALVES, jnp.int32])
def test_suppression(dtype):
    random = np.random.default_rng(0)
    corner = random.integers(0, 60, (40, 2)) * 16
    boxes = np.concatenate([corner, corner + random.integers(4, 12, (40, 2)) * 32], 1).astype(np.float32)
    half, wide = jnp.asarray(boxes, dtype), jnp.asarray(boxes)
    np.testing.assert_array_equal(np.asarray(half, np.float32), boxes)
    scores, classes = jnp.asarray(random.permutation(40) / 64, jnp.float32), jnp.asarray(random.integers(0, 2, 40))
    for criterion in ("iou", "diou"):
        found = [ops.nms(b, scores, iou_threshold=0.4, criterion=criterion) for b in (half, wide)]
        jax.tree.map(np.testing.assert_array_equal, *found)
        assert 5 < found[0][1].sum() < 40
        found = [ops.batched_nms(b, scores, classes, iou_threshold=0.4, criterion=criterion) for b in (half, wide)]
        jax.tree.map(np.testing.assert_array_equal, *found)
    for soften in (ops.soft_nms, ops.matrix_nms):
        jax.tree.map(np.testing.assert_array_equal, *(soften(b, scores) for b in (half, wide)))


@pytest.mark.parametrize("dtype", HALVES)
def test_scores_in_half_precision_meet_the_threshold_as_they_are(dtype):
    boxes = jnp.asarray([[0, 0, 10, 10], [20, 20, 30, 30]], jnp.float32)
    threshold = 0.05  # in bfloat16 0.0500488, in float16 0.0499878
    scores = jnp.asarray([0.9, threshold], dtype)
    above = float(scores[1]) > threshold
    assert ops.nms(boxes, scores, score_threshold=threshold)[1].sum() == 1 + above
    for soften in (ops.soft_nms, ops.matrix_nms):
        _, lowered, valid = soften(boxes, scores, score_threshold=threshold)
        assert valid.sum() == 1 + above and lowered.dtype == dtype


@pytest.mark.parametrize("dtype", HALVES)
def test_windows_lie_where_they_lie(dtype):
    """Of a picture 600 wide: beyond 256 bfloat16 knows every second pixel only."""
    crops, boxes = ops.sliding_windows(jnp.zeros((1, 8, 600, 1), dtype), window=(8, 9), strides=3)
    assert crops.dtype == dtype and boxes.dtype == jnp.float32
    np.testing.assert_array_equal(boxes[:, 0], 3 * np.arange(198))
    inside = ops.boxes_in_window(
        jnp.asarray([[500, 500, 900, 900]], dtype), jnp.asarray([0, 0, 1000, 1000], dtype), size=(1333, 1333)
    )
    np.testing.assert_allclose(inside[0] / 1.333, np.asarray([500, 500, 900, 900], dtype).astype(np.float32), rtol=1e-5)


@pytest.mark.parametrize("dtype", HALVES)
def test_anchor_boxes(dtype):
    sizes = jnp.asarray([[300, 300], [320, 300], [8, 8], [8, 10], [0, 4], [4000, 4000]], dtype)
    anchors = ops.kmeans_anchor_boxes(sizes, k=3)
    np.testing.assert_array_equal(anchors, ops.kmeans_anchor_boxes(sizes.astype(jnp.float32), k=3))
    np.testing.assert_allclose(ops.shape_iou(sizes, sizes).diagonal(), [1, 1, 1, 1, 0, 1])
    np.testing.assert_array_equal(ops.match_anchor_boxes(sizes, anchors.astype(dtype)), [1, 1, 0, 0, 0, 2])


@pytest.mark.parametrize("dtype", HALVES)
def test_the_grid_of_yolo(dtype):
    """An input of 1024 pixels: the last cell's centre is at 1008, which both hold, and 1008.5, which they do not."""
    anchors = jnp.asarray([[400.0, 400.0]])
    box = jnp.asarray([[808, 808, 1000, 1000]], dtype)
    target = ops.encode_yolo(box, anchors, grid_size=(32, 32), image_size=(1024, 1024))
    wide = ops.encode_yolo(box.astype(jnp.float32), anchors, grid_size=(32, 32), image_size=(1024, 1024))
    jax.tree.map(np.testing.assert_array_equal, target, wide)
    outputs = jnp.zeros((32, 32, 1, 6), dtype)
    decoded = ops.decode_yolo(outputs, anchors.astype(dtype), image_size=(1024, 1024))
    np.testing.assert_array_equal(decoded[31, 31, 0], [808, 808, 1208, 1208])
    decoded = ops.decode_yolo_v1(jnp.full((7, 7, 11), 0.5, dtype), num_boxes=2, image_size=(1001, 1001))
    np.testing.assert_allclose(decoded[6, 6, 0], [6.5 * 143 - 1001 / 8] * 2 + [6.5 * 143 + 1001 / 8] * 2, rtol=1e-6)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("box_loss", ["squared", "iou", "giou", "diou", "ciou"])
def test_losses_and_predictions_of_boxes_in_half_precision(dtype, box_loss):
    boxes = jnp.asarray([[[500, 500, 900, 900], [512, 512, 512, 512], [0, 0, 1024, 1024]]], dtype)
    batch = {
        "image": jnp.zeros((1, 1024, 1024, 3)),
        "boxes": boxes,
        "classes": jnp.zeros((1, 3), jnp.int32),
        "valid": jnp.asarray([[True, True, False]]),
        "ignored": jnp.asarray([[False, False, True]]),
    }
    anchors = jnp.asarray([[400.0, 400.0]])
    outputs = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 4, 1, 7)), dtype)

    def total(outputs, boxes):
        terms = losses.yolo(outputs, {**batch, "boxes": boxes}, anchor_boxes=anchors, box_loss=box_loss)
        return sum(term.sum() for term in terms.values())

    value, gradient = jax.value_and_grad(total)(outputs, boxes)
    wide, wanted = jax.value_and_grad(total)(outputs.astype(jnp.float32), boxes.astype(jnp.float32))
    assert value == pytest.approx(float(wide), rel=1e-5) and np.isfinite(wide)
    np.testing.assert_allclose(gradient.astype(jnp.float32), wanted, rtol=1e-2, atol=1e-3)
    found = predict.yolo(outputs, anchor_boxes=anchors, image_size=(1024, 1024), score_threshold=0.1)
    assert found.boxes.dtype == jnp.float32
    local = [
        losses.localization(jnp.zeros((1, 7), kind), {**batch, "boxes": boxes.astype(kind)})
        for kind in (dtype, jnp.float32)
    ]
    jax.tree.map(np.testing.assert_array_equal, *local)
