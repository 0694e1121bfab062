"""Each type of prediction: its target, its drawing, its table, its record; and a new type."""

import json
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from jaxcv import show
from jaxcv.show import render, sheet, target_of
from jaxcv.types import Classes, Detections, Landmarks, Localization, Placement, Table

GREY = np.full((64, 64, 3), 128, np.uint8)
BOX = np.array([16, 16, 48, 48], np.float32)


def localized(score, box=BOX):
    return Localization(np.array(score, np.float32), box, np.array(1), np.array([0.2, 0.8], np.float32))


def differs(a, b):
    return (np.asarray(a) != np.asarray(b)).any(-1)


def test_a_box_is_drawn_only_where_p_c_says_so():
    plain = Image.fromarray(GREY).resize((256, 256))
    seen, none = (differs(render(localized(score), GREY, ("a", "b")), plain) for score in (0.9, 0.2))
    assert seen[100:150, 64].all() and seen[100:150, 192].all()
    assert not none[60:].any() and none[:30].any(), "words alone"


def test_the_target_is_the_largest_valid_box():
    example = {
        "boxes": np.array([[0, 0, 60, 60], BOX, [0, 0, 5, 5]], np.float32),
        "valid": np.array([False, True, True]),
        "classes": np.array([0, 1, 0]),
    }
    target = target_of(localized(0.1), example)
    assert target.score == 1 and target.label == 1 and target.box.tolist() == BOX.tolist()
    assert target_of(localized(0.1), {**example, "valid": np.zeros(3, bool)}).score == 0


def test_points_are_drawn_where_they_are_unless_not_visible():
    points = np.array([[16, 16], [48, 48], [32, 32]], np.float32)
    picture = render(Landmarks(points, np.array([True, True, False])), GREY, ())
    changed = differs(picture, Image.fromarray(GREY).resize((256, 256)))
    assert changed[64, 64] and changed[192, 192] and not changed[128, 128]
    prediction = Landmarks(points[None], np.ones((1, 3), bool))
    batch = {"image": GREY[None], "points": points[None]}
    assert sheet([(batch, prediction)], (), count=1) is not None


DETECTIONS = Detections(
    np.array([[-2, 4, 8, 40], [8, 8, 4, 4], [0, 0, 0, 0]], np.float32),
    np.array([0.75, 0.25, 0], np.float32),
    np.array([1, 2, -1], np.int32),
    np.array([True, True, False]),
)
LANDMARKS = Landmarks(np.array([[1, 2], [3, 4]], np.float32), np.array([True, False]))
CLASSES = Classes(np.array(1), np.array([0.125, 0.625, 0.25], np.float32))
NAMES = ("a", "b")
"""The third class has no name."""


def test_tables_are_in_the_pixels_of_the_image():
    there = Placement((20, 60), 2.0, 0.5, -1.0, 3.0)
    found = show.in_pixels(DETECTIONS, there)
    table = show.table(found, "title", NAMES, minimum=0.0)
    assert table[:3] == ("", "title", ("class", "score", "x1", "y1", "x2", "y2"))
    first = ("b", "0.750", "0.0", "5.0", "15.0", "23.0")
    assert table.rows == [first, ("2", "0.250", "15.0", "7.0", "7.0", "5.0")]
    assert show.table(found, "", NAMES).rows == [first], "0.3 and more"
    assert len(show.in_pixels(DETECTIONS, there, minimum=0.3).boxes) == 1
    large = Placement((100, 60), 2.0, 0.5)
    corners = ("32.0", "8.0", "96.0", "24.0")
    assert show.table(show.in_pixels(localized(0.75), large), "", NAMES).rows == [("b", "0.750", *corners)]
    assert show.table(localized(0.5), "", NAMES).rows == [("no object", "0.500", *[""] * 4)]
    assert show.table(show.in_pixels(LANDMARKS, there), "", ()).rows == [("0", "1.0", "4.0")]
    assert show.table(CLASSES, "", NAMES).rows == [("b", "0.625"), ("2", "0.250"), ("a", "0.125")]


def test_records_are_json_in_the_pixels_of_the_image_and_clipped_to_it():
    there = Placement((12, 16), 2.0, 0.5)
    assert show.record(show.in_pixels(DETECTIONS, there), NAMES) == {
        "detections": [{"class": "b", "index": 1, "score": 0.75, "box": [0.0, 2.0, 12.0, 16.0]}]
    }
    localization = show.record(show.in_pixels(localized(0.75), there), NAMES)
    assert localization == {
        "score": 0.75,
        "box": [12.0, 8.0, 12.0, 16.0],
        "class": "b",
        "label": 1,
        "scores": pytest.approx([0.2, 0.8]),
    }
    assert show.record(show.in_pixels(LANDMARKS, there), ()) == {
        "points": [[2.0, 1.0], [6.0, 2.0]],
        "visible": [True, False],
    }
    assert show.record(CLASSES, NAMES)["classes"][:2] == [
        {"class": "b", "index": 1, "score": 0.625},
        {"class": "2", "index": 2, "score": 0.25},
    ]
    for prediction in (DETECTIONS, localized(0.75), LANDMARKS, CLASSES):
        json.dumps(show.record(prediction, NAMES))


