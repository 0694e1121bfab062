"""All examples as arrays: without a copy where they are there, and those that are read one by one."""

import gc
import weakref

import jax
import numpy as np
import pytest
from small_sets import CocoSet, opened

from jaxcv.data import classification_data, from_records, segmentation_data
from jaxcv.data.io import memory
from jaxcv.data.sources import image_files
from jaxcv.data.sources.resident import in_parts, resident
from jaxcv.data.toy.digits import enlarged_digits


def assert_all_are_read(source):
    arrays, size = resident(source), len(source)
    expected = source.read(np.arange(size))
    assert arrays.keys() == {*expected, "example_valid"} and arrays["example_valid"].all()
    for name, values in expected.items():
        assert arrays[name].dtype == values.dtype
        np.testing.assert_array_equal(arrays[name], values)
    return arrays


@pytest.mark.parametrize(("image_size", "channels"), [(8, 1), (16, 1), (8, 3)])
def test_arrays_in_memory(image_size, channels):
    train, _ = classification_data("digits", image_size=image_size, channels=channels)
    arrays = assert_all_are_read(train.source)
    assert np.shares_memory(arrays["image"], enlarged_digits("train", image_size)[0]) == (channels == 1)
    with pytest.raises(ValueError, match="read-only"):
        arrays["image"][0] = 1


@pytest.mark.parametrize("kept", [0, 3, 2**30])
def test_image_files_keep_each_picture_once(kept, tmp_path, monkeypatch):
    """Whatever part was kept before; a mask is kept behind its picture."""
    monkeypatch.setattr(memory, "_taken", 0)
    monkeypatch.setenv("JAXCV_MEMORY", str(kept * 32 * 32 * 4 if kept < 2**30 else kept))
    folder = CocoSet(tmp_path / "coco")
    train, _ = opened(folder.data, by=segmentation_data, image_size=32)
    source, size = train.source, len(train)
    before = source.read(np.arange(size))
    arrays = assert_all_are_read(source)
    np.testing.assert_array_equal(arrays["mask"], before["mask"])
    pictures = [value for value in vars(source).values() if isinstance(value, image_files.Kept)]
    there = pictures[0].read(np.arange(size), lambda i: pytest.fail("it is read again"))
    np.testing.assert_array_equal(there[:, : 32 * 32 * 3], arrays["image"].reshape(size, -1))
    assert len(pictures) == 1 and np.shares_memory(arrays["image"], pictures[0]._kept)


def test_records_are_read_by_several_threads():
    records = [{"image": np.full((8, 8, 3), i % 256, np.uint8), "label": i % 7} for i in range(300)]
    train, _ = from_records(records, records, image_size=8)
    steps = []
    resident(train.source, lambda *step: steps.append(step))
    arrays = assert_all_are_read(train.source)
    assert arrays["image"][:, 0, 0, 0].tolist() == [i % 256 for i in range(300)]
    assert steps == sorted(steps) and steps[-1] == (300, 300)


def test_features_stand_beside_the_arrays_of_their_source():
    class Mean:
        def __call__(self, images):
            return np.asarray(images, np.float32).mean((1, 2, 3))

        def spec(self, image):
            return jax.ShapeDtypeStruct((), np.float32)

    train, _ = classification_data("digits", image_size=8)
    featured = train.with_features(Mean())
    arrays = assert_all_are_read(featured.source)
    assert arrays["features"].shape == (1438,) and arrays["image"] is not None
    assert np.shares_memory(arrays["image"], resident(train.source)["image"])


def test_the_first_fault_is_raised():
    def work(part):
        if part[-1] >= 200:
            raise ValueError(int(part[0]))

    for _ in range(5):
        with pytest.raises(ValueError) as caught:
            in_parts(1_000, work, lambda done, total: None)
        assert 200 - 64 < caught.value.args[0] <= 200


def test_arrays_go_with_their_source():
    train, _ = from_records([{"image": np.zeros((8, 8, 3), np.uint8), "label": 0}] * 4, image_size=8)
    gone = weakref.ref(resident(train.source)["image"].base)
    assert gone() is not None
    del train
    gc.collect()
    assert gone() is None
