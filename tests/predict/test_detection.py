import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcv import losses, predict
from jaxcv.metrics import coco_average_precision
from jaxcv.ops import encode_yolo

ANCHORS = np.asarray([[16.0, 16.0], [32.0, 8.0]], np.float32)
SIZE = (64, 96)


def say(boxes, classes, confidence=(20.0,), k=3):
    """Outputs [1, 2, 3, 2, 5 + k] that mean these boxes and nothing else."""
    target = encode_yolo(jnp.asarray(boxes, jnp.float32), jnp.asarray(ANCHORS), grid_size=(2, 3), image_size=SIZE)
    said = np.full((12, 5 + k), -20, np.float32)
    confidence = np.broadcast_to(confidence, len(boxes))
    for slot, offset, log_scale, label, sure in zip(*(np.asarray(t) for t in target), classes, confidence, strict=True):
        said[slot] = [*np.log(offset / (1 - offset)), *log_scale, sure, *(40 * np.eye(k)[label])]
    return jnp.asarray(said.reshape(1, 2, 3, 2, 5 + k))


def test_says_what_was_encoded():
    boxes = [[5.0, 7.0, 25.0, 20.0], [60.0, 40.0, 90.0, 50.0]]
    found = predict.yolo(say(boxes, [2, 0], [3.0, 1.0]), anchor_boxes=ANCHORS, image_size=SIZE, max_outputs=5)
    assert found.valid.tolist() == [[True, True, False, False, False]]
    assert found.classes.tolist() == [[2, 0, -1, -1, -1]]
    np.testing.assert_allclose(found.boxes[0, :2], boxes, atol=1e-3)
    np.testing.assert_allclose(found.scores[0, :2], [1 / (1 + np.exp(-3)), 1 / (1 + np.exp(-1))], rtol=1e-5)
    assert (found.boxes[0, 2:] == 0).all() and (found.scores[0, 2:] == 0).all()


def test_overlap_counts_within_a_class_only():
    # Alike boxes of different shape preference land in different slots of one cell.
    boxes = [[20.0, 20.0, 36.0, 36.0], [18.0, 22.0, 38.0, 34.0]]
    outputs = np.asarray(say(boxes[:1], [1], [3.0])).copy()
    wide = np.asarray(outputs[0, 0, 0, 0])
    assert wide[4] == 3.0
    outputs[0, 0, 0, 1] = [*wide[:2], np.log(16 / 32), np.log(16 / 8), 1.0, *wide[5:]]
    options = {"anchor_boxes": ANCHORS, "image_size": SIZE, "max_outputs": 4}
    assert predict.yolo(jnp.asarray(outputs), **options).valid.sum() == 1
    assert predict.yolo(jnp.asarray(outputs), **options, iou_threshold=1.0).valid.sum() == 2
    outputs[0, 0, 0, 1, 5:] = [40, 0, 0]
    found = predict.yolo(jnp.asarray(outputs), **options)
    assert found.classes.tolist() == [[1, 0, -1, -1]]
    np.testing.assert_allclose(found.boxes[0, 0], found.boxes[0, 1], atol=1e-4)


def test_by_default_the_courses_rule():
    """p_c <= 0.6 is discarded, the class does not weigh in, an IoU above 0.5 with a better box of the class drops."""
    boxes = [[20.0, 20.0, 36.0, 36.0], [70.0, 40.0, 86.0, 56.0], [5.0, 45.0, 21.0, 61.0]]
    outputs = np.asarray(say(boxes, [1, 0, 2], np.log([0.9 / 0.1, 0.61 / 0.39, 0.59 / 0.41]))).copy()
    outputs[..., 5:] /= 40  # class probabilities of 0.58 at most
    found = predict.yolo(jnp.asarray(outputs), anchor_boxes=ANCHORS, image_size=SIZE, max_outputs=4)
    assert found.classes.tolist() == [[1, 0, -1, -1]]
    np.testing.assert_allclose(found.scores[0, :2], [0.9, 0.61], rtol=1e-5)
    # The same box again, worse, from the other anchor box of the cell: dropped, or kept as another class.
    first = outputs[0, 0, 0, 0]
    outputs[0, 0, 0, 1] = [*first[:2], np.log(16 / 32), np.log(16 / 8), np.log(0.8 / 0.2), *first[5:]]
    options = {"anchor_boxes": ANCHORS, "image_size": SIZE, "max_outputs": 4}
    assert predict.yolo(jnp.asarray(outputs), **options).classes.tolist() == [[1, 0, -1, -1]]
    outputs[0, 0, 0, 1, 5:] = [0, 0, 1]
    assert predict.yolo(jnp.asarray(outputs), **options).classes.tolist() == [[1, 2, 0, -1]]
    agnostic = predict.yolo(jnp.asarray(outputs), **options, class_agnostic=True)
    assert agnostic.classes.tolist() == [[1, 0, -1, -1]]