def test_targets_of_classes_and_detections():
    assert target_of(CLASSES, {"label": np.int32(2)}).scores.tolist() == [0, 0, 1]
    example = {"boxes": BOX[None], "classes": np.array([1]), "valid": np.array([True])}
    target = target_of(DETECTIONS, example)
    assert target.scores.tolist() == [1] and target.boxes.tolist() == [BOX.tolist()]


def test_proposals_are_outlined_below_the_detections():
    proposals = np.array([[16, 16, 48, 48], [0, 0, 0, 0]], np.float32)
    dark = np.zeros((64, 64, 3), np.uint8)
    none = DETECTIONS._replace(valid=np.zeros(3, bool))
    pixels = np.asarray(render(none._replace(proposals=proposals), dark, NAMES))
    assert pixels[64, 64].tolist() == pixels[192, 100].tolist() == [255] * 3 and not pixels[128, 128].any()
    assert not pixels[0, 0].any(), "padding"
    moved = show.in_pixels(DETECTIONS._replace(proposals=proposals), Placement((64, 64), 2.0, 0.5))
    assert moved.proposals.tolist() == [[32, 8, 64, 24], [0, 0, 0, 0]]


def test_scores_are_written_of_predictions_alone():
    plain = Image.fromarray(GREY).resize((256, 256))
    for prediction in (CLASSES, DETECTIONS, localized(0.9)):
        marked = [differs(render(prediction, GREY, NAMES, scores=scores), plain).sum() for scores in (True, False)]
        assert marked[0] > marked[1] > 0


def test_boxes_of_any_corners_can_be_drawn():
    """Inverted ones as the box of their corners; what is not finite is left out."""
    inverted = DETECTIONS._replace(boxes=np.stack([BOX[[2, 3, 0, 1]], [np.nan, 0, 1, 1], [0, 0, np.inf, 9]]))
    upright = DETECTIONS._replace(boxes=np.stack([BOX] * 3), valid=np.array([True, False, False]))
    drawn = [np.asarray(render(d, GREY, NAMES, minimum=0.0)) for d in (inverted, upright)]
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != 128).any()


def test_the_sheet_has_pairs_up_to_the_count():
    images = np.stack([GREY] * 3)
    batch = {"image": images, "label": np.zeros(3, np.int32)}
    predictions = Classes(np.ones(3, np.int32), np.tile(CLASSES.scores, (3, 1)))
    sizes = [page and page.size for page in (sheet([(batch, predictions)] * 2, NAMES, count=n) for n in (0, 1, 4, 9))]
    assert sizes == [None, (536, 268), (1066, 530), (1066, 792)]


class Masks(NamedTuple):
    """As an experiment of somebody else may have it."""

    mask: np.ndarray


def test_a_type_that_nobody_knows_has_no_preview_and_is_recorded_as_it_is():
    class Heights(NamedTuple):
        height: np.ndarray

    heights = Heights(np.ones((2, 2)))
    batch = {"image": GREY[None]}
    assert sheet([(batch, Heights(np.ones((1, 2, 2))))], (), count=1) is None
    assert show.record(heights, ()) == {"height": [[1, 1], [1, 1]]}
    assert show.record(np.ones(2), ()) == {"output": [1, 1]}
    with pytest.raises(TypeError, match="no drawing is known for Heights"):
        render(heights, GREY, ())
    with pytest.raises(TypeError, match="no table is known for Heights"):
        show.table(heights, "", ())


def test_a_new_type_is_four_functions():
    @show.target_of.register
    def _target(prediction: Masks, example):
        return Masks(example["mask"])

    @show.draw.register
    def _draw(prediction: Masks, canvas, class_names, *, minimum=0.3, scores=True):
        canvas.mask(prediction.mask, class_names)

    @show.table.register
    def _table(prediction: Masks, title, class_names, *, minimum=0.3):
        return Table("", title, ("pixels",), [(prediction.mask.size,)])

    @show.record.register
    def _record(prediction: Masks, class_names, *, minimum=0.3):
        return {"pixels": prediction.mask.size}

    mask = np.zeros((1, 64, 64), np.uint8)
    page = sheet([({"image": GREY[None], "mask": mask}, Masks(mask + 1))], NAMES, count=1)
    assert page is not None and page.size == (536, 268)
    red, green = ((np.array(color) + 128) // 2 for color in ((0xE6, 0x19, 0x4B), (0x3C, 0xB4, 0x4B)))
    for x, color in ((6 + 128, red), (6 + 256 + 6 + 128, green)):
        np.testing.assert_allclose(np.asarray(page)[130, x], color, atol=1.5)
    masks = Masks(mask[0])
    assert show.table(masks, "t", ()).rows == [(4096,)] and show.record(masks, ()) == {"pixels": 4096}


def test_labels_are_on_top_of_all_boxes():
    """A box drawn later does not cross the label of one before."""
    boxes = np.array([[20, 30, 60, 60], [10, 28, 40, 50]], np.float32)
    alone = render(Detections(boxes[:1], np.ones(1), np.zeros(1, int), np.ones(1, bool)), GREY, ("word",))
    both = render(Detections(boxes[::-1], np.ones(2), np.array([1, 0]), np.ones(2, bool)), GREY, ("word", ""))
    strip = np.s_[107:119, 82:110]  # the label of the first box, which the second one's edge would cross
    assert not differs(alone, both)[strip].any()
