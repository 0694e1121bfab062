"""What is rendered once: the bytes of each example alone, from the cache, from memory, by one process or several."""

import errno
import os

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
    assert len(list(folder.iterdir())) == 2


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


@pytest.mark.parametrize(
    "harm",
    [
        lambda file, data: os.truncate(file, len(data) - 1),
        lambda file, data: os.truncate(file, 0),
        lambda file, data: file.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:]),
        lambda file, data: file.write_bytes(data[:-1] + bytes([data[-1] ^ 1])),
        lambda file, data: file.write_bytes(data + b"more"),
        lambda file, data: file.unlink(),
    ],
    ids=["cut", "empty", "a bit", "a sum", "longer", "gone"],
)
def test_a_damaged_file_is_rendered_again(harm, folder):
    scenes = Scenes("train", SIZE)
    scenes.arrays(nothing)
    (file,) = folder.iterdir()
    data = file.read_bytes()
    harm(file, data)
    assert_whole(Scenes("train", SIZE).arrays(nothing), scenes)
    assert file.read_bytes() == data and list(folder.iterdir()) == [file]


def test_what_a_killed_process_left_is_written_over(folder):
    scenes = Scenes("train", SIZE)
    scenes.arrays(nothing)
    (file,) = folder.iterdir()
    file.replace(file.with_suffix(".tmp"))
    with open(file.with_suffix(".tmp"), "ab") as stream:
        stream.write(b"more")
    assert_whole(Scenes("train", SIZE).arrays(nothing), scenes)
    assert list(folder.iterdir()) == [file]


def test_another_version_renders_again_and_takes_the_place(folder, monkeypatch):
    Scenes("train", SIZE).arrays(nothing)
    Scenes("test", SIZE).arrays(nothing)
    monkeypatch.setattr(rendered, "_digest", lambda: "0123456789abcdef")
    Scenes("train", SIZE).arrays(nothing)
    assert sum("0123456789abcdef" in file.name for file in folder.iterdir()) == 1
    assert [file.name[:12] for file in sorted(folder.iterdir())] == ["Scenes-test-", "Scenes-train"]


def test_without_a_folder_it_is_rendered_into_memory(folder):
    folder.write_text("a file")
    scenes = Scenes("train", SIZE)
    assert_whole(scenes.arrays(nothing), scenes)
    assert len(scenes.box_sizes()) and folder.read_text() == "a file"


def test_on_a_full_disk_it_is_rendered_into_memory(folder, monkeypatch):
    def write(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rendered, "_write", write)
    scenes = Scenes("train", SIZE)
    assert_whole(scenes.arrays(nothing), scenes)
    assert not list(folder.iterdir()), "nothing unfinished is left"


def test_several_processes_render_the_same(folder, monkeypatch):
    """In processes of their own, where no test has made the sets small."""
    monkeypatch.setattr(digit_scenes, "SCENES", {"train": 20_000, "test": 500})
    scenes = Scenes("test", SIZE)
    expected = {name: values.copy() for name, values in scenes.arrays(nothing).items()}
    (file,) = folder.iterdir()
    file.unlink()
    monkeypatch.setattr(rendered, "cores", lambda: 4)
    monkeypatch.setattr(rendered, "_SHARE", 200)
    monkeypatch.setattr(Scenes, "read", None)  # not in this one
    done = []
    for name, values in scenes.arrays(lambda *step: done.append(step)).items():
        np.testing.assert_array_equal(values, expected[name])
    assert done[-1] == (500, 500) and done == sorted(done)


def test_where_a_process_fails_it_is_rendered_here(folder, monkeypatch):
    monkeypatch.setattr(rendered, "cores", lambda: 4)
    monkeypatch.setattr(rendered, "_SHARE", 1)
    monkeypatch.setattr(rendered, "_COMMAND", (*rendered._COMMAND[:-1], "raise SystemExit(1)"))
    scenes = Scenes("train", SIZE)
    assert_whole(scenes.arrays(nothing), scenes)
    assert not list(folder.iterdir())
