import functools
import inspect
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxcv import losses
from jaxcv.ops import encode_yolo

few = hypothesis.settings(max_examples=25, deadline=None, derandomize=True)

ANCHORS = np.asarray([[16.0, 16.0], [32.0, 8.0]], np.float32)
DEFAULTS = {
    name: option.default
    for name, option in inspect.signature(losses.yolo).parameters.items()
    if isinstance(option.default, float)
}
OPTIONS: dict[str, Any] = {
    "xy_weight": 5.0,
    "wh_weight": 3.0,
    "objectness_weight": 2.0,
    "no_object_weight": 0.5,
    "class_weight": 1.5,
    "ignore_threshold": 0.3,
    "small_box_weight": 1.0,
    "objectness_iou": 0.5,
}


@functools.partial(jax.jit, static_argnames=("box_loss", "class_loss"))
def compiled(outputs, batch, options, **choices):
    return losses.yolo(outputs, batch, anchor_boxes=ANCHORS, **options, **choices)


def yolo(outputs, batch, **options):
    """Every number traced, so that one program serves all values."""
    choices = {name: options.pop(name) for name in ("box_loss", "class_loss") if name in options}
    return compiled(outputs, batch, DEFAULTS | options, **choices)


def one_image(boxes, classes=None, *, rows=4, size=64, **more):
    """A batch of one image with the boxes given, padded to `rows`."""
    m = len(boxes)
    padded = np.zeros((1, rows, 4), np.float32)
    padded[0, :m] = np.reshape(boxes, (m, 4))
    labels = np.zeros((1, rows), np.int32)
    labels[0, :m] = classes if classes is not None else 0
    valid = np.arange(rows)[None] < m
    return {
        "image": jnp.zeros((1, size, size, 3)),
        "boxes": jnp.asarray(padded),
        "classes": jnp.asarray(labels),
        "valid": jnp.asarray(valid),
        "ignored": jnp.zeros((1, rows), bool),
        **{name: jnp.asarray(value) for name, value in more.items()},
    }


def random_case(seed, *, b=2, grid=(2, 3), size=(64, 96), m=4, k=3):
    random = np.random.default_rng(seed)
    corner = random.uniform(-10, 90, (b, m, 2))
    boxes = np.concatenate([corner, corner + random.uniform(0, 40, (b, m, 2))], -1)
    batch = {
        "image": jnp.zeros((b, *size, 3)),
        "boxes": jnp.asarray(boxes, jnp.float32),
        "classes": jnp.asarray(random.integers(0, k, (b, m)), jnp.int32),
        "valid": jnp.asarray(random.random((b, m)) < 0.6),
        "ignored": jnp.asarray(random.random((b, m)) < 0.3),
    }
    return jnp.asarray(random.normal(size=(b, *grid, 2, 5 + k)), jnp.float32), batch


def slow_yolo(
    outputs, batch, *, xy_weight, wh_weight, objectness_weight, no_object_weight, class_weight, ignore_threshold,
    small_box_weight, objectness_iou,
):  # fmt: skip
    """The same from its definition: a loop over images, targets and slots, in double precision."""

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    b, rows, columns, a, _ = outputs.shape
    height, width = batch["image"].shape[1:3]
    terms = {name: np.zeros(b) for name in ("xy", "wh", "objectness", "no_object", "class")}
    for n in range(b):
        out, claimed, shields = np.asarray(outputs[n], np.float64), set(), []

        def decode(r, c, i, out=out):
            tx, ty, tw, th = out[r, c, i, :4]
            x, y = (sigmoid(tx) + c) * width / columns, (sigmoid(ty) + r) * height / rows
            w, h = ANCHORS[i] * np.exp([tw, th])
            return x - w / 2, y - h / 2, x + w / 2, y + h / 2

        for j, box in enumerate(np.asarray(batch["boxes"][n], np.float64)):
            if batch["valid"][n, j] or batch["ignored"][n, j]:
                shields.append(box)
            if not batch["valid"][n, j]:
                continue
            (x1, y1, x2, y2), w, h = box, box[2] - box[0], box[3] - box[1]
            x, y = (x1 + x2) / 2 / width * columns, (y1 + y2) / 2 / height * rows
            c, r = min(max(int(np.floor(x)), 0), columns - 1), min(max(int(np.floor(y)), 0), rows - 1)
            i = int(np.argmax([iou((0, 0, w, h), (0, 0, *anchor)) for anchor in ANCHORS]))
            if (r, c, i) in claimed:
                continue
            claimed.add((r, c, i))
            t = out[r, c, i]
            weight = 1 + small_box_weight * (1 - min(w * h / (width * height), 1))
            offset = np.clip([x - c, y - r], 0, 1)
            terms["xy"][n] += xy_weight * weight * ((sigmoid(t[:2]) - offset) ** 2).sum()
            terms["wh"][n] += wh_weight * weight * ((t[2:4] - np.log(np.divide((w, h), ANCHORS[i]))) ** 2).sum()
            goal = 1 - objectness_iou * (1 - iou(decode(r, c, i), box))
            p = sigmoid(t[4])
            terms["objectness"][n] -= objectness_weight * (goal * np.log(p) + (1 - goal) * np.log(1 - p))
            share = np.exp(t[5:]) / np.exp(t[5:]).sum()
            terms["class"][n] -= class_weight * np.log(share[batch["classes"][n, j]])
        for r, c, i in np.ndindex(rows, columns, a):
            if (r, c, i) in claimed or any(iou(decode(r, c, i), box) > ignore_threshold for box in shields):
                continue
            terms["no_object"][n] -= no_object_weight * np.log(1 - sigmoid(out[r, c, i, 4]))
    return terms


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def test_by_hand():
    """Zero outputs on a 2 x 2 grid of 32 pixels; the target is in cell (0, 0), equal to the box of anchor box 0."""
    terms = yolo(jnp.zeros((1, 2, 2, 2, 8)), one_image([[8, 8, 24, 24]], [2]))
    expected = {"xy": 0, "wh": 0, "objectness": np.log(2), "class": np.log(3), "no_object": 0.5 * 7 * np.log(2)}
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], [value], rtol=1e-5, err_msg=name)


