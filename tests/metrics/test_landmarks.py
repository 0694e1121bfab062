from unittest.mock import MagicMock

import numpy as np
import pytest

from jaxcv.errors import UserError
from jaxcv.metrics import landmark_error
from jaxcv.types import Batches, Landmarks


def metric_of(truth, found, visible=None, pick="NME", **options):
    metric = landmark_error(pick, **options)
    truth, found = np.asarray(truth, np.float32), np.asarray(found, np.float32)
    batch = {"points": truth} | ({} if visible is None else {"visible": np.asarray(visible)})
    measured = [metric.measure(Landmarks(found, np.ones(found.shape[:2], bool)), batch)]
    return metric.reduce(measured), metric, measured


# Two examples of three points whose first two are 10 apart: errors 5 / 3 / 10 and (3 + 0 + 3) / 3 / 10.
TRUTH = [[[0, 0], [10, 0], [5, 5]]] * 2
FOUND = [[[3, 4], [10, 0], [5, 5]], [[0, 3], [10, 0], [8, 5]]]


def test_by_hand():
    values, _, _ = metric_of(TRUTH, FOUND, ends=(0, 1), threshold=0.18)
    assert values["NME"] == pytest.approx((5 / 30 + 0.2) / 2)
    assert values["failures"] == 0.5
    assert values["AUC"] == pytest.approx((1 - 5 / 30 / 0.18) / 2)
    assert values["mean_shape_NME"] == 0, "both truths are the same"


def test_faces_are_measured_by_the_outer_corners_of_their_eyes():
    face = np.random.default_rng(0).uniform(0, 50, (1, 68, 2))
    face[0, 36], face[0, 45] = (10, 10), (40, 50)  # 50 apart
    values, _, _ = metric_of(face, face + [3, 4])
    assert values["NME"] == pytest.approx(5 / 50, rel=1e-5)


def test_other_objects_are_measured_by_the_box_around_their_points():
    values, _, _ = metric_of([[[0, 0], [8, 2], [90, 90]]], [[[0, 0], [8, 4], [0, 0]]], [[True, True, False]])
    assert values["NME"] == pytest.approx(1 / 4)  # mean of 0 and 2, by sqrt(8 * 2)


def test_what_is_not_visible_or_has_no_size_does_not_count():
    visible = [[True, True, False], [False, True, True]]
    values, _, _ = metric_of(TRUTH, FOUND, visible, ends=(0, 1))
    assert values["NME"] == pytest.approx(2.5 / 10), "an example whose end is not seen has no size"
    for nothing in (np.zeros((2, 3), bool), [[True, False, False]] * 2):
        assert all(np.isnan(v) for v in metric_of(TRUTH, FOUND, nothing)[0].values())
    assert all(np.isnan(v) for v in landmark_error().reduce([]).values())


def test_the_mean_shape_is_that_of_the_visible_points():
    truth = [[[0, 0], [10, 0]], [[4, 0], [10, 0]], [[99, 99], [10, 0]]]
    visible = [[True, True], [True, True], [False, True]]
    values, _, _ = metric_of(truth, truth, visible, ends=(0, 1))
    assert values["NME"] == 0
    assert values["mean_shape_NME"] == pytest.approx((1 / 10 + 1 / 6) / 2)


def test_a_prediction_that_is_no_number_is_a_failure():
    values, metric, measured = metric_of(TRUTH, [FOUND[0], [[np.nan, 0]] * 3], ends=(0, 1), threshold=0.2)
    assert values["NME"] == np.inf and values["failures"] == 0.5
    assert values["AUC"] == pytest.approx((1 - 5 / 6) / 2)
    assert metric.report
    assert [picture.name for picture in metric.report(measured, MagicMock(spec=Batches))] == ["error_curve"]
    assert metric.report([], MagicMock(spec=Batches)) == []


def test_all_picks_share_one_measurement_and_one_report():
    metrics = [landmark_error(pick) for pick in ("NME", "AUC", "failures", "mean_shape_NME")]
    assert len({(m.measure, m.reduce, m.report) for m in metrics}) == 1
    assert landmark_error(threshold=0.2).report != metrics[0].report
    with pytest.raises(UserError, match="named 'nme'"):
        landmark_error("nme")