def test_two_objects_in_one_cell():
    """Both centres in the first cell of 3 x 3, a tall and a wide anchor box: the course's example."""
    anchors = np.asarray([[10.0, 30.0], [30.0, 10.0]], np.float32)
    boxes = jnp.asarray([[11.0, 1.0, 21.0, 31.0], [1.0, 11.0, 31.0, 21.0]])
    target = encode_yolo(boxes, jnp.asarray(anchors), grid_size=(3, 3), image_size=(96, 96))
    assert target.slot.tolist() == [0, 1]
    said = np.full((18, 8), -20, np.float32)
    for row in range(2):
        offset = np.asarray(target.offset[row])
        said[row] = [*np.log(offset / (1 - offset)), *target.log_scale[row], 3 - row, *(40 * np.eye(3)[row])]
    found = predict.yolo(jnp.asarray(said.reshape(1, 3, 3, 2, 8)), anchor_boxes=anchors, image_size=(96, 96))
    assert found.valid.sum() == 2 and found.classes[0, :2].tolist() == [0, 1]
    np.testing.assert_allclose(found.boxes[0, :2], boxes, atol=1e-3)


def test_three_hundred_objects():
    boxes = np.asarray([[16 * c + 2, 16 * r + 2, 16 * c + 14, 16 * r + 14] for r in range(15) for c in range(20)])
    target = encode_yolo(
        jnp.asarray(boxes, jnp.float32), jnp.asarray(ANCHORS), grid_size=(15, 20), image_size=(240, 320)
    )
    said = np.full((600, 8), -20, np.float32)
    for row, slot in enumerate(np.asarray(target.slot)):
        said[slot] = [0, 0, *target.log_scale[row], 3, *(40 * np.eye(3)[row % 3])]
    outputs = jnp.asarray(said.reshape(1, 15, 20, 2, 8))
    found = predict.yolo(outputs, anchor_boxes=ANCHORS, image_size=(240, 320), max_outputs=300)
    assert found.valid.all()
    there = np.asarray(found.boxes[0])
    np.testing.assert_allclose(there[np.lexsort((there[:, 0], there[:, 1].round()))], boxes, atol=1e-3)


def test_several_grids_are_one():
    """Two anchor boxes on one grid, or one on each of two equal grids."""
    outputs = jnp.asarray(np.random.default_rng(3).normal(size=(2, 2, 3, 2, 8)), jnp.float32)
    options = {"anchor_boxes": ANCHORS, "image_size": SIZE, "confidence": "class", "score_threshold": 0.1}
    one = predict.yolo(outputs, **options, class_scores="sigmoid")
    two = predict.yolo((outputs[..., :1, :], outputs[..., 1:, :]), **options, class_scores="sigmoid")
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert 5 < one.valid.sum() < 200
    with pytest.raises(ValueError, match="2 anchor boxes for outputs that have 1 per cell"):
        predict.yolo((outputs[..., :1, :],), **options)


@pytest.mark.parametrize("suppression", ["diou", "soft", "matrix"])
def test_other_suppressions_keep_apart_what_is_apart(suppression):
    boxes = [[5.0, 7.0, 25.0, 20.0], [60.0, 40.0, 90.0, 50.0]]
    options = {"anchor_boxes": ANCHORS, "image_size": SIZE, "max_outputs": 5}
    found = predict.yolo(say(boxes, [2, 0], [3.0, 1.0]), **options, suppression=suppression)
    expected = predict.yolo(say(boxes, [2, 0], [3.0, 1.0]), **options)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)