def test_centre_and_size_by_hand():
    """A target of 32 x 16 around (36, 44), cell (1, 1), of 64 x 64 pixels: offsets 4/32 and 12/32, an eighth of it."""
    terms = yolo(jnp.zeros((1, 2, 2, 2, 8)), one_image([[20, 36, 52, 52]]), xy_weight=1.0, wh_weight=1.0)
    weight = 2 - 32 * 16 / 64**2
    np.testing.assert_allclose(terms["xy"], [weight * ((0.5 - 4 / 32) ** 2 + (0.5 - 12 / 32) ** 2)], rtol=1e-5)
    # 16 x 16 has IoU 1/2 with it, and so has 32 x 8: the lower index wins.
    np.testing.assert_allclose(terms["wh"], [weight * np.log(2) ** 2], rtol=1e-5)
    alike = yolo(jnp.zeros((1, 2, 2, 2, 8)), one_image([[20, 36, 52, 52]]), wh_weight=1.0, small_box_weight=0.0)
    np.testing.assert_allclose(alike["wh"], [np.log(2) ** 2], rtol=1e-5)


@few
@hypothesis.given(st.integers(0, 10_000))
def test_agrees_with_the_definition(seed):
    outputs, batch = random_case(seed)
    found, expected = yolo(outputs, batch, **OPTIONS), slow_yolo(outputs, batch, **OPTIONS)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=1e-4, err_msg=name)


def test_the_first_of_two_boxes_is_assigned_the_slot():
    outputs = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 2, 2, 8)), jnp.float32)
    first, second = [8, 8, 24, 24], [7, 9, 25, 24]
    alone, both = yolo(outputs, one_image([first], [1])), yolo(outputs, one_image([first, second], [1, 2]))
    swapped = yolo(outputs, one_image([second, first], [2, 1]))
    for name in ("xy", "wh", "objectness", "class"):
        np.testing.assert_allclose(both[name], alone[name], rtol=1e-6)
        assert abs(swapped[name][0] - both[name][0]) > 1e-4 or name == "objectness"


def test_slots_that_overlap_a_target_or_an_ignored_box_are_not_background():
    outputs = jnp.zeros((1, 2, 2, 2, 8)).at[..., 4].set(2.0)
    wide = [0, 12, 32, 20]  # anchor box 1 of cell (0, 0)
    empty = yolo(outputs, one_image([]))["no_object"][0]
    per_slot = empty / 8
    ignored = one_image([wide]) | {
        "valid": jnp.zeros((1, 4), bool),
        "ignored": jnp.asarray([[True, False, False, False]]),
    }
    np.testing.assert_allclose(yolo(outputs, ignored)["no_object"], [7 * per_slot], rtol=1e-5)
    assert yolo(outputs, ignored)["objectness"] == 0
    # The square box is assigned one slot; the wide one overlaps it by a third.
    square = one_image([[8, 8, 24, 24]])
    np.testing.assert_allclose(yolo(outputs, square)["no_object"], [7 * per_slot], rtol=1e-5)
    np.testing.assert_allclose(yolo(outputs, square, ignore_threshold=0.3)["no_object"], [6 * per_slot], rtol=1e-5)


