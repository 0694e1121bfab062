"""Numbers worked by hand on the course's grid: 3 x 3 cells of 32 pixels, a tall and a wide anchor box."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import losses
from jaxcv.ops import complete_box_iou, distance_box_iou, generalized_box_iou

TALL, WIDE = [10.0, 30.0], [30.0, 10.0]
ANCHORS = np.asarray([TALL, WIDE], np.float32)
ZEROS = jnp.zeros((1, 3, 3, 2, 5 + 3))
PERSON, CAR = [11.0, 1.0, 21.0, 31.0], [1.0, 11.0, 31.0, 21.0]  # both centred in the first cell, at (16, 16)
PLAIN: dict[str, Any] = {
    "xy_weight": 1.0,
    "wh_weight": 1.0,
    "box_weight": 1.0,
    "no_object_weight": 1.0,
    "small_box_weight": 0.0,
}
LN2, LN3 = np.log(2), np.log(3)


def batch(*objects):
    """One image of 96 x 96 pixels; each object a box and a class."""
    boxes = np.zeros((1, max(len(objects), 1), 4), np.float32)
    classes, valid = np.zeros(boxes.shape[:2], np.int32), np.zeros(boxes.shape[:2], bool)
    for row, (box, label) in enumerate(objects):
        boxes[0, row], classes[0, row], valid[0, row] = box, label, True
    fields = {"image": jnp.zeros((1, 96, 96, 3)), "boxes": boxes, "classes": classes, "valid": valid}
    return jax.tree.map(jnp.asarray, fields)


def costs(outputs, objects, **options):
    terms = losses.yolo(outputs, batch(*objects), anchor_boxes=ANCHORS, **PLAIN | options)
    return {name: float(value[0]) for name, value in terms.items()}


def test_two_objects_in_one_cell():
    """Each gets the anchor box of its shape, which already says it: logits of 0 are half sure of all else."""
    found = costs(ZEROS, [(PERSON, 0), (CAR, 1)])
    # 16 of the 18 slots are not assigned; their boxes are 32 pixels away or are the other's shape (IoU 1/5).
    expected = {"xy": 0, "wh": 0, "objectness": 2 * LN2, "no_object": 16 * LN2, "class": 2 * LN3}
    assert found == pytest.approx(expected, abs=1e-5)


def test_two_objects_a_little_off():
    """The person 4 pixels to the right, an eighth of a cell; the car twice as wide, cut at the image's left."""
    found = costs(ZEROS, [([15.0, 1.0, 25.0, 31.0], 0), ([-14.0, 11.0, 46.0, 21.0], 1)])
    assert found["xy"] == pytest.approx(1 / 64, rel=1e-5)
    assert found["wh"] == pytest.approx(LN2**2, rel=1e-5)


def test_no_object():
    found = costs(ZEROS, [])
    assert found == pytest.approx({"xy": 0, "wh": 0, "objectness": 0, "no_object": 18 * LN2, "class": 0}, abs=1e-5)


def test_an_object_on_the_border():
    """Centred on the lower right corner: it belongs to the last cell, at offset (1, 1); half of it is outside."""
    found = costs(ZEROS, [([91.0, 81.0, 101.0, 111.0], 2)])
    expected = {"xy": 0.5, "wh": 0, "objectness": LN2, "no_object": 17 * LN2, "class": LN3}
    assert found == pytest.approx(expected, abs=1e-5)
    # Centred on the border of two cells it belongs to the right one, at offset 0.
    assert costs(ZEROS, [([27.0, 1.0, 37.0, 31.0], 2)])["xy"] == pytest.approx(0.25)


