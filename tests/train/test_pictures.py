"""What localization and landmarks show: previews, the printed table, the curve at the end of a run."""

import numpy as np
from PIL import Image

from jaxcv.train import fit
from jaxcv.train.console import Reporter
from jaxcv.train.preview import draw, sheet, truth_of
from jaxcv.train.report import Picture, write_report
from jaxcv.types import Landmarks, Localization

GREY = np.full((64, 64, 3), 128, np.uint8)
BOX = np.array([16, 16, 48, 48], np.float32)


def localized(score, box=BOX):
    return Localization(np.array(score, np.float32), box, np.array(1), np.array([0.2, 0.8], np.float32))


def differs(a, b):
    return (np.asarray(a) != np.asarray(b)).any(-1)


def test_a_box_is_drawn_only_where_p_c_says_so():
    plain = Image.fromarray(GREY).resize((256, 256))
    seen, none = (differs(draw(localized(score), GREY, ("a", "b")), plain) for score in (0.9, 0.2))
    assert seen[100:150, 64].all() and seen[100:150, 192].all()
    assert not none[60:].any() and none[:30].any(), "words alone"


def test_the_truth_is_the_largest_valid_box():
    example = {
        "boxes": np.array([[0, 0, 60, 60], BOX, [0, 0, 5, 5]], np.float32),
        "valid": np.array([False, True, True]),
        "classes": np.array([0, 1, 0]),
    }
    truth = truth_of(localized(0.1), example)
    assert truth.score == 1 and truth.label == 1 and truth.box.tolist() == BOX.tolist()
    assert truth_of(localized(0.1), {**example, "valid": np.zeros(3, bool)}).score == 0


def test_points_are_drawn_where_they_are_unless_not_visible():
    points = np.array([[16, 16], [48, 48], [32, 32]], np.float32)
    picture = draw(Landmarks(points, np.array([True, True, False])), GREY, ())
    changed = differs(picture, Image.fromarray(GREY).resize((256, 256)))
    assert changed[64, 64] and changed[192, 192] and not changed[128, 128]
    found = Landmarks(points[None], np.ones((1, 3), bool))
    batch = {"image": GREY[None], "points": points[None]}
    assert sheet([(batch, found)], (), count=1) is not None


def test_a_picture_of_a_metric_is_written_beside_the_previews(tmp_path):
    files = write_report([Picture("curve", Image.new("RGB", (2, 2)))], (), tmp_path, Reporter(quiet=True), suffix="_x")
    assert files == [tmp_path / "previews/curve_x.png"] and files[0].exists()


def test_a_run_ends_with_its_error_curve(load, tmp_path):
    values = {"steps": 1, "batch_size": 2, "image_size": 32, "width": 8, "head": "regression"}
    result = fit(load("landmarks"), values, tmp_path / "run")
    assert (tmp_path / "run/previews/error_curve.png").exists()
    assert np.isfinite(result.test["NME"]) and result.test["mean_shape_NME"] > 0