def test_what_was_said_perfectly_costs_nothing():
    outputs, batch = random_case(3)
    batch = batch | {"valid": jnp.asarray([[True] + [False] * 3] * 2), "ignored": jnp.zeros((2, 4), bool)}
    batch["boxes"] = jnp.asarray([[[5.0, 7.0, 30.0, 20.0]] * 4, [[40.0, 30.0, 90.0, 63.0]] * 4])
    target = encode_yolo(batch["boxes"], jnp.asarray(ANCHORS), grid_size=(2, 3), image_size=(64, 96))
    said = np.full(outputs.shape, -20, np.float32).reshape(2, -1, 8)
    for n in range(2):
        slot, offset = target.slot[n, 0], np.asarray(target.offset[n, 0])
        said[n, slot] = [
            *np.log(offset / (1 - offset)),
            *target.log_scale[n, 0],
            20,
            *(20 * np.eye(3)[batch["classes"][n, 0]]),
        ]
    terms = yolo(jnp.asarray(said.reshape(outputs.shape)), batch, objectness_iou=1.0)
    for name, value in terms.items():
        np.testing.assert_allclose(value, 0, atol=1e-4, err_msg=name)


def test_an_image_without_ground_truth_costs_only_no_object():
    outputs, batch = random_case(0)
    for nothing in (
        batch | {"valid": jnp.zeros((2, 4), bool)},
        {**batch, **{k: batch[k][:, :0] for k in ("boxes", "classes", "valid", "ignored")}},
    ):
        terms = yolo(outputs, nothing)
        assert all((value == 0).all() for name, value in terms.items() if name != "no_object")
        assert (terms["no_object"] > 0).all()
        assert np.isfinite(gradient(outputs, nothing)).all()


@jax.jit
@jax.grad
def gradient(outputs, batch):
    return functools.reduce(jnp.add, (value.sum() for value in yolo(outputs, batch, **OPTIONS).values()))


ODD = {
    "zero area": [8, 8, 8, 8],
    "a line": [8, 8, 30, 8],
    "inverted": [24, 24, 8, 8],
    "not a number": [8, np.nan, 24, 24],
    "infinite": [8, 8, np.inf, 24],
}


@pytest.mark.parametrize("name", ODD)
def test_a_degenerate_target_is_padding(name):
    outputs = random_case(0, b=1, grid=(2, 2))[0]
    found, expected = yolo(outputs, one_image([ODD[name]])), yolo(outputs, one_image([]))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert np.isfinite(gradient(outputs, one_image([ODD[name]]))).all()


@pytest.mark.parametrize(
    "box", [[48, 48, 80, 80], [-16, -16, 16, 16], [0, 0, 64, 64], [1e-3, 1e-3, 2e-3, 2e-3], [-1e6, -1e6, 1e6, 1e6]]
)
def test_boxes_on_the_border_tiny_and_huge_ones_are_finite(box):
    outputs = random_case(0, b=1, grid=(2, 2))[0]
    for scale in (1.0, 1e3):
        assert np.isfinite(gradient(scale * outputs, one_image([box]))).all()
        assert all(np.isfinite(value).all() for value in yolo(scale * outputs, one_image([box])).values())


def test_junk_in_the_padding_changes_nothing():
    outputs, batch = random_case(1)
    counts = (batch["valid"] | batch["ignored"])[..., None]
    junk = batch | {
        "boxes": jnp.where(counts, batch["boxes"], jnp.nan),
        "classes": jnp.where(counts[..., 0], batch["classes"], -1),
    }
    jax.tree.map(np.testing.assert_array_equal, yolo(outputs, batch), yolo(outputs, junk))
    assert np.isfinite(gradient(outputs, junk)).all()


@few
@hypothesis.given(st.integers(0, 10_000))
def test_images_do_not_mix_and_mirroring_classes_does_not_matter(seed):
    outputs, batch = random_case(seed)
    together = yolo(outputs, batch)
    swapped = yolo(outputs[::-1], {name: value[::-1] for name, value in batch.items()})
    relabelled = yolo(
        jnp.concatenate([outputs[..., :5], outputs[..., :4:-1]], -1), batch | {"classes": 2 - batch["classes"]}
    )
    for name in together:
        np.testing.assert_allclose(swapped[name][::-1], together[name], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(relabelled[name], together[name], rtol=1e-5, atol=1e-5)


def test_eager_with_nested_tuples_and_without_ignored_gives_the_same():
    outputs, batch = random_case(5)
    batch["ignored"] = jnp.zeros((2, 4), bool)
    anchors = tuple(tuple(row) for row in ANCHORS.tolist())
    eager = losses.yolo(outputs, {k: v for k, v in batch.items() if k != "ignored"}, anchor_boxes=anchors, **OPTIONS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), eager, yolo(outputs, batch, **OPTIONS))


def test_half_precision_outputs_are_summed_in_single():
    outputs, batch = random_case(6)
    assert {value.dtype for value in yolo(outputs.astype(jnp.bfloat16), batch).values()} == {jnp.dtype("float32")}