def test_the_first_yolo_by_hand():
    """On 2 x 2 cells of 32 pixels, two boxes a cell: one of 16 x 32 around (40, 16), and a worse one on it."""
    said = np.zeros((1, 2, 2, 13), np.float32)
    said[0, 0, 1, :10] = [0.25, 0.5, 0.5, 2**-0.5, 0.9, 0.25, 0.5, 0.5, 0.5, 0.8]
    said[0, 0, 1, 10:] = [0.1, 0.8, 0.1]
    options = {"num_boxes": 2, "image_size": (64, 64), "max_outputs": 3}
    found = predict.yolo_v1(jnp.asarray(said), **options)
    np.testing.assert_allclose(found.boxes[0, 0], [32, 0, 48, 32], atol=1e-5)
    assert found.classes.tolist() == [[1, 1, -1]]  # an IoU of exactly one half does not drop
    np.testing.assert_allclose(found.scores[0, :2], [0.9, 0.8], rtol=1e-6)
    product = predict.yolo_v1(jnp.asarray(said), **options, confidence="class", iou_threshold=0.4)
    assert product.valid.tolist() == [[True, False, False]]
    np.testing.assert_allclose(product.scores[0, 0], 0.72, rtol=1e-6)


def test_boxes_are_clipped_to_the_image():
    found = predict.yolo(say([[80.0, 50.0, 110.0, 70.0]], [0]), anchor_boxes=ANCHORS, image_size=SIZE, max_outputs=1)
    np.testing.assert_allclose(found.boxes[0, 0, 2:], [96, 64], atol=1e-4)


def test_no_detections():
    found = predict.yolo(jnp.full((2, 2, 3, 2, 8), -20.0), anchor_boxes=ANCHORS, image_size=SIZE)
    assert found.boxes.shape == (2, 100, 4) and not found.valid.any()
    assert (found.classes == -1).all() and (found.boxes == 0).all()


def test_outputs_that_are_not_finite_are_dropped():
    outputs = say([[5.0, 7.0, 25.0, 20.0]], [0]).at[0, 1, 1].set(jnp.nan)
    found = predict.yolo(outputs, anchor_boxes=ANCHORS, image_size=SIZE, max_outputs=30)
    assert found.valid.sum() == 1 and all(np.isfinite(field).all() for field in found[:4])


@pytest.mark.parametrize("max_outputs", [4, 36])
def test_agrees_with_the_definition(max_outputs):
    """Random outputs against a loop in numpy over classes, scores and boxes."""
    outputs = np.random.default_rng(0).normal(size=(2, 2, 3, 2, 8)).astype(np.float32)
    found = predict.yolo(
        jnp.asarray(outputs),
        anchor_boxes=ANCHORS,
        image_size=SIZE,
        confidence="class",
        score_threshold=0.15,
        max_outputs=max_outputs,
    )
    for n in range(2):
        candidates = []
        for r, c, i in np.ndindex(2, 3, 2):
            tx, ty, tw, th, to, *logits = outputs[n, r, c, i].astype(np.float64)
            x, y = (1 / (1 + np.exp(-tx)) + c) * 32, (1 / (1 + np.exp(-ty)) + r) * 32
            w, h = ANCHORS[i] * np.exp([tw, th])
            box = np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, [96, 64, 96, 64])
            for label, share in enumerate(np.exp(logits) / np.exp(logits).sum()):
                candidates.append((share / (1 + np.exp(-to)), label, box))
        kept = []
        for score, label, box in sorted(candidates, key=lambda c: -c[0]):
            if score > 0.15 and all(label != other or iou(box, b) <= 0.5 for _, other, b in kept):
                kept.append((score, label, box))
        assert 4 < len(kept)
        kept = kept[:max_outputs]
        assert found.valid[n].sum() == len(kept)
        np.testing.assert_allclose(found.scores[n, : len(kept)], [k[0] for k in kept], rtol=1e-4)
        assert found.classes[n, : len(kept)].tolist() == [k[1] for k in kept]
        np.testing.assert_allclose(found.boxes[n, : len(kept)], [k[2] for k in kept], atol=1e-3)


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def test_only_the_best_candidates_compete():
    outputs = jnp.asarray(np.random.default_rng(1).normal(size=(1, 2, 3, 2, 8)), jnp.float32)
    options = {"anchor_boxes": ANCHORS, "image_size": SIZE, "iou_threshold": 1.0}
    options |= {"confidence": "class", "score_threshold": 0.0}
    every = predict.yolo(outputs, **options, max_outputs=36)
    few = predict.yolo(outputs, **options, max_outputs=36, max_candidates=5)
    assert every.valid.sum() == 36 and few.valid.sum() == 5
    np.testing.assert_allclose(few.scores[0, :5], every.scores[0, :5], rtol=1e-6)