def test_more_objects_than_cells():
    """Twenty people in nine cells: each cell answers for its first, the others shield nothing new and cost nothing."""
    objects = [([32 * c + 11, 32 * r + 1, 32 * c + 21, 32 * r + 31], 0) for r in range(3) for c in range(3)]
    found = costs(ZEROS, [*objects, *objects, *objects[:2]])
    expected = {"xy": 0, "wh": 0, "objectness": 9 * LN2, "no_object": 9 * LN2, "class": 9 * LN3}
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "overlap"),
    [("giou", generalized_box_iou), ("diou", distance_box_iou), ("ciou", complete_box_iou)],
)
def test_overlap_losses(name, overlap):
    """A target 5 x 30 around the anchor box's centre has half its area: IoU 1/2; GIoU and DIoU likewise."""
    target = [13.5, 1.0, 18.5, 31.0]
    found = costs(ZEROS, [(target, 0)], box_loss=name)
    assert set(found) == {"box", "objectness", "no_object", "class"}
    if name != "ciou":
        assert found["box"] == pytest.approx(0.5, rel=1e-5)
    else:
        v = 4 / np.pi**2 * (np.arctan(1 / 3) - np.arctan(1 / 6)) ** 2
        assert found["box"] == pytest.approx(0.5 + v * v / (0.5 + v), rel=1e-5)
    moved = [20.0, 9.0, 30.0, 35.0]
    value = float(overlap(jnp.asarray([PERSON]), jnp.asarray([moved]))[0, 0])
    assert costs(ZEROS, [(moved, 0)], box_loss=name)["box"] == pytest.approx(1 - value, rel=1e-4)


@pytest.mark.parametrize("name", ["iou", "giou", "diou", "ciou"])
@pytest.mark.parametrize("target", [PERSON, [91.0, 81.0, 101.0, 111.0], [5.0, 5.0, 5.0, 5.0], [0.0, 0.0, 1e-3, 1e-3]])
def test_gradients_of_overlap_losses_are_finite(name, target):
    def total(outputs):
        terms = losses.yolo(outputs, batch((target, 0)), anchor_boxes=ANCHORS, box_loss=name)
        return functools.reduce(jnp.add, terms.values())[0]

    for scale in (0.0, 30.0):
        outputs = scale * jnp.asarray(np.random.default_rng(0).normal(size=ZEROS.shape), jnp.float32)
        assert np.isfinite(jax.grad(total)(outputs)).all()


def test_focal_objectness():
    """At probability one half, gamma 2 makes a quarter of it, alpha weighs the two kinds of slots."""
    found = costs(ZEROS, [(PERSON, 0)], focal_gamma=2.0, focal_alpha=0.25)
    assert found["objectness"] == pytest.approx(0.25 * LN2 / 4, rel=1e-4)
    assert found["no_object"] == pytest.approx(17 * 0.75 * LN2 / 4, rel=1e-4)
    assert costs(ZEROS, [(PERSON, 0)], focal_gamma=2.0)["objectness"] == pytest.approx(LN2 / 4, rel=1e-4)
    unfocused = costs(ZEROS + 1.3, [(PERSON, 0)], focal_gamma=0.0)
    assert unfocused == pytest.approx(costs(ZEROS + 1.3, [(PERSON, 0)]), rel=1e-4)


def test_label_smoothing_and_independent_classes():
    """Logits (ln 2, 0, 0): probabilities 1/2, 1/4, 1/4; smoothed by 0.3 the targets are 0.8, 0.1, 0.1."""
    outputs = ZEROS.at[..., 5].set(LN2)
    found = costs(outputs, [(PERSON, 0)], label_smoothing=0.3)["class"]
    assert found == pytest.approx(0.8 * LN2 + 0.2 * 2 * LN2, rel=1e-5)
    # Each for itself, probabilities 2/3, 1/2, 1/2; smoothed by 0.2 the targets are 0.9, 0.1, 0.1.
    alone = costs(outputs, [(PERSON, 0)], class_loss="sigmoid")["class"]
    assert alone == pytest.approx(np.log(1.5) + 2 * LN2, rel=1e-5)
    smooth = costs(outputs, [(PERSON, 0)], class_loss="sigmoid", label_smoothing=0.2)["class"]
    assert smooth == pytest.approx(0.9 * np.log(1.5) + 0.1 * np.log(3) + 2 * LN2, rel=1e-5)


