"""Region proposals: found where objects are, kept on disk, fed to a model that is shown a file."""

import numpy as np
import pytest

from jaxcv.data import from_records
from jaxcv.data.sources import region_proposers
from jaxcv.data.sources.region_proposers import components, selective_search
from jaxcv.errors import UserError


def picture(*boxes):
    image = np.full((40, 60, 3), 128, np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = 250
    return image


def test_components_are_where_the_objects_are():
    boxes = [(5, 10, 15, 30), (30, 4, 50, 20)]
    found = components(picture(*boxes)).tolist()
    assert sorted(found[:2]) == [list(map(float, box)) for box in boxes]  # many thresholds find them: they come first
    assert components(picture()).shape == (0, 4)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXCV_CACHE", str(tmp_path))
    boxes = [(5, 10, 15, 30), (30, 4, 50, 20), (2, 2, 20, 20)]
    records = [{"image": picture(box), "boxes": [box], "classes": [0]} for box in boxes]
    return from_records(records, records, image_size=40, class_names=("thing",), convert=dict, max_boxes=2)[0]


def test_they_are_computed_once_and_kept(data, monkeypatch):
    calls = []

    def counting(image):
        calls.append(1)
        return components(image)

    monkeypatch.setitem(region_proposers.PROPOSERS, "components", counting)
    proposed = data.with_proposals("components", count=5)
    assert data.with_proposals("components", count=5) is proposed
    batches, done = proposed.batches(3), []
    alone = batches.batch(0)["proposals"]
    batches.prepare(lambda number, total: done.append((number, total)))
    assert done[-1] == (3, 3) and len(calls) == 6
    assert batches.spec["proposals"].shape == (3, 5, 4)
    np.testing.assert_array_equal(batches.batch(0)["proposals"], alone)
    np.testing.assert_array_equal(batches.resident()["proposals"], alone)
    other = type(proposed.source)(data.source, "components", 5, proposed.source.digest)
    other.proposals()
    assert len(calls) == 6


def test_a_file_has_proposals_and_no_targets(data):
    batches = data.with_proposals("components", count=5).batches(1)
    fields = batches.fields_of(batches.batch(0)["image"][0])
    np.testing.assert_array_equal(fields["proposals"], batches.batch(0)["proposals"])
    assert fields["boxes"].shape == (1, 2, 4) and not fields["valid"].any()


def test_an_unknown_kind_and_a_missing_package(data, monkeypatch):
    with pytest.raises(UserError, match="unknown proposals 'component': did you mean components"):
        data.with_proposals("component", count=5)
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(UserError, match=r"pip install 'jaxcv-research\[rcnn\]'"):
        selective_search(picture())
