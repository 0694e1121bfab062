import numpy as np
import pytest

from jaxcv.errors import UserError
from jaxcv.metrics import localization
from jaxcv.types import Localization

# Five images: right; wrong class; IoU 1/3; an object missed; none, and none said. In the last, one seen where none is.
BOX = np.array([0, 0, 10, 10], np.float32)
TRUTH = {
    "boxes": np.stack([np.stack([BOX, BOX / 2])] * 6).astype(np.float32),
    "classes": np.array([[1, 0]] * 6, np.int32),
    "valid": np.array([[True, True]] * 4 + [[False, False]] * 2),
}
FOUND = Localization(
    score=np.array([0.9, 0.9, 0.9, 0.2, 0.1, 0.7], np.float32),
    box=np.stack([BOX, BOX, BOX + [5, 0, 5, 0], BOX, BOX, BOX]).astype(np.float32),
    label=np.array([1, 0, 1, 1, 1, 1], np.int32),
    scores=np.full((6, 2), 0.5, np.float32),
)
WANTED = {"correct": 2 / 6, "object": 4 / 6, "class": 3 / 4, "IoU": (3 + 1 / 3) / 4}


@pytest.mark.parametrize("pick", WANTED)
def test_by_hand_in_one_batch_or_two(pick):
    metric = localization(pick)
    assert metric.reduce([metric.measure(FOUND, TRUTH)])[pick] == pytest.approx(WANTED[pick])
    halves = [
        metric.measure(Localization(*(x[i::2] for x in FOUND)), {k: v[i::2] for k, v in TRUTH.items()}) for i in (0, 1)
    ]
    assert metric.reduce(halves)[pick] == pytest.approx(WANTED[pick])


def test_no_object_at_all_has_no_class_and_no_iou():
    metric = localization()
    values = metric.reduce([metric.measure(FOUND, {**TRUTH, "valid": np.zeros((6, 2), bool)})])
    assert np.isnan(values["class"]) and np.isnan(values["IoU"]) and values["object"] == pytest.approx(2 / 6)
    assert all(np.isnan(v) for v in metric.reduce([]).values())


def test_an_unknown_pick_is_refused():
    with pytest.raises(UserError, match="named 'box'"):
        localization("box")