def test_two_grids():
    """The tall anchor box on 6 x 6 cells of 16 pixels, the wide one on 3 x 3: each object on the grid of its shape."""
    outputs = (jnp.zeros((1, 6, 6, 1, 8)), jnp.zeros((1, 3, 3, 1, 8)))
    found = costs(outputs, [(PERSON, 0), (CAR, 1)])
    # (16, 16) is the upper left corner of cell (1, 1) of the fine grid, half a cell off its centre both ways.
    expected = {"xy": 0.5, "wh": 0, "objectness": 2 * LN2, "no_object": 43 * LN2, "class": 2 * LN3}
    assert found == pytest.approx(expected, abs=1e-4)


# The first YOLO: 3 x 3 cells, two boxes and three classes.


def costs_v1(outputs, objects, **options):
    options = {"num_boxes": 2, "coordinate_weight": 1.0, "no_object_weight": 1.0} | options
    return {name: float(value[0]) for name, value in losses.yolo_v1(outputs, batch(*objects), **options).items()}


def said_v1():
    """In the first cell: box 0 is the person but for its width (IoU 1/2), box 1 is elsewhere; all confidences 0.2."""
    said = np.zeros((1, 3, 3, 13), np.float32)
    said[..., [4, 9]] = 0.2
    said[0, 0, 0, :10] = [0.5, 0.5, np.sqrt(5 / 96), np.sqrt(30 / 96), 0.2, 0.9, 0.9, 0.1, 0.1, 0.2]
    said[0, 0, 0, 10:] = [0.6, 0.3, 0.1]
    return jnp.asarray(said)


def test_first_yolo():
    found = costs_v1(said_v1(), [(PERSON, 0)])
    expected = {
        "xy": 0,
        "wh": (np.sqrt(5 / 96) - np.sqrt(10 / 96)) ** 2,
        "objectness": (0.2 - 0.5) ** 2,
        "no_object": 17 * 0.04,
        "class": 0.16 + 0.09 + 0.01,
    }
    assert found == pytest.approx(expected, abs=1e-6)
    assert costs_v1(said_v1(), [(PERSON, 0)], objectness_iou=0.0)["objectness"] == pytest.approx(0.64)


def test_first_yolo_gives_a_cell_to_its_first_object():
    both = costs_v1(said_v1(), [(PERSON, 0), (CAR, 1)])
    assert both == pytest.approx(costs_v1(said_v1(), [(PERSON, 0)]), abs=1e-6)


def test_first_yolo_where_no_box_overlaps():
    """Then the nearest is responsible: box 1, which is 0.1 cells off either way."""
    said = np.zeros((1, 3, 3, 13), np.float32)
    said[0, 2, 2, [5, 6]] = 0.9
    found = costs_v1(jnp.asarray(said), [([91.0, 81.0, 101.0, 111.0], 2)])
    assert found["xy"] == pytest.approx(0.02, rel=1e-4)
    assert found["wh"] == pytest.approx(10 / 96 + 30 / 96, rel=1e-4)


def test_first_yolo_without_an_object_and_with_more_than_cells():
    assert costs_v1(said_v1(), []) == pytest.approx(
        {"xy": 0, "wh": 0, "objectness": 0, "no_object": 18 * 0.04, "class": 0}, abs=1e-6
    )
    objects = [([32 * c + 11, 32 * r + 1, 32 * c + 21, 32 * r + 31], 0) for r in range(3) for c in range(3)]
    found = costs_v1(said_v1(), [*objects, *objects])
    assert found["no_object"] == pytest.approx(9 * 0.04, abs=1e-6)
    gradient = jax.jit(
        jax.grad(lambda x: sum(v.sum() for v in losses.yolo_v1(x, batch(*objects), num_boxes=2).values()))
    )(said_v1())
    assert np.isfinite(gradient).all()