def test_minimising_the_loss_leads_to_the_targets():
    """Outputs are optimised without a network: loss and prediction read them alike."""
    boxes = [[[5, 7, 25, 20], [60, 40, 90, 50], [0, 0, 0, 0]], [[30, 30, 50, 44], [8, 40, 30, 60], [64, 4, 90, 28]]]
    batch = {
        "image": jnp.zeros((2, *SIZE, 3)),
        "boxes": jnp.asarray(boxes, jnp.float32),
        "classes": jnp.asarray([[2, 0, 0], [1, 1, 0]]),
        "valid": jnp.asarray([[True, True, False], [True, True, True]]),
    }
    optimizer = optax.adam(0.1)

    def total(outputs):
        return sum(term.mean() for term in losses.yolo(outputs, batch, anchor_boxes=ANCHORS).values())

    @jax.jit
    def descend(outputs):
        def step(carry, _):
            outputs, state = carry
            loss, gradient = jax.value_and_grad(total)(outputs)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(outputs, updates), state), loss

        return jax.lax.scan(step, (outputs, optimizer.init(outputs)), length=300)

    with jax.numpy_dtype_promotion("standard"):  # Adam raises a float to the power of its integer step
        (outputs, _), loss = descend(jnp.zeros((2, 2, 3, 2, 8)))
    assert loss[-1] < 0.05 * loss[0]
    found = predict.yolo(outputs, anchor_boxes=ANCHORS, image_size=SIZE, score_threshold=0.5, max_outputs=10)
    metric = coco_average_precision("AP75")
    measured = metric.measure(jax.tree.map(np.asarray, found), jax.tree.map(np.asarray, batch))
    assert found.valid.sum() == 5 and metric.reduce([measured])["AP75"] == pytest.approx(1.0)


def test_eager_traced_thresholds_and_half_precision():
    outputs = jnp.asarray(np.random.default_rng(2).normal(size=(2, 2, 3, 2, 8)), jnp.float32)
    anchors = tuple(tuple(row) for row in ANCHORS.tolist())
    expected = predict.yolo(outputs, anchor_boxes=ANCHORS, image_size=SIZE, score_threshold=0.2, iou_threshold=0.4)
    traced = jax.jit(
        lambda s, i: predict.yolo(outputs, anchor_boxes=anchors, image_size=SIZE, score_threshold=s, iou_threshold=i)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4), traced(0.2, 0.4), expected)
    half = predict.yolo(outputs.astype(jnp.bfloat16), anchor_boxes=ANCHORS, image_size=SIZE)
    assert half.boxes.dtype == half.scores.dtype == jnp.float32


def test_on_accelerators_all_images_are_suppressed_at_once():
    """Two loops at most: over blocks of boxes, and over sweeps of a block; none over images or boxes."""

    def loops(candidates):
        outputs = jax.ShapeDtypeStruct((8, 40, 40, 2, 8), jnp.float32)
        said = jax.jit(lambda x: predict.yolo(x, anchor_boxes=ANCHORS, image_size=SIZE, max_candidates=candidates))
        return said.trace(outputs).lower(lowering_platforms=("cuda",)).as_text().count("stablehlo.while")

    assert loops(400) == 1 and loops(2500) == 2


def test_a_program_exported_for_both_suppresses_alike():
    outputs = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 4, 2, 8)), jnp.float32)

    def found(outputs):
        return predict.yolo(outputs, anchor_boxes=ANCHORS, image_size=SIZE, score_threshold=0.2, max_outputs=9)

    exported = jax.export.export(jax.jit(found), platforms=["cuda", "cpu"])(outputs)
    for one, other in zip(found(outputs), exported.call(outputs), strict=True):
        np.testing.assert_array_equal(one, other)
