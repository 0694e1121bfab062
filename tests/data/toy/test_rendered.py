"""What is rendered once: the bytes of each example alone, from the cache and from memory, by one process or several."""

import os
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jaxcv.data import detection_data, landmark_data, localization_data, window_data
from jaxcv.data.toy import cartoon_faces, digit_scenes, rendered
from jaxcv.data.toy.digit_scenes import Scenes

SIZE = 16


def nothing(done, total):
    pass


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The cache of a test: small sets, 12 and 7 examples."""
    monkeypatch.setenv("JAXCV_CACHE", str(tmp_path))
    monkeypatch.setattr(digit_scenes, "SCENES", {"train": 12, "test": 7})
    monkeypatch.setattr(cartoon_faces, "FACES", {"train": 12, "test": 7})
    return tmp_path / "rendered"


def assert_whole(arrays, source):
    expected = source.read(np.arange(len(source)))
    assert arrays.keys() - {"example_valid"} == expected.keys() == source.spec().keys()
    for name, values in expected.items():
        assert arrays[name].dtype == values.dtype
        np.testing.assert_array_equal(arrays[name], values)


@pytest.mark.parametrize(
    "open_data",
    [
        lambda: detection_data("digits", image_size=SIZE),
        lambda: localization_data("digits", image_size=SIZE),
        lambda: landmark_data("drawn", image_size=SIZE),
        lambda: window_data("digits", image_size=SIZE),
    ],
    ids=["detection", "localization", "landmarks", "windows"],
)
def test_all_examples_are_those_that_are_read(open_data, folder):
    for split in open_data():
        source = type(split.source)(**vars(split.source))  # the opened one may hold the arrays of another test
        assert_whole(source.arrays(nothing), source)
        assert {file.name.split("-")[-1] for file in folder.glob(f"*-{split.source.split}-*")} == {
            f"{name}.npy" for name in source.spec()
        }


def test_a_second_time_nothing_is_rendered(folder, monkeypatch):
    scenes = Scenes("train", SIZE)
    first, sizes = scenes.arrays(nothing), scenes.box_sizes()
    monkeypatch.setattr(Scenes, "_layout", None)
    again = Scenes("train", SIZE)
    for name, values in again.arrays(nothing).items():
        assert not values.flags.owndata and not values.flags.writeable, "memory-mapped"
        np.testing.assert_array_equal(values, first[name])
    np.testing.assert_array_equal(again.box_sizes(), sizes)


@pytest.mark.parametrize("single", [False, True])
def test_box_sizes_are_those_of_the_scenes(single, folder):
    scenes = Scenes("train", 64, single)
    batch = scenes.read(np.arange(12))
    boxes = batch["boxes"][batch["valid"]]
    for _ in range(2):
        np.testing.assert_array_equal(scenes.box_sizes(), boxes[:, 2:] - boxes[:, :2])


@pytest.mark.parametrize("field", ["image", "boxes"])
@pytest.mark.parametrize("length", [-1, 200, 100, 10, 0, None])
def test_a_file_that_is_cut_off_or_gone_is_rendered_again(field, length, folder):
    scenes = Scenes("train", SIZE)
    scenes.arrays(nothing)
    before = {file: file.read_bytes() for file in folder.iterdir()}
    (file,) = folder.glob(f"*-{field}.npy")
    if length is None:
        file.unlink()
    else:
        os.truncate(file, length % len(before[file]))
    assert_whole(Scenes("train", SIZE).arrays(nothing), scenes)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_what_a_killed_process_left_is_removed(folder):
    for name, hours in ("unfinished-old", 25), ("unfinished-new", 23):
        (folder / name).mkdir(parents=True)
        (folder / name / "image").write_text("cut o")
        then = time.time() - hours * 3_600
        os.utime(folder / name, times=(then, then))
    Scenes("train", SIZE).arrays(nothing)
    assert [file.name for file in folder.glob("unfinished-*")] == ["unfinished-new"]


def test_another_version_renders_again_and_takes_the_place(folder, monkeypatch):
    Scenes("train", SIZE).arrays(nothing)
    Scenes("test", SIZE).arrays(nothing)
    monkeypatch.setattr(rendered, "_digest", lambda: "0123456789abcdef")
    Scenes("train", SIZE).arrays(nothing)
    new = {file for file in folder.iterdir() if "0123456789abcdef" in file.name}
    assert new == set(folder.glob("Scenes-train-*")) and len(new) == len(list(folder.glob("Scenes-test-*"))) == 5


def test_without_a_folder_it_is_rendered_into_memory(folder):
    folder.write_text("a file")
    scenes = Scenes("train", SIZE)
    assert_whole(scenes.arrays(nothing), scenes)
    assert len(scenes.box_sizes()) and folder.read_text() == "a file"


@pytest.mark.parametrize("most", [1, 100, 4_000])
def test_on_a_full_disk_it_is_rendered_into_memory(most, folder):
    """One byte, a part of the header, a part of the pictures."""
    scenes, limits = Scenes("train", SIZE), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        arrays = scenes.arrays(nothing)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_whole(arrays, scenes)
    assert not list(folder.iterdir()), "nothing unfinished is left"


def test_several_at_once_render_the_same(folder, monkeypatch):
    """Each starts before another has ended."""
    monkeypatch.setattr(rendered, "_PART", 5)
    sources, begun = [Scenes("train", SIZE) for _ in range(3)], threading.Barrier(3, timeout=60)
    with ThreadPoolExecutor(3) as pool:
        all_arrays = [*pool.map(lambda source: source.arrays(lambda done, _: done > 5 or begun.wait()), sources)]
    for arrays in all_arrays:
        assert_whole(arrays, sources[0])
        assert not arrays["image"].flags.owndata, "memory-mapped"
    assert len(list(folder.iterdir())) == 5


def test_progress_is_shown(folder, monkeypatch):
    monkeypatch.setattr(rendered, "_PART", 5)
    steps = []
    Scenes("train", SIZE).arrays(lambda *step: steps.append(step))
    assert steps == [(5, 12), (10, 12), (12, 12)]
